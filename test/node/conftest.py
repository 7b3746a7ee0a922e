"""Fixtures of the live node."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from live_cell import Cell

from benchmarks.stand_in_policies import sleeping


@pytest.fixture
def ros() -> Iterator[None]:
    """An initialised rclpy."""
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def make_cell(ros: None) -> Iterator[Callable[..., Cell]]:
    """Factory of cells, all closed at the end of the test."""
    cells: list[Cell] = []

    def make(factory: Any = sleeping, **settings: Any) -> Cell:
        cells.append(Cell(factory, **settings))
        return cells[-1]

    yield make
    for cell in cells:
        cell.close()
