"""Length of the tool's path in an episode."""

import numpy as np
import pytest

from sqap_vla_ros.tools.evaluation.episodes import path_length


def test_a_path_is_as_long_as_its_pieces() -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1:, 0, 3], poses[2, 1, 3] = 0.3, 0.4
    assert path_length(poses) == pytest.approx(0.7)
