"""A RayService or Serve config read as a description of what it would run: hosts by group, and applications.

Only data is taken out. What a manifest would execute on its way (commands, hooks, init containers, packages) is either refused or listed as
not run; nothing here imports or resolves a name that a manifest gives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from spanwise.errors import ManifestError
from spanwise.render.foreign import ForeignApplication, foreign_application, runtime_env
from spanwise.render.lint.documents import Document, Path, read_documents, read_text
from spanwise.render.lint.report import items, mapping
from spanwise.render.manifest_groups import Group, read_group
from spanwise.render.reading import Code, Reading, Remark
from spanwise.render.server_command import ServerCommand, is_command, server_commands
from spanwise.render.upstream import SPANWISE_IMPORT_PATH, STOCK_IMPORT_PATH

if TYPE_CHECKING:
    from spanwise.render.options import Runtime

Kind = Literal["RayService", "Serve config", "vLLM command"]
RUNTIMES: dict[str, Runtime] = {STOCK_IMPORT_PATH: "stock", SPANWISE_IMPORT_PATH: "spanwise"}
_PREFIX = re.compile(r"/[A-Za-z0-9._~/-]{0,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """One Serve application: of a known import path, or ``foreign`` where the user allowed the manifest's own code."""

    name: str
    route_prefix: str
    runtime: Runtime | Literal["foreign"]
    args: dict[str, Any] = field(repr=False)  # may hold a secret that is not carried
    where: str
    foreign: ForeignApplication | None = None
    working_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a file would run. ``groups`` is empty for a Serve config, which names no hosts."""

    file: str
    kind: Kind
    name: str
    ray_version: str | None
    groups: tuple[Group, ...]
    applications: tuple[Application, ...]
    remarks: tuple[Remark, ...]
    code: tuple[Code, ...] | None = None


def read_manifest(data: bytes, file: str, *, lenient: bool = False, allow_code: bool = False) -> Manifest:
    """What the manifest in ``data`` would run.

    Args:
        data: The file's bytes: YAML, or text with a vLLM server's command.
        file: Its name, for messages.
        lenient: Only describe: note code that would not be run instead of refusing the manifest for it.
        allow_code: List code of the manifest's own (``Manifest.code``) instead of refusing it.

    Raises:
        ManifestError: Not a RayService or Serve config; incomplete; or it asks for code that is not known.
    """
    text = read_text(data, file)
    if is_command(text):
        described = _of_commands(server_commands(text, file), file)
        return replace(described, code=()) if allow_code else described
    documents = [item for item in read_documents(text, file) if isinstance(item.value, dict)]
    services = [item for item in documents if item.value.get("kind") == "RayService"]
    configs = [item for item in documents if "applications" in item.value and item.value.get("kind") is None]
    if len(services) + len(configs) != 1:
        found = "several" if services or configs else "no"
        raise ManifestError(
            f"holds {found} RayService or Serve config",
            where=file,
            remedy="give a file with one RayService (kind: RayService) or one Serve config (applications: ...)",
        )
    document = (services or configs)[0]
    reading = Reading(file, document, lenient=lenient, code=[] if allow_code else None)
    for other in documents:
        if other is not document:
            reading.remark("not_run", (), f"kind {str(other.value.get('kind'))[:60]}", "only the RayService is run")
    if configs:
        return _manifest(reading, "Serve config", "serve", None, (), _applications(reading, document.value))
    return _ray_service(reading, document.value)


def _of_commands(commands: list[ServerCommand], file: str) -> Manifest:
    """Servers as models of one stock application: their arguments are theirs, the server in front of them is Ray Serve's.

    Raises:
        ManifestError: Something of a command cannot be read.
    """
    configs = []
    for command in commands:
        if command.unknown or not command.model:
            raise ManifestError(
                f"cannot be read: {', '.join(command.unknown[:5]) or 'the name of the model'}",
                where=f"{file}:{command.line}",
                remedy="write the values out; `spanwise lint` names the flags that vLLM does not have",
            )
        arguments = dict(command.arguments)
        names = arguments.pop("served_model_name", None)
        one_host = arguments.get("distributed_executor_backend") != "ray" and arguments.get("nnodes", 1) == 1
        configs.append(
            {
                "model_loading_config": {
                    "model_id": str(names[0] if isinstance(names, list) and names else names or command.model),
                    "model_source": command.model,
                },
                "engine_kwargs": arguments,
                "placement_group_config": {
                    "bundle_per_worker": {"GPU": 1},
                    "strategy": "STRICT_PACK" if one_host else "PACK",
                },
                "runtime_env": {"env_vars": command.environment},
            }
        )
    server = Remark(
        kind="changed",
        where="server",
        what="vLLM's own",
        now="Ray Serve LLM",
        reason="the lab's engines are placed by Ray and reached through its door; a stranger's command is not run",
    )
    application = Application(
        name="vllm",
        route_prefix="/",
        runtime="stock",
        args={"llm_configs": configs},
        where=f"{file}:{commands[0].line}",
    )
    return Manifest(
        file=file,
        kind="vLLM command",
        name=configs[0]["model_loading_config"]["model_id"][:80],
        ray_version=None,
        groups=(),
        applications=(application,),
        remarks=(server,),
    )


def _manifest(
    reading: Reading,
    kind: Kind,
    name: str,
    version: str | None,
    groups: tuple[Group, ...],
    applications: tuple[Application, ...],
) -> Manifest:
    return Manifest(
        file=reading.file,
        kind=kind,
        name=name,
        ray_version=version,
        groups=groups,
        applications=applications,
        remarks=tuple(reading.remarks),
        code=None if reading.code is None else tuple(reading.code),
    )


def _ray_service(reading: Reading, value: dict[str, Any]) -> Manifest:
    spec = mapping(value.get("spec"))
    cluster = spec.get("rayClusterConfig")
    path: Path = ("spec", "rayClusterConfig")
    see = f"`spanwise lint {reading.file}` names all that is missing; `spanwise render --target kuberay` writes a whole one"
    if not isinstance(cluster, dict):
        raise reading.refuse(path, "no cluster is described", see)
    if not isinstance(cluster.get("headGroupSpec"), dict):
        raise reading.refuse((*path, "headGroupSpec"), "no head group: KubeRay refuses a cluster without one", see)
    groups = [read_group(reading, cluster["headGroupSpec"], (*path, "headGroupSpec"), head=True)]
    for index, group in enumerate(items(cluster.get("workerGroupSpecs"))):
        groups.append(read_group(reading, mapping(group), (*path, "workerGroupSpecs", index), head=False))
    if twice := [group.name for group in groups if sum(other.name == group.name for other in groups) > 1]:
        raise reading.refuse(path, f"two groups are called {twice[0]!r}", "give each group its own groupName")
    text = spec.get("serveConfigV2")
    if not isinstance(text, str) or not text.strip():
        raise reading.refuse(
            ("spec", "serveConfigV2"), "no Serve config: this RayService starts a cluster that serves nothing", see
        )
    inner = read_documents(text, f"{reading.file}: spec.serveConfigV2")
    if len(inner) != 1 or not isinstance(inner[0].value, dict):
        raise reading.refuse(("spec", "serveConfigV2"), "does not hold one Serve config", see)
    literal = reading.document.styles.get(("spec", "serveConfigV2")) == "|"
    embedded = Reading(
        reading.file,
        inner[0] if literal else Document(value=inner[0].value),
        base=("spec", "serveConfigV2"),
        line_offset=reading.document.line(("spec", "serveConfigV2")) - (0 if literal else 1),
        remarks=reading.remarks,
        lenient=reading.lenient,
        code=reading.code,
    )
    applications = _applications(embedded, inner[0].value)
    version = cluster.get("rayVersion")
    return _manifest(
        reading,
        "RayService",
        str(mapping(value.get("metadata")).get("name", ""))[:80],
        None if version is None else str(version)[:40],
        tuple(groups),
        applications,
    )


def _applications(reading: Reading, config: dict[str, Any]) -> tuple[Application, ...]:
    for key, value in config.items():
        if key == "applications":
            continue
        if key == "grpc_options" and mapping(value).get("grpc_servicer_functions"):
            reading.forbid((key,), "grpc_servicer_functions import code by name", "leave grpc_options out")
        reading.remark("left_out", (key,), str(key), "the lab has its own door; nothing else of Serve is configured")
    applications = []
    for index, entry in enumerate(items(config.get("applications"))):
        if (application := _application(reading, mapping(entry), ("applications", index))) is not None:
            applications.append(application)
    if not applications:
        raise reading.refuse(
            ("applications",), "no application: nothing is served", "add one, or use `spanwise render`"
        )
    for what in ("name", "route_prefix"):
        values = [value for application in applications if (value := str(getattr(application, what)))]
        if len(set(values)) != len(values):
            raise reading.refuse(("applications",), f"two applications have one {what}", f"give each its own {what}")
    return tuple(applications)


_KEPT = ("name", "route_prefix", "import_path", "args", "runtime_env")
_IMPORTS = ("autoscaling_policy",)


def _application(reading: Reading, entry: dict[str, Any], path: Path) -> Application | None:
    target = entry.get("import_path")
    if not isinstance(target, str) or target not in RUNTIMES:
        if reading.code is not None:
            return _foreign(reading, entry, path)
        reading.forbid(
            (*path, "import_path"),
            f"{str(target)[:120]!r} is not known, and unknown code is not imported",
            f"use {' or '.join(RUNTIMES)}",
        )
        return None
    for key in _IMPORTS:
        if entry.get(key):
            reading.forbid((*path, key), f"{key} imports code by name", "leave it out")
    environment = runtime_env(reading, entry.get("runtime_env"), (*path, "runtime_env"))
    if environment.variables:
        # Both runtimes give each model its own environment; what is set for all of an application is not handed on.
        reading.remark(
            "left_out",
            (*path, "runtime_env", "env_vars"),
            ", ".join(environment.variables),
            "only a model's own environment is carried",
        )
    for index, deployment in enumerate(items(entry.get("deployments"))):
        runtime_env(
            reading,
            mapping(mapping(deployment).get("ray_actor_options")).get("runtime_env"),
            (*path, "deployments", index),
        )
    for key in entry:
        if key not in _KEPT:
            reading.remark("left_out", (*path, key), str(key), "not carried into the lab")
    args = entry.get("args")
    if not isinstance(args, dict):
        raise reading.refuse((*path, "args"), "args is missing or no mapping: no model is named", "add `args:`")
    return Application(
        name=str(entry.get("name", "default"))[:80],
        route_prefix=_route_prefix(reading, entry, path),
        runtime=RUNTIMES[target],
        args=args,
        where=reading.where((*path, "args")),
        working_dir=environment.working_dir,
    )


def _foreign(reading: Reading, entry: dict[str, Any], path: Path) -> Application:
    foreign = foreign_application(reading, entry, path)
    for key in entry:
        if key not in (*_KEPT, "deployments"):
            reading.remark("left_out", (*path, key), str(key), "not carried into the lab")
    args = entry.get("args", {})
    if not isinstance(args, dict):
        raise reading.refuse((*path, "args"), "args is no mapping", "write it as a mapping, or leave it out")
    return Application(
        name=str(entry.get("name", "default"))[:80],
        # Without a prefix an application is reached by other applications only.
        route_prefix="" if entry.get("route_prefix", "/") is None else _route_prefix(reading, entry, path),
        runtime="foreign",
        args=args,
        where=reading.where((*path, "import_path")),
        foreign=foreign,
        working_dir=foreign.runtime_env.working_dir,
    )


def _route_prefix(reading: Reading, entry: dict[str, Any], path: Path) -> str:
    prefix = entry.get("route_prefix", "/")
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix) or (prefix != "/" and prefix.endswith("/")):
        raise reading.refuse(
            (*path, "route_prefix"), f"{str(prefix)[:60]!r} is no route prefix", "write it like /models"
        )
    return prefix
