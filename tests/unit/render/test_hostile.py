"""Whatever somebody types into an option: refused with one message, or the one scalar that it was meant to be."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import InputError, PlanError
from spanwise.plan.types import Setting
from spanwise.render import RenderOptions, render
from spanwise.render.grammar import image_parts
from tests.unit.plans import ARTICLE, make_plan

_HOSTILE = [
    "",
    " ",
    "a\nb: c",
    "a: b",
    "a #b",
    "{}",
    "[a]",
    "- a",
    "&a",
    "*a",
    "!!python/object/apply:os.system [id]",
    "'",
    '"',
    "a'b",
    "%a",
    "@a",
    "`a`",
    "$(id)",
    "\x00",
    "\x1b[2J",
    "\u202egnp",
    "é",
    "a" * 64,
    "a" * 100_000,
    "../../etc",
    "null",
    "true",
    "y",
    "1e3",
    "0x1f",
    "2026-01-01",
    "=",
    "<<",
    "~",
    "---",
]
_GOOD = [
    "a",
    "a-b",
    "a.b",
    "n",
    "yes",
    "1",
    "1e3",
    "0b1",
    "null",
    "a/b",
    "a.b/c",
    "a1/b_c",
    "x:1",
    "/m",
    "a:/m",
    "a=b:NoExecute",
]
_WORDS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="ab0.-_:/=@", max_size=30),
    st.sampled_from(_HOSTILE + _GOOD),
    st.builds("".join, st.lists(st.sampled_from(_HOSTILE[:-12] + _GOOD), max_size=3)),
)

# How a word is put into the options, and the word that stands for any good one. `{}` is where it goes.
SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "image": ({"image": "{}"}, "zz/benign:1"),
    "name": ({"name": "{}"}, "zzbenign"),
    "token_secret": ({"token_secret": "{}"}, "zzbenign"),
    "token_key": ({"token_key": "{}"}, "zzbenign"),
    "claim": ({"model_volume": "pvc:{}"}, "zzbenign"),
    "claim's mount": ({"model_volume": "pvc:claim:{}"}, "/zz/benign"),
    "folder": ({"model_volume": "hostPath:{}"}, "/zz/benign"),
    "bucket": ({"model_volume": "s3://{}"}, "zzbenign"),
    "prefix": ({"model_volume": "s3://bucket/{}"}, "zzbenign"),
    "env_secret": ({"env_secrets": ("{}",)}, "zzbenign"),
    "image_pull_secret": ({"image_pull_secrets": ("{}",)}, "zzbenign"),
    "service_account": ({"service_account": "{}"}, "zzbenign"),
    "taint": ({"tolerations": ("{}",)}, "zzbenign"),
    "taint's value": ({"tolerations": ("key={}",)}, "zzbenign"),
    "taint's key": ({"tolerations": ("{}=value:NoSchedule",)}, "zzbenign"),
    "selector's key": ({"node_selectors": ("{}=value",)}, "zzbenign"),
    "selector's value": ({"node_selectors": ("key={}",)}, "zzbenign"),
    "domain_label": ({"domain_label": "{}"}, "zzbenign"),
    "rdma_resource": ({"rdma_resource": "{}"}, "zz/benign"),
    "queue": ({"gang_scheduler": "volcano", "queue": "{}"}, "zzbenign"),
    "redis": ({"redis": "{}"}, "zzbenign:1"),
    "redis' host": ({"redis": "{}:6379"}, "zzbenign"),
    "redis_secret": ({"redis": "redis:6379", "redis_secret": "{}"}, "zzbenign"),
    "redis' key": ({"redis": "redis:6379", "redis_secret": "redis:{}"}, "zzbenign"),
    "serve_from": ({"serve_from": "{}=value"}, "zzbenign"),
    "serve_from's value": ({"serve_from": "key={}"}, "zzbenign"),
}
# Words that say more than one thing by themselves have another shape, which has its own line above.
_OTHER_SHAPE = {"claim": ":", "taint": "=:", "taint's value": ":=", "redis_secret": ":"}


def options(shape: str, word: str) -> RenderOptions:
    values = {
        key: tuple(item.replace("{}", word) for item in value)
        if isinstance(value, tuple)
        else value.replace("{}", word)
        for key, value in SHAPES[shape][0].items()
    }
    return RenderOptions(**values)


def trees(shape: str, word: str) -> list[Any]:
    files = render([ARTICLE], "kuberay", options(shape, word))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for file in files for document in yaml.load_all(file.text, Loader=loader)]


@cache
def benign(shape: str) -> list[Any]:
    return trees(shape, SHAPES[shape][1])


def replaced(tree: Any, old: str, new: str) -> Any:
    if isinstance(tree, dict):
        return {key.replace(old, new): replaced(value, old, new) for key, value in tree.items()}
    if isinstance(tree, list):
        return [replaced(item, old, new) for item in tree]
    return tree.replace(old, new) if isinstance(tree, str) else tree


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(word=_WORDS)
def test_a_word_is_refused_or_is_that_word(shape: str, word: str) -> None:
    try:
        found = trees(shape, word)
    except InputError as error:
        assert error.where.startswith("--")
        assert error.remedy
        assert len(str(error)) < 600
        assert str(error).replace("\n", "", 1).isprintable()
        return
    if set(_OTHER_SHAPE.get(shape, "")) & set(word):
        return
    old = SHAPES[shape][1]
    new = (word.rstrip("/") or word) if old.startswith("/") else word
    assert found == replaced(benign(shape), old, new)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_takes_a_good_word_and_refuses_a_bad_one(shape: str) -> None:
    """The property above holds for an option that refuses everything, too."""
    assert SHAPES[shape][1] in str(benign(shape))
    for bad in ("a\nb: c", "a b", "é", "a" * 100_000, "a'b"):
        with pytest.raises(InputError):
            trees(shape, bad if not SHAPES[shape][1].startswith("/") else f"x{bad}")


@pytest.mark.parametrize(
    "word",
    [
        "ray:1",
        "rayproject/ray-llm:2.60.0-py312-cu130",
        "localhost:5000/a:1",
        "registry.example/a/b__c/d-e.f@sha256:" + "0f" * 32,
        "registry.example:443/a:tag@sha256:" + "0f" * 32,
        "a:latest@sha256:" + "0f" * 32,
        "A.B/c:1",
    ],
)
def test_images(word: str) -> None:
    name, tag, digest = image_parts(word, "--image")
    assert word == name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


@pytest.mark.parametrize(
    "word",
    [
        "ray",
        "ray:latest",
        "registry.example:5000/ray",
        "Ray:1",
        "a//b:1",
        "/a:1",
        "a/:1",
        "a:1:2",
        "a:-1",
        "a@sha256:" + "0" * 63,
        "a@sha256:" + "F" * 64,
        "a@md5:" + "0" * 32,
        "a---:1",
        "a___b:1",
        "http://a/b:1",
        "a:1 --privileged",
        "a:1;id",
        "a:" + "1" * 129,
        "a" * 256 + ":1",
    ],
)
def test_no_images(word: str) -> None:
    with pytest.raises(InputError):
        image_parts(word, "--image")


@pytest.mark.parametrize(
    "field", ["token_secret", "token_key", "redis_secret", "redis", "model_volume", "env_secrets", "image_pull_secrets"]
)
def test_a_secret_pasted_in_place_of_its_name_is_not_repeated(field: str) -> None:
    secret = "hf_" + "Secret+0123456789"
    word = {"redis": f"redis://:{secret}@redis:6379", "model_volume": f"s3://{secret}@bucket/x"}.get(field, secret)
    value: Any = (word,) if field.endswith("s") and field != "redis" else word
    more = {"redis": "redis:6379"} if field == "redis_secret" else {}
    with pytest.raises(InputError) as caught:
        render([ARTICLE], "kuberay", RenderOptions(**{field: value, **more}))
    assert secret not in str(caught.value)
    assert "not repeated" in str(caught.value)


_TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("target", ["vllm", "ray", "kuberay"])
@pytest.mark.parametrize(
    "plan",
    [
        make_plan(environment=(Setting(name="HF_TOKEN", value="s3cr3t", reason="none", source="test"),)),
        make_plan(environment=(Setting(name="OTHER", value=_TOKEN, reason="none", source="test"),)),
        make_plan(hf_token="s3cr3t"),
        make_plan(api_key="s3cr3t"),
        make_plan(download_dir=_TOKEN),
        make_plan(model="https://me:s3cr3t@hub.example/org/model"),
        make_plan(speculative_config={"model": "x", "hf_token": "s3cr3t"}),
        make_plan(hf_overrides={_TOKEN: {"a": 1}}),
        ARTICLE.model_copy(update={"intent": {"model": "x", "notes": [{"deep": _TOKEN}]}}).sealed(),
    ],
)
def test_a_plan_that_carries_a_secret_is_not_rendered(plan: Any, target: Any) -> None:
    with pytest.raises(PlanError, match="holds a secret") as caught:
        render([plan], target)
    assert "s3cr3t" not in str(caught.value)
    assert _TOKEN not in str(caught.value)


@pytest.mark.parametrize("folder", ["/", "/etc", "/proc/self", "/home/ray", "/models/../../etc", "/models:/etc"])
def test_a_plans_folder_that_belongs_to_the_system_is_not_mounted_from_the_host(folder: str) -> None:
    plan = make_plan(model=folder, served_name="m")
    with pytest.raises(InputError, match=r"plan meta-llama-3-70b, model\.source: "):
        render((plan,), "kuberay")
    assert "hostPath" in render((make_plan(model="/models/m", served_name="m"),), "kuberay")[0].text
