"""Parameters of the cell."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from sqap_vla_ros.simulation.parameters import CellParameters


@pytest.fixture
def node_with() -> Iterator[Callable[..., Node]]:
    """Makes a node with parameter overrides."""
    context = rclpy.Context()
    rclpy.init(context=context)

    def make(**overrides: Any) -> Node:
        values = [Parameter(name, value=value) for name, value in overrides.items()]
        return Node("cell", context=context, parameter_overrides=values)

    yield make
    rclpy.shutdown(context=context)


def test_defaults_are_a_real_robots(node_with: Callable[..., Node]) -> None:
    assert CellParameters.declare(node_with()) == CellParameters()
    assert not CellParameters().publish_clock


def test_every_parameter_is_described_and_read_only(node_with: Callable[..., Node]) -> None:
    node = node_with()
    CellParameters.declare(node)
    descriptors = node.describe_parameters(list(CellParameters.__dataclass_fields__))
    assert all(descriptor.description and descriptor.read_only for descriptor in descriptors)


def test_overrides_are_taken(node_with: Callable[..., Node]) -> None:
    assert CellParameters.declare(node_with(task=3, rate_hz=30.0)) == CellParameters(task=3, rate_hz=30.0)


@pytest.mark.parametrize("wrong", [{"task": -1}, {"rate_hz": 0.0}, {"image_width": 100_000}])
def test_a_value_out_of_range_is_refused(node_with: Callable[..., Node], wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterValueException, match=next(iter(wrong))):
        CellParameters.declare(node_with(**wrong))


def test_a_value_of_another_type_is_refused(node_with: Callable[..., Node]) -> None:
    with pytest.raises(InvalidParameterTypeException, match="episode_s"):
        CellParameters.declare(node_with(episode_s="long"))


def test_wall_time_cannot_be_made_faster(node_with: Callable[..., Node]) -> None:
    with pytest.raises(ValueError, match="real_time_factor = 2 needs publish_clock"):
        CellParameters.declare(node_with(real_time_factor=2.0))
