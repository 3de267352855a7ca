"""lint: what is wrong with a manifest or a command, whoever wrote it, and what to do about each thing."""

from __future__ import annotations

import re
from typing import Any

from spanwise.errors import ManifestError
from spanwise.render.lint.command import lint_command, looks_like_command
from spanwise.render.lint.compact import from_crd
from spanwise.render.lint.controller import Cluster
from spanwise.render.lint.documents import Document, Path, read_documents, read_text
from spanwise.render.lint.finding import Finding, Severity, in_order
from spanwise.render.lint.hub import check_hub
from spanwise.render.lint.metadata import check_metadata
from spanwise.render.lint.protections import Surroundings, check_protections
from spanwise.render.lint.ray_cluster import check_cluster
from spanwise.render.lint.ray_service import check_service
from spanwise.render.lint.report import Options, Report, duplicates, items, mapping
from spanwise.render.lint.schema import Fields, mismatches, shipped
from spanwise.render.lint.secrets import without_secrets
from spanwise.render.lint.serve_config import check_serve_config

__all__ = ["Fields", "Finding", "Options", "Severity", "from_crd", "in_order", "kinds_of", "lint"]

_CLUSTER_PATH: dict[str, tuple[str, ...]] = {"RayService": ("spec", "rayClusterConfig"), "RayCluster": ("spec",)}
# KubeRay's other kinds: accepted, but lint has no rules for them.
_OTHER_RAY_KINDS = frozenset({"RayJob", "RayCronJob"})
_KIND = re.compile(r"[A-Z][A-Za-z0-9]*")
_VERSION = re.compile(r"([a-z0-9][-a-z0-9.]*/)?v[0-9]+((alpha|beta)[0-9]+)?")


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
    text = read_text(data, file)
    return without_secrets(_findings(text, file, options or Options(), crd or shipped()), text)


def kinds_of(data: bytes, file: str) -> frozenset[str]:
    """Kinds of the objects in one file; none where it is a command, or cannot be read (:func:`lint` says why)."""
    try:
        text = read_text(data, file)
        return (
            frozenset() if looks_like_command(text) and not _is_manifest(text) else _kinds(read_documents(text, file))
        )
    except ManifestError:
        return frozenset()


def _kinds(documents: list[Document]) -> frozenset[str]:
    return frozenset(document.value["kind"] for document in documents if _is_object(document.value))


def _findings(text: str, file: str, options: Options, fields: Fields) -> list[Finding]:
    if looks_like_command(text) and not _is_manifest(text):
        return lint_command(text, file, options)
    findings: list[Finding] = []
    documents = read_documents(text, file)
    kinds = _kinds(documents) | options.kinds_beside
    unknown: list[Report] = []
    for document in documents:
        report = Report(file=file, document=document, options=options, findings=findings, kinds=kinds)
        duplicates(report)
        if not _known(report, document.value, fields):
            unknown.append(report)
    if len(unknown) == len(documents):
        raise ManifestError(
            "neither a RayService, RayCluster or Serve config, nor a vLLM command",
            where=file,
            remedy="give a manifest with apiVersion and kind, a Serve config with `applications`, or a line with "
            "`vllm serve MODEL …`",
        )
    for report in unknown:
        _kind_missing(report)
    return findings


def _is_manifest(text: str) -> bool:
    """A manifest may quote a vLLM command inside; a script never has one of these at the beginning of a line."""
    starts = ("apiVersion:", "kind:", "applications:", "{")
    return any(line.startswith(starts) for line in text.splitlines())


def _known(report: Report, value: Any, fields: Fields) -> bool:
    """Check one document; False where it is nothing that lint knows the form of."""
    if not isinstance(value, dict):
        return False
    if "applications" in value and value.get("kind") is None:
        check_serve_config(report, value, report.options.gpus_per_node, exact_version=True)
        check_hub(report, value, [])
    elif not _is_object(value):
        if mapping(value.get("spec")).get("rayClusterConfig") is None and "serveConfigV2" not in str(value.get("spec")):
            return False
        _kind_missing(report)
    elif value["kind"] in _CLUSTER_PATH:
        _ray_object(report, value, value["kind"], fields)
    else:
        _other_object(report, value["kind"], value["apiVersion"])
    return True


def _is_object(value: Any) -> bool:
    """True for what says of itself that it is a Kubernetes object."""
    return isinstance(value, dict) and isinstance(value.get("kind"), str) and isinstance(value.get("apiVersion"), str)


def _kind_missing(report: Report) -> None:
    report.add(
        "kind_missing",
        "error",
        ("kind",),
        "apiVersion or kind is missing",
        "add `apiVersion: ray.io/v1` and `kind: RayService`, or what the object is",
    )


def _other_object(report: Report, kind: str, version: str) -> None:
    """A Secret beside a RayService is nobody's surprise; a file that lint has no rules for at all is."""
    ray = version.startswith("ray.io/")
    if not _KIND.fullmatch(kind) or not _VERSION.fullmatch(version):
        report.add(
            "kind_unknown",
            "error",
            ("kind",),
            f"{kind[:60]!r} in version {version[:60]!r} is no kind of object",
            "write for example `apiVersion: ray.io/v1` and `kind: RayService`",
        )
    elif ray and kind not in _OTHER_RAY_KINDS:
        known = ", ".join((*_CLUSTER_PATH, *sorted(_OTHER_RAY_KINDS)))
        report.add("kind_unknown", "error", ("kind",), f"{kind[:60]!r} is no kind of KubeRay", f"use one of {known}")
    elif ray or not report.kinds & _CLUSTER_PATH.keys():
        report.add("kind_not_checked", "info", ("kind",), f"lint has no rules for {kind[:60]}", "check it by hand")


def _ray_object(report: Report, value: dict[str, Any], kind: str, fields: Fields) -> None:
    shape = _shape_of(report, value["apiVersion"], kind, fields)
    check_metadata(report, value, kind)
    for key in value:
        if key not in ("apiVersion", "kind", "metadata", "spec", "status"):
            report.add("field_unknown", "error", (key,), f"{key[:80]!r} is no field of {kind}", "move it under `spec`")
    path = _CLUSTER_PATH[kind]
    spec = value.get("spec")
    if not isinstance(spec, dict):
        report.add("field_missing", "error", ("spec",), "spec is missing or not a mapping", "add `spec:`")
        return
    said = {(*path, "headGroupSpec"), *_container_gaps(spec, path)}
    if shape is not None:
        for mismatch in mismatches(spec, fields, shape, ("spec",)):
            if mismatch.path not in said:  # a rule below says it with more to go by
                report.add(mismatch.code, "error", mismatch.path, mismatch.message, mismatch.fix)
    metadata = mapping(value.get("metadata"))
    annotations, labels = mapping(metadata.get("annotations")), mapping(metadata.get("labels"))
    inner = mapping(spec.get("rayClusterConfig")) if kind == "RayService" else spec
    cluster = Cluster(report=report, spec=inner, path=path, kind=kind, annotations=annotations, labels=labels)
    if kind == "RayCluster" or spec.get("rayClusterConfig") is not None:
        check_cluster(cluster)
        upgrade = mapping(spec.get("upgradeStrategy")) if kind == "RayService" else {}
        check_protections(cluster, Surroundings(labels=labels, kinds=report.kinds, upgrade=upgrade))
    if kind == "RayService":
        check_service(report, spec, inner, annotations)


def _shape_of(report: Report, version: str, kind: str, fields: Fields) -> str | None:
    """The schema for an object of this version; says what is wrong with the version, or with the CRD given."""
    group, _, name = version.partition("/")
    key = kind if name == "v1" else f"{kind}/{name}"
    if kind not in fields.kinds:
        report.add(
            "schema_not_checked",
            "warning",
            ("kind",),
            f"{fields.version} does not describe a {kind}: its fields are not checked",
            f"give the CRD of {kind}, or none: spanwise has one of its own",
        )
    if group != "ray.io" or (name != "v1" and kind in fields.kinds and key not in fields.kinds):
        report.add(
            "api_version",
            "error",
            ("apiVersion",),
            f"{version[:60]!r} is no version of {kind}",
            "write `apiVersion: ray.io/v1`",
        )
        return fields.kinds.get(kind)
    if name != "v1":
        report.add(
            "api_version",
            "warning",
            ("apiVersion",),
            f"{version[:60]!r} is an old version of {kind}, and has fewer fields",
            "write `apiVersion: ray.io/v1`",
        )
    return fields.kinds.get(key)


def _container_gaps(spec: dict[str, Any], path: tuple[str, ...]) -> set[Path]:
    """Paths at which a missing container is reported by the cluster's own rule."""
    cluster = mapping(spec.get("rayClusterConfig")) if len(path) > 1 else spec
    groups: list[Path] = [(*path, "headGroupSpec")]
    groups += [(*path, "workerGroupSpecs", index) for index in range(len(items(cluster.get("workerGroupSpecs"))))]
    ends: tuple[Path, ...] = (("template", "spec", "containers"), ("template", "spec"), ("template",))
    return {(*group, *end) for group in groups for end in ends}
