"""Bit operations of one plan, counted from the network's shapes: what a policy saves before any machine has run it.

Two definitions, because papers print both under the name BOPs:

- the product: 2 · MAC · b_w · b_a summed over the network, where b are the bits of the two operands of each product;
- the width: MAC · b, where b is the wider operand's. SQAP-VLA publishes 26.3 % of this kind (arXiv 2509.09090), with
  the language model's linear layers at 4 bits and all else (attention, towers, projector, action head) at 16.

The network is the published one, for all policies alike: all blocks of the towers, and all positions in the language
model's last layer, though neither changes an action. Attention counts all pairs of positions, not the causal half.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqap_vla_ros.config.policy import DiffusionConfig, PolicyConfig
from sqap_vla_ros.config.pruning import EfficientVlaConfig, RandomConfig, VlaCacheConfig
from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape
from sqap_vla_ros.policies.cogact.diffusion import PROCESS_STEPS
from sqap_vla_ros.policies.cogact.store import Shapes
from sqap_vla_ros.vlm.language import LanguageShape
from sqap_vla_ros.vlm.vision import TowerShape

_FLOAT_BITS = 16
_STEP_FEATURES = 256  # sinusoids that embed a diffusion step


@dataclass(frozen=True)
class Bits:
    """Widths of the two operands of a product.

    Attributes:
        weight: Of the weight.
        activation: Of the input.
    """

    weight: int = _FLOAT_BITS
    activation: int = _FLOAT_BITS


FLOAT = Bits()


@dataclass(frozen=True)
class Work:
    """Products of one part of the network.

    Attributes:
        part: Name of the part.
        macs: Multiply-accumulates of one plan.
        bits: Of their operands.
    """

    part: str
    macs: int
    bits: Bits = FLOAT


@dataclass(frozen=True)
class LayerTokens:
    """Positions in one layer of the language model.

    Attributes:
        computed: That go through the layer.
        attended: Whose keys they see: as many, or more where keys of a previous frame are reused.
    """

    computed: int
    attended: int


def bit_operations(work: Iterable[Work]) -> int:
    """Σ 2 · MAC · b_w · b_a."""
    return sum(2 * part.macs * part.bits.weight * part.bits.activation for part in work)


def product_percent(work: Sequence[Work], reference: Sequence[Work]) -> float:
    """Bit operations relative to another plan's."""
    return 100 * bit_operations(work) / bit_operations(reference)


def width_percent(work: Sequence[Work], reference: Sequence[Work]) -> float:
    """MAC · b of the wider operand relative to another plan's: the reading behind SQAP-VLA's published figure."""
    ours, theirs = (
        sum(part.macs * max(part.bits.weight, part.bits.activation) for part in parts) for parts in (work, reference)
    )
    return 100 * ours / theirs


def plan_work(
    policy: PolicyConfig,
    shapes: Shapes,
    text_tokens: int,
    *,
    linear_bits: Bits = FLOAT,
    tower_bits: Bits = FLOAT,
) -> tuple[Work, ...]:
    """What one plan multiplies.

    Args:
        policy: The policy file.
        shapes: Of the network.
        text_tokens: Positions beside the visual tokens, BOS and cognition token included.
        linear_bits: Of the language model's linear layers.
        tower_bits: Of the vision towers' linear layers.
    """
    tokens = language_tokens(policy, shapes, text_tokens)
    return (
        *tower_work(shapes.dino, tower_bits),
        *tower_work(shapes.siglip, tower_bits),
        projector_work(shapes),
        *language_work(shapes.language, tokens, linear_bits),
        action_head_work(shapes.action_head, policy.diffusion),
    )


def language_tokens(
    policy: PolicyConfig, shapes: Shapes, text_tokens: int, reused_tokens: int | None = None
) -> tuple[LayerTokens, ...]:
    """Positions in each layer of the language model that runs.

    Args:
        policy: The policy file.
        shapes: Of the network.
        text_tokens: As in `plan_work`.
        reused_tokens: Visual tokens that VLA-Cache reuses at most. How many depends on the camera's image and on the
            attention; None assumes a still camera (`most_reused` unchanged tokens) and a task that looks at them as
            at any others. The share of them that has left grows evenly over `reuse_before_layers`.
    """
    visual = shapes.dino.grid**2
    depth, everything = shapes.language.depth, visual + text_tokens
    pruning = policy.pruning
    if pruning is None:
        return (LayerTokens(everything, everything),) * depth
    if isinstance(pruning, VlaCacheConfig):
        if reused_tokens is None:
            reused_tokens = round(pruning.most_reused * (1 - pruning.relevant / visual))
        layers = []
        for index in range(depth):
            passed = sum(index >= layer for layer in pruning.reuse_before_layers)
            left = reused_tokens * passed // max(1, len(pruning.reuse_before_layers))
            layers.append(LayerTokens(everything - left, everything))
        return tuple(layers)
    if isinstance(pruning, EfficientVlaConfig):
        dropped = pruning.drop_layers
        depth -= round(pruning.layer_ratio * depth) if dropped is None else len(dropped)
    before = 0 if isinstance(pruning, RandomConfig) else pruning.prune_before_layer
    counts = [everything] * before + [pruning.keep + text_tokens] * (depth - before)
    return tuple(LayerTokens(count, count) for count in counts)


def language_work(shape: LanguageShape, tokens: Sequence[LayerTokens], bits: Bits) -> tuple[Work, Work]:
    """Linear layers, and attention, of the layers that run."""
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    per_token = shape.width * (2 * queries + 2 * keys + 3 * shape.hidden)
    linear = sum(layer.computed * per_token for layer in tokens)
    attention = sum(2 * layer.computed * layer.attended * queries for layer in tokens)
    return Work("language linears", linear, bits), Work("language attention", attention)


def tower_work(shape: TowerShape, bits: Bits) -> tuple[Work, Work]:
    """Linear layers, and what is float in a tower: attention and the embedding of patches."""
    patches = shape.grid**2
    tokens = patches + (1 + shape.registers if shape.kind == "dino" else 0)
    linear = tokens * shape.width * (4 * shape.width + 2 * shape.hidden)
    attention = 2 * tokens**2 * shape.width
    embedding = patches * 3 * shape.patch_px**2 * shape.width
    return (
        Work(f"{shape.kind} linears", shape.depth * linear, bits),
        Work(f"{shape.kind} attention", shape.depth * attention + embedding),
    )


def projector_work(shapes: Shapes) -> Work:
    """The three layers between towers and language model."""
    features, hidden, width = shapes.dino.width + shapes.siglip.width, shapes.projector_hidden, shapes.language.width
    return Work("projector", shapes.dino.grid**2 * (features * hidden + hidden * width + width * width))


def action_head_work(shape: ActionHeadShape, diffusion: DiffusionConfig) -> Work:
    """All diffusion steps; with guidance the blocks run for the condition and for none."""
    steps = diffusion.steps if diffusion.sampler == "ddim" else PROCESS_STEPS
    runs = -(-steps // diffusion.recompute_every)
    conditions = 2 if diffusion.guidance > 1 else 1
    width, tokens = shape.width, shape.horizon + 1
    block = tokens * width * (4 * width + 2 * shape.hidden) + 2 * tokens**2 * width
    step = _STEP_FEATURES * width + width**2 + shape.horizon * shape.action_dim * width
    last = conditions * tokens * width * shape.action_dim
    condition = conditions * shape.token_size * width
    return Work("action head", runs * conditions * shape.depth * block + steps * (step + last) + condition)
