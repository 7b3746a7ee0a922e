"""`sqap-vla bench`: every policy on this device in one process, against the floor that the device's own rates set."""

import gc
import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from sqap_vla_ros.core.errors import GpuLost, in_one_line
from sqap_vla_ros.core.gpu_failures import recover
from sqap_vla_ros.policies.cogact.fast.blocks import FusedTowerBlock
from sqap_vla_ros.policies.cogact.fast.fuse import halved_action_head, make_fast
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.tools.benchmark.eager import EagerReference
from sqap_vla_ros.tools.benchmark.measure import Memory, Timing, device_name, measure, measured_rates
from sqap_vla_ros.tools.benchmark.networks import random_network
from sqap_vla_ros.tools.benchmark.plot import plot
from sqap_vla_ros.tools.benchmark.roofline import STAGES, Device, floors_s, plan_products
from sqap_vla_ros.tools.benchmark.rows import (
    ROWS,
    Planned,
    Prepared,
    Row,
    plan_plainly,
    prepare_eager,
    prepare_plain,
    prepare_static,
)
from sqap_vla_ros.tools.benchmark.selection import time_selection
from sqap_vla_ros.vlm.kernels import kernels_run_on

RESULT = "bench.json"
CPU_DEPTH = 3
_CAMERA = (480, 640, 3)
# Plans of the same inputs that must be the same to the last bit, as often as there are repeats, at most.
_REPLAYS = 50
# What is measured once, beside the rows.
_ONCE = ("rates", "context_gib", "selection", "action_head_half_difference")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        device: "cuda" or "cpu".
        size: Of the action head, a key of `published.HEADS`.
        repeats: Plans per policy that count.
        text_tokens: Of the instruction, BOS and cognition token included.
        rows: Names of the policies, keys of `rows.ROWS`; empty: all.
        budget_s: No policy is begun when this has passed; None: each is.
    """

    device: str
    size: str = "base"
    repeats: int = 100
    text_tokens: int = 24
    rows: tuple[str, ...] = ()
    budget_s: float | None = None

    @property
    def names(self) -> list[str]:
        """The policies in their order."""
        return [name for name in ROWS if not self.rows or name in self.rows]


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
        kept_alike: Share of the plain path's visual tokens that were chosen here too; None: none are chosen.
        replays_differ: Repeated plans that were not the same to the last bit; None: not compared.
    """

    plan: Timing
    device: Timing | None
    stages: dict[str, Timing]
    floors_ms: dict[str, float]
    peak_gib: float | None
    chunk_error: float | None
    kept_alike: float | None
    replays_differ: int | None


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
        self._rows: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, str] = {}
        self._skipped: dict[str, str] = {}
        self._left: list[str] = []
        self._traces: dict[str, str] = {}
        self._once: dict[str, Any] = {}
        self._model: CogACT | None = None
        self._made_for: tuple[str, bool] | None = None
        self._plain: dict[str, Planned] = {}

    def run(self) -> dict[str, Any]:
        """Measure everything; a policy that fails is noted with its error.

        Where only some policies are asked for, what was measured of others with the same settings stays.

        Returns:
            What is written; under "left" the policies that another process must measure: the GPU answers this one no
            more.
        """
        started = time.monotonic()
        self._take_over()
        self._say(f"measuring the rates of {device_name(self._device)}")
        rates = measured_rates(self._device)
        self._once["rates"] = asdict(rates)
        names = self._settings.names
        for number, name in enumerate(names):
            if reason := self._reason_to_skip(ROWS[name], time.monotonic() - started):
                self._skipped[name] = reason
                continue
            self._say(f"{name}: {ROWS[name].numbers} network, {ROWS[name].how}")
            try:
                self._measure(name, rates)
            except Exception as error:  # one policy that does not run here must not cost the others
                self._failed[name] = in_one_line(error)
                self._traces[name] = traceback.format_exc()
                self._say(f"{name} failed: {self._failed[name]}")
                self._model = None
            if self._is_lost(name):
                self._left = names[number + 1 :]
                break
            self._write()
        return self._write()

    def _take_over(self) -> None:
        """What an earlier run measured under the same settings, of policies that this one does not."""
        file = self._out / RESULT
        if not self._settings.rows or not file.is_file():
            return
        earlier = json.loads(file.read_text(encoding="utf-8"))
        if any(earlier.get(name) != value for name, value in self._made_with.items()):
            self._say(f"{file} was measured under other settings: it is replaced")
            return
        others = set(ROWS) - set(self._settings.names)
        for here, before in ((self._rows, "rows"), (self._failed, "failed"), (self._traces, "traces")):
            here.update({name: value for name, value in earlier[before].items() if name in others})
        self._once = {name: earlier[name] for name in _ONCE if name in earlier}

    def _reason_to_skip(self, row: Row, passed_s: float) -> str:
        budget_s = self._settings.budget_s
        if budget_s is not None and passed_s > budget_s:
            return f"not begun within {budget_s:g} s"
        if row.numbers == "w4a16" and not kernels_run_on(self._device):
            return "needs a GPU: the product of float activations and 4-bit weights has no other"
        return ""

    def _is_lost(self, name: str) -> bool:
        """Whether a policy failed, and with it everything else that this process may ask of the GPU."""
        if name not in self._failed:
            return False
        try:
            recover(self._device)
        except GpuLost as lost:
            self._say(str(lost))
            return True
        return False

    def _wanted_network(self, row: Row) -> tuple[str, bool]:
        """Its numbers, and whether it is fused: in place, and on a GPU alone."""
        return row.numbers, row.how == "static" and self._device.type == "cuda"

    def _network(self, name: str) -> tuple[CogACT, Memory]:
        """The network of a row, made anew unless the last one is such; and the memory since then."""
        wanted = self._wanted_network(ROWS[name])
        is_new = self._model is None or self._made_for != wanted
        if is_new:
            self._model = None
        gc.collect()
        memory = Memory(self._device)
        if self._model is None:
            self._model = random_network(ROWS[name].numbers, self._settings.size, self._depth, self._device)
            self._made_for = wanted
            names = self._settings.names
            served = takewhile(lambda other: self._wanted_network(ROWS[other]) == wanted, names[names.index(name) :])
            with memory.uncounted():
                self._plain = {
                    other: plan_plainly(self._model, ROWS[other], self._camera, self._ids, self._noise)
                    for other in served
                    if ROWS[other].how == "static"
                }
        return self._model, memory

    def _measure(self, name: str, rates: Device) -> None:
        settings, row = self._settings, ROWS[name]
        model, memory = self._network(name)
        products = plan_products(row.form, settings.text_tokens, size=settings.size, depth=self._depth)
        prepared = self._prepared(model, row)
        error, alike, differ = None, None, None
        if prepared.planned is not None:
            wanted, found = self._plain[name], prepared.planned()
            error = float(np.linalg.norm(found.samples - wanted.samples) / np.linalg.norm(wanted.samples))
            if wanted.kept is not None and found.kept is not None:
                alike = len(np.intersect1d(wanted.kept, found.kept)) / len(wanted.kept)
            again = [prepared.planned().samples for _ in range(min(_REPLAYS, settings.repeats))]
            differ = sum(not np.array_equal(found.samples, samples) for samples in again)
        wall = measure(prepared.plan, settings.repeats, self._device, wall=True)
        peak = memory.peak_gib
        device = None
        if prepared.device_plan is not None:
            device = measure(prepared.device_plan, settings.repeats, self._device)
        floors = {stage: 1e3 * seconds for stage, seconds in floors_s(products, rates).items()}
        # Kept before the stages are told apart: that may fail, too.
        self._rows[name] = asdict(Measured(wall, device, {}, floors, peak, error, alike, differ))
        for stage, function in prepared.stages().items():
            self._rows[name]["stages"][stage] = asdict(measure(function, settings.repeats, self._device))
        if name == "sqap":
            self._once["context_gib"] = memory.context_gib
            self._once["selection"] = asdict(time_selection(settings.repeats, self._device))

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
            self._once["action_head_half_difference"] = make_fast(model)
        return prepare_static(model, row, *inputs)

    @property
    def _made_with(self) -> dict[str, Any]:
        """What rows of one table have in common."""
        settings = self._settings
        return {
            "device": device_name(self._device),
            "torch": torch.__version__,
            "depth": "as published" if self._depth is None else f"{self._depth} blocks of each kind",
            "settings": {name: getattr(settings, name) for name in ("device", "size", "repeats", "text_tokens")},
        }

    def _write(self) -> dict[str, Any]:
        rows = {name: self._rows[name] for name in ROWS if name in self._rows}
        content = {
            **self._made_with,
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "figures": _figures(rows, self._once),
            "rows": rows,
            "failed": self._failed,
            "skipped": self._skipped,
            "left": self._left,
            "traces": self._traces,
            **self._once,
        }
        self._out.mkdir(parents=True, exist_ok=True)
        (self._out / RESULT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if rows:
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


def _figures(rows: Mapping[str, Mapping[str, Any]], once: Mapping[str, Any]) -> dict[str, float]:
    """The figures under the names by which they are quoted."""
    figures: dict[str, float] = {}
    for name, row in rows.items():
        figures[f"{name}_ms"] = row["plan"]["median_ms"]
        figures[f"{name}_p99_ms"] = row["plan"]["p99_ms"]
        figures[f"roofline_{name}_ms"] = sum(row["floors_ms"].values())
        if row["device"] is not None:
            figures[f"{name}_device_ms"] = row["device"]["median_ms"]
        for key in ("chunk_error", "kept_alike", "replays_differ", "peak_gib"):
            if row[key] is not None:
                figures[f"{key}_{name}"] = row[key]
        whole, language = speed_ups(rows, name)
        if whole is not None:
            figures[f"e2e_speedup_{name}"] = whole
        if language is not None:
            figures[f"llm_speedup_{name}"] = language
    if once.get("context_gib") is not None:
        figures["context_gib"] = once["context_gib"]
    if "selection" in once:
        figures["selection_us"] = 1e3 * once["selection"]["median_ms"]
    return figures


def speed_ups(rows: Mapping[str, Mapping[str, Any]], name: str) -> tuple[float | None, float | None]:
    """Of a row's whole plan and language model, over the float network that plans in the same way (as a graph or
    plainly); None where one of them was not measured."""
    reference = "fp16_plain" if ROWS[name].how == "plain" else "fp16_graph"
    if name == reference or reference not in rows:
        return None, None
    row, other = rows[name], rows[reference]
    whole = other["plan"]["median_ms"] / row["plan"]["median_ms"]
    if "language" not in row["stages"] or "language" not in other["stages"]:
        return whole, None
    return whole, other["stages"]["language"]["median_ms"] / row["stages"]["language"]["median_ms"]


def result_table(content: dict[str, Any]) -> Table:
    """What was measured, for a console."""
    table = Table(title=f"{content['device']}, depth: {content['depth']}; milliseconds, medians")
    for heading in ("policy", "plan", "faster", *STAGES, "LLM faster", "floor", "× floor", "GiB"):
        table.add_column(heading.replace("_", " "), justify="left" if heading == "policy" else "right", no_wrap=True)
    for name, row in content["rows"].items():
        floor, plan = sum(row["floors_ms"].values()), row["plan"]["median_ms"]
        stages = [row["stages"].get(stage, {}).get("median_ms") for stage in STAGES]
        whole, language = speed_ups(content["rows"], name)
        numbers = [plan, whole, *stages, language, floor, plan / floor, row["peak_gib"]]
        table.add_row(name, *("" if number is None else _short(number) for number in numbers))
    return table


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
