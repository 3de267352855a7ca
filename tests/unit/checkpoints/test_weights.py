"""Truncated and damaged safetensors, found by their headers."""

import json
import struct

import pytest

from spanwise.checkpoints.weights import check_safetensors
from spanwise.errors import ModelError


def write(path, tensors, extra=b"", cut=0):
    """A safetensors file of byte tensors, then ``cut`` bytes taken off or ``extra`` put on."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + b"\0" * end + extra
    path.write_bytes(data[: len(data) - cut])
    return len(data)


def test_whole_files_and_what_torch_writes(tmp_path):
    write(tmp_path / "a.safetensors", {"x": 100, "y": 28})
    assert check_safetensors(tmp_path) == 128
    numpy = pytest.importorskip("safetensors.numpy")
    import numpy as np

    numpy.save_file({"w": np.zeros((7, 3), np.float32)}, tmp_path / "b.safetensors")
    assert check_safetensors(tmp_path) == 128 + 84


def test_a_truncated_file_names_itself_and_both_sizes(tmp_path):
    whole = write(tmp_path / "model.safetensors", {"x": 1000}, cut=7)
    with pytest.raises(ModelError) as caught:
        check_safetensors(tmp_path)
    assert f"expected {whole} bytes, found {whole - 7}" in str(caught.value)
    assert "model.safetensors" in str(caught.value)


@pytest.mark.parametrize("size", [0, 3, 8, 20])
def test_cut_inside_the_header(tmp_path, size):
    path = tmp_path / "model.safetensors"
    write(path, {"x": 1000})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match="truncated"):
        check_safetensors(tmp_path)


@pytest.mark.parametrize(
    "header",
    [b"[]", b"{", b"\xff\xff", b'{"x": 3}', b'{"x": {"data_offsets": [4, 2]}}', b'{"x": {"data_offsets": [0, 1.5]}}'],
)
def test_damaged_headers(tmp_path, header):
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match="damaged header"):
        check_safetensors(tmp_path)


def test_other_files(tmp_path):
    with pytest.raises(ModelError, match="no safetensors"):
        check_safetensors(tmp_path)
    with pytest.raises(ModelError):
        check_safetensors(tmp_path / "absent")
    write(tmp_path / "m.safetensors", {"x": 10}, extra=b"more")
    with pytest.raises(ModelError, match="longer"):
        check_safetensors(tmp_path)
    (tmp_path / "m.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="not a safetensors file"):
        check_safetensors(tmp_path)


def test_the_index_is_complete(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "1.safetensors", "y": "2.safetensors"}}))
    write(tmp_path / "1.safetensors", {"x": 8})
    with pytest.raises(ModelError, match=r"2\.safetensors: is missing"):
        check_safetensors(tmp_path)
    write(tmp_path / "2.safetensors", {"z": 8})
    with pytest.raises(ModelError, match="lacks 1 tensors"):
        check_safetensors(tmp_path)
    write(tmp_path / "2.safetensors", {"y": 8})
    assert check_safetensors(tmp_path) == 16
    for broken in ({}, {"weight_map": {"x": "../1.safetensors"}}, {"weight_map": 3}):
        index.write_text(json.dumps(broken))
        with pytest.raises(ModelError):
            check_safetensors(tmp_path)


@pytest.mark.parametrize("header", [b"{}", b'{"__metadata__": {"format": "pt"}}'])
def test_a_file_without_tensors_is_no_checkpoint(tmp_path, header):
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError, match="no tensors"):
        check_safetensors(tmp_path)
