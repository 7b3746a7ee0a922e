"""Fixtures of the live node."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from live_cell import Cell

from sqap_vla_ros.testing.stub_policies import sleeping


@pytest.fixture
def ros() -> Iterator[None]:
    """An initialised rclpy."""
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def make_cell(ros: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cell]]:
    """Factory of cells, all closed at the end of the test.

    What is tested is how trajectories join, not how promptly a shared machine delivers them: node and robot share one
    executor here, so the lead allows for its stalls.
    """
    monkeypatch.setattr("sqap_vla_ros.control.latency.TRANSPORT_NS", 150_000_000)
    cells: list[Cell] = []

    def make(factory: Any = sleeping, **settings: Any) -> Cell:
        cells.append(Cell(factory, **settings))
        return cells[-1]

    yield make
    for cell in cells:
        cell.close()
