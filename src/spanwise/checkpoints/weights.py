"""Are the safetensors files of a directory whole? Judged by their headers, without reading a weight.

The format (https://github.com/huggingface/safetensors#format): 8 bytes little-endian header length, a JSON header with
``data_offsets`` per tensor, then the data; a file is whole when its size is the header's end plus the largest offset.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from spanwise.checkpoints.resolve import parse_config
from spanwise.errors import ModelError

_MAX_HEADER = 100_000_000  # the format's own limit
_AGAIN = "download the file again"


def check_safetensors(directory: str | Path) -> int:
    """Check every safetensors file that the model in ``directory`` needs.

    Returns:
        Bytes of all tensors.

    Raises:
        ModelError: A file is missing, truncated or damaged; names it with the expected and the actual size.
    """
    folder = Path(directory)
    try:
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            return _check_indexed(folder, index)
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ModelError(
                "holds no safetensors files", where=str(folder), remedy="download the model's *.safetensors files"
            )
        return sum(_check_file(path)[1] for path in files)
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror or error}", where=str(folder), remedy="check the directory"
        ) from None


def _check_indexed(folder: Path, index: Path) -> int:
    with index.open("rb") as stream:
        weight_map = parse_config(stream.read(64 << 20), where=str(index)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError("has no weight_map", where=str(index), remedy=_AGAIN)
    wanted: dict[str, list[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"names an impossible file {str(name)[:100]!r}", where=str(index), remedy=_AGAIN)
        wanted.setdefault(name, []).append(tensor)
    total = 0
    for name, tensors in sorted(wanted.items()):
        path = folder / name
        if not path.is_file():
            raise ModelError(
                f"is missing, though {index.name} says it holds {len(tensors)} tensors", where=str(path), remedy=_AGAIN
            )
        held, size = _check_file(path)
        absent = [tensor for tensor in tensors if tensor not in held]
        if absent:
            raise ModelError(
                f"lacks {len(absent)} tensors that {index.name} says it holds, first {absent[0][:100]!r}",
                where=str(path),
                remedy=_AGAIN,
            )
        total += size
    return total


def _check_file(path: Path) -> tuple[set[str], int]:
    """Tensor names and bytes of one file."""
    if not path.is_file():
        raise ModelError("is not a regular file", where=str(path), remedy=_AGAIN)
    actual = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            raise ModelError(f"is truncated: expected at least 8 bytes, found {actual}", where=str(path), remedy=_AGAIN)
        (length,) = struct.unpack("<Q", start)
        if length > _MAX_HEADER:
            raise ModelError(
                f"is not a safetensors file: its header would be {length} bytes long", where=str(path), remedy=_AGAIN
            )
        if 8 + length > actual:
            raise ModelError(
                f"is truncated inside its header: expected at least {8 + length} bytes, found {actual}",
                where=str(path),
                remedy=_AGAIN,
            )
        try:
            header: Any = json.loads(stream.read(length).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"has a damaged header: {error}"[:300], where=str(path), remedy=_AGAIN) from None
    if not isinstance(header, dict):
        raise ModelError("has a damaged header: not a mapping", where=str(path), remedy=_AGAIN)
    end = 0
    names = set()
    for tensor, entry in header.items():
        if tensor == "__metadata__":
            continue
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        good = isinstance(offsets, list) and len(offsets) == 2 and all(type(item) is int for item in offsets)
        if not good or offsets is None or not 0 <= offsets[0] <= offsets[1]:
            raise ModelError(
                f"has a damaged header: offsets of {tensor[:100]!r} are impossible", where=str(path), remedy=_AGAIN
            )
        end = max(end, offsets[1])
        names.add(tensor)
    if not names:
        raise ModelError("holds no tensors", where=str(path), remedy=_AGAIN)
    expected = 8 + length + end
    if actual != expected:
        state = "is truncated" if actual < expected else "is longer than its header says"
        raise ModelError(f"{state}: expected {expected} bytes, found {actual}", where=str(path), remedy=_AGAIN)
    return names, end
