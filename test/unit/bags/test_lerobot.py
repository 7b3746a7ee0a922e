"""LeRobot data sets are read as recordings: same frames, same task, same poses; what cannot be read is a sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_data import CAMERA, FPS, TASKS, grey, observed_in, state, write_data_set

from sqap_vla_ros.bags.lerobot import episode_path
from sqap_vla_ros.bags.reader import BagDamage, BagError
from sqap_vla_ros.bags.robot_bag import RobotBag
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.tools.compression.calibration import read_frames
from sqap_vla_ros.tools.replay.jobs import file_states, find_bags

ROBOT = Configuration()
VERSIONS = pytest.mark.parametrize("version", ["v2.1", "v3.0"])


@VERSIONS
@pytest.mark.parametrize("episode", [0, 1])
def test_an_episode_is_replayed_frame_by_frame(tmp_path: Path, version: str, episode: int) -> None:
    root = write_data_set(tmp_path / "set", version)
    found = observed_in(episode_path(root, episode), ROBOT)
    levels = [float(frame.image.mean()) for frame in found]
    assert levels == pytest.approx([grey(episode, frame) for frame in range((6, 5)[episode])], abs=3)
    assert {frame.instruction for frame in found} == {TASKS[episode]}
    steps_ns = np.diff([frame.stamp_ns for frame in found])
    assert (steps_ns == 10**9 // FPS).all()
    for number, frame in enumerate(found):
        np.testing.assert_allclose(frame.T_base_tool[:3, 3], state(number)[:3], atol=1e-6)


@VERSIONS
def test_a_whole_data_set_is_one_recording(tmp_path: Path, version: str) -> None:
    root = write_data_set(tmp_path / "set", version)
    assert [frame.instruction for frame in observed_in(root, ROBOT)] == [TASKS[0]] * 6 + [TASKS[1]] * 5


def test_each_episode_is_a_bag_to_replay_and_can_be_named(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "folder" / "set")
    episodes = [episode_path(root, 0), episode_path(root, 1)]
    assert find_bags([tmp_path / "folder"]) == episodes
    assert find_bags([episodes[1]]) == [episodes[1]]
    assert len(file_states(episodes[1])) == 3  # description, rows, video: what decides whether a replay is up to date


def test_its_frames_calibrate(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "set")
    frames = read_frames([str(root)], 4)
    assert {frame.instruction for frame in frames.frames} == set(TASKS)
    assert len(read_frames([str(episode_path(root, 1))], 2).frames) == 2


def test_joints_become_joint_states(tmp_path: Path) -> None:
    names = ("shoulder_pan.pos", "shoulder_lift.pos", "elbow_flex.pos")
    root = write_data_set(tmp_path / "set", names=names)
    with RobotBag(episode_path(root, 0), ROBOT) as bag:
        assert bag.poses.startswith("the recording has no transforms") and "--urdf" in bag.poses
        positions = [message for _, _, message in bag.messages({"/joint_states"})]
    assert positions[2].name == ["shoulder_pan", "shoulder_lift", "elbow_flex"]
    np.testing.assert_allclose(positions[2].position, state(2)[:3], atol=1e-6)


def edit(root: Path, **changes: Any) -> None:
    """Change the description."""
    file = root / "meta" / "info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"codebase_version": "v1.6"}, "convert the data set"),
        ({"codebase_version": "v9.0"}, "v2.0, v2.1, v3.0"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": None}, "cannot be used"),
        ({"features": []}, "cannot be used"),
        ({"data_path": "../{chunk_index}/{file_index}.parquet"}, "outside the data set"),
        ({"data_path": "data/none.parquet"}, "cannot be read"),
    ],
)
def test_a_description_that_cannot_be_used_is_a_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    root = write_data_set(tmp_path / "set")
    edit(root, **changes)
    with pytest.raises(BagError, match=sentence) as error:
        RobotBag(episode_path(root, 0), ROBOT)
    assert str(root) in str(error.value) and "\n" not in str(error.value)


def test_an_episode_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "set")
    with pytest.raises(BagError, match="has 2 episodes"):
        RobotBag(episode_path(root, 2), ROBOT)


def test_a_video_that_ends_early_is_replayed_up_to_there(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "set", "v2.1")
    other = write_data_set(tmp_path / "other", "v2.1", lengths=(3,))
    video = "videos/chunk-000/observation.images.top/episode_000000.mp4"
    (root / video).write_bytes((other / video).read_bytes())
    with RobotBag(episode_path(root, 0), ROBOT) as bag, pytest.raises(BagDamage, match="3 of 6 are missing"):
        images = []
        for _, _, message in bag.messages({"/observation/images/top/image_raw"}):
            images.append(message)
    assert len(images) == 3 and CAMERA.endswith("top")
