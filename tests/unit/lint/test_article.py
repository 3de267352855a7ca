"""The founding article's two snippets, fully diagnosed."""

from __future__ import annotations

from tests.unit.lint.checks import codes, findings
from tests.unit.lint.samples import ARTICLE, ARTICLE_COMMAND, GOOD


def test_every_missing_piece_of_the_manifest_is_named() -> None:
    assert codes(ARTICLE) == {
        "serve_config_missing": ("error", 5),
        "head_group_missing": ("error", 6),
        "ray_version_missing": ("warning", 6),
        "replica_bounds_missing": ("warning", 8),
        "image_missing": ("error", 14),
        "shm_not_declared": ("warning", 14),
        "limits_missing": ("warning", 15),
    }


def test_each_finding_has_a_fix_and_a_place() -> None:
    for finding in findings(ARTICLE):
        assert finding.fix
        assert finding.path
        assert ARTICLE.splitlines()[finding.line - 1].strip()
    text = {finding.code: finding.fix for finding in findings(ARTICLE)}
    assert "minReplicas: 2" in text["replica_bounds_missing"]
    assert "image: rayproject/ray-llm:" in text["image_missing"]
    assert "headGroupSpec:" in text["head_group_missing"]
    assert "serveConfigV2: |" in text["serve_config_missing"]


def test_a_complete_manifest_has_nothing_but_infos() -> None:
    assert codes(GOOD) == {}


def test_the_command_is_understood() -> None:
    assert codes(ARTICLE_COMMAND) == {}
    assert [finding.code for finding in findings(ARTICLE_COMMAND)] == ["module_form_deprecated"]


def test_the_command_on_hosts_that_are_too_small() -> None:
    assert codes(ARTICLE_COMMAND, gpus_per_node=2) == {"tensor_parallel_exceeds_host": ("warning", 3)}
    assert codes(ARTICLE_COMMAND, gpus_per_node=4) == {}
