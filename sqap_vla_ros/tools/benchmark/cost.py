"""What a plan costs, counted from the network's shapes: multiplications, their operand widths, and weights.

A plan is a list of matrix products. It is counted in one of two ways. For bit operations, which papers publish, the
whole published network counts. For the least time on a device (`roofline`) only what changes an action counts.

Papers print two definitions under the name BOPs. The first is 2 · MAC · b_w · b_a, where b are the bits of a product's
two operands. The second is MAC · b of the wider operand; SQAP-VLA publishes 26.3 % of this kind (arXiv 2509.09090),
with the language model's linear layers at 4 bits and all else (attention, towers, projector, action head) at 16.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqap_vla_ros.config.policy import DiffusionConfig
from sqap_vla_ros.config.pruning import EfficientVlaConfig, PruningConfig, RandomConfig, VlaCacheConfig
from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape
from sqap_vla_ros.policies.cogact.diffusion import PROCESS_STEPS
from sqap_vla_ros.policies.cogact.store import Shapes
from sqap_vla_ros.vlm.language import LanguageShape
from sqap_vla_ros.vlm.vision import TowerShape

Stage = Literal["vision", "projector", "language", "action_head"]
STAGES: tuple[Stage, ...] = ("vision", "projector", "language", "action_head")
_FLOAT_BITS = 16
_STEP_FEATURES = 256  # sinusoids that embed a diffusion step


@dataclass(frozen=True)
class Bits:
    """Widths of the two operands of a product: weight and activation."""

    weight: int = _FLOAT_BITS
    activation: int = _FLOAT_BITS


FLOAT = Bits()


@dataclass(frozen=True)
class Formats:
    """Operand widths of a network's quantised linear layers; everything else is float.

    Attributes:
        language: The language model's linear layers.
        towers: The vision towers' linear layers.
    """

    language: Bits = FLOAT
    towers: Bits = FLOAT


UNQUANTISED = Formats()
PUBLISHED_DIFFUSION = DiffusionConfig()


@dataclass(frozen=True)
class LayerTokens:
    """Positions in one layer of the language model.

    Attributes:
        computed: Positions that go through the layer.
        attended: Positions whose keys they see: as many, or more where keys of a previous frame are reused.
    """

    computed: int
    attended: int


@dataclass(frozen=True)
class Product:
    """One matrix product.

    Attributes:
        stage: Stage of the plan.
        macs: Multiply-accumulates.
        bits: Widths of the operands.
        weights: Weights that are read once.
        activations: Numbers of 16 bits that are read as well: queries, keys and values of an attention.
    """

    stage: Stage
    macs: int
    bits: Bits = FLOAT
    weights: int = 0
    activations: int = 0

    @property
    def weight_bytes(self) -> float:
        """Bytes of the weights."""
        return self.weights * self.bits.weight / 8

    @property
    def read_bytes(self) -> float:
        """Bytes that are read from memory."""
        return self.weight_bytes + self.activations * FLOAT.activation / 8


def bit_operations(products: Sequence[Product]) -> int:
    """Σ 2 · MAC · b_w · b_a."""
    return sum(2 * product.macs * product.bits.weight * product.bits.activation for product in products)


def product_percent(products: Sequence[Product], reference: Sequence[Product]) -> float:
    """Bit operations relative to another plan's, per cent."""
    return 100 * bit_operations(products) / bit_operations(reference)


def width_percent(products: Sequence[Product], reference: Sequence[Product]) -> float:
    """MAC · b of the wider operand relative to another plan's, per cent: the reading behind SQAP-VLA's figure."""
    ours, theirs = (
        sum(product.macs * max(product.bits.weight, product.bits.activation) for product in plan)
        for plan in (products, reference)
    )
    return 100 * ours / theirs


def weight_bytes(shapes: Shapes, formats: Formats) -> float:
    """Memory of all weights of a network, in bytes; what is not quantised takes 16 bits."""
    embeddings = shapes.language.vocabulary * shapes.language.width * _FLOAT_BITS / 8
    one_step = DiffusionConfig(steps=1)
    products = plan_products(shapes, language_tokens(None, shapes, 1), formats, diffusion=one_step, needed_only=True)
    return embeddings + sum(product.weight_bytes for product in products)


def language_tokens(
    pruning: PruningConfig | None, shapes: Shapes, text_tokens: int, reused_tokens: int | None = None
) -> list[LayerTokens]:
    """Count the positions in each layer of the language model that runs.

    Args:
        pruning: Which visual tokens leave or are reused; None: none.
        shapes: Sizes of the network.
        text_tokens: Positions other than the visual tokens, BOS and cognition token included.
        reused_tokens: Visual tokens that VLA-Cache reuses at most. How many depends on the camera's image and on the
            attention; None assumes a still camera (`most_reused` unchanged tokens) and a task that looks at them as
            at any others. The share of them that has left grows evenly over `reuse_before_layers`.
    """
    visual = shapes.dino.grid**2
    depth, everything = shapes.language.depth, visual + text_tokens
    if pruning is None:
        return [LayerTokens(everything, everything)] * depth
    if isinstance(pruning, VlaCacheConfig):
        if reused_tokens is None:
            reused_tokens = round(pruning.most_reused * (1 - pruning.relevant / visual))
        layers = []
        for index in range(depth):
            passed = sum(index >= layer for layer in pruning.reuse_before_layers)
            left = reused_tokens * passed // max(1, len(pruning.reuse_before_layers))
            layers.append(LayerTokens(everything - left, everything))
        return layers
    if isinstance(pruning, EfficientVlaConfig):
        dropped = pruning.drop_layers
        depth -= round(pruning.layer_ratio * depth) if dropped is None else len(dropped)
    before = 0 if isinstance(pruning, RandomConfig) else pruning.prune_before_layer
    counts = [everything] * before + [pruning.keep + text_tokens] * (depth - before)
    return [LayerTokens(count, count) for count in counts[:depth]]


def plan_products(
    shapes: Shapes,
    tokens: Sequence[LayerTokens],
    formats: Formats = UNQUANTISED,
    *,
    diffusion: DiffusionConfig = PUBLISHED_DIFFUSION,
    needed_only: bool = False,
) -> list[Product]:
    """List all products of a plan.

    Args:
        shapes: Sizes of the network.
        tokens: Positions in each layer of the language model, from `language_tokens`.
        formats: Operand widths.
        diffusion: How the action head samples.
        needed_only: Count only what changes an action, for a floor: no last blocks of the towers, one position in the
            language model's last layer, the causal half of the attention, and of the action head the linear layers.
            Otherwise everything in the published network counts, for bit operations.
    """
    return [
        *tower_products(shapes.dino, formats.towers, needed_only),
        *tower_products(shapes.siglip, formats.towers, needed_only),
        *projector_products(shapes),
        *language_products(shapes.language, tokens, formats.language, needed_only),
        *action_head_products(shapes.action_head, diffusion, needed_only),
    ]


def tower_products(shape: TowerShape, bits: Bits, needed_only: bool = False) -> list[Product]:
    """The embedding of patches, which is float, and the blocks of a vision tower."""
    patches, width = shape.grid**2, shape.width
    tokens = patches + (1 + shape.registers if shape.kind == "dino" else 0)
    sizes = [(3 * width, width), (width, width), (shape.hidden, width), (width, shape.hidden)]
    block = [_linear("vision", tokens, rows, columns, bits) for rows, columns in sizes]
    attention = Product("vision", 2 * tokens**2 * width, activations=3 * tokens * width)
    embedding = _linear("vision", patches, width, 3 * shape.patch_px**2)
    return [embedding, *[*block, attention] * (shape.depth - needed_only)]


def projector_products(shapes: Shapes) -> list[Product]:
    """The three layers between towers and language model."""
    features, hidden, width = shapes.dino.width + shapes.siglip.width, shapes.projector_hidden, shapes.language.width
    sizes = [(hidden, features), (width, hidden), (width, width)]
    return [_linear("projector", shapes.dino.grid**2, rows, columns) for rows, columns in sizes]


def language_products(
    shape: LanguageShape, tokens: Sequence[LayerTokens], bits: Bits, needed_only: bool = False
) -> list[Product]:
    """Linear layers and attention of the decoder layers that run."""
    width, queries, keys = shape.width, shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    products = []
    for index, layer in enumerate(tokens):
        count = layer.computed
        asking = 1 if needed_only and index == len(tokens) - 1 else count
        products += [
            _linear("language", count, queries + 2 * keys, width, bits),
            _linear("language", asking, width, queries, bits),
            _linear("language", asking, 2 * shape.hidden, width, bits),
            _linear("language", asking, width, shape.hidden, bits),
        ]
        pairs = asking * layer.attended if needed_only else 2 * asking * layer.attended
        products.append(Product("language", pairs * queries, activations=3 * count * queries))
    return products


def action_head_products(
    shape: ActionHeadShape, diffusion: DiffusionConfig, needed_only: bool = False
) -> list[Product]:
    """All diffusion steps; with guidance the blocks run for the condition and for none."""
    steps = diffusion.steps if diffusion.sampler == "ddim" else PROCESS_STEPS
    block_runs = shape.depth * -(-steps // diffusion.recompute_every)
    conditions = 2 if diffusion.guidance > 1 else 1
    width, tokens = shape.width, shape.horizon + 1
    sizes = [(3 * width, width), (width, width), (shape.hidden, width), (width, shape.hidden)]
    block = [_linear("action_head", conditions * tokens, rows, columns) for rows, columns in sizes]
    products = [_linear("action_head", conditions, width, shape.token_size), *block * block_runs]
    if not needed_only:
        products += [Product("action_head", conditions * 2 * tokens**2 * width)] * block_runs
        embedding = _STEP_FEATURES * width + width**2 + shape.horizon * shape.action_dim * width
        last = conditions * tokens * width * shape.action_dim
        products.append(Product("action_head", steps * (embedding + last)))
    return products


def _linear(stage: Stage, tokens: int, rows: int, columns: int, bits: Bits = FLOAT) -> Product:
    return Product(stage, tokens * rows * columns, bits, weights=rows * columns)
