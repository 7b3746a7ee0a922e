"""Tables of what a compressed checkpoint holds."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich import filesize
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sqap_vla_ros.vlm.lowbit.store import LinearEntry, StoredManifest, check_companions, read_weights

_LAYER = re.compile(r"^llm\.model\.layers\.(\d+)\.(.+)$")


def layer_table(manifest: StoredManifest[Any]) -> Table:
    """One row per quantised linear layer: bits of weights and inputs, rotation, errors, bytes."""
    caption = "W, A: bits of weights and inputs; errors: relative, of the weight and of the output in calibration"
    table = Table(title="linear layers", caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    headings = ("layer", "rows×columns", "W", "A", "rotated by", "clip", "weight error", "output error", "MiB")
    for heading in headings:
        layer = heading == "layer"
        table.add_column(heading.replace(" ", "\n"), justify="left" if layer else "right", no_wrap=True)
    for name, entry in manifest.linears.items():
        table.add_row(
            _short(name),
            f"{entry.rows}×{entry.columns}",
            f"{entry.bits:.3g}",
            str(entry.activation_bits) + ("" if entry.granularity == "token" else f" per {entry.granularity}"),
            str(entry.block) if entry.block > 1 else "–",
            f"{entry.clip:g}",
            f"{entry.weight_error:.4f}",
            "–" if entry.output_error is None else f"{entry.output_error:.4f}",
            f"{entry.nbytes / 2**20:.2f}",
        )
    return table


def summary_table(directory: Path, manifest: StoredManifest[Any]) -> Table:
    """Make a table of recipe, origin and sizes, and of the mean error by kind of layer."""
    identity = manifest.identity
    table = Table(title=str(directory), show_header=False)
    table.add_row("recipe", identity.label)
    table.add_row("made from", f"{identity.source.name}, SHA-256 {identity.source.sha256[:12]}…")
    if calibration := identity.calibration:
        sources = ", ".join(calibration.sources)
        table.add_row("calibrated on", f"{calibration.frames} frames of {sources}, SHA-256 {calibration.sha256[:12]}…")
    else:
        table.add_row("calibrated on", "no frames: nothing is calibrated or smoothed; --calibration gives some")
    for note in manifest.notes:
        table.add_row("note", note)
    table.add_row("size", f"{filesize.decimal(manifest.nbytes)} in {len(manifest.files)} files")
    for kind, entries in _by_kind(manifest).items():
        weight = sum(entry.weight_error for entry in entries) / len(entries)
        outputs = [entry.output_error for entry in entries if entry.output_error is not None]
        words = f"weight error {weight:.4f}"
        words += f", output error {sum(outputs) / len(outputs):.4f}" if outputs else ""
        table.add_row(kind, f"{words} (mean of {len(entries)})")
    return table


def verify(directory: Path, manifest: StoredManifest[Any]) -> None:
    """Compare all files with their recorded hashes.

    Raises:
        CheckpointError: A file is missing or has changed.
    """
    check_companions(directory, manifest.identity)
    for name, entry in manifest.files.items():
        read_weights(directory, name, entry)


def _by_kind(manifest: StoredManifest[Any]) -> dict[str, list[LinearEntry]]:
    kinds: dict[str, list[LinearEntry]] = defaultdict(list)
    for name, entry in manifest.linears.items():
        match = _LAYER.match(name)
        kinds[match[2] if match else f"{name.partition('_')[0]} tower"].append(entry)
    return kinds


def _short(name: str) -> str:
    words = name.replace("llm.model.layers.", "llm ").replace("_featurizer.blocks.", " ")
    return words.replace(".self_attn.", " ").replace(".attn.", " ").replace(".mlp.", " ")
