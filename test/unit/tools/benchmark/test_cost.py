"""Costs of networks that are small enough to count by hand, and the published figure on CogACT-Base's shapes."""

from collections.abc import Sequence

import pytest

from sqap_vla_ros.config.policy import DiffusionConfig, read_policy
from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape
from sqap_vla_ros.policies.cogact.published import published_shapes
from sqap_vla_ros.policies.cogact.store import Shapes
from sqap_vla_ros.tools.benchmark.cost import (
    FLOAT,
    Bits,
    Formats,
    LayerTokens,
    Product,
    action_head_products,
    bit_operations,
    language_products,
    language_tokens,
    plan_products,
    product_percent,
    projector_products,
    tower_products,
    weight_bytes,
    width_percent,
)
from sqap_vla_ros.tools.benchmark.deployment import deployment_figures, deployments
from sqap_vla_ros.tools.benchmark.roofline import Device, floor_s, floors_s
from sqap_vla_ros.vlm.language import LanguageShape
from sqap_vla_ros.vlm.vision import TowerShape

COGACT_BASE = published_shapes()
DEVICE = Device("made up", bandwidth=1e9, float_rate=1e12, int8_rate=4e12)
FOUR = Bits(4, 4)
UNQUANTISED = Formats()


def macs(products: Sequence[Product], *, attention: bool = False) -> int:
    """Multiply-accumulates of the products with weights, or of those without."""
    return sum(product.macs for product in products if (product.weights == 0) is attention)


def plan(policy: str, formats: Formats = UNQUANTISED) -> list[Product]:
    config = read_policy(policy)
    tokens = language_tokens(config.pruning, COGACT_BASE, 24)
    return plan_products(COGACT_BASE, tokens, formats, diffusion=config.diffusion)


def test_a_language_layer_counts_seven_matrices_per_token() -> None:
    shape = LanguageShape(width=2, depth=1, heads=2, kv_heads=1, head_width=1, hidden=5, vocabulary=9)
    products = language_products(shape, [LayerTokens(3, 3)], FOUR)
    # q and o 2×2, k and v 1×2, gate and up 5×2, down 2×5: 42 multiply-accumulates per token.
    assert macs(products) == 3 * 42
    # Three queries on three keys in two heads of one channel, and as much for the values.
    assert macs(products, attention=True) == 2 * 3 * 3 * 2
    assert [product.bits for product in products] == [FOUR] * 4 + [FLOAT]


def test_reused_positions_are_attended_to_but_not_computed() -> None:
    shape = LanguageShape(width=2, depth=1, heads=2, kv_heads=2, head_width=1, hidden=5, vocabulary=9)
    products = language_products(shape, [LayerTokens(1, 3)], FLOAT)
    assert macs(products) == 4 * 2 * 2 + 3 * 2 * 5
    assert macs(products, attention=True) == 2 * 1 * 3 * 2


def test_a_tower_counts_registers_and_class_token_but_embeds_patches_alone() -> None:
    shape = TowerShape("dino", width=2, depth=3, heads=1, hidden=8, grid=2, patch_px=5, registers=4)
    embedding, *blocks = tower_products(shape, Bits(8, 8))
    tokens = 4 + 1 + 4
    assert (embedding.macs, embedding.bits) == (4 * (3 * 5 * 5) * 2, FLOAT)
    assert macs(blocks) == 3 * tokens * (4 * 2 * 2 + 2 * 2 * 8)
    assert macs(blocks, attention=True) == 3 * 2 * tokens * tokens * 2
    assert {product.bits for product in blocks if product.weights} == {Bits(8, 8)}
    assert {product.bits for product in blocks if not product.weights} == {FLOAT}


def test_the_projector_counts_three_layers_per_patch() -> None:
    dino, siglip = (TowerShape(kind, 3, 2, 1, 4, grid=2, patch_px=112) for kind in ("dino", "siglip"))
    language = LanguageShape(width=5, depth=1, heads=1, kv_heads=1, head_width=5, hidden=1, vocabulary=1)
    head = ActionHeadShape(1, 1, 1, 1, 5, 7, 16)
    shapes = Shapes(dino=dino, siglip=siglip, projector_hidden=7, language=language, action_head=head)
    assert macs(projector_products(shapes)) == 4 * (6 * 7 + 7 * 5 + 5 * 5)


@pytest.mark.parametrize(
    ("diffusion", "block_runs", "steps"),
    [
        ({"steps": 4, "guidance": 1.0}, 4, 4),
        ({"steps": 4, "guidance": 1.5}, 8, 4),
        ({"steps": 4, "guidance": 1.0, "recompute_every": 3}, 2, 4),
        ({"sampler": "ddpm", "guidance": 1.0}, 100, 100),
    ],
)
def test_the_action_head_counts_each_run_of_its_blocks(
    diffusion: dict[str, object], block_runs: int, steps: int
) -> None:
    shape = ActionHeadShape(width=3, depth=2, heads=1, hidden=12, token_size=5, action_dim=7, horizon=4)
    config = DiffusionConfig.model_validate(diffusion)
    conditions = 2 if config.guidance > 1 else 1
    block = 5 * (4 * 3 * 3 + 2 * 3 * 12) + 2 * 5 * 5 * 3
    around = steps * (256 * 3 + 3 * 3 + 4 * 7 * 3 + conditions * 5 * 3 * 7) + conditions * 5 * 3
    assert sum(product.macs for product in action_head_products(shape, config)) == block_runs * 2 * block + around


def test_bit_operations_are_twice_the_products_of_widths() -> None:
    products = [Product("vision", 3, Bits(4, 8)), Product("language", 5)]
    assert bit_operations(products) == 2 * (3 * 4 * 8 + 5 * 16 * 16)


def test_the_two_definitions_disagree_about_four_bits() -> None:
    reference, four = [Product("language", 10)], [Product("language", 10, FOUR)]
    assert product_percent(four, reference) == pytest.approx(100 / 16)
    assert width_percent(four, reference) == pytest.approx(100 / 4)


def test_by_width_the_wider_operand_counts() -> None:
    assert width_percent([Product("language", 10, Bits(4, 8))], [Product("language", 10)]) == pytest.approx(50)


def test_sqap_drops_before_its_layer_and_random_dropping_before_the_first() -> None:
    sqap, at_random = (language_tokens(read_policy(name).pruning, COGACT_BASE, 24) for name in ("sqap", "random"))
    assert [layer.computed for layer in sqap] == [280] * 2 + [178] * 30
    assert [layer.computed for layer in at_random] == [178] * 32


def test_efficientvla_has_fewer_layers() -> None:
    tokens = language_tokens(read_policy("efficientvla").pruning, COGACT_BASE, 24)
    assert [layer.computed for layer in tokens] == [280] * 2 + [136] * 26


def test_vla_cache_attends_to_everything_and_computes_less_from_layer_to_layer() -> None:
    tokens = language_tokens(read_policy("vla_cache").pruning, COGACT_BASE, 24, reused_tokens=80)
    assert {layer.attended for layer in tokens} == {280}
    assert [layer.computed for layer in tokens] == [280] * 2 + [260] * 4 + [240] * 3 + [220] * 2 + [200] * 21


def test_float_is_a_hundred_percent_by_both_definitions() -> None:
    assert (width_percent(plan("fp16"), plan("fp16")), product_percent(plan("fp16"), plan("fp16"))) == (100, 100)


def test_the_published_figure_comes_from_widths_with_all_but_the_linears_in_half_precision() -> None:
    both = plan("sqap", Formats(FOUR))
    assert width_percent(both, plan("fp16")) == pytest.approx(26.3, abs=0.1)  # published: 26.3
    assert product_percent(both, plan("fp16")) < 16


def test_towers_in_eight_bits_count_half_by_width() -> None:
    float_plan, wide_plan = plan("fp16"), plan("fp16", Formats(towers=Bits(8, 8)))
    towers = [
        product for shape in (COGACT_BASE.dino, COGACT_BASE.siglip) for product in tower_products(shape, FLOAT)[1:]
    ]
    share = macs(towers) / sum(product.macs for product in float_plan)
    assert width_percent(wide_plan, float_plan) == pytest.approx(100 - 50 * share)


def test_a_product_takes_the_longer_of_its_arithmetic_and_its_weights() -> None:
    assert floor_s(Product("language", 10**12, weights=5 * 10**8), DEVICE) == 2
    assert floor_s(Product("language", 10**12, weights=15 * 10**8), DEVICE) == 3
    assert floor_s(Product("language", 10**12, Bits(8, 8), weights=10**8), DEVICE) == 0.5


def test_the_floor_of_a_stage_is_the_sum_of_its_products() -> None:
    products = [Product("vision", 5 * 10**11), Product("vision", 5 * 10**11), Product("language", 15 * 10**11)]
    assert floors_s(products, DEVICE) == {"vision": 2, "projector": 0, "language": 3, "action_head": 0}


def needed_macs(depth: int, pruning: SqapConfig | None = None) -> int:
    shapes = published_shapes(depth=depth)
    products = plan_products(shapes, language_tokens(pruning, shapes, 24), needed_only=True)
    return sum(product.macs for product in products if product.stage == "language")


def test_a_dense_layer_of_the_language_model_has_its_published_operations() -> None:
    linear = 280 * (4 * 4096**2 + 3 * 4096 * 11008)
    attention = 280**2 * 4096  # the causal half
    assert needed_macs(5) - needed_macs(4) == linear + attention


def test_pruned_layers_have_fewer_tokens_from_the_third_on() -> None:
    assert needed_macs(2, SqapConfig()) == needed_macs(2)
    assert needed_macs(3, SqapConfig()) < needed_macs(3)


def test_weights_of_4_bits_fit_where_the_paper_needs_more() -> None:
    assert weight_bytes(COGACT_BASE, Formats()) / 2**30 == pytest.approx(13.9, abs=0.1)
    assert weight_bytes(COGACT_BASE, Formats(FOUR, Bits(8, 8))) / 2**30 < 4.5


def test_pruning_gains_nothing_where_reading_the_weights_takes_the_time() -> None:
    pays = {row.device.name: row.pruning_pays_to for row in deployments()}
    assert pays["Jetson AGX Thor"] == 0
    assert pays["RTX 4090"] == 0.5
    assert pays["RTX 3090"] == 0.6


def test_every_device_has_its_figures() -> None:
    rows = deployments()
    figures = deployment_figures(rows)
    for row in rows:
        assert figures[f"calculated_ms_both_0.4_{row.device.name}"] < figures[f"calculated_ms_fp16_{row.device.name}"]
