"""YAML (and JSON) read into plain values that remember their lines, from any input whatever.

The reader builds values from PyYAML's event stream with a stack of its own. It never recurses and it never constructs
an object of a tag's choosing, so a document from a stranger can neither exhaust the stack (``[[[[…``), nor the memory
(aliases of aliases: "billion laughs"), nor run code. Duplicate keys, which PyYAML silently merges, are findings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import yaml

from spanwise.errors import ManifestError

# A Kubernetes object may have 1.5 MiB in etcd; a file of several of them has room in ten times that.
MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 100
MAX_NODES = 200_000
# Kubernetes' numbers have 64 bits. Python's have no end, and cannot all be printed (`0xfff…`) or divided.
_MOST_BITS = 128

Path = tuple[str | int, ...]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.resolver.Resolver()
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_TAG = "tag:yaml.org,2002:"


@dataclass(slots=True)
class Document:
    """One YAML document: its value, and the line of every key, item and scalar (from 1)."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    # Line and style of every scalar: an embedded document (serveConfigV2) is read at its own lines.
    styles: dict[Path, str | None] = field(default_factory=dict)
    # Keys given twice in one mapping: the line of the first; `lines` has that of the last, whose value counts.
    duplicates: list[tuple[Path, int]] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of ``path``, or of the nearest thing above it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


@dataclass(slots=True)
class _Open:
    """A mapping or list under construction; ``anchor_size`` counts nodes, aliases at their full size."""

    value: Any
    path: Path
    anchor: str | None
    line: int
    key: str | None = None
    nodes: int = 1


def read_text(data: bytes, name: str) -> str:
    """Decode a file's bytes.

    Raises:
        ManifestError: Too large, not UTF-8, or not text.
    """
    if len(data) > MAX_BYTES:
        raise ManifestError(
            f"the file has {len(data)} bytes, more than {MAX_BYTES}",
            where=name,
            remedy="give the manifest itself; a Kubernetes object has at most 1.5 MiB",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x})",
            where=name,
            remedy="give a YAML manifest or a command line as text",
        ) from None
    if "\x00" in text:
        raise ManifestError(
            "binary data, not text", where=name, remedy="give a YAML manifest or a command line as text"
        )
    if not text.strip():
        raise ManifestError("the file is empty", where=name, remedy="give a YAML manifest or a command line")
    return text


def read_documents(text: str, name: str) -> list[Document]:
    """Every document of ``text``, empty ones left out.

    Raises:
        ManifestError: Not YAML, too deep, too large once its aliases are expanded, or with a tag of a foreign type.
    """
    documents: list[Document] = []
    reader = _Reader(name)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                reader = _Reader(name, reader.nodes)  # the bound is on the file, not on each of its documents
            elif isinstance(event, yaml.DocumentEndEvent):
                if reader.document.value is not None:
                    documents.append(reader.document)
            else:
                reader.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ManifestError(
            f"not YAML: {problem}", where=where, remedy="correct the line; indentation is of spaces, never of tabs"
        ) from None
    return documents


class _Reader:
    """Turns the events of one document into values."""

    def __init__(self, name: str, nodes: int = 0) -> None:
        self.name = name
        self.document = Document()
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = nodes

    def take(self, event: yaml.Event) -> None:
        """Take the next event of the document."""
        mark = event.start_mark
        line = mark.line + 1 if mark is not None else 1
        if isinstance(event, yaml.ScalarEvent):  # most events are
            self._scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, line)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag and event.tag not in (f"{_TAG}map", f"{_TAG}seq", "!"):
            raise self._refused(f"the tag {event.tag!r} asks for a foreign type", line, "remove the tag")
        if len(self.stack) >= MAX_DEPTH:
            raise self._refused(f"nested more than {MAX_DEPTH} deep", line, "give a flatter document")
        path = self._path(line)
        self._count(1, line)
        self.document.lines.setdefault(path, line)
        self.stack.append(_Open(value={} if mapping else [], path=path, anchor=event.anchor, line=line))

    def _close(self) -> None:
        done = self.stack.pop()
        if done.anchor:
            self.anchors[done.anchor] = (done.value, done.nodes)
        self._put(done.value, done.line, done.nodes)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self._count(1, line)
        top = self.stack[-1] if self.stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            self._key(top, event.value, line)
            return
        path = self._path(line)
        value = self._resolved(event, line)
        self.document.lines.setdefault(path, line)
        self.document.styles[path] = event.style
        if event.anchor:
            self.anchors[event.anchor] = (value, 1)
        self._put(value, line, 1)

    def _key(self, top: _Open, key: str, line: int) -> None:
        path = (*top.path, key)
        if path in self.document.lines:  # not `in top.value`: a merged key may be written out too
            self.document.duplicates.append((path, self.document.lines[path]))
        self.document.lines[path] = line
        top.key = key

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        if event.anchor not in self.anchors:
            inside = any(item.anchor == event.anchor for item in self.stack)
            what = "contains itself" if inside else "is not defined above"
            raise self._refused(f"the alias *{event.anchor} {what}", line, "write the value out")
        value, size = self.anchors[event.anchor]
        self._count(size, line)
        top = self.stack[-1] if self.stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            self._key(top, str(value), line)
            return
        self.document.lines.setdefault(self._path(line), line)
        self._put(value, line, size)

    def _put(self, value: Any, line: int, size: int) -> None:
        """Hand a finished value to the container around it."""
        if not self.stack:
            self.document.value = value
            return
        top = self.stack[-1]
        top.nodes += size
        if isinstance(top.value, list):
            top.value.append(value)
            return
        if top.key is None:
            raise self._refused("a key that is a mapping or a list", line, "use plain text as key")
        sources = value if isinstance(value, list) else [value]
        if top.key == "<<" and all(isinstance(source, dict) for source in sources):
            for source in sources:  # YAML's merge key: what is written out wins over what is merged
                for key, merged in source.items():
                    top.value.setdefault(key, merged)
        else:
            top.value[top.key] = value
        top.key = None

    def _path(self, line: int) -> Path:
        """Where the next value goes."""
        if not self.stack:
            return ()
        top = self.stack[-1]
        if isinstance(top.value, list):
            return (*top.path, len(top.value))
        if top.key is None:
            raise self._refused("a key that is a mapping or a list", line, "use plain text as key")
        return (*top.path, top.key)

    def _resolved(self, event: yaml.ScalarEvent, line: int) -> Any:
        """The scalar's value: text, number, truth or null; dates stay text."""
        implicit = event.implicit
        if event.tag is None and not implicit[0]:
            return event.value  # quoted, or a block of text
        tag = event.tag or _RESOLVER.resolve(yaml.ScalarNode, event.value, implicit)
        if tag == f"{_TAG}str" or tag in ("!", f"{_TAG}timestamp", f"{_TAG}value", f"{_TAG}merge"):
            return event.value
        short = tag.removeprefix(_TAG)
        if short not in ("null", "bool", "int", "float"):
            raise self._refused(f"the tag {tag!r} asks for a foreign type", line, "remove the tag")
        try:
            node = yaml.ScalarNode(tag, event.value)
            value = getattr(_CONSTRUCTOR, f"construct_yaml_{short}")(node)
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise OverflowError
        except (ValueError, KeyError, OverflowError):
            raise self._refused(
                f"{event.value[:40]!r} is not a number that can be used", line, "write a smaller number, or quote it"
            ) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refused(f"{event.value[:40]!r} is not a finite number", line, "write a finite number")
        return value

    def _count(self, size: int, line: int) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            raise self._refused(
                f"more than {MAX_NODES} values once aliases are expanded",
                line,
                "write a smaller document without aliases",
            )

    def _refused(self, what: str, line: int, remedy: str) -> ManifestError:
        return ManifestError(what, where=f"{self.name}:{line}", remedy=remedy)


def dotted(path: Path) -> str:
    """``("spec", "containers", 0)`` as ``spec.containers[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
