"""Code that a manifest names, and what a runtime environment would bring: listed where the user allows it, refused where not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spanwise.render.lint.documents import Path
from spanwise.render.lint.report import items, mapping
from spanwise.render.reading import Reading

HOOK = "worker_process_setup_hook"
_FETCHED = {
    "pip": "packages would be installed, and the lab's hosts reach no network",
    "uv": "packages would be installed, and the lab's hosts reach no network",
    "conda": "packages would be installed, and the lab's hosts reach no network",
    "image_uri": "an image would be fetched, and the lab's hosts reach no network",
    "container": "an image would be fetched, and the lab's hosts reach no network",
}
# Of a deployment of a foreign application: everything that Serve itself reads. Its own names (autoscaling policies, routers) may import.
_IMPORTS_OF_A_DEPLOYMENT = ("request_router_config", "gang_scheduling_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEnv:
    """A Ray runtime environment as read.

    Attributes:
        variables: Its environment variables.
        hook: Name of a function that every worker process would call first; empty where there is none.
        working_dir: Directory or archive of the code; empty where there is none.
    """

    variables: dict[str, str]
    hook: str = ""
    working_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignApplication:
    """A Serve application of the manifest's own code."""

    import_path: str
    runtime_env: RuntimeEnv
    deployments: tuple[dict[str, Any], ...] = field(repr=False)


def runtime_env(reading: Reading, value: Any, path: Path) -> RuntimeEnv:
    """What a runtime environment asks for.

    Raises:
        ManifestError: It is no mapping, sets a variable to something that is not text, or brings code that is not allowed or cannot be had.
    """
    if value is None:
        return RuntimeEnv(variables={})
    if not isinstance(value, dict):
        raise reading.refuse(path, "is not a mapping (a file of the writer's is not read)", "write env_vars out")
    words = {}
    for key, given in value.items():
        if key == "env_vars" or not given:
            continue
        place = (*path, str(key))
        if reading.code is not None and key in (HOOK, "working_dir") and isinstance(given, str):
            words[key] = given
            if key == HOOK:
                reading.runs(place, f"the function {given[:120]} before each worker process's own work")
            continue
        why = "" if reading.code is None else _FETCHED.get(str(key), "this kind is not carried into the lab")
        reading.forbid(
            place,
            f"runtime_env.{str(key)[:60]} brings code, packages or commands, and {why or 'none are run'}",
            "build them into the environment that runs spanwise, and leave it out for the lab"
            if why
            else "build them into the image, or leave it out for the lab",
        )
    found = {}
    for name, text in mapping(value.get("env_vars")).items():
        if isinstance(text, dict | list) or text is None:
            raise reading.refuse((*path, "env_vars", str(name)), "has a value that is not text", "quote the value")
        found[str(name)] = str(text)
    return RuntimeEnv(variables=found, hook=words.get(HOOK, ""), working_dir=words.get("working_dir", ""))


def foreign_application(reading: Reading, entry: Mapping[str, Any], path: Path) -> ForeignApplication:
    """An application whose import path is the manifest's own: listed as code.

    Raises:
        ManifestError: Its import path is none, or it brings what the lab cannot have.
    """
    target = entry.get("import_path")
    module, colon, name = str(target).partition(":")
    dotted = module if colon else module.rpartition(".")[0]
    parts = [*dotted.split("."), *(name.split(".") if colon else [])]
    if not isinstance(target, str) or not dotted or not all(part.isidentifier() for part in parts):
        raise reading.refuse(
            (*path, "import_path"), f"{str(target)[:120]!r} is no import path", "write it like app:application"
        )
    reading.runs((*path, "import_path"), f"the Serve application {target[:120]}, and what it imports")
    environment = runtime_env(reading, entry.get("runtime_env"), (*path, "runtime_env"))
    deployments = []
    for index, given in enumerate(items(entry.get("deployments"))):
        place: Path = (*path, "deployments", index)
        deployment = dict(mapping(given))
        for key in _IMPORTS_OF_A_DEPLOYMENT:
            if deployment.pop(key, None):
                reading.remark("left_out", (*place, key), key, "not carried into the lab")
        scaling = deployment.get("autoscaling_config")
        if isinstance(scaling, dict) and (policy := scaling.get("policy")):
            reading.runs((*place, "autoscaling_config", "policy"), f"the scaling policy {str(policy)[:120]}")
        options = dict(mapping(deployment.get("ray_actor_options")))
        inner = runtime_env(reading, options.pop("runtime_env", None), (*place, "ray_actor_options", "runtime_env"))
        environment = RuntimeEnv(
            variables=environment.variables | inner.variables,
            hook=environment.hook or inner.hook,
            working_dir=environment.working_dir or inner.working_dir,
        )
        if options:
            deployment["ray_actor_options"] = options
        else:
            deployment.pop("ray_actor_options", None)
        deployments.append(deployment)
    if environment.variables:
        names = ", ".join(sorted(environment.variables))
        reading.runs((*path, "runtime_env", "env_vars"), f"environment variables, whatever they load: {names[:400]}")
    return ForeignApplication(import_path=target, runtime_env=environment, deployments=tuple(deployments))
