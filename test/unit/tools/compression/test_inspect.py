"""The tables of what a compressed checkpoint holds."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from compressions import compressed, drawn_frames, named_recipe
from rich.console import Console
from rich.table import Table

from sqap_vla_ros.policies.cogact.store import Manifest, read_manifest
from sqap_vla_ros.tools.compression.inspect import layer_table, summary_table, verify
from sqap_vla_ros.vlm.weights import CheckpointError


@pytest.fixture(scope="module")
def directory(random_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated compression; not to be changed."""
    directory = tmp_path_factory.mktemp("inspected") / "out"
    compressed(random_run, named_recipe("w4a4"), directory, frames=drawn_frames(1))
    return directory


@pytest.fixture(scope="module")
def manifest(directory: Path) -> Manifest:
    return read_manifest(directory)


def rows(table: Table) -> Sequence[Sequence[str]]:
    """What stands in the cells."""
    return list(zip(*(list(column.cells) for column in table.columns), strict=True))


def printed(table: Table, width: int) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_every_quantised_layer_has_a_row_with_bits_errors_and_bytes(manifest: Manifest) -> None:
    cells = rows(layer_table(manifest))
    assert len(cells) == len(manifest.linears) == len({row[0] for row in cells})
    for row, entry in zip(cells, manifest.linears.values(), strict=True):
        assert f"{entry.rows}×{entry.columns}" in row
        assert f"{entry.bits:g}" in row and str(entry.activation_bits) in row
        assert f"{entry.weight_error:.4f}" in row
        assert f"{entry.nbytes / 2**20:.2f}" in row
        assert entry.output_error is None or f"{entry.output_error:.4f}" in row


def test_layers_are_named_by_their_place(manifest: Manifest) -> None:
    names = [row[0] for row in rows(layer_table(manifest))]
    assert {"dino 0 qkv", "siglip 0 fc2", "llm 0 q_proj", "llm 2 down_proj"} <= set(names)


def test_the_table_fits_a_terminal_of_100_columns(manifest: Manifest) -> None:
    text = printed(layer_table(manifest), 100)
    assert all(name in text for name in ("llm 2 down_proj", "siglip 0 fc2", "output")) and "…" not in text


def test_the_summary_tells_recipe_origin_calibration_and_size(directory: Path, manifest: Manifest) -> None:
    text = printed(summary_table(directory, manifest), 300)
    for words in ("w4a4", "random-cogact.pt", "1 frames of noise 0", "in 7 files", "self_attn.q_proj"):
        assert words in text


def test_the_summary_tells_what_was_left_out(random_run: Path, tmp_path: Path) -> None:
    manifest = compressed(random_run, named_recipe("smoothquant-w8a8"), tmp_path / "out")
    text = printed(summary_table(tmp_path / "out", manifest), 300)
    assert "no calibration frames: nothing is smoothed" in text and "nothing is calibrated" in text


def test_a_whole_directory_is_verified(directory: Path, manifest: Manifest) -> None:
    verify(directory, manifest)


@pytest.mark.parametrize("part", ["vision_backbone", "llm_layer_02"])
def test_a_changed_file_is_found(part: str, directory: Path, manifest: Manifest, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "copy")
    with (tmp_path / "copy" / "weights" / f"{part}.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CheckpointError, match=f"{part}.safetensors: not the file that was written"):
        verify(tmp_path / "copy", manifest)
