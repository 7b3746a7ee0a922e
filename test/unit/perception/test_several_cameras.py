"""Observations of several cameras: which images belong together, and what is said about those that do not."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from assembled_scenes import (
    MS,
    T0,
    T_BASE_CAMERA,
    T_BASE_TOOL,
    TOOL_PX,
    add_tool,
    camera_info,
    image,
    stamp,
    transforms,
)

from sqap_vla_ros.config.cameras import Cameras, StateConvention
from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration, Frames, Topics
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds
from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.perception.assembly import ObservationAssembler, RejectedImage, Waiting
from sqap_vla_ros.perception.images import ImageError
from sqap_vla_ros.perception.needs import require

CAMERAS = Cameras(
    names=("front", "wrist", "side"),
    images=("/front", "/wrist", "/side"),
    camera_infos=("/front_info", "/wrist_info", ""),
    frames=("camera", "wrist_camera", ""),
)
ROBOT = Configuration(
    frames=Frames(base="base", tool="tool", camera="camera"),
    topics=Topics(cameras=CAMERAS),
    state=StateConvention(joints=("finger",)),
)
TWO = PolicyNeeds(cameras=2)
# A camera on the hand, half a metre behind the tool: the tool lies in the middle of its images.
T_TOOL_WRIST = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -0.5], [0, 0, 0, 1]])


def assembler(needs: PolicyNeeds = TWO) -> ObservationAssembler:
    made = ObservationAssembler(ROBOT, needs)
    made.set_instruction("pick up the can")
    made.set_camera_info(camera_info())
    made.add_transforms(transforms(0, "base", "camera", T_BASE_CAMERA), static=True)
    made.add_transforms(transforms(0, "tool", "wrist_camera", T_TOOL_WRIST), static=True)
    add_tool(made, T0 - 500 * MS, T0 - 300 * MS, T0 - 100 * MS, T0 + 100 * MS)
    return made


def wrist(made: ObservationAssembler, stamp_ns: int = T0, value: int = 7, **fields: Any) -> None:
    made.further["wrist"].offer(image(stamp_ns, value, frame_id="another", **fields))


def front(made: ObservationAssembler, now_ns: int = T0, stamp_ns: int = T0) -> Any:
    made.offer(image(stamp_ns), now_ns)
    return made.poll(now_ns)


def test_an_observation_holds_the_image_of_each_camera() -> None:
    made = assembler()
    wrist(made, T0 + 20 * MS)
    seen = front(made)
    assert isinstance(seen, Observation)
    assert (seen.stamp_ns, list(seen.further), seen.further["wrist"].stamp_ns) == (T0, ["wrist"], T0 + 20 * MS)
    assert [view.image[0, 0, 0] for view in seen.views] == [0, 7]
    np.testing.assert_allclose(seen.tool_px, TOOL_PX)


def test_a_policy_of_one_camera_does_not_wait_for_the_others() -> None:
    seen = front(assembler(ONE_CAMERA))
    assert isinstance(seen, Observation) and seen.further == {} and seen.state is None


def test_cameras_come_in_the_order_of_the_robot_file() -> None:
    made = assembler(PolicyNeeds(cameras=3))
    made.further["side"].offer(image(T0))
    wrist(made)
    assert list(front(made).further) == ["wrist", "side"]


def test_the_ring_of_a_wrist_camera_follows_from_its_own_transform() -> None:
    made = assembler()
    made.further["wrist"].calibration.set(camera_info())
    wrist(made)
    width, height = 64, 48
    np.testing.assert_allclose(front(made).further["wrist"].tool_px, (width / 2, height / 2))


def test_a_camera_without_calibration_has_no_ring_and_says_why() -> None:
    made = assembler()
    wrist(made)
    view = front(made).further["wrist"]
    assert view.tool_px is None and view.no_ring_reason == "no CameraInfo received on /wrist_info"


def test_the_nearest_image_belongs_to_the_moment() -> None:
    made = assembler()
    for stamp_ns, value in ((T0 - 40 * MS, 1), (T0 - 10 * MS, 2), (T0 + 30 * MS, 3)):
        wrist(made, stamp_ns, value)
    assert front(made).further["wrist"].image[0, 0, 0] == 2


def test_an_image_waits_for_the_other_camera() -> None:
    made = assembler()
    waiting = front(made)
    assert isinstance(waiting, Waiting) and "camera wrist: no image received on /wrist" in waiting.reason
    wrist(made)
    assert isinstance(made.poll(T0 + 10 * MS), Observation)


@pytest.mark.parametrize(
    ("stamp_ns", "says"),
    [(None, "no image received"), (T0 - 500 * MS, "0.500 s older"), (T0 + 60 * MS, "0.060 s newer")],
)
def test_a_camera_that_is_out_of_step_is_named(stamp_ns: int | None, says: str) -> None:
    made = assembler()
    if stamp_ns is not None:
        wrist(made, stamp_ns)
    assert isinstance(front(made), Waiting)
    outcome = made.poll(T0 + 60 * MS)
    assert isinstance(outcome, RejectedImage) and outcome.rejection.cause is Cause.CAMERA_OUT_OF_STEP
    assert outcome.rejection.sentence.startswith("camera wrist: ") and says in outcome.rejection.sentence


def test_an_image_of_another_camera_that_cannot_be_used_is_named() -> None:
    made = assembler()
    with pytest.raises(ImageError):
        wrist(made, encoding="unknown")
    with pytest.raises(ImageError, match="stamp"):
        wrist(made, 0)
    wrist(made)
    with pytest.raises(ImageError, match="not newer"):
        wrist(made, T0 - 10 * MS)


def test_a_clock_that_was_set_back_starts_all_cameras_anew() -> None:
    made = assembler()
    wrist(made)
    wrist(made, T0 - 5000 * MS)
    assert made.further["wrist"].newest_ns == T0 - 5000 * MS


def test_the_state_belongs_to_the_first_cameras_stamp() -> None:
    made = assembler(PolicyNeeds(cameras=1, state="tool", state_size=7))
    assert isinstance(front(made), Waiting)
    for at_ns, position in ((T0 - 20 * MS, 0.0), (T0 + 20 * MS, 0.04)):
        made.state.add(
            SimpleNamespace(header=SimpleNamespace(stamp=stamp(at_ns)), name=["finger"], position=[position])
        )
    seen = made.poll(T0)
    assert isinstance(seen, Observation) and seen.state is not None
    np.testing.assert_allclose(seen.state[:3], T_BASE_TOOL[:3, 3])
    np.testing.assert_allclose(seen.state[5:], [0.3, 0.02])


def test_a_state_that_is_missing_is_a_cause_of_its_own() -> None:
    made = assembler(PolicyNeeds(cameras=1, state="tool", state_size=7))
    assert isinstance(front(made), Waiting)
    outcome = made.poll(T0 + 60 * MS)
    assert isinstance(outcome, RejectedImage) and outcome.rejection.cause is Cause.STATE_MISSING
    assert "finger" in outcome.rejection.sentence


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        (PolicyNeeds(cameras=4), "needs 4 cameras, the robot file of unnamed has 3 (front, wrist, side)"),
        (PolicyNeeds(state="tool", state_size=8), "8 numbers (position, rotation vector and 2 joints)"),
        (PolicyNeeds(state="joints", state_size=14), "14 numbers (the positions of 14 joints)"),
    ],
)
def test_a_robot_file_that_does_not_provide_what_a_policy_needs_is_named(needs: PolicyNeeds, says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        require(needs, ROBOT, "openvla-oft-libero")
    assert says in str(raised.value) and "policy openvla-oft-libero" in str(raised.value)


@pytest.mark.parametrize(
    "needs",
    [ONE_CAMERA, PolicyNeeds(3), PolicyNeeds(2, "tool", 7), PolicyNeeds(1, "joints", 1)],
)
def test_a_robot_file_that_provides_more_is_fine(needs: PolicyNeeds) -> None:
    require(needs, ROBOT, "any")
