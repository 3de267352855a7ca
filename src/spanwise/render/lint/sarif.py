"""Findings as SARIF 2.1.0, the form in which code hosts and CI systems take results and show them beside the lines."""

from __future__ import annotations

import hashlib
import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from spanwise.render.lint.finding import RANK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.render.lint.finding import Finding

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVEL = {"error": "error", "warning": "warning", "info": "note"}
# Standard input has no place in a repository; SARIF wants a URI all the same.
_STDIN = "stdin"


def sarif(findings: Sequence[Finding], *, version: str, root: str) -> dict[str, Any]:
    """One SARIF log with one run.

    Args:
        findings: In the order in which they are shown.
        version: Version of spanwise.
        root: The directory to which file names are relative; files below it get relative URIs, which is what code hosts
            match with their own paths.
    """
    codes = list(dict.fromkeys(finding.code for finding in findings))
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "spanwise",
                        "version": version,
                        "rules": [_rule(code, [item for item in findings if item.code == code]) for code in codes],
                    }
                },
                # Findings are what the tool is for: that it found some is no failure of the run.
                "invocations": [{"executionSuccessful": True}],
                "results": [_result(finding, codes.index(finding.code), root) for finding in findings],
            }
        ],
    }


def _rule(code: str, found: list[Finding]) -> dict[str, Any]:
    worst = max(found, key=lambda finding: RANK[finding.severity])
    words = code.replace("_", " ")
    return {
        "id": code,
        "shortDescription": {"text": words[:1].upper() + words[1:]},
        "fullDescription": {"text": worst.message},
        "help": {"text": worst.fix},
        "defaultConfiguration": {"level": _LEVEL[worst.severity]},
    }


def _result(finding: Finding, rule: int, root: str) -> dict[str, Any]:
    uri = artifact_uri(finding.file, root)
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": max(1, finding.line)}}
    }
    if finding.path:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.path}]
    # What makes a finding the same one after lines above it have moved.
    identity = "\0".join((finding.code, uri, finding.path, finding.message))
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": _LEVEL[finding.severity],
        "message": {"text": f"{finding.message}. Fix: {finding.fix}"},
        "locations": [location],
        "partialFingerprints": {
            "spanwiseFinding/v1": hashlib.sha256(identity.encode(errors="backslashreplace")).hexdigest()
        },
        "properties": {"fix": finding.fix},
    }


def artifact_uri(file: str, root: str) -> str:
    """``file`` as a URI: relative and percent-encoded below ``root``, ``file:`` with an absolute path elsewhere."""
    if file == "-":
        return _STDIN
    absolute = os.path.normpath(os.path.join(root, file))  # noqa: PTH118 - names only, nothing is looked up
    path = PurePath(absolute)
    try:
        # A colon in the first part would make it a scheme, so `:` is encoded too; bytes that are no text stay bytes.
        return quote(os.fsencode(path.relative_to(os.path.normpath(root)).as_posix()))
    except ValueError:
        posix = path.as_posix()
        return f"file://{'' if posix.startswith('/') else '/'}{quote(os.fsencode(posix))}"
