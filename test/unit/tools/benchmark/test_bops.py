"""Counts on networks that are small enough to count by hand, and the published figure on CogACT-Base's shapes."""

import pytest

from sqap_vla_ros.config.files import named_file, read_yaml
from sqap_vla_ros.config.policy import DiffusionConfig, PolicyConfig
from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape
from sqap_vla_ros.policies.cogact.store import Shapes
from sqap_vla_ros.tools.benchmark.bops import (
    FLOAT,
    Bits,
    LayerTokens,
    Work,
    action_head_work,
    bit_operations,
    language_tokens,
    language_work,
    plan_work,
    product_percent,
    projector_work,
    tower_work,
    width_percent,
)
from sqap_vla_ros.vlm.language import LanguageShape
from sqap_vla_ros.vlm.vision import TowerShape

COGACT_BASE = Shapes(
    dino=TowerShape("dino", 1024, 24, 16, 4096, grid=16, patch_px=14, registers=4),
    siglip=TowerShape("siglip", 1152, 27, 16, 4304, grid=16, patch_px=14),
    projector_hidden=8704,
    language=LanguageShape(4096, 32, 32, 32, 128, 11008, 32064),
    action_head=ActionHeadShape(768, 12, 12, 3072, 4096, action_dim=7, horizon=16),
)
FOUR = Bits(4, 4)


def read_policy(name: str) -> PolicyConfig:
    return PolicyConfig.model_validate(read_yaml(named_file("policies", name)))


def test_a_language_layer_counts_seven_matrices_per_token():
    shape = LanguageShape(width=2, depth=1, heads=2, kv_heads=1, head_width=1, hidden=5, vocabulary=9)
    # q and o 2×2, k and v 1×2, gate and up 5×2, down 2×5: 42 multiply-accumulates per token.
    linear, attention = language_work(shape, [LayerTokens(3, 3)], FOUR)
    assert (linear.macs, linear.bits) == (3 * 42, FOUR)
    # Three queries on three keys in two heads of one channel, and as much for the values.
    assert (attention.macs, attention.bits) == (2 * 3 * 3 * 2, FLOAT)


def test_reused_positions_are_attended_to_but_not_computed():
    shape = LanguageShape(width=2, depth=1, heads=2, kv_heads=2, head_width=1, hidden=5, vocabulary=9)
    linear, attention = language_work(shape, [LayerTokens(1, 3)], FLOAT)
    assert linear.macs == 4 * 2 * 2 + 3 * 2 * 5
    assert attention.macs == 2 * 1 * 3 * 2


def test_a_tower_counts_registers_and_class_token_but_embeds_patches_alone():
    shape = TowerShape("dino", width=2, depth=3, heads=1, hidden=8, grid=2, patch_px=5, registers=4)
    linear, rest = tower_work(shape, Bits(8, 8))
    tokens = 4 + 1 + 4
    assert linear.macs == 3 * tokens * (4 * 2 * 2 + 2 * 2 * 8)
    assert rest.macs == 3 * 2 * tokens * tokens * 2 + 4 * (3 * 5 * 5) * 2
    assert (linear.bits, rest.bits) == (Bits(8, 8), FLOAT)


def test_the_projector_counts_three_layers_per_patch():
    towers = (TowerShape(kind, 3, 2, 1, 4, grid=2, patch_px=112) for kind in ("dino", "siglip"))
    language = LanguageShape(width=5, depth=1, heads=1, kv_heads=1, head_width=5, hidden=1, vocabulary=1)
    head = ActionHeadShape(1, 1, 1, 1, 5, 7, 16)
    dino, siglip = towers
    shapes = Shapes(dino=dino, siglip=siglip, projector_hidden=7, language=language, action_head=head)
    assert projector_work(shapes).macs == 4 * (6 * 7 + 7 * 5 + 5 * 5)


@pytest.mark.parametrize(
    ("diffusion", "block_runs", "steps"),
    [
        ({"steps": 4, "guidance": 1.0}, 4, 4),
        ({"steps": 4, "guidance": 1.5}, 8, 4),
        ({"steps": 4, "guidance": 1.0, "recompute_every": 3}, 2, 4),
        ({"sampler": "ddpm", "guidance": 1.0}, 100, 100),
    ],
)
def test_the_action_head_counts_each_run_of_its_blocks(diffusion, block_runs, steps):
    shape = ActionHeadShape(width=3, depth=2, heads=1, hidden=12, token_size=5, action_dim=7, horizon=4)
    conditions = 2 if diffusion["guidance"] > 1 else 1
    block = 5 * (4 * 3 * 3 + 2 * 3 * 12) + 2 * 5 * 5 * 3
    around = steps * (256 * 3 + 3 * 3 + 4 * 7 * 3 + conditions * 5 * 3 * 7) + conditions * 5 * 3
    assert action_head_work(shape, DiffusionConfig(**diffusion)).macs == block_runs * 2 * block + around


def test_bit_operations_are_twice_the_products_of_widths():
    assert bit_operations([Work("a", 3, Bits(4, 8)), Work("b", 5)]) == 2 * (3 * 4 * 8 + 5 * 16 * 16)


def test_the_two_definitions_disagree_about_four_bits():
    reference, four = [Work("all", 10)], [Work("all", 10, FOUR)]
    assert product_percent(four, reference) == pytest.approx(100 / 16)
    assert width_percent(four, reference) == pytest.approx(100 / 4)


def test_by_width_the_wider_operand_counts():
    assert width_percent([Work("all", 10, Bits(4, 8))], [Work("all", 10)]) == pytest.approx(50)


def test_sqap_drops_before_its_layer_and_random_dropping_before_the_first():
    sqap, at_random = (language_tokens(read_policy(name), COGACT_BASE, 24) for name in ("sqap", "random"))
    assert [layer.computed for layer in sqap] == [280] * 2 + [178] * 30
    assert [layer.computed for layer in at_random] == [178] * 32


def test_efficientvla_has_fewer_layers():
    tokens = language_tokens(read_policy("efficientvla"), COGACT_BASE, 24)
    assert [layer.computed for layer in tokens] == [280] * 2 + [136] * 26


def test_vla_cache_attends_to_everything_and_computes_less_from_layer_to_layer():
    tokens = language_tokens(read_policy("vla_cache"), COGACT_BASE, 24, reused_tokens=80)
    assert {layer.attended for layer in tokens} == {280}
    assert [layer.computed for layer in tokens] == [280] * 2 + [260] * 4 + [240] * 3 + [220] * 2 + [200] * 21


def test_float_is_a_hundred_percent_by_both_definitions():
    work = plan_work(read_policy("fp16"), COGACT_BASE, 24)
    assert (width_percent(work, work), product_percent(work, work)) == (100, 100)


def test_the_published_figure_comes_from_widths_with_all_but_the_linears_in_half_precision():
    reference = plan_work(read_policy("fp16"), COGACT_BASE, 24)
    sqap = plan_work(read_policy("sqap"), COGACT_BASE, 24, linear_bits=FOUR)
    assert width_percent(sqap, reference) == pytest.approx(26.3, abs=0.1)  # published: 26.3
    assert product_percent(sqap, reference) < 16


def test_towers_in_eight_bits_count_half_by_width():
    float_towers, wide_towers = (
        plan_work(read_policy("fp16"), COGACT_BASE, 24, tower_bits=bits) for bits in (FLOAT, Bits(8, 8))
    )
    towers = sum(part.macs for part in float_towers if part.part in ("dino linears", "siglip linears"))
    everything = sum(part.macs for part in float_towers)
    assert width_percent(wide_towers, float_towers) == pytest.approx(100 - 50 * towers / everything)
