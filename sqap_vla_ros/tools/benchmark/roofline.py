"""What a device allows: the time below which no program plans, from its memory bandwidth and its arithmetic.

A plan is a list of products. Each takes at least the time to read its weights once and to do its multiplications; the
floor is the sum over all of them, because each needs the one before. Norms, softmax and launches count nothing, so that
a real program stays above. 4-bit operands are multiplied as 8-bit ones, as this project's kernels do on every GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape
from sqap_vla_ros.policies.cogact.published import DINO, HEADS, LANGUAGE, PROJECTOR_HIDDEN, SIGLIP
from sqap_vla_ros.vlm.language import LanguageShape
from sqap_vla_ros.vlm.vision import TowerShape

Stage = Literal["vision", "projector", "language", "action_head"]
STAGES: tuple[Stage, ...] = ("vision", "projector", "language", "action_head")
_FLOAT_BITS = 16


@dataclass(frozen=True)
class Device:
    """Rates of a device.

    Attributes:
        name: What it is called.
        bandwidth: Of its memory, bytes per second.
        float_rate: Dense bfloat16 products with 32-bit sums, operations per second (2 per multiply-accumulate).
        int8_rate: Dense int8 products, operations per second.
        memory: Bytes; None: not said.
    """

    name: str
    bandwidth: float
    float_rate: float
    int8_rate: float
    memory: float | None = None


# From the makers' data sheets: dense rates (half of those "with sparsity"), bfloat16 with 32-bit sums.
DATA_SHEETS = (
    Device("RTX 3090", 936e9, 71e12, 284e12, 24e9),
    Device("RTX 4090", 1008e9, 165e12, 661e12, 24e9),
    Device("RTX 5090", 1792e9, 209e12, 838e12, 32e9),
    Device("Jetson AGX Orin", 205e9, 42.5e12, 85e12, 64e9),
    Device("Jetson AGX Thor", 273e9, 258e12, 517e12, 128e9),
    Device("H100 SXM", 3350e9, 989e12, 1979e12, 80e9),
    Device("H200", 4800e9, 989e12, 1979e12, 141e9),
)


@dataclass(frozen=True)
class Format:
    """Number formats of a policy.

    Attributes:
        weight_bits: Of the language model's linear layers.
        activation_bits: Of their inputs.
        tower_bits: Of both operands in the towers' linear layers.
        kept: Visual tokens that stay from layer `prune_before` on; None: all.
        prune_before: The layer.
        left_out: Share of the language model's layers that do not run.
    """

    weight_bits: int = _FLOAT_BITS
    activation_bits: int = _FLOAT_BITS
    tower_bits: int = _FLOAT_BITS
    kept: int | None = None
    prune_before: int = 2
    left_out: float = 0.0


@dataclass(frozen=True)
class Product:
    """One matrix product.

    Attributes:
        stage: Of the plan.
        operations: Two per multiply-accumulate.
        weight_bytes: Of its weight, which is read once.
        other_bytes: Of queries, keys and values, in attention.
        integer: Whether both operands are integers.
    """

    stage: Stage
    operations: float
    weight_bytes: float = 0.0
    other_bytes: float = 0.0
    integer: bool = False

    def floor_s(self, device: Device) -> float:
        """Least time, seconds."""
        rate = device.int8_rate if self.integer else device.float_rate
        return max(self.operations / rate, (self.weight_bytes + self.other_bytes) / device.bandwidth)


def floors_s(products: Sequence[Product], device: Device) -> dict[str, float]:
    """Least time per stage, seconds."""
    return {stage: sum(product.floor_s(device) for product in products if product.stage == stage) for stage in STAGES}


def plan_products(
    form: Format,
    text_tokens: int,
    *,
    size: str = "base",
    steps: int = 10,
    depth: int | None = None,
) -> list[Product]:
    """All products of a plan, without what changes no action (last blocks of the towers, last layer's other tokens).

    Args:
        form: Number formats and tokens of the policy.
        text_tokens: Beside the visual ones, BOS and cognition token included.
        size: Of the action head.
        steps: DDIM steps, with guidance.
        depth: As in `networks.random_network`; None: the published ones.
    """
    towers = [DINO, SIGLIP]
    blocks = [shape.depth - 1 if depth is None else min(shape.depth - 1, depth) for shape in towers]
    layers = LANGUAGE.depth if depth is None else depth
    layers -= round(form.left_out * layers)
    head = HEADS[size]
    head_depth = head.depth if depth is None else min(head.depth, depth)
    return [
        *(p for shape, count in zip(towers, blocks, strict=True) for p in _tower(shape, count, form.tower_bits)),
        *_projector(),
        *_language(LANGUAGE, layers, text_tokens, form),
        *_action_head(head, head_depth, steps),
    ]


def _linear(stage: Stage, tokens: int, outputs: int, columns: int, weight_bits: int, bits: int) -> Product:
    return Product(
        stage,
        2.0 * tokens * outputs * columns,
        outputs * columns * weight_bits / 8,
        integer=max(weight_bits, bits) <= 8,
    )


def _tower(shape: TowerShape, blocks: int, bits: int) -> list[Product]:
    patches = shape.grid**2
    tokens = patches + (1 + shape.registers if shape.kind == "dino" else 0)
    width = shape.width
    sizes = [(3 * width, width), (width, width), (shape.hidden, width), (width, shape.hidden)]
    block = [_linear("vision", tokens, rows, columns, bits, bits) for rows, columns in sizes]
    attention = Product("vision", 4.0 * tokens**2 * width, other_bytes=3 * tokens * width * 2)
    embedding = _linear("vision", patches, width, 3 * shape.patch_px**2, _FLOAT_BITS, _FLOAT_BITS)
    return [embedding, *(block + [attention]) * blocks]


def _projector() -> list[Product]:
    features = DINO.width + SIGLIP.width
    sizes = [(PROJECTOR_HIDDEN, features), (LANGUAGE.width, PROJECTOR_HIDDEN), (LANGUAGE.width, LANGUAGE.width)]
    return [_linear("projector", DINO.grid**2, rows, columns, _FLOAT_BITS, _FLOAT_BITS) for rows, columns in sizes]


def _language(shape: LanguageShape, depth: int, text_tokens: int, form: Format) -> list[Product]:
    visual = DINO.grid**2
    width, rows = shape.width, shape.heads * shape.head_width
    products = []
    for index in range(depth):
        kept = visual if form.kept is None or index < form.prune_before else form.kept
        tokens = kept + text_tokens
        asking = 1 if index == depth - 1 else tokens
        sizes = [
            (tokens, rows + 2 * shape.kv_heads * shape.head_width, width),
            (asking, width, rows),
            (asking, 2 * shape.hidden, width),
            (asking, width, shape.hidden),
        ]
        products += [
            _linear("language", count, outputs, columns, form.weight_bits, form.activation_bits)
            for count, outputs, columns in sizes
        ]
        # The causal half of all pairs.
        products.append(Product("language", 2.0 * asking * tokens * rows, other_bytes=3 * tokens * rows * 2))
    return products


def _action_head(shape: ActionHeadShape, depth: int, steps: int) -> list[Product]:
    width, tokens = shape.width, 2 * (shape.horizon + 1)
    sizes = [(3 * width, width), (width, width), (shape.hidden, width), (width, shape.hidden)]
    block = [_linear("action_head", tokens, rows, columns, _FLOAT_BITS, _FLOAT_BITS) for rows, columns in sizes]
    condition = _linear("action_head", 2, width, shape.token_size, _FLOAT_BITS, _FLOAT_BITS)
    return [condition, *(block * depth * steps)]


def weight_bytes(form: Format, size: str = "base") -> float:
    """Memory of all weights of a policy, the action head in half precision."""
    embeddings = LANGUAGE.vocabulary * LANGUAGE.width * _FLOAT_BITS / 8
    return embeddings + sum(product.weight_bytes for product in plan_products(form, 1, size=size, steps=1))
