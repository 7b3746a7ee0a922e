"""Files of a compressed checkpoint: whole or not there, and read only when they are what was written."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from file_size_limit import largest_file
from paths import ROOT

from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, StoredLinear
from sqap_vla_ros.vlm.lowbit.store import (
    FileEntry,
    describe,
    linear_tensors,
    read_linear,
    read_weights,
    write_manifest,
    write_weights,
)
from sqap_vla_ros.vlm.lowbit.weight import mixed_weight
from sqap_vla_ros.vlm.weights import CheckpointError

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(5, dtype=torch.int8)}


@pytest.fixture
def entry(tmp_path: Path) -> FileEntry:
    return write_weights(tmp_path, "part", TENSORS)


@pytest.fixture
def file(entry: FileEntry, tmp_path: Path) -> Path:
    return tmp_path / "weights" / "part.safetensors"


def test_tensors_come_back_as_they_were(tmp_path: Path, entry: FileEntry) -> None:
    found = read_weights(tmp_path, "part", entry)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) and found[name].dtype == TENSORS[name].dtype for name in TENSORS)


def test_the_entry_tells_the_files_size(entry: FileEntry, file: Path) -> None:
    assert entry.nbytes == file.stat().st_size


def test_views_are_written_as_what_they_show(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    entry = write_weights(tmp_path, "views", {"columns": whole[:, 1:3], "turned": whole.T})
    found = read_weights(tmp_path, "views", entry)
    assert torch.equal(found["columns"], whole[:, 1:3]) and torch.equal(found["turned"], whole.T)


def test_a_changed_byte_is_found(tmp_path: Path, entry: FileEntry, file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="part.safetensors: not the file that was written .its hash differs"):
        read_weights(tmp_path, "part", entry)


def test_a_truncated_file_is_found(tmp_path: Path, entry: FileEntry, file: Path) -> None:
    os.truncate(file, entry.nbytes - 1)
    with pytest.raises(CheckpointError, match="part.safetensors: not the file that was written"):
        read_weights(tmp_path, "part", entry)


def test_a_missing_file_is_named(tmp_path: Path, entry: FileEntry, file: Path) -> None:
    file.unlink()
    with pytest.raises(CheckpointError, match="part.safetensors: cannot be read .*No such file"):
        read_weights(tmp_path, "part", entry)


def test_weights_that_find_no_space_leave_nothing(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(OSError, match="weights/large.safetensors: "):
        write_weights(tmp_path, "large", {"a": torch.zeros(1000)})
    assert list((tmp_path / "weights").iterdir()) == []


def test_weights_that_cannot_be_brought_to_disk_leave_nothing(
    tmp_path: Path, entry: FileEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    for write in (lambda: write_weights(tmp_path, "part", {}), lambda: write_whole(tmp_path / "file.json", b"new")):
        with pytest.raises(OSError, match="No space left on device"):
            write()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["part.safetensors"]
    assert read_weights(tmp_path, "part", entry).keys() == TENSORS.keys()


def test_a_file_that_finds_no_space_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_whole(path, b"old")
    with largest_file(10), pytest.raises(OSError, match="File too large"):
        write_whole(path, b"something new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"] and path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Invalid JSON"),
        (b'{"identity": ', "Invalid JSON: EOF"),
        (b"\xff\xfe\x00", "Invalid JSON"),
        (b"[]", "Input should be"),
        (b"{}", "identity: Field required"),
        (b'{"identity": {"format": 2}}', "identity: format: Input should be 1"),
    ],
)
def test_a_malformed_json_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "compressed.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"compressed.json: cannot be used .{reason}.*; remove .* and compress"):
        read_manifest(tmp_path)


def test_a_directory_without_the_json_is_no_compressed_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no compressed.json; not a compressed checkpoint"):
        read_manifest(tmp_path)


def test_an_unfinished_compression_is_told_from_a_foreign_directory(tmp_path: Path) -> None:
    (tmp_path / "unfinished.json").write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match="the compression is unfinished; run the same `sqap-vla compress` again"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("channel_bits", [(4, 4, 4), (8, 8, 8), (16, 0, 2), (0, 0, 0)], ids=str)
@pytest.mark.parametrize("static", [False, True])
def test_a_quantised_layer_comes_back_from_its_file(
    tmp_path: Path, channel_bits: tuple[int, ...], static: bool
) -> None:
    weight = torch.randn(3, 16)
    stored = mixed_weight(weight, torch.tensor(channel_bits, dtype=torch.uint8))
    divisor = torch.rand(16) + 0.5 if static else None
    linear = StoredLinear(stored, InputFormat(8, 16, 0.9, "token"), divisor)
    entry = write_weights(tmp_path, "layer", linear_tensors("up", linear))
    again = read_linear(read_weights(tmp_path, "layer", entry), "up", describe(linear, weight))
    assert torch.equal(again.weight.dequantised(), stored.dequantised())
    assert again.input_format == linear.input_format
    found = again.divisor
    assert found is divisor is None or found is not None and divisor is not None and torch.equal(found, divisor)


def test_the_shipped_manifest_is_written_as_the_bytes_that_were_read(tmp_path: Path) -> None:
    """Stored episode records hold the hash of this file: its format must not change."""
    shipped = ROOT / "config" / "checkpoints" / "libero_small_w4a4"
    write_manifest(tmp_path, read_manifest(shipped), "compressed.json")
    assert (tmp_path / "compressed.json").read_bytes() == (shipped / "compressed.json").read_bytes()
