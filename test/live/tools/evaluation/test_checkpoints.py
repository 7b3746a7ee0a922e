"""What compression looks at in an evaluation, where nothing else is named."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("libero", reason="needs the extra [sim]")

from sqap_vla_ros.bags.demonstrations import Demonstration
from sqap_vla_ros.core.run_directory import RunDirectoryError
from sqap_vla_ros.simulation.tasks import TASKS
from sqap_vla_ros.tools.evaluation import checkpoints
from sqap_vla_ros.tools.evaluation.checkpoints import RECORDED, recorded_frames


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of one short demonstration."""
    directory = tmp_path_factory.mktemp("calibration") / "calibration"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "_EPISODES", 1)
        frames = recorded_frames([TASKS["close_drawer"]], "libero_panda", directory, 2, workers=1)
    assert frames.sources == RECORDED and len(frames.frames) == 2
    first, second = frames.frames
    assert first.instruction == second.instruction
    assert "drawer" in first.instruction
    assert np.abs(first.image.astype(int) - second.image).mean() > 1
    return directory


def test_a_demonstration_is_recorded_and_used_again(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_EPISODES", 1)
    [file] = recorded.rglob("*.safetensors")
    written = file.stat().st_mtime_ns
    frames = recorded_frames([TASKS["close_drawer"]], "libero_panda", recorded, 3, workers=1)
    assert len(frames.frames) == 3 and file.stat().st_mtime_ns == written
    assert len(Demonstration.read(file).images) > 10


def test_demonstrations_of_another_robot_are_not_looked_at(recorded: Path) -> None:
    with pytest.raises(RunDirectoryError, match="another robot"):
        recorded_frames([TASKS["close_drawer"]], "franka", recorded, 2, workers=1)
