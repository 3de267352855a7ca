from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import ManifestError
from spanwise.render.lint.documents import MAX_BYTES, dotted, read_documents, read_text


def bomb(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(12), "once aliases are expanded"),
        ("a: &a [*a]", "contains itself"),
        ("a: *nowhere", "nowhere"),
        ("[" * 5000, "deep"),
        ("a: " + "{b: " * 200 + "1" + "}" * 200, "deep"),
        ("\ta: b", "not YAML"),
        ("a: b: c", "not YAML"),
        ("{a: b", "not YAML"),
        ("a: \x07", "not YAML"),
        ("? [a]\n: b", "key that is a mapping or a list"),
        ("!!python/object/apply:os.system [x]", "foreign type"),
        ("a: !secret b", "foreign type"),
        ("a: .nan", "finite"),
        ("a: -.inf", "finite"),
        ("a: " + "9" * 5000, "not a number that can be used"),
        ("a: !!int x", "not a number"),
    ],
)
def test_what_cannot_be_read_says_where(text: str, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_documents(text, "file.yaml")
    assert words in caught.value.what
    assert caught.value.where.startswith("file.yaml")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"\xff\xfe", "UTF-8"),
        (b"a\x00b", "binary"),
        (b" " * (MAX_BYTES + 1), "bytes, more than"),
    ],
)
def test_what_is_no_text_says_so(data: bytes, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_text(data, "file")


def test_lines_duplicates_and_styles() -> None:
    text = "a: 1\nb:\n  - x\n  - y: 2\n    y: 3\ntext: |\n  one\n  two\n"
    (document,) = read_documents(text, "f")
    assert document.value == {"a": 1, "b": ["x", {"y": 3}], "text": "one\ntwo\n"}
    assert document.line(("b", 1, "y")) == 5
    assert document.line(("b", 0)) == 3
    assert document.line(("b", 7, "absent")) == 2
    assert document.line(()) == 1
    assert document.duplicates == [(("b", 1, "y"), 4)]
    assert document.styles["text",] == "|"


def test_merge_keys_and_aliases_that_are_harmless() -> None:
    (document,) = read_documents("base: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}\nd: {<<: [*b, {z: 1}]}\ne: *b\n", "f")
    assert document.value["c"] == {"x": 1, "y": 3}
    assert document.value["d"] == {"x": 1, "y": 2, "z": 1}
    assert document.value["e"] == {"x": 1, "y": 2}


def test_dotted() -> None:
    assert dotted(("spec", "containers", 0, "image")) == "spec.containers[0].image"


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(_values.filter(lambda value: value is not None))
def test_reads_what_pyyaml_writes(value: object) -> None:
    """The reader agrees with PyYAML on everything that PyYAML writes (merge keys apart: they are text there)."""
    text = yaml.safe_dump(value)
    if "<<" in text:
        return
    (document,) = read_documents(text, "f")
    assert document.value == value


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abc:-?[]{}&*!|>'\"%#\n \t,<1.~", max_size=60))
def test_never_surprises(text: str) -> None:
    try:
        read_documents(text, "f")
    except ManifestError:
        return
