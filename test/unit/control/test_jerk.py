"""Jerk of a sampled path."""

import numpy as np
import pytest

from sqap_vla_ros.control.jerk import mean_jerk


def test_the_jerk_of_a_cubic_is_its_third_derivative() -> None:
    times_s = np.arange(20) * 0.05
    assert mean_jerk(np.stack([2 * times_s**3, times_s**2], axis=1), 0.05) == pytest.approx(12.0)


def test_three_states_have_no_jerk() -> None:
    assert mean_jerk(np.zeros((3, 7)), 0.05) == 0.0
