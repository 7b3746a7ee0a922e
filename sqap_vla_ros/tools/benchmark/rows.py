"""The policies that the bench compares, each prepared as functions that can be timed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sqap_vla_ros.config.pruning import (
    EfficientVlaConfig,
    FastVConfig,
    PruningConfig,
    RandomConfig,
    SqapConfig,
    VlaCacheConfig,
)
from sqap_vla_ros.policies.cogact.fast.graph_forward import GraphForward
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.testing.networks import NumberFormat
from sqap_vla_ros.tools.benchmark.cost import Bits, Formats
from sqap_vla_ros.tools.benchmark.eager import EagerReference
from sqap_vla_ros.vlm.frame_reuse import FrameReuse
from sqap_vla_ros.vlm.preprocessing import resize
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.registry import Scene, kept_tokens, prune_before_layer
from sqap_vla_ros.vlm.runtime.cuda_graph import Graph

TOOL = (7, 8)  # patch (column, row) in the middle of the image: a whole ring


FORMATS: Mapping[NumberFormat, Formats] = {
    "float": Formats(),
    "w4a16": Formats(Bits(4, 16)),
    "w8a8": Formats(Bits(8, 8), Bits(8, 8)),
    "w4a4": Formats(Bits(4, 4), Bits(8, 8)),
}
"""Operand widths of each number format."""


@dataclass(frozen=True)
class Row:
    """One policy.

    Attributes:
        label: Name in tables and plots.
        number_format: Number format of the network.
        runtime: How a plan is run. "eager": the published implementation's operations. "graph": fused and as one CUDA
            graph (without a GPU the same function runs op by op). "compiled": not fused by hand but by
            `torch.compile`, as one graph. "plain": this project's `CogACT.plan` without a graph, where the host
            chooses the tokens.
        pruning: Which visual tokens stay or are reused.
    """

    label: str
    number_format: NumberFormat
    runtime: Literal["eager", "graph", "compiled", "plain"] = "graph"
    pruning: PruningConfig | None = None


# What is quoted comes first, because a run may be cut off. Rows of one network follow each other where possible, so
# that the network is made once; the one of `both` is made for it alone, to measure its memory.
ROWS: Mapping[str, Row] = {
    "both": Row("pruning + W4A4", "w4a4", pruning=SqapConfig()),
    "fp16_eager": Row("FP16, published operations", "float", "eager"),
    "fp16_graph": Row("FP16", "float"),
    "pruning": Row("pruning", "float", pruning=SqapConfig()),
    "w4a4": Row("W4A4", "w4a4"),
    "both_0.3": Row("pruning 0.3 + W4A4", "w4a4", pruning=SqapConfig(ratio=0.3)),
    "both_0.5": Row("pruning 0.5 + W4A4", "w4a4", pruning=SqapConfig(ratio=0.5)),
    "both_0.6": Row("pruning 0.6 + W4A4", "w4a4", pruning=SqapConfig(ratio=0.6)),
    "w8a8": Row("W8A8", "w8a8"),
    "w4a16": Row("W4A16", "w4a16"),
    "fp16_plain": Row("FP16, no graph", "float", "plain"),
    "random": Row("random dropping, no graph", "float", "plain", RandomConfig()),
    "fastv": Row("FastV, no graph", "float", "plain", FastVConfig()),
    "efficientvla": Row("EfficientVLA, no graph", "float", "plain", EfficientVlaConfig()),
    "vla_cache": Row("VLA-Cache, no graph", "float", "plain", VlaCacheConfig()),
    "fp16_compiled": Row("FP16, torch.compile", "float", "compiled"),
}
HEADLINE = "both"


@dataclass(frozen=True)
class Planned:
    """The result of a plan.

    Attributes:
        samples: float32 (1, horizon, 7), the sampler's output.
        kept: int64 (n,), visual tokens that stayed; None: all.
    """

    samples: NDArray[np.float32]
    kept: NDArray[np.int64] | None


@dataclass
class Prepared:
    """A row that can be timed.

    Attributes:
        plan: Plans, from the camera image to the samples on the host.
        planned: Plans and returns the result; None where the result is compared with nothing.
        device_plan: Runs the device's part of a plan; None where it cannot be separated.
        stages: Makes functions that run the stages of `device_plan`, by name. They take memory of their own.
    """

    plan: Callable[[], object]
    planned: Callable[[], Planned] | None = None
    device_plan: Callable[[], object] | None = None
    stages: Callable[[], dict[str, Callable[[], object]]] = dict


def plan_plainly(model: CogACT, row: Row, camera: NDArray[np.uint8], ids: Tensor, noise: Tensor) -> Planned:
    """Plan by `CogACT.plan` under a row's policy, with the tokens chosen on the host."""
    pruning = row.pruning
    kept: NDArray[np.int64] | None = None

    def select(inputs: SelectionInputs) -> NDArray[np.int64]:
        nonlocal kept
        assert isinstance(pruning, SqapConfig)
        height, width, _ = camera.shape
        middle = np.array([(TOOL[0] + 0.5) * width / 16, (TOOL[1] + 0.5) * height / 16])
        kept = kept_tokens(pruning, inputs, Scene((width, height), middle)).indices
        return kept

    samples = model.plan(camera, ids, noise, select=None if pruning is None else select).raw_samples
    return Planned(samples, kept)


def prepare_graph(model: CogACT, row: Row, camera: NDArray[np.uint8], ids: Tensor, noise: Tensor) -> Prepared:
    """Prepare the static forward, as graphs where there is a GPU: one of the whole plan, one per stage."""
    pruning = row.pruning if isinstance(row.pruning, SqapConfig) else None
    forward = GraphForward(model, ids.shape[1], pruning=pruning)
    cuda = model.device.type == "cuda"
    forward.load(resize(camera), ids, noise, TOOL)
    run = Graph(forward.run, model.device).replay if cuda else forward.run

    def plan() -> Planned:
        forward.load(resize(camera), ids, noise, TOOL)
        run()
        found = forward.result()
        return Planned(found.raw_samples, None if found.reasons is None else np.flatnonzero(found.reasons))

    def stages() -> dict[str, Callable[[], object]]:
        # A second forward, because a stage's output must not be overwritten by the whole plan's graph.
        apart = GraphForward(model, ids.shape[1], pruning=pruning)
        apart.load(resize(camera), ids, noise, TOOL)
        apart.run()
        if not cuda:
            return dict(apart.stages)
        replays: dict[str, Callable[[], object]] = {}
        for name, stage in apart.stages.items():
            replays[name] = Graph(stage, model.device).replay
            # Recording runs nothing; without a replay the next stage would be timed on arbitrary inputs.
            replays[name]()
        return replays

    return Prepared(plan, plan, run, stages)


def prepare_eager(
    reference: EagerReference, device: torch.device, camera: NDArray[np.uint8], ids: Tensor, noise: Tensor
) -> Prepared:
    """Prepare the published implementation's operations."""

    def plan() -> object:
        image = torch.from_numpy(resize(camera))[None].to(device)
        return reference.run(image, ids.to(device), noise.to(device)).cpu()

    return Prepared(plan)


def prepare_plain(model: CogACT, row: Row, camera: NDArray[np.uint8], ids: Tensor, noise: Tensor) -> Prepared:
    """Prepare `CogACT.plan` with the token selection of a baseline."""
    pruning = row.pruning
    if pruning is None:
        return Prepared(partial(model.plan, camera, ids, noise))
    if isinstance(pruning, VlaCacheConfig):
        return Prepared(partial(model.plan, camera, ids, noise, reuse=FrameReuse(pruning)))

    def select(inputs: SelectionInputs) -> NDArray[np.int64]:
        height, width, _ = camera.shape
        return kept_tokens(pruning, inputs, Scene((width, height))).indices

    before = prune_before_layer(pruning)
    if isinstance(pruning, EfficientVlaConfig):
        # The layers have random weights, so it makes no difference which of them are dropped.
        layers = model.language.layers
        language = model.language.without_layers(range(2, 2 + round(pruning.layer_ratio * len(layers))))
        model = CogACT(model.vision, model.projector, language, model.action_head)
    return Prepared(partial(model.plan, camera, ids, noise, select=select, prune_before_layer=before))
