"""Calibration frames that the simulator renders."""

import pytest

from sqap_vla_ros.tools.compression.calibration import CalibrationError, read_frames


def test_the_simulator_gives_initial_states_of_its_tasks_with_their_instructions() -> None:
    frames = read_frames(["libero:libero_object"], 2)
    assert [frame.image.shape for frame in frames.frames] == [(224, 224, 3)] * 2
    assert len({frame.instruction for frame in frames.frames}) == 2
    assert all(frame.instruction.startswith("pick up the ") for frame in frames.frames)
    assert min(frame.image.std() for frame in frames.frames) > 10


def test_a_suite_that_the_simulator_lacks_is_named() -> None:
    with pytest.raises(CalibrationError, match="libero:kitchen: no LIBERO suite 'kitchen'; there are: "):
        read_frames(["libero:kitchen"], 1)
