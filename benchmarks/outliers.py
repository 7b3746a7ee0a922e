"""The error of attention under each recipe when a few input channels are far larger than the rest.

Queries and keys of one decoder layer at CogACT-Base's width are computed from synthetic inputs, of which 8 of 4096
channels are a hundred times as large as the others. All transformations, roundings and integer products are the
project's own. Each recipe is calibrated on other inputs than it is measured on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.tools.compression.agreement import topk_overlaps
from sqap_vla_ros.tools.compression.gptq import InputStatistics
from sqap_vla_ros.tools.compression.rounding import SeenInputs, round_linear
from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.language import EPSILON
from sqap_vla_ros.vlm.layers import project_heads
from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.layer import ATTENTION_INPUT, LINEARS, NORMS
from sqap_vla_ros.vlm.lowbit.linear import SharedInputLinears
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer, prepare, rotate_residual

WIDTH, HEAD_WIDTH, POSITIONS, VISUAL = 4096, 128, 280, 256
OUTLIERS, FACTOR = 8, 100.0
CALIBRATION_FRAMES, EVALUATION_FRAMES = 16, 16
# Half of an input's power is a mixture of this many patterns: channels are correlated, which GPTQ lives on.
PATTERNS = 256
# Standard deviation of the attention logits: peaked, as in trained layers.
LOGIT_DEVIATION = 2.0
_QUERY, _KEY = ATTENTION_INPUT[:2]
_NORM = next(iter(NORMS))


@dataclass(frozen=True)
class Case:
    """Where the outliers come from, and what depends on them.

    Attributes:
        name: Short name.
        words: Description.
        in_stream: The residual stream has them; otherwise the norm's gain makes them.
        compensated: Weights are small where inputs are large, so that all channels count alike; otherwise the outliers
            make up most of every query and key.
    """

    name: str
    words: str
    in_stream: bool
    compensated: bool


CASES = (
    Case("stream", "in the residual stream; all channels count alike in queries and keys", True, True),
    Case("gain", "made by the norm's gain; all channels count alike in queries and keys", False, True),
    Case("dominant", "in the residual stream, and they make up most of queries and keys", True, False),
)


@dataclass(frozen=True)
class Measured:
    """How far attention is from that of the float layer.

    Attributes:
        probability_error: ‖difference‖ / ‖float‖ over all attention probabilities.
        topk_overlap: Share of the k most attended visual tokens that agrees with float, by k: last position, mean over
            heads.
        input_clip: Share of the inputs' largest magnitude that is represented.
    """

    probability_error: float
    topk_overlap: Mapping[int, float]
    input_clip: float


@dataclass(frozen=True)
class Layer:
    """One layer's scoring half in one case.

    Attributes:
        weights: float32 (rows, columns), all linear layers by published name; all but those of query and key are small.
        gain: float32 (width,), of the norm in front.
        calibration: float32 (positions, width) each, residual streams.
        evaluation: Other residual streams, likewise.
    """

    weights: Mapping[str, Tensor]
    gain: Tensor
    calibration: Sequence[Tensor]
    evaluation: Sequence[Tensor]


def make_layer(case: Case) -> Layer:
    """Draw a layer and its inputs; the cases differ in nothing but the outliers."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    large = torch.ones(WIDTH)
    large[torch.randperm(WIDTH, generator=generator)[:OUTLIERS]] = FACTOR
    patterns = draw(PATTERNS, WIDTH) * PATTERNS**-0.5
    frames = [
        draw(POSITIONS, PATTERNS) @ patterns + draw(POSITIONS, WIDTH)
        for _ in range(CALIBRATION_FRAMES + EVALUATION_FRAMES)
    ]
    gain = torch.ones(WIDTH) if case.in_stream else large
    if case.in_stream:
        frames = [frame * large for frame in frames]
    queries, keys, small = draw(WIDTH, WIDTH), draw(WIDTH, WIDTH), draw(HEAD_WIDTH, WIDTH) * WIDTH**-0.5
    if case.compensated:
        queries, keys, small = queries / large, keys / large, small / large
    normed = _normalise(frames[-1], gain)
    for weight in (queries, keys):
        weight *= LOGIT_DEVIATION**0.5 / (normed @ weight.T).std()
    weights = dict.fromkeys(LINEARS, small)
    weights |= {name: small.T.contiguous() for name in LINEARS if name.endswith(("o_proj", "down_proj"))}
    weights |= {_QUERY: queries, _KEY: keys}
    return Layer(weights, gain, frames[:CALIBRATION_FRAMES], frames[CALIBRATION_FRAMES:])


@torch.no_grad()
def study(case: Case, recipes: Mapping[str, Recipe], on_progress: Callable[[str], None]) -> dict[str, Measured]:
    """Measure the recipes, by the names given, in one case."""
    layer = make_layer(case)
    query, key = layer.weights[_QUERY], layer.weights[_KEY]
    exact = _Scoring(lambda inputs: (inputs @ query.T, inputs @ key.T), layer.gain)
    reference = [exact.probabilities(frame) for frame in layer.evaluation]
    measured = {}
    for name, recipe in recipes.items():
        on_progress(f"outliers, case {case.name}: {name}")
        measured[name] = _measure(layer, recipe, reference)
    return measured


def _measure(layer: Layer, recipe: Recipe, reference: Sequence[Tensor]) -> Measured:
    prepared, inputs = _prepare(layer, recipe)
    statistics = InputStatistics(WIDTH)
    for values in inputs:
        statistics.add(values)
    seen = SeenInputs(statistics, torch.cat([values[:: POSITIONS // 32] for values in inputs]))
    # There are no actions here to give channels their bits by: all get the mean.
    bits = torch.full((WIDTH,), round(recipe.mixed.target_bits), dtype=torch.uint8) if recipe.mixed else None
    linears = [round_linear(name, 0, prepared, recipe, seen, bits)[0] for name in (_QUERY, _KEY)]
    scoring = _Scoring(SharedInputLinears(linears, "auto", "cpu"), prepared.gains[_NORM])
    lost = whole = 0.0
    rows: tuple[list, list] = ([], [])
    for frame, exact in zip(layer.evaluation, reference, strict=True):
        found = scoring.probabilities(_in_basis(frame, recipe))
        lost += float((found - exact).square().sum())
        whole += float(exact.square().sum())
        for row, probabilities in zip(rows, (exact, found), strict=True):
            row.append(probabilities[:, -1, 1 : 1 + VISUAL].mean(0).numpy())
    return Measured((lost / whole) ** 0.5, topk_overlaps(*rows), linears[0].input_format.clip)


def _prepare(layer: Layer, recipe: Recipe) -> tuple[PreparedLayer, list[Tensor]]:
    """The layer with its transformation, and the calibration inputs of query and key as they are rounded."""
    gains = dict.fromkeys(NORMS, layer.gain)
    prepared = prepare(layer.weights, gains, recipe, None, HEAD_WIDTH)
    frames = [_in_basis(frame, recipe) for frame in layer.calibration]
    if recipe.smoothing is not None:
        inputs = torch.cat([_normalise(frame, prepared.gains[_NORM]) for frame in frames])
        largest = {name: torch.ones(weight.shape[1]) for name, weight in layer.weights.items()}
        largest |= dict.fromkeys(ATTENTION_INPUT, inputs.abs().amax(0))
        prepared = prepare(layer.weights, gains, recipe, largest, HEAD_WIDTH)
    block = prepared.blocks[_QUERY]
    return prepared, [rotate(_normalise(frame, prepared.gains[_NORM]), block) for frame in frames]


def _in_basis(stream: Tensor, recipe: Recipe) -> Tensor:
    """The residual stream as a network of this recipe carries it."""
    return rotate_residual(stream, recipe) if recipe.rotation == "residual" else stream


def _normalise(stream: Tensor, gain: Tensor | None) -> Tensor:
    return functional.rms_norm(stream, stream.shape[-1:], gain, EPSILON)


@dataclass(frozen=True)
class _Scoring:
    """The half of a decoder layer that attention probabilities need.

    Attributes:
        linears: Queries and keys from normalised inputs.
        gain: float32 (width,), of the norm; None: in the weights.
    """

    linears: Callable[[Tensor], Sequence[Tensor]]
    gain: Tensor | None

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `layers.DecoderLayer.project`. The keys stand for the values, on which no probability depends."""
        queries, keys = self.linears(_normalise(hidden, self.gain))
        return queries, keys, keys

    def probabilities(self, stream: Tensor) -> Tensor:
        """Causal attention probabilities float32 (heads, positions, positions) of a stream (positions, width)."""
        rotations = rotary_tables(torch.arange(POSITIONS)[None], HEAD_WIDTH, stream.dtype)
        queries, keys, _ = project_heads(self, stream[None], rotations, HEAD_WIDTH)
        logits = queries[0] @ keys[0].mT * HEAD_WIDTH**-0.5
        later = torch.ones(POSITIONS, POSITIONS, dtype=torch.bool).triu(1)
        return logits.masked_fill_(later, -torch.inf).softmax(-1)
