"""lint: what is wrong with a manifest or a command, whoever wrote it, and what to do about each thing."""

from __future__ import annotations

from typing import Any

from spanwise.errors import ManifestError
from spanwise.render.lint.command import lint_command, looks_like_command
from spanwise.render.lint.documents import Document, Path, read_documents, read_text
from spanwise.render.lint.finding import Finding, Severity, in_order
from spanwise.render.lint.ray_cluster import check_cluster, check_name, gpus_of
from spanwise.render.lint.report import Options, Report, items, mapping, whole
from spanwise.render.lint.schema import Fields, from_crd, mismatches, shipped
from spanwise.render.lint.serve_config import check_serve_config
from spanwise.render.upstream import RAY_VERSION, STOCK_IMPORT_PATH

__all__ = ["Fields", "Finding", "Options", "Severity", "from_crd", "in_order", "lint"]

_CLUSTER_PATH: dict[str, tuple[str, ...]] = {"RayService": ("spec", "rayClusterConfig"), "RayCluster": ("spec",)}


def lint(data: bytes, file: str, options: Options | None = None, crd: Fields | None = None) -> list[Finding]:
    """Findings on one file.

    Args:
        data: The file's bytes: YAML (one or several documents), JSON, or text with vLLM commands.
        file: Its name, for findings; ``-`` for standard input.
        options: What the user said beside the file.
        crd: The schema to check against; None for the one that comes with spanwise.

    Raises:
        ManifestError: Neither a manifest nor a command; not text; not YAML; too deep or too large.
    """
    options = options or Options()
    text = read_text(data, file)
    if looks_like_command(text) and not _is_manifest(text):
        return lint_command(text, file, options)
    findings: list[Finding] = []
    others: list[Document] = []
    known = False
    for document in read_documents(text, file):
        if _is_object(document.value) and document.value["kind"] not in _CLUSTER_PATH:
            others.append(document)
        else:
            known |= _lint_document(document, file, options, crd or shipped(), findings)
    for document in others:
        report = Report(file=file, document=document, options=options, findings=findings)
        _duplicates(report)
        # A Secret beside a RayService is nobody's surprise; a file that lint has no rules for at all is.
        if not known or document.value["apiVersion"].startswith("ray.io/"):
            kind = document.value["kind"]
            report.add("kind_not_checked", "info", ("kind",), f"lint has no rules for {kind[:60]}", "check it by hand")
    if not known and not others:
        raise ManifestError(
            "neither a RayService, RayCluster or Serve config, nor a vLLM command",
            where=file,
            remedy="give a manifest with apiVersion and kind, a Serve config with `applications`, or a line with "
            "`vllm serve MODEL …`",
        )
    return findings


def _is_manifest(text: str) -> bool:
    """A manifest may quote a vLLM command inside; a script never has one of these at the beginning of a line."""
    starts = ("apiVersion:", "kind:", "applications:", "{")
    return any(line.startswith(starts) for line in text.splitlines())


def _lint_document(document: Document, file: str, options: Options, fields: Fields, findings: list[Finding]) -> bool:
    """Findings on one document; False where it is nothing that lint knows the form of."""
    value = document.value
    if not isinstance(value, dict):
        return False
    report = Report(file=file, document=document, options=options, findings=findings)
    if "applications" in value and value.get("kind") is None:
        _duplicates(report)
        check_serve_config(report, value, options.gpus_per_node, exact_version=True)
        return True
    if not _is_object(value):
        if mapping(value.get("spec")).get("rayClusterConfig") is None and "serveConfigV2" not in str(value.get("spec")):
            return False
        report.add(
            "kind_missing",
            "error",
            ("kind",),
            "apiVersion or kind is missing",
            "add `apiVersion: ray.io/v1` and `kind: RayService`",
        )
        return True
    _duplicates(report)
    _ray_object(report, value, value["kind"], fields)
    return True


def _is_object(value: Any) -> bool:
    """True for what says of itself that it is a Kubernetes object."""
    return isinstance(value, dict) and isinstance(value.get("kind"), str) and isinstance(value.get("apiVersion"), str)


def _duplicates(report: Report) -> None:
    for path, first in report.document.duplicates:
        report.add(
            "key_repeated",
            "error",
            path,
            f"the key {str(path[-1])[:60]!r} is given twice in one mapping "
            f"(first in line {first + report.line_offset}); YAML readers keep one of them silently",
            "remove one",
        )


def _ray_object(report: Report, value: dict[str, Any], kind: str, fields: Fields) -> None:
    version = value["apiVersion"]
    if version != "ray.io/v1":
        old = version == "ray.io/v1alpha1"
        report.add(
            "api_version",
            "warning" if old else "error",
            ("apiVersion",),
            f"{version[:60]} is {'the old version' if old else 'no version'} of {kind}",
            "write `apiVersion: ray.io/v1`",
        )
    check_name(report, value, kind)
    for key in value:
        if key not in ("apiVersion", "kind", "metadata", "spec", "status"):
            report.add("field_unknown", "error", (key,), f"{key[:80]!r} is no field of {kind}", "move it under `spec`")
    path = _CLUSTER_PATH[kind]
    spec = value.get("spec")
    if not isinstance(spec, dict):
        report.add("field_missing", "error", ("spec",), "spec is missing or not a mapping", "add `spec:`")
        return
    said = {(*path, "headGroupSpec"), *_container_gaps(spec, path)}
    if kind in fields.kinds:
        for mismatch in mismatches(spec, fields, fields.kinds[kind], ("spec",)):
            if mismatch.path not in said:  # a rule below says it with more to go by
                report.add(mismatch.code, "error", mismatch.path, mismatch.message, mismatch.fix)
    cluster = mapping(spec.get("rayClusterConfig")) if kind == "RayService" else spec
    if kind == "RayCluster" or spec.get("rayClusterConfig") is not None:
        check_cluster(report, cluster, path)
    if kind == "RayService":
        _serve(report, spec, cluster)


def _container_gaps(spec: dict[str, Any], path: tuple[str, ...]) -> set[Path]:
    """Paths at which a missing container is reported by the cluster's own rule."""
    cluster = mapping(spec.get("rayClusterConfig")) if len(path) > 1 else spec
    groups: list[Path] = [(*path, "headGroupSpec")]
    groups += [(*path, "workerGroupSpecs", index) for index in range(len(items(cluster.get("workerGroupSpecs"))))]
    ends: tuple[Path, ...] = (("template", "spec", "containers"), ("template", "spec"), ("template",))
    return {(*group, *end) for group in groups for end in ends}


def _serve(report: Report, spec: dict[str, Any], cluster: dict[str, Any]) -> None:
    """The Serve config inside a RayService, and whether the cluster has the GPUs that it needs."""
    text = spec.get("serveConfigV2")
    path = ("spec", "serveConfigV2")
    if not isinstance(text, str) or not text.strip():
        report.add(
            "serve_config_missing",
            "error",
            path,
            "no Serve config: the RayService starts a cluster that serves nothing",
            f"add `serveConfigV2: |` with `applications:` and `import_path: {STOCK_IMPORT_PATH}`; "
            "`spanwise render --target kuberay` writes it",
        )
        return
    try:
        documents = read_documents(text, report.file)
    except ManifestError as error:
        report.add("serve_config_not_yaml", "error", path, f"serveConfigV2: {error.what}", error.remedy)
        return
    if len(documents) != 1:
        report.add("serve_config_not_yaml", "error", path, "serveConfigV2 must hold one document", "keep one")
        return
    inner = report.embedded(documents[0], path, report.document.styles.get(path))
    _duplicates(inner)
    groups = [mapping(group) for group in items(cluster.get("workerGroupSpecs"))]
    per_host = max((gpus_of(group) for group in groups), default=0)
    exact = str(cluster.get("rayVersion", RAY_VERSION)) == RAY_VERSION
    needed = check_serve_config(inner, documents[0].value, report.options.gpus_per_node or per_host or None, exact)
    most = sum(_most_gpus(group) for group in groups) + gpus_of(mapping(cluster.get("headGroupSpec")))
    if needed and most < needed:
        report.add(
            "gpus_not_enough",
            "error",
            path,
            f"the models need {needed} GPUs and the worker groups can have {most}: replicas wait for ever",
            "raise maxReplicas or the GPUs per host, or lower tensor_parallel_size x pipeline_parallel_size x replicas",
        )


def _most_gpus(group: dict[str, Any]) -> int:
    """GPUs of a group at its largest."""
    hosts = whole(group.get("numOfHosts")) or 1
    most = whole(group.get("maxReplicas"))
    return gpus_of(group) * hosts * (most if most is not None else 2**31 - 1)
