"""Bags of two cameras and a finger: what a policy that needs them would have planned on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_bags import START_NS, Entry, T, camera_info, image, messages, write_messages

from sqap_vla_ros.bags.observations import observations
from sqap_vla_ros.bags.reader import Bag, BagError
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import PolicyNeeds

FRONT, WRIST, JOINTS = "/camera/color/image_raw", "/wrist/image_raw", "/joint_states"
CONFIGURATION = validate(
    Configuration,
    {
        "frames.base": "base",
        "frames.tool": "tool",
        "topics.joint_states": JOINTS,
        "topics.cameras.names": ["front", "wrist"],
        "topics.cameras.images": [FRONT, WRIST],
        "topics.cameras.camera_infos": ["/camera/color/camera_info", "/wrist/camera_info"],
        "topics.cameras.frames": ["", "camera"],
        "state.joints": ["finger"],
    },
    "test",
)
NEEDS = PolicyNeeds(cameras=2, state="tool", state_size=7)


def joint_state(at_ns: int) -> object:
    """A finger that opens by a millimetre in ten milliseconds."""
    header = replace(camera_info(at_ns).header)  # type: ignore[attr-defined]
    position = np.array([(at_ns - START_NS) * 1e-10])
    return T["sensor_msgs/msg/JointState"](
        header=header, name=["finger"], position=position, velocity=np.zeros(1), effort=np.zeros(1)
    )


def entries(wrist_late_ms: int = 0, without: str = "") -> list[Entry]:
    """Half a second; the wrist camera's images are 2 ms younger than the front camera's."""
    found = [*messages(0.5), (START_NS, "/wrist/camera_info", camera_info(START_NS))]
    for step in range(51):
        at_ns = START_NS + step * 10**7
        found.append((at_ns, JOINTS, joint_state(at_ns)))
        if step % 10 == 5:
            found.append((at_ns, WRIST, image(at_ns - 1_000_000 - wrist_late_ms * 10**6)))
    return sorted((entry for entry in found if entry[1] != without), key=lambda entry: entry[0])


def observed(path: Path, found: list[Entry], needs: PolicyNeeds = NEEDS) -> list[Observation | tuple[int, str]]:
    with Bag(write_messages(path, found)) as bag:
        topics = find_topics(bag, CONFIGURATION)
        return list(observations(bag, topics, CONFIGURATION, needs=needs, on_progress=lambda at_ns: None))


def test_each_frame_is_planned_on_with_the_image_and_the_state_of_its_moment(tmp_path: Path) -> None:
    found = observed(tmp_path / "bag", entries())
    assert len(found) == 5
    for tick in found:
        assert isinstance(tick, Observation) and tick.state is not None
        wrist = tick.further["wrist"]
        assert wrist.stamp_ns == tick.stamp_ns + 2_000_000 and wrist.tool_px is not None
        assert tick.state[6] == pytest.approx((tick.stamp_ns - START_NS) * 1e-10)


def test_a_policy_of_one_camera_reads_the_same_bag(tmp_path: Path) -> None:
    found = observed(tmp_path / "bag", entries(without=WRIST), PolicyNeeds())
    assert len(found) == 5 and all(isinstance(tick, Observation) and tick.further == {} for tick in found)


def test_a_camera_that_was_late_is_named(tmp_path: Path) -> None:
    found = observed(tmp_path / "bag", entries(wrist_late_ms=500))
    assert len(found) == 5
    for tick in found:
        assert isinstance(tick, tuple) and tick[1].startswith("camera wrist: ")


@pytest.mark.parametrize(
    ("topic", "says"),
    [(WRIST, "no images of camera wrist on /wrist/image_raw"), (JOINTS, "no joint states on /joint_states")],
)
def test_a_bag_that_lacks_what_the_policy_needs_is_named(tmp_path: Path, topic: str, says: str) -> None:
    with pytest.raises(BagError, match=says):
        observed(tmp_path / "bag", entries(without=topic))
