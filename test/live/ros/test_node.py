"""The node on real topics: what it publishes when all is well."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from live_cell import Cell
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage
from sqap_vla.msg import PolicyStatus
from std_msgs.msg import String

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.ros.conversions import metadata_message
from sqap_vla_ros.testing.stub_policies import sleeping

MakeCell = Callable[..., Cell]


def stamp_ns(message: object) -> int:
    stamp = message.header.stamp  # type: ignore[attr-defined]
    return stamp.sec * 10**9 + stamp.nanosec


def seconds(duration: object) -> float:
    return duration.sec + duration.nanosec * 1e-9  # type: ignore[attr-defined]


def test_images_lead_to_trajectories_that_a_controller_can_follow(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 20)
    assert cell.robot.controller.rejections == []
    assert [v.kind for v in cell.robot.controller.violations if v.kind != "acceleration"] == []


def test_a_trajectory_ends_at_rest(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_until(lambda: bool(cell.robot.commands))
    assert list(cell.robot.commands[-1].points[-1].velocities) == [0.0] * 6


def test_a_trajectory_covers_no_more_than_the_horizon_and_its_ramp(make_cell: MakeCell) -> None:
    cell = make_cell(**{"command.horizon": 0.4})
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 5)
    lead_s, ramp_s = 0.2, 0.6
    assert max(seconds(command.points[-1].time_from_start) for command in cell.robot.commands) < lead_s + 0.4 + ramp_s


def test_chunks_carry_the_stamp_of_their_image_and_all_that_a_replay_needs(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_for_chunks(2)
    chunk, mask = cell.chunks[-1], cell.masks[-1]
    assert chunk.header.frame_id == "base" and chunk.horizon == 16 and len(chunk.data) == 16 * 7
    assert chunk.seed == stamp_ns(chunk) == stamp_ns(mask)
    assert chunk.instruction == "pick up the can"
    assert mask.tool_valid and 0 < mask.tool_u < 160 and 0 < mask.tool_v < 120
    assert chunk.sequence == cell.chunks[0].sequence + len(cell.chunks) - 1


def test_the_metadata_is_latched(make_cell: MakeCell) -> None:
    cell = make_cell()
    assert cell.configure()
    cell.spin_until(lambda: bool(cell.metadata))
    assert cell.metadata[0].policy == "sleeping" and cell.metadata[0].robot == "synthetic"


def test_the_metadata_names_the_recipe_of_compressed_weights() -> None:
    metadata = replace(sleeping(Configuration(), print).metadata, weights="w4a4", recipe="w4a4")
    message = metadata_message(metadata, "synthetic", 0)
    assert message.recipe == message.weights == "w4a4"


def test_the_status_says_that_all_is_well(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_for_chunks(5)
    cell.spin_for_statuses(2)
    status = cell.status
    assert status.state == PolicyStatus.RUNNING and status.detail == ""
    assert status.commands_published > 0 and status.latency_p50 > 0 and status.overhead_p99 > 0


def test_a_dry_run_plans_and_commands_nothing(make_cell: MakeCell) -> None:
    cell = make_cell(dry_run=True)
    cell.start()
    cell.spin_for_chunks(5)
    assert cell.robot.commands == []


def test_deactivating_brings_the_arm_to_rest(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 5)
    before = len(cell.robot.commands)
    cell.node.trigger_deactivate()
    cell.spin_until(lambda: len(cell.robot.commands) > before)
    assert np.allclose(cell.robot.commands[-1].points[-1].velocities, 0)
    count = len(cell.robot.commands)
    cell.spin_for_statuses(3)
    assert len(cell.robot.commands) == count and cell.status.state == PolicyStatus.INACTIVE


def test_the_node_can_be_configured_again_after_a_clean_up(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_for_chunks(1)
    cell.node.trigger_deactivate()
    cell.node.trigger_cleanup()
    cell.start()
    cell.spin_for_chunks(1)


@pytest.mark.parametrize("qos", [QoSProfile(depth=1), "latched"], ids=["volatile", "latched"])
def test_a_new_instruction_begins_a_new_epoch(make_cell: MakeCell, qos: QoSProfile | str) -> None:
    from live_cell import LATCHED

    cell = make_cell()
    publisher = cell.robot.create_publisher(String, "/sqap_vla/instruction", LATCHED if qos == "latched" else qos)
    cell.start()
    cell.spin_for_chunks(2)
    epoch = cell.chunks[-1].epoch
    cell.spin_until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(String(data="open the drawer"))
    cell.spin_until(lambda: cell.chunks[-1].instruction == "open the drawer")
    assert cell.chunks[-1].epoch == epoch + 1


def test_the_instruction_parameter_can_change_while_the_node_runs(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_for_chunks(1)
    (result,) = cell.node.set_parameters([Parameter("instruction", value="close the drawer")])
    assert result.successful
    cell.spin_until(lambda: cell.chunks[-1].instruction == "close the drawer")


def test_compressed_images_are_recognised_by_the_topics_type(make_cell: MakeCell) -> None:
    import cv2

    cell = make_cell(**{"topics.image": "/compressed_camera"})
    publisher = cell.robot.create_publisher(CompressedImage, "/compressed_camera", 1)
    cell.start()
    ok, data = cv2.imencode(".jpg", cell.robot.image)
    assert ok

    def publish() -> None:
        message = CompressedImage(format="jpeg", data=data.tobytes())
        message.header.stamp = cell.robot.get_clock().now().to_msg()
        message.header.frame_id = "camera_optical"
        publisher.publish(message)

    cell.robot.create_timer(0.05, publish)
    cell.spin_for_chunks(2)
