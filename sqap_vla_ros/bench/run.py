"""`sqap-vla bench`: every policy on this device in one process, against the floor that the device's own rates set."""

import gc
import json
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from sqap_vla_ros.bench.eager import EagerReference
from sqap_vla_ros.bench.measure import Memory, Timing, device_name, measure, measured_rates
from sqap_vla_ros.bench.networks import random_network
from sqap_vla_ros.bench.plot import plot
from sqap_vla_ros.bench.roofline import STAGES, Device, floors_s, plan_products
from sqap_vla_ros.bench.rows import ROWS, Prepared, Row, plain_samples, prepare_eager, prepare_plain, prepare_static
from sqap_vla_ros.bench.selection import time_selection
from sqap_vla_ros.cogact.model import CogACT
from sqap_vla_ros.errors import in_one_line
from sqap_vla_ros.fast.blocks import FusedTowerBlock
from sqap_vla_ros.fast.fuse import halved_action_head, make_fast
from sqap_vla_ros.quantization.kernels import kernels_run_on

RESULT = "bench.json"
CPU_DEPTH = 3
_CAMERA = (480, 640, 3)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        device: "cuda" or "cpu".
        size: Of the action head, a key of `published.HEADS`.
        repeats: Plans per policy that count.
        text_tokens: Of the instruction, BOS and cognition token included.
        rows: Names of the policies, keys of `rows.ROWS`; empty: all.
        budget_s: No policy is begun when this has passed.
    """

    device: str
    size: str = "base"
    repeats: int = 100
    text_tokens: int = 24
    rows: tuple[str, ...] = ()
    budget_s: float = math.inf


@dataclass(frozen=True)
class Measured:
    """One policy.

    Attributes:
        plan: From the camera image to the samples on the host: what a caller waits.
        device: What the device does of it.
        stages: Parts of that.
        floors_ms: Least time per stage at the device's measured rates.
        peak_gib: Most memory while making and planning; of SQAP without any other policy's network.
        chunk_error: Of the samples, relative to those of the plain path on the same network; None: not compared.
    """

    plan: Timing
    device: Timing | None
    stages: dict[str, Timing]
    floors_ms: dict[str, float]
    peak_gib: float | None
    chunk_error: float | None


class Bench:
    """The policies, one after another; what was measured is written after each.

    Args:
        settings: What is measured.
        out: Directory for the result and its plot.
        on_progress: Told in words what is going on.
    """

    def __init__(self, settings: Settings, out: Path, on_progress: Callable[[str], None]) -> None:
        self._settings, self._out, self._say = settings, out, on_progress
        self._device = torch.device(settings.device)
        self._depth = None if self._device.type == "cuda" else CPU_DEPTH
        generator = np.random.default_rng(0)
        self._camera = generator.integers(0, 256, _CAMERA, np.uint8)
        self._ids = torch.from_numpy(generator.integers(3, 32000, (1, settings.text_tokens)))
        self._ids[0, 0], self._ids[0, -1] = 1, 2
        self._noise = torch.from_numpy(generator.standard_normal((1, 16, 7), np.float32))
        self._measured: dict[str, Measured] = {}
        self._failed: dict[str, str] = {}
        self._traces: dict[str, str] = {}
        self._more: dict[str, Any] = {}
        self._model: CogACT | None = None
        self._made_for: tuple[str, bool] | None = None

    def run(self) -> dict[str, Any]:
        """Measure everything; a policy that fails is noted with its error.

        Returns:
            What is written.
        """
        started = time.monotonic()
        self._say(f"measuring the rates of {device_name(self._device)}")
        rates = measured_rates(self._device)
        self._more["rates"] = asdict(rates)
        names = [name for name in ROWS if not self._settings.rows or name in self._settings.rows]
        for name in names:
            row = ROWS[name]
            if time.monotonic() - started > self._settings.budget_s:
                self._failed[name] = f"not begun within {self._settings.budget_s:g} s"
                continue
            if row.numbers == "w4a16" and not kernels_run_on(self._device):
                self._failed[name] = "needs a GPU: the product of float activations and 4-bit weights has no other"
                continue
            self._say(f"{name}: {row.numbers} network, {row.how}")
            try:
                self._measured[name] = self._measure(row, rates)
            except Exception as error:  # one policy that does not run here must not cost the others
                self._failed[name] = in_one_line(error)
                self._traces[name] = traceback.format_exc()
                self._say(f"{name} failed: {self._failed[name]}")
                self._model = None
            self._write()
        return self._write()

    def _network(self, row: Row) -> tuple[CogACT, Memory]:
        """The network of a row, made anew unless the last one is such; and the memory since then."""
        # Fusing is in place, and on a GPU alone.
        wanted = row.numbers, row.how == "static" and self._device.type == "cuda"
        if self._model is None or self._made_for != wanted:
            self._model = None
            gc.collect()
            memory = Memory(self._device)
            self._model = random_network(row.numbers, self._settings.size, self._depth, self._device)
            self._made_for = wanted
        else:
            gc.collect()
            memory = Memory(self._device)
        return self._model, memory

    def _measure(self, row: Row, rates: Device) -> Measured:
        settings = self._settings
        model, memory = self._network(row)
        wanted = None
        if row.how == "static" and not _is_fused(model):
            wanted = plain_samples(model, row, self._camera, self._ids, self._noise)
        products = plan_products(row.form, settings.text_tokens, size=settings.size, depth=self._depth)
        prepared = self._prepared(model, row)
        error = None
        if wanted is not None and prepared.samples is not None:
            error = float(np.linalg.norm(prepared.samples() - wanted) / np.linalg.norm(wanted))
        wall = measure(prepared.plan, settings.repeats, self._device, wall=True)
        peak = memory.peak_gib
        device = None
        if prepared.device_plan is not None:
            device = measure(prepared.device_plan, settings.repeats, self._device)
        stages = {name: measure(stage, settings.repeats, self._device) for name, stage in prepared.stages().items()}
        if row is ROWS["sqap"]:
            self._more["context_gib"] = memory.context_gib
            self._more["selection"] = asdict(time_selection(settings.repeats, self._device))
        floors = {name: 1e3 * seconds for name, seconds in floors_s(products, rates).items()}
        return Measured(wall, device, stages, floors, peak, error)

    def _prepared(self, model: CogACT, row: Row) -> Prepared:
        inputs = self._camera, self._ids, self._noise
        if row.how == "eager":
            return prepare_eager(EagerReference(model), self._device, *inputs)
        if row.how == "plain":
            return prepare_plain(model, row, *inputs)
        if row.how == "compiled":
            model.action_head, _ = halved_action_head(model.action_head)
            _compile(model)
        elif self._device.type == "cuda" and not _is_fused(model):
            self._more["action_head_half_difference"] = make_fast(model)
        return prepare_static(model, row, *inputs)

    def _write(self) -> dict[str, Any]:
        settings = self._settings
        content = {
            "device": device_name(self._device),
            "torch": torch.__version__,
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "depth": "as published" if self._depth is None else f"{self._depth} blocks of each kind",
            "settings": asdict(settings),
            "figures": _figures(self._measured, self._more),
            "rows": {name: asdict(measured) for name, measured in self._measured.items()},
            "failed": self._failed,
            "traces": self._traces,
            **self._more,
        }
        self._out.mkdir(parents=True, exist_ok=True)
        (self._out / RESULT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if self._measured:
            plot(content, self._out / "bench.png")
        return content


def _is_fused(model: CogACT) -> bool:
    return isinstance(model.vision.dino.blocks[0], FusedTowerBlock)


def _compile(model: CogACT) -> None:
    """Compile the blocks of a network; those of one kind share their code."""
    for layer in model.language.layers:
        for name in ("project", "add_attention", "add_feed_forward"):
            setattr(layer, name, torch.compile(getattr(layer, name), dynamic=False))
    for block in (*model.vision.dino.blocks, *model.vision.siglip.blocks, *model.action_head.blocks):
        block.compile(dynamic=False)


def _figures(measured: dict[str, Measured], more: dict[str, Any]) -> dict[str, float]:
    """The figures under the names by which they are quoted."""
    figures: dict[str, float] = {}
    for name, row in measured.items():
        figures[f"{name}_ms"] = row.plan.median_ms
        figures[f"{name}_p99_ms"] = row.plan.p99_ms
        figures[f"roofline_{name}_ms"] = sum(row.floors_ms.values())
        if row.device is not None:
            figures[f"{name}_device_ms"] = row.device.median_ms
        if row.chunk_error is not None:
            figures[f"chunk_error_{name}"] = row.chunk_error
        if row.peak_gib is not None:
            figures[f"peak_gib_{name}"] = row.peak_gib
        reference = measured.get("fp16_graph")
        if reference is not None and name != "fp16_graph":
            figures[f"e2e_speedup_{name}"] = reference.plan.median_ms / row.plan.median_ms
            if "language" in row.stages:
                figures[f"llm_speedup_{name}"] = (
                    reference.stages["language"].median_ms / row.stages["language"].median_ms
                )
    if more.get("context_gib") is not None:
        figures["context_gib"] = more["context_gib"]
    if "selection" in more:
        figures["selection_us"] = 1e3 * more["selection"]["median_ms"]
    return figures


def result_table(content: dict[str, Any]) -> Table:
    """What was measured, for a console."""
    table = Table(title=f"{content['device']}, depth: {content['depth']}; milliseconds, medians")
    for heading in ("policy", "plan", *STAGES, "floor", "×", "GiB"):
        table.add_column(heading.replace("_", " "), justify="left" if heading == "policy" else "right", no_wrap=True)
    for name, row in content["rows"].items():
        floor, plan = sum(row["floors_ms"].values()), row["plan"]["median_ms"]
        stages = [row["stages"].get(stage, {}).get("median_ms") for stage in STAGES]
        numbers = [plan, *stages, floor, plan / floor, row["peak_gib"]]
        table.add_row(name, *("" if number is None else _short(number) for number in numbers))
    return table


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
