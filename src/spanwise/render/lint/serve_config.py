"""Rules for a Ray Serve config (a file of its own, or the text of ``serveConfigV2``), and for the models in it.

Ray's own schema of the config stands in :mod:`spanwise.render.lint.serve_schema`. Names of Ray Serve LLM's fields are those
of Ray 2.60 (ray.serve.llm); a test compares them with the installed Ray.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from spanwise.render.engine_flags import flag_table
from spanwise.render.lint.demand import Demand, of_deployment, of_model, of_plans, override_for
from spanwise.render.lint.engine import SECRET, SECRET_VARIABLE, judge, suggestion, value_problem
from spanwise.render.lint.report import Report, items, mapping
from spanwise.render.lint.serve_schema import departures
from spanwise.render.upstream import RAY_ACCELERATOR_TYPES, RAY_VERSION, SPANWISE_IMPORT_PATH, STOCK_IMPORT_PATH

if TYPE_CHECKING:
    from spanwise.render.lint.documents import Path
    from spanwise.render.lint.finding import Severity

SERVING_ARGS_FIELDS = frozenset(
    {
        "ingress_cls_config",
        "ingress_deployment_config",
        "llm_configs",
    }
)
LLM_CONFIG_FIELDS = frozenset(
    {
        "accelerator_config",
        "accelerator_type",
        "callback_config",
        "deployment_config",
        "engine_kwargs",
        "experimental_configs",
        "llm_engine",
        "log_engine_metrics",
        "lora_config",
        "model_loading_config",
        "placement_group_config",
        "runtime_env",
        "server_cls",
    }
)
MODEL_LOADING_FIELDS = frozenset(
    {
        "model_id",
        "model_source",
        "tokenizer_source",
    }
)


def check_serve_config(report: Report, config: Any, gpus_per_node: int | None, exact_version: bool) -> Demand:
    """Check a whole Serve config.

    Args:
        report: Where findings go; its document is the config.
        config: The parsed config.
        gpus_per_node: Most GPUs that one host has; None when unknown.
        exact_version: True where the config is for the Ray and vLLM that our tables are of. Elsewhere an unknown engine
            argument may be another version's, and is a warning.

    Returns:
        GPUs that its applications ask for, as far as they can be read.
    """
    if not isinstance(config, dict):
        report.add("serve_config_not_mapping", "error", (), "the Serve config is not a mapping", "give `applications:`")
        return Demand(complete=False)
    if "applications" not in config:
        report.add(
            "applications_missing",
            "error",
            ("applications",),
            "the Serve config has no `applications`"
            + (" (this is the single-application form of old Ray versions)" if "import_path" in config else ""),
            "add `applications:` with a list of name, import_path and args",
        )
        return Demand(complete=False)
    for departure in departures(config):
        unknown = departure.code == "serve_field_unknown" and not exact_version  # it may be another version's
        severity = "warning" if unknown else departure.severity
        report.add(departure.code, severity, departure.path, departure.message, departure.fix)
    _check_secrets(report, mapping(config.get("http_options")), ("http_options",))
    applications = items(config["applications"])
    if not applications:
        report.add(
            "applications_empty",
            "error",
            ("applications",),
            "`applications` lists no application: nothing is served",
            f"add one with `import_path: {STOCK_IMPORT_PATH}`",
        )
    for field, default in (("name", "default"), ("route_prefix", "/")):
        _unique(report, applications, field, default)
    asked = (
        _application(report, application, ("applications", index), gpus_per_node, exact_version)
        for index, application in enumerate(applications)
    )
    return sum(asked, start=Demand())


def _unique(report: Report, applications: list[Any], field: str, default: str) -> None:
    seen: set[str] = set()
    for index, application in enumerate(applications):
        value = mapping(application).get(field, default)
        if isinstance(value, str) and value in seen:
            report.add(
                "application_repeated",
                "error",
                ("applications", index, field),
                f"two applications have the {field} {value[:60]!r}; Ray refuses that",
                f"give each application its own {field}",
            )
        seen.add(str(value))


def _unknown(report: Report, value: dict[str, Any], allowed: frozenset[str], path: Path, severity: Severity) -> None:
    """Fields that Ray does not have: its own schema ignores them (a warning), Ray Serve LLM refuses them (an error)."""
    who = "Ray Serve LLM refuses" if severity == "error" else "Ray ignores"
    for key in value:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1, cutoff=0.7)
            report.add(
                "serve_field_unknown",
                severity,
                (*path, key),
                f"{who} {key[:60]!r}: no such field in Ray {RAY_VERSION}",
                f"did you mean `{near[0]}`?" if near else f"remove it; allowed: {', '.join(sorted(allowed))}",
            )


def _application(
    report: Report, application: Any, path: Path, gpus_per_node: int | None, exact_version: bool
) -> Demand:
    if not isinstance(application, dict):
        return Demand(complete=False)
    for field in ("host", "port"):
        if field in application:
            report.add(
                "serve_host_in_application",
                "error",
                (*path, field),
                f"{field} stands in an application; Ray refuses that in a config with `applications`",
                f"move it to `http_options.{field}` at the top",
            )
    target = application.get("import_path")
    if not isinstance(target, str) or not target:
        report.add(
            "import_path_missing",
            "error",
            (*path, "import_path"),
            "the application says nothing about what to run",
            f"add `import_path: {STOCK_IMPORT_PATH}`",
        )
        return Demand(complete=False)
    mark = ":" if ":" in target else "."
    if mark not in target or target.count(":") > 1 or target.startswith(mark) or target.endswith(mark):
        report.add(
            "import_path_malformed",
            "error",
            (*path, "import_path"),
            f"{target[:80]!r} names no attribute of a module",
            "write `module.path:attribute`",
        )
    runtime_env = mapping(application.get("runtime_env"))
    for key in ("working_dir", "py_modules", "pip", "conda", "uv"):
        if runtime_env.get(key):
            report.add(
                "code_from_elsewhere",
                "info",
                (*path, "runtime_env", key),
                f"runtime_env.{key} brings code or packages into every replica when it starts",
                "build them into the image: starts get faster, and do not depend on another server",
            )
    _check_secrets(report, mapping(runtime_env.get("env_vars")), (*path, "runtime_env", "env_vars"))
    for index, deployment in enumerate(items(application.get("deployments"))):
        actor = mapping(mapping(deployment).get("ray_actor_options"))
        variables = mapping(mapping(actor.get("runtime_env")).get("env_vars"))
        place = (*path, "deployments", index, "ray_actor_options", "runtime_env", "env_vars")
        _check_secrets(report, variables, place)
    if target == STOCK_IMPORT_PATH:
        return _models(report, application, path, gpus_per_node, exact_version)
    if target == SPANWISE_IMPORT_PATH:
        plans = mapping(application.get("args")).get("plans")
        if not plans:
            report.add(
                "plans_missing", "error", (*path, "args"), "args name no plan", "add `plans:` from `spanwise render`"
            )
        return of_plans(plans)
    for index, deployment in enumerate(items(application.get("deployments"))):
        of_deployment(report, mapping(deployment), (*path, "deployments", index), gpus_per_node)
    return Demand(complete=False)


def _models(report: Report, application: dict[str, Any], path: Path, gpus: int | None, exact: bool) -> Demand:
    args = mapping(application.get("args"))
    _unknown(report, args, SERVING_ARGS_FIELDS, (*path, "args"), "error")
    configs = args.get("llm_configs")
    if not isinstance(configs, list) or not configs:
        report.add(
            "models_missing",
            "error",
            (*path, "args", "llm_configs"),
            "no model is configured",
            "add `args.llm_configs` with a model_loading_config and engine_kwargs for each model",
        )
        return Demand(complete=False)
    asked, names = Demand(), set[str]()
    for index, config in enumerate(configs):
        if isinstance(config, str):
            asked += Demand(complete=False)  # a path to another file, in the cluster
            continue
        place = (*path, "args", "llm_configs", index)
        name = mapping(mapping(config).get("model_loading_config")).get("model_id")
        if isinstance(name, str) and name in names:
            report.add(
                "model_repeated",
                "error",
                (*place, "model_loading_config", "model_id"),
                f"two models are called {name[:60]!r}; Ray Serve LLM refuses that",
                "give each model its own model_id",
            )
        names.add(str(name))
        asked += _model(report, config, override_for(application, mapping(config)), place, gpus, exact)
    return asked


def _model(report: Report, config: Any, override: dict[str, Any], path: Path, gpus: int | None, exact: bool) -> Demand:
    if not isinstance(config, dict):
        report.add("wrong_type", "error", path, "a model's config is a mapping", "give model_loading_config and so on")
        return Demand(complete=False)
    _unknown(report, config, LLM_CONFIG_FIELDS, path, "error")
    loading = config.get("model_loading_config")
    if not isinstance(loading, dict) or not loading.get("model_id"):
        report.add(
            "model_id_missing",
            "error",
            (*path, "model_loading_config"),
            "the model has no model_id, the name that clients ask for",
            "add `model_loading_config: {model_id: NAME, model_source: HUB/NAME}`",
        )
    else:
        _unknown(report, loading, MODEL_LOADING_FIELDS, (*path, "model_loading_config"), "error")
    accelerator = config.get("accelerator_type")
    if accelerator is not None and str(accelerator) not in {*RAY_ACCELERATOR_TYPES, "A10"}:
        report.add(
            "accelerator_unknown",
            "error",
            (*path, "accelerator_type"),
            f"{str(accelerator)[:60]!r} is no accelerator type of Ray {RAY_VERSION}",
            f"use one of {', '.join(sorted(RAY_ACCELERATOR_TYPES)[:12])} …, or leave it out",
        )
    arguments = mapping(config.get("engine_kwargs"))
    _check_secrets(report, arguments, (*path, "engine_kwargs"))
    environment = mapping(mapping(config.get("runtime_env")).get("env_vars"))
    _check_secrets(report, environment, (*path, "runtime_env", "env_vars"))
    _engine_arguments(report, arguments, (*path, "engine_kwargs"), gpus, exact)
    return of_model(report, config, override, path, gpus)


def _check_secrets(report: Report, variables: dict[str, Any], path: Path) -> None:
    for name, value in variables.items():
        if value and (SECRET_VARIABLE.search(str(name)) or name in SECRET):
            report.add(
                "secret_in_plain_text",
                "warning",
                (*path, name),
                f"{str(name)[:60]} stands in the Serve config in plain text (not repeated here)",
                "set it in the container's env with `valueFrom.secretKeyRef`; Ray's workers inherit it",
            )


def _engine_arguments(report: Report, arguments: dict[str, Any], path: Path, gpus: int | None, exact: bool) -> None:
    table = flag_table()
    by_keyword = table.by_keyword
    good: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in ("model", "served_model_name"):
            report.add(
                "engine_argument_reserved",
                "error",
                (*path, name),
                f"Ray Serve LLM refuses {name} here",
                "use `model_loading_config` (model_source, model_id)",
            )
            continue
        if name not in table.keywords:
            report.add(
                "engine_argument_unknown",
                "error" if exact else "warning",
                (*path, name),
                f"{name[:60]!r} is no engine argument of vLLM {table.version}",
                suggestion(name[:60]),
            )
            continue
        problem = ""
        if name in by_keyword and value is not None and not isinstance(value, dict | list):
            problem = value_problem(by_keyword[name], value)
        if problem:
            report.add("value_not_allowed", "error", (*path, name), f"{name}: {problem}", "give another value")
        else:
            good[name] = value
    if good.get("distributed_executor_backend") not in (None, "ray"):
        report.add(
            "executor_not_ray",
            "error",
            (*path, "distributed_executor_backend"),
            "Ray Serve LLM refuses every executor but ray on GPUs",
            "leave distributed_executor_backend out",
        )
    judge(good, gpus, lambda code, severity, key, message, fix: report.add(code, severity, (*path, key), message, fix))
