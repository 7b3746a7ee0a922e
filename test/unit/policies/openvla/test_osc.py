"""Inputs of LIBERO's controller become the motions that they lead to, against the controller's own law."""

import numpy as np
import pytest

from sqap_vla_ros.policies.openvla.osc import RATE_HZ, controller_inputs, reached_changes

STIFFNESS, SCALE_M = 150.0, 0.05


def simulated(value: float, ticks: int) -> np.ndarray:
    """Where a mass gets that a spring pulls, at each tick to a target 5 cm · input from where it is."""
    position = velocity = target = 0.0
    path, steps = [0.0], 1000
    for _ in range(ticks):
        target = position + SCALE_M * value
        for _ in range(steps):
            force = STIFFNESS * (target - position) - 2 * np.sqrt(STIFFNESS) * velocity
            velocity += force / RATE_HZ / steps
            position += velocity / RATE_HZ / steps
        path.append(position)
    return np.array(path)


@pytest.mark.parametrize("value", [1.0, -0.4])
def test_a_constant_input_moves_the_tool_as_the_controller_does(value: float) -> None:
    path = simulated(value, 40)
    per_tick = path[-1] - path[-2]
    found = reached_changes(np.array([value, 0, 0, 0, 0, 0, 1.0]))
    # The law holds a target for a whole tick, so the steady motion is a little slower than half the frequency says.
    assert found[0] == pytest.approx(per_tick, rel=0.2)


def test_inputs_are_clipped_as_the_controller_does() -> None:
    inputs = np.array([[3.0, 0, 0, -7.0, 0, 0, 0.4]])
    assert reached_changes(inputs).tolist() == reached_changes(np.clip(inputs, -1, 1)).tolist()


def test_inputs_are_found_again() -> None:
    inputs = np.random.default_rng(0).uniform(-1, 1, (8, 7))
    np.testing.assert_allclose(controller_inputs(reached_changes(inputs)), inputs, atol=1e-12)
