"""`sqap-vla bench`: measure every policy on this device in one process, next to the floor that its rates set."""

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sqap_vla_ros.core.errors import GpuLost, in_one_line
from sqap_vla_ros.core.gpu_failures import recover
from sqap_vla_ros.core.run_directory import reserve
from sqap_vla_ros.policies.cogact.fast.fast_head import halved_action_head, make_fast
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.published import published_shapes
from sqap_vla_ros.testing.networks import NumberFormat, random_network
from sqap_vla_ros.tools.benchmark.cost import language_tokens, plan_products
from sqap_vla_ros.tools.benchmark.eager import EagerReference
from sqap_vla_ros.tools.benchmark.measure import Memory, device_name, measure, measured_rates
from sqap_vla_ros.tools.benchmark.results import RESULT, Measured, Results, Settings
from sqap_vla_ros.tools.benchmark.roofline import Device, floors_s
from sqap_vla_ros.tools.benchmark.rows import (
    FORMATS,
    HEADLINE,
    ROWS,
    Planned,
    Prepared,
    Row,
    plan_plainly,
    prepare_eager,
    prepare_graph,
    prepare_plain,
)
from sqap_vla_ros.tools.benchmark.selection import time_selection
from sqap_vla_ros.vlm.kernels import kernels_run_on
from sqap_vla_ros.vlm.runtime.fused_blocks import FusedTowerBlock

CPU_DEPTH = 3
_CAMERA = (480, 640, 3)
# Plans of the same inputs that must be the same to the last bit, as often as there are repeats, at most.
_REPLAYS = 50


class Bench:
    """Measures the policies one after another, and writes what is known after each.

    Args:
        settings: What is measured.
        out: Directory for the result and its plot.
        on_progress: Called with a line about what begins or failed.
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
        self._results = Results(
            {
                "device": device_name(self._device),
                "torch": torch.__version__,
                "depth": "as published" if self._depth is None else f"{self._depth} blocks of each kind",
                "settings": {name: getattr(settings, name) for name in ("device", "size", "repeats", "text_tokens")},
            }
        )
        self._model: CogACT | None = None
        self._made_for: tuple[NumberFormat, bool] | None = None
        self._plain: dict[str, Planned] = {}

    def run(self) -> dict[str, Any]:
        """Measure everything; a policy that fails is noted with its error.

        What was measured of other policies with the same settings stays.

        Returns:
            The content of the result file; under "left" the policies that another process must measure, because the
            GPU does not answer this one any more.

        Raises:
            RunDirectoryError: The directory holds results of other settings.
        """
        started = time.monotonic()
        results, names = self._results, self._settings.names
        reserve(self._out, results.made_with, results=[RESULT])
        if (self._out / RESULT).exists():
            results.read(self._out / RESULT, set(ROWS))
            if again := [name for name in names if name in results.rows]:
                self._say(f"measured again, and replaced then: {', '.join(again)}; --rows names others")
            results.forget(names)
        self._say(f"measuring the rates of {device_name(self._device)}")
        rates = measured_rates(self._device)
        results.once["rates"] = asdict(rates)
        for number, name in enumerate(names):
            if reason := self._reason_to_skip(ROWS[name], time.monotonic() - started):
                results.skipped[name] = reason
                continue
            self._say(f"measuring {ROWS[name].label} ({name})")
            try:
                self._measure(name, rates)
            except Exception as error:  # one policy that does not run here must not cost the others
                results.failed[name] = in_one_line(error)
                results.traces[name] = traceback.format_exc()
                self._say(f"{name} failed: {results.failed[name]}")
                self._model = None
            if self._is_lost(name):
                results.left = names[number + 1 :]
                break
            results.write(self._out)
        return results.write(self._out)

    def _reason_to_skip(self, row: Row, passed_s: float) -> str:
        budget_s = self._settings.budget_s
        if budget_s is not None and passed_s > budget_s:
            return f"not begun within {budget_s:g} s"
        if row.number_format == "w4a16" and not kernels_run_on(self._device):
            return "needs a GPU; float activations and 4-bit weights are multiplied by a GPU kernel only"
        return ""

    def _is_lost(self, name: str) -> bool:
        """Whether a policy failed in a way after which the GPU does not answer this process any more."""
        if name not in self._results.failed:
            return False
        try:
            recover(self._device)
        except GpuLost as lost:
            self._say(str(lost))
            return True
        return False

    def _wanted_network(self, row: Row) -> tuple[NumberFormat, bool]:
        """The number format of a row's network, and whether it is fused, which happens in place and only on a GPU."""
        return row.number_format, row.runtime == "graph" and self._device.type == "cuda"

    def _network(self, name: str) -> tuple[CogACT, Memory]:
        """Return a row's network, which is made unless the last row's fits, and a record of the memory since then."""
        wanted = self._wanted_network(ROWS[name])
        is_new = self._model is None or self._made_for != wanted
        if is_new:
            self._model = None
        gc.collect()
        memory = Memory(self._device)
        if self._model is None:
            self._model = random_network(ROWS[name].number_format, self._settings.size, self._depth, self._device)
            self._made_for = wanted
            names = self._settings.names
            served = takewhile(lambda other: self._wanted_network(ROWS[other]) == wanted, names[names.index(name) :])
            with memory.uncounted():
                self._plain = {
                    other: plan_plainly(self._model, ROWS[other], self._camera, self._ids, self._noise)
                    for other in served
                    if ROWS[other].runtime == "graph"
                }
        return self._model, memory

    def _measure(self, name: str, rates: Device) -> None:
        settings, row = self._settings, ROWS[name]
        model, memory = self._network(name)
        shapes = published_shapes(settings.size, self._depth)
        # How many tokens VLA-Cache reuses depends on the image: its floor is the one of a new scene.
        tokens = language_tokens(row.pruning, shapes, settings.text_tokens, reused_tokens=0)
        products = plan_products(shapes, tokens, FORMATS[row.number_format], needed_only=True)
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
        # Recorded before the stages are measured, because that may fail, too.
        self._results.rows[name] = asdict(Measured(wall, device, {}, floors, peak, error, alike, differ))
        for stage, function in prepared.stages().items():
            self._results.rows[name]["stages"][stage] = asdict(measure(function, settings.repeats, self._device))
        if name == HEADLINE:
            self._results.once["context_gib"] = memory.context_gib
            self._results.once["selection"] = asdict(time_selection(settings.repeats, self._device))

    def _prepared(self, model: CogACT, row: Row) -> Prepared:
        inputs = self._camera, self._ids, self._noise
        if row.runtime == "eager":
            return prepare_eager(EagerReference(model), self._device, *inputs)
        if row.runtime == "plain":
            return prepare_plain(model, row, *inputs)
        if row.runtime == "compiled":
            model.action_head, _ = halved_action_head(model.action_head)
            _compile(model)
        elif self._device.type == "cuda" and not _is_fused(model):
            self._results.once["action_head_half_difference"] = make_fast(model)
        return prepare_graph(model, row, *inputs)


def _is_fused(model: CogACT) -> bool:
    return isinstance(model.vision.dino.blocks[0], FusedTowerBlock)


def _compile(model: CogACT) -> None:
    """Compile the blocks of a network; blocks of one kind share their code."""
    for layer in model.language.layers:
        for name in ("project", "add_attention", "add_feed_forward"):
            setattr(layer, name, torch.compile(getattr(layer, name), dynamic=False))
    for block in (*model.vision.dino.blocks, *model.vision.siglip.blocks, *model.action_head.blocks):
        block.compile(dynamic=False)
