"""The policies that the bench compares, each as functions to be timed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sqap_vla_ros.config.pruning import EfficientVlaConfig, FastVConfig, RandomConfig, SqapConfig, VlaCacheConfig
from sqap_vla_ros.perception.patches import ring_tokens
from sqap_vla_ros.policies.cogact.fast.graphs import Graph
from sqap_vla_ros.policies.cogact.fast.static_forward import StaticForward
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.tools.benchmark.eager import EagerReference
from sqap_vla_ros.tools.benchmark.networks import Numbers
from sqap_vla_ros.tools.benchmark.roofline import Format
from sqap_vla_ros.vlm.frame_reuse import FrameReuse
from sqap_vla_ros.vlm.preprocessing import model_image_affine, resize
from sqap_vla_ros.vlm.pruning.efficientvla import relevant_and_diverse
from sqap_vla_ros.vlm.pruning.fastv import most_attended
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.random_dropping import random_tokens
from sqap_vla_ros.vlm.pruning.sqap import select_tokens

TOOL = (7, 8)  # patch (column, row) in the middle of the image: a whole ring


@dataclass(frozen=True)
class Row:
    """One policy.

    Attributes:
        numbers: Of its network.
        form: For its floor.
        how: "eager": the published implementation's operations; "static": fused and as one CUDA graph (without a GPU
            the same function, run plainly); "compiled": not fused by hand but by `torch.compile`, as one graph;
            "plain": this project's way without a graph, its tokens chosen on the host.
        pruning: Which visual tokens stay or are reused.
    """

    numbers: Numbers
    form: Format
    how: str = "static"
    pruning: SqapConfig | RandomConfig | FastVConfig | EfficientVlaConfig | VlaCacheConfig | None = None


def _sqap(ratio: float, form: Format) -> tuple[SqapConfig, Format]:
    config = SqapConfig(ratio=ratio)
    return config, Format(form.weight_bits, form.activation_bits, form.tower_bits, config.keep)


def _sqap_row(numbers: Numbers, ratio: float, form: Format) -> Row:
    pruning, pruned = _sqap(ratio, form)
    return Row(numbers, pruned, pruning=pruning)


FLOAT, W4A4 = Format(), Format(4, 4, 8)
# What is quoted comes first: a run may be cut off. Rows of one network follow each other where that costs nothing, so
# that it is made once; SQAP's is made for it alone, for its memory.
ROWS: Mapping[str, Row] = {
    "sqap": _sqap_row("w4a4", 0.4, W4A4),
    "fp16_eager": Row("float", FLOAT, "eager"),
    "fp16_graph": Row("float", FLOAT),
    "pruning_graph": _sqap_row("float", 0.4, FLOAT),
    "w4a4": Row("w4a4", W4A4),
    "sqap_0.3": _sqap_row("w4a4", 0.3, W4A4),
    "sqap_0.5": _sqap_row("w4a4", 0.5, W4A4),
    "sqap_0.6": _sqap_row("w4a4", 0.6, W4A4),
    "w8a8": Row("w8a8", Format(8, 8, 8)),
    "w4a16": Row("w4a16", Format(weight_bits=4)),
    "fp16_plain": Row("float", FLOAT, "plain"),
    "random": Row("float", Format(kept=RandomConfig().keep, prune_before=0), "plain", RandomConfig()),
    "fastv": Row("float", Format(kept=FastVConfig().keep), "plain", FastVConfig()),
    "efficientvla": Row(
        "float",
        Format(kept=EfficientVlaConfig().keep, left_out=EfficientVlaConfig().layer_ratio),
        "plain",
        EfficientVlaConfig(),
    ),
    "vla_cache": Row("float", FLOAT, "plain", VlaCacheConfig()),
    "fp16_compiled": Row("float", FLOAT, "compiled"),
}


@dataclass(frozen=True)
class Planned:
    """What a plan came to.

    Attributes:
        samples: float32 (1, horizon, 7).
        kept: int64 (n,), visual tokens that stayed; None: all.
    """

    samples: NDArray[np.float32]
    kept: NDArray[np.int64] | None


@dataclass
class Prepared:
    """A row ready to be timed.

    Attributes:
        plan: From the camera image to the samples on the host.
        planned: The same, for what it comes to; None where that is compared with nothing.
        device_plan: What the device does of it; None: not to be told apart.
        stages: Makes the parts of that by name; they take memory of their own.
    """

    plan: Callable[[], object]
    planned: Callable[[], Planned] | None = None
    device_plan: Callable[[], object] | None = None
    stages: Callable[[], dict[str, Callable[[], object]]] = dict


def plan_plainly(model: CogACT, row: Row, camera: NDArray[np.uint8], ids: Tensor, noise: Tensor) -> Planned:
    """What `CogACT.plan` says under a row's policy, tokens chosen on the host."""
    pruning = row.pruning
    kept: NDArray[np.int64] | None = None

    def select(evidence: SelectionInputs) -> NDArray[np.int64]:
        nonlocal kept
        assert isinstance(pruning, SqapConfig)
        height, width, _ = camera.shape
        middle = np.array([(TOOL[0] + 0.5) * width / 16, (TOOL[1] + 0.5) * height / 16])
        ring = ring_tokens(middle, model_image_affine(width, height), pruning.ring_radius)
        kept = select_tokens(evidence.scores, ring, pruning.keep, pruning.top_k).indices
        return kept

    samples = model.plan(camera, ids, noise, select=None if pruning is None else select).raw_samples
    return Planned(samples, kept)


def prepare_static(model: CogACT, row: Row, camera: NDArray[np.uint8], ids: Tensor, noise: Tensor) -> Prepared:
    """The static forward, as graphs where there is a GPU: one of the whole plan, one per stage."""
    pruning = row.pruning if isinstance(row.pruning, SqapConfig) else None
    forward = StaticForward(model, ids.shape[1], pruning=pruning)
    cuda = model.device.type == "cuda"
    forward.load(resize(camera), ids, noise, TOOL)
    run = Graph(forward.run, model.device).replay if cuda else forward.run

    def plan() -> Planned:
        forward.load(resize(camera), ids, noise, TOOL)
        run()
        found = forward.result()
        return Planned(found.raw_samples, None if found.reasons is None else np.flatnonzero(found.reasons))

    def stages() -> dict[str, Callable[[], object]]:
        # A forward of its own: what a stage leaves for the next must not be what the whole plan's graph writes.
        apart = StaticForward(model, ids.shape[1], pruning=pruning)
        apart.load(resize(camera), ids, noise, TOOL)
        apart.run()
        if not cuda:
            return dict(apart.stages)
        replays: dict[str, Callable[[], object]] = {}
        for name, stage in apart.stages.items():
            replays[name] = Graph(stage, model.device).replay
            # What was recorded has not run yet, and the next stage must not be timed on what it happens to find.
            replays[name]()
        return replays

    return Prepared(plan, plan, run, stages)


def prepare_eager(
    reference: EagerReference, device: torch.device, camera: NDArray[np.uint8], ids: Tensor, noise: Tensor
) -> Prepared:
    """The published implementation's operations."""

    def plan() -> object:
        image = torch.from_numpy(resize(camera))[None].to(device)
        return reference.run(image, ids.to(device), noise.to(device)).cpu()

    return Prepared(plan)


def prepare_plain(model: CogACT, row: Row, camera: NDArray[np.uint8], ids: Tensor, noise: Tensor) -> Prepared:
    """`CogACT.plan`, with the tokens of a baseline."""
    pruning = row.pruning
    if pruning is None:
        return Prepared(partial(model.plan, camera, ids, noise))
    if isinstance(pruning, VlaCacheConfig):
        return Prepared(partial(model.plan, camera, ids, noise, reuse=FrameReuse(pruning)))

    def select(evidence: SelectionInputs) -> NDArray[np.int64]:
        if isinstance(pruning, RandomConfig):
            return random_tokens(0, pruning.keep).indices
        if isinstance(pruning, FastVConfig):
            return most_attended(evidence.scores, pruning.keep).indices
        assert isinstance(pruning, EfficientVlaConfig)
        settings = pruning.keep, pruning.key_tokens, pruning.relevance_share
        return relevant_and_diverse(evidence.text_attention(), evidence.states(), *settings).indices

    before = 0 if isinstance(pruning, RandomConfig) else 2
    if isinstance(pruning, EfficientVlaConfig):
        # Layers of random weights are alike: which of them go changes no time.
        layers = model.language.layers
        language = model.language.without_layers(range(2, 2 + round(pruning.layer_ratio * len(layers))))
        model = CogACT(model.vision, model.projector, language, model.action_head)
    return Prepared(partial(model.plan, camera, ids, noise, select=select, prune_before_layer=before))
