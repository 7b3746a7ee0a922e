"""The node on bad input: one clear reason, nothing commanded, and it stays alive."""

import math
from array import array
from collections.abc import Callable

import cv2
import faulty_policies
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from live_cell import Cell
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sqap_vla.msg import PolicyStatus
from tf2_msgs.msg import TFMessage

from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.policy_messages import Failed
from sqap_vla_ros.simulation.messages import transform_message

MakeCell = Callable[..., Cell]


def send_image(cell: Cell, **changes: object) -> None:
    message = Image(height=120, width=160, encoding="rgb8", step=480, data=array("B", bytes(120 * 480)))
    message.header.stamp = cell.robot.get_clock().now().to_msg()
    message.header.frame_id = "camera_optical"
    for name, value in changes.items():
        setattr(message, name, value)
    cell.robot.images.publish(message)


def assert_alive_and_silent(cell: Cell) -> None:
    """Statuses go on, and no command came since the last one before the fault."""
    count = len(cell.robot.commands)
    cell.spin_for_statuses(3)
    assert len(cell.robot.commands) == count


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoding": "32FC1"}, "32FC1"),
        ({"data": array("B", bytes(1000))}, "1000"),
        ({"height": 0}, "0"),
        ({"step": 100}, "100"),
    ],
    ids=["wrong encoding", "truncated", "no rows", "step too small"],
)
def test_an_unusable_image_is_counted_and_leads_to_nothing(
    make_cell: MakeCell, capfd: pytest.CaptureFixture[str], changes: dict[str, object], words: str
) -> None:
    cell = make_cell()
    cell.robot.publishes_images = False
    cell.start()
    cell.spin_until(lambda: cell.robot.images.get_subscription_count() > 0)
    send_image(cell, **changes)
    cell.spin_until(lambda: cell.status.images_refused == 1)
    assert cell.robot.commands == [] and cell.chunks == []
    assert words in capfd.readouterr().err
    cell.robot.publishes_images = True
    cell.spin_for_chunks(1)


def test_a_camera_info_without_focal_length_costs_the_ring_alone(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.robot.camera_info = CameraInfo(width=160, height=120)
    cell.start()
    cell.spin_for_chunks(2)
    assert not cell.masks[-1].tool_valid and "calibrat" in cell.masks[-1].tool_reason
    cell.spin_until(lambda: len(cell.robot.commands) > 0)
    cell.spin_until(lambda: cell.status.chunks_without_ring > 0)


def test_a_missing_camera_transform_costs_the_ring_alone(make_cell: MakeCell) -> None:
    cell = make_cell(**{"frames.camera": "another_camera"})
    cell.start()
    cell.spin_for_chunks(2)
    assert not cell.masks[-1].tool_valid and "another_camera" in cell.masks[-1].tool_reason
    cell.spin_until(lambda: len(cell.robot.commands) > 0)


def test_without_the_tools_transform_nothing_is_commanded(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.robot.publishes_transforms = False
    cell.start()
    cell.spin_until(lambda: cell.status.last_rejection_cause == Cause.TRANSFORM_MISSING)
    assert cell.status.state == PolicyStatus.WAITING
    assert_alive_and_silent(cell)
    assert cell.robot.commands == []
    cell.robot.publishes_transforms = True
    cell.spin_until(lambda: len(cell.robot.commands) > 0)


def test_transforms_that_end_before_the_image_lead_to_nothing(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_for_chunks(2)
    cell.robot.publishes_transforms = False
    refused = cell.status.commands_refused
    cell.spin_until(lambda: cell.status.commands_refused > refused + 3)
    assert cell.status.last_rejection_cause == Cause.TRANSFORM_MISSING
    # The arm was brought to rest before it said that it waits; one more status, and that command has arrived.
    cell.spin_until(lambda: cell.status.state == PolicyStatus.WAITING)
    cell.spin_for_statuses(1)
    assert_alive_and_silent(cell)


def test_a_tool_pose_that_an_edge_does_not_reach_yet_is_waited_for(make_cell: MakeCell) -> None:
    cell = make_cell(**{"command.output": "servo_pose", "topics.command": "/poses"})
    poses: list[PoseStamped] = []
    cell.robot.create_subscription(PoseStamped, "/poses", poses.append, 10)
    cell.robot.publishes_transforms = False
    cell.start()
    cell.spin_until(lambda: cell.robot.transforms.get_subscription_count() > 0)
    now_ns = cell.robot.get_clock().now().nanoseconds
    carriage = transform_message(np.eye(4), "base", "carriage", now_ns)
    tool = transform_message(np.eye(4), "carriage", "tool", now_ns - 10**7)
    cell.robot.transforms.publish(TFMessage(transforms=[carriage, tool]))
    cell.spin_until(lambda: not math.isnan(cell.status.transform_age))
    assert poses == []
    cell.robot.publishes_transforms = True
    cell.spin_until(lambda: bool(poses))


def test_images_ahead_of_all_transforms_are_a_state_of_waiting(make_cell: MakeCell) -> None:
    cell = make_cell(**{"freshness.transform_wait": 0.0})
    cell.robot.transform_age_s = 0.09
    cell.start()
    cell.spin_until(lambda: cell.reports(PolicyStatus.WAITING, Cause.TRANSFORM_MISSING))
    cell.robot.transform_age_s, cell.robot.image_age_s = 0.0, 0.09
    cell.spin_until(lambda: cell.status.state == PolicyStatus.RUNNING)


def test_images_that_cannot_be_decoded_bring_the_arm_to_rest(make_cell: MakeCell) -> None:
    cell = make_cell(**{"topics.image": "/compressed_camera"})
    publisher = cell.robot.create_publisher(CompressedImage, "/compressed_camera", 1)
    # Two images in turn: a camera that sends one for ever, while the arm moves, is frozen.
    good = [cv2.imencode(".jpg", image)[1].tobytes() for image in (cell.robot.image, 255 - cell.robot.image)]
    images = good

    def publish() -> None:
        images.append(images.pop(0))
        message = CompressedImage(format="jpeg", data=images[0])
        message.header.stamp = cell.robot.get_clock().now().to_msg()
        message.header.frame_id = "camera_optical"
        publisher.publish(message)

    cell.robot.create_timer(0.05, publish)
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 5)
    images = [data[:-200] for data in good]
    cell.forget_statuses()
    cell.spin_until(lambda: cell.reports(PolicyStatus.WAITING, Cause.IMAGE_UNUSABLE))
    assert "JPEG" in cell.status.detail and "truncated" in cell.status.detail and cell.status.images_refused > 0
    cell.spin_until(lambda: cell.robot.rests)
    count, images = len(cell.robot.commands), good
    cell.spin_until(lambda: len(cell.robot.commands) > count)


def test_an_empty_instruction_leads_to_nothing_and_says_where_to_give_one(make_cell: MakeCell) -> None:
    cell = make_cell(instruction="")
    cell.start()
    cell.spin_until(lambda: cell.reports(PolicyStatus.WAITING, Cause.NO_INSTRUCTION))
    assert_alive_and_silent(cell)
    assert cell.chunks == []
    cell.node.set_parameters([Parameter("instruction", value="open the drawer")])
    cell.spin_for_chunks(1)


def test_missing_joint_states_are_named(make_cell: MakeCell) -> None:
    cell = make_cell(**{"topics.joint_states": "/nobody/joint_states"})
    cell.start()
    cell.spin_for_chunks(2)
    cell.spin_until(lambda: cell.status.last_rejection_cause == Cause.JOINT_STATES_MISSING)
    assert "/nobody/joint_states" in cell.status.last_refusal
    assert cell.robot.commands == []


def test_a_robot_description_without_the_joints_is_named(make_cell: MakeCell) -> None:
    cell = make_cell(**{"command.joints": ["joint1", "elbow_of_another_robot"]})
    cell.start()
    cell.spin_until(lambda: cell.status.cause == Cause.ROBOT_MODEL_UNUSABLE)
    assert "elbow_of_another_robot" in cell.status.detail
    assert_alive_and_silent(cell)
    assert cell.robot.commands == []


def test_actions_that_are_not_finite_are_refused_by_name(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.not_finite)
    cell.start()
    cell.spin_until(lambda: cell.status.last_rejection_cause == Cause.CHUNK_INVALID)
    assert_alive_and_silent(cell)
    assert cell.robot.commands == [] and cell.chunks == []


def test_a_policy_that_raises_is_reported_in_its_own_words(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.raising)
    cell.start()
    cell.spin_until(lambda: cell.status.last_rejection_cause == Cause.POLICY_FAILED)
    assert "RuntimeError: out of cheese" in cell.status.last_refusal
    assert_alive_and_silent(cell)
    cell.spin_until(lambda: cell.reports(PolicyStatus.WAITING, Cause.POLICY_FAILED))


def test_a_killed_policy_is_a_fault_that_the_node_survives(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.dying)
    cell.start()
    cell.spin_until(lambda: cell.reports(PolicyStatus.FAULT, Cause.POLICY_DEAD))
    assert "out of memory" in cell.status.detail
    assert_alive_and_silent(cell)


def test_a_policy_that_is_started_again_is_not_blamed_for_the_end_of_the_last_one(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_for_chunks(1)
    runner = cell.node._policy
    assert runner is not None
    runner._reports.put(Failed("the policy's process ended unexpectedly"))
    assert runner.restart(Rejection(Cause.POLICY_TIMEOUT, Response.HOLD, "it hangs"))
    cell.spin_until(lambda: not runner.is_restarting, deadline_s=60)
    cell.spin_for_chunks(1)


def test_a_gpu_that_is_lost_is_a_fault_in_its_own_words(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.losing_the_gpu)
    cell.start()
    cell.spin_until(lambda: cell.reports(PolicyStatus.FAULT, Cause.POLICY_DEAD))
    assert cell.status.detail == "the GPU answers this process no more"
    assert_alive_and_silent(cell)


def test_a_policy_that_hangs_is_a_fault_until_it_answers(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.hanging_once, plan_timeout=0.5)
    cell.start()
    cell.spin_until(lambda: cell.reports(PolicyStatus.FAULT, Cause.POLICY_TIMEOUT))
    cell.spin_until(lambda: cell.status.state == PolicyStatus.RUNNING)
    cell.spin_until(lambda: len(cell.robot.commands) > 0)
