"""A policy of two cameras and a state, over real topics."""

from collections.abc import Callable
from typing import Any

import faulty_policies
import numpy as np
from live_cell import Cell
from sensor_msgs.msg import Image, JointState
from sqap_vla.msg import PolicyStatus

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.simulation.messages import image_message, joint_state_message
from sqap_vla_ros.testing.synthetic_robot import CAMERA

MakeCell = Callable[..., Cell]
FRONT, WRIST = "/camera/color/image_raw", "/wrist/image_raw"
SETTINGS: dict[str, Any] = {
    "topics.cameras.names": ["front", "wrist"],
    "topics.cameras.images": [FRONT, WRIST],
    "topics.cameras.camera_infos": ["/camera/color/camera_info", ""],
    "topics.cameras.frames": [CAMERA, ""],
    "state.joints": ["finger"],
}


class Hand:
    """A wrist camera and a finger on the robot of a cell.

    Attributes:
        sends_images: Whether the camera works.
        late_s: How long its images take.
        sends_finger: Whether the finger is measured.
    """

    def __init__(self, cell: Cell) -> None:
        self.sends_images = self.sends_finger = True
        self.late_s = 0.0
        self._robot = cell.robot
        self._images = cell.robot.create_publisher(Image, WRIST, 5)
        self._joints = cell.robot.create_publisher(JointState, "/joint_states", 10)
        self._image = np.full((60, 80, 3), 99, np.uint8)
        cell.robot.create_timer(0.02, self._publish)

    def _publish(self) -> None:
        now_ns = self._robot.get_clock().now().nanoseconds
        self._image[-1, -1] += 1
        if self.sends_images:
            self._images.publish(image_message(self._image, "wrist", now_ns - round(self.late_s * 1e9)))
        if self.sends_finger:
            self._joints.publish(joint_state_message(("finger",), [0.03], [0.0], now_ns))


def test_a_policy_of_two_cameras_and_a_state_moves_the_arm_and_a_lost_camera_holds_it(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.two_cameras, **SETTINGS)
    hand = Hand(cell)
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 5 and not cell.robot.rests)
    front, wrist, finger = cell.chunks[-1].instruction.split()
    assert (wrist, finger) == ("99", "0.03")
    hand.sends_images = False
    cell.spin_until(lambda: cell.reports(PolicyStatus.WAITING, Cause.CAMERA_LOST) and cell.robot.rests)
    assert f"camera wrist: the last image on {WRIST} is" in cell.status.detail
    hand.sends_images, hand.late_s = True, 0.5
    cell.spin_until(lambda: cell.status.cause == Cause.CAMERA_OUT_OF_STEP)
    hand.late_s = 0.0
    cell.spin_until(lambda: cell.status.state == PolicyStatus.RUNNING)
    hand.sends_finger = False
    cell.spin_until(lambda: cell.reports(PolicyStatus.WAITING, Cause.STATE_MISSING) and cell.robot.rests)
    assert "finger" in cell.status.detail


def test_a_robot_file_of_one_camera_cannot_be_configured_for_a_policy_of_two(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.two_cameras, **{"state.joints": ["finger"]})
    assert not cell.configure()
    cell.spin_until(lambda: cell.reports(PolicyStatus.UNCONFIGURED, Cause.CONFIGURATION_FAILED))
    assert "needs 2 cameras" in cell.status.detail and "topics.cameras" in cell.status.detail
