"""Floors are counted from the products of a plan."""

import pytest

from sqap_vla_ros.tools.benchmark.deployment import deployment_figures, deployments
from sqap_vla_ros.tools.benchmark.roofline import Device, Format, Product, floors_s, plan_products, weight_bytes

DEVICE = Device("made up", bandwidth=1e9, float_rate=1e12, int8_rate=4e12)


def test_a_product_takes_the_longer_of_its_arithmetic_and_its_weights() -> None:
    assert Product("language", 2e12, weight_bytes=1e9).floor_s(DEVICE) == 2
    assert Product("language", 2e12, weight_bytes=3e9).floor_s(DEVICE) == 3
    assert Product("language", 2e12, weight_bytes=1e8, integer=True).floor_s(DEVICE) == 0.5


def test_the_floor_of_a_stage_is_the_sum_of_its_products() -> None:
    floors = floors_s([Product("vision", 1e12), Product("vision", 1e12), Product("language", 3e12)], DEVICE)
    assert floors == {"vision": 2, "projector": 0, "language": 3, "action_head": 0}


def test_a_dense_layer_of_the_language_model_has_its_published_operations() -> None:
    def operations(depth: int) -> float:
        return sum(p.operations for p in plan_products(Format(), 24, depth=depth) if p.stage == "language")

    linear = 2 * 280 * (4 * 4096**2 + 3 * 4096 * 11008)
    attention = 2 * 280**2 * 4096
    assert operations(5) - operations(4) == linear + attention


def test_pruned_layers_have_fewer_tokens_from_the_third_on() -> None:
    def operations(kept: int | None, depth: int) -> float:
        return sum(p.operations for p in plan_products(Format(kept=kept), 24, depth=depth) if p.stage == "language")

    assert operations(154, 2) == operations(None, 2)
    assert operations(154, 3) < operations(None, 3)


def test_weights_of_4_bits_fit_where_the_paper_needs_more() -> None:
    assert weight_bytes(Format()) / 2**30 == pytest.approx(13.9, abs=0.1)
    assert weight_bytes(Format(4, 4, 8)) / 2**30 < 4.5


def test_pruning_gains_nothing_where_reading_the_weights_takes_the_time() -> None:
    pays = {row.device.name: row.pruning_pays_to for row in deployments()}
    assert pays["Jetson AGX Thor"] == 0
    assert pays["RTX 4090"] == 0.5
    assert pays["RTX 3090"] == 0.6


def test_every_device_has_its_figures() -> None:
    rows = deployments()
    figures = deployment_figures(rows)
    for row in rows:
        assert figures[f"calculated_ms_sqap-0.4_{row.device.name}"] < figures[f"calculated_ms_fp16_{row.device.name}"]
