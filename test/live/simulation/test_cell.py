"""The cell's executable, as another node sees it."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from cell_run import IMAGES, MOVE_RAD, MOVED_JOINT, CellRun

from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.perception.transforms import transform_from_message
from sqap_vla_ros.simulation.libero import ARM_JOINTS, FINGER_JOINTS, LiberoScene

FRAMES = load_configuration("libero_panda").frames


def stamp_ns(message: object) -> int:
    """Of a message with a header."""
    stamp = message.header.stamp  # type: ignore[attr-defined]
    return stamp.sec * 10**9 + stamp.nanosec


def test_sigterm_ends_it_without_an_error(cell_run: CellRun) -> None:
    assert cell_run.returncode == 0
    assert "Traceback" not in cell_run.output


def test_images_come_at_20_hz_of_simulated_time(cell_run: CellRun) -> None:
    stamps = np.array([stamp_ns(image) for image in cell_run.received["/camera/color/image_raw"]])
    assert len(stamps) >= IMAGES
    assert set(np.diff(stamps) % 50_000_000) == {0}


def test_an_image_is_rgb8_in_the_optical_frame(cell_run: CellRun) -> None:
    image = cell_run.received["/camera/color/image_raw"][-1]
    assert (image.encoding, image.width, image.height, image.step) == ("rgb8", 224, 224, 672)
    assert image.header.frame_id == FRAMES.camera
    assert len(image.data) == 224 * 672
    assert np.std(image.data) > 10


def test_every_image_has_a_camera_info_of_its_stamp(cell_run: CellRun) -> None:
    infos = {stamp_ns(info) for info in cell_run.received["/camera/color/camera_info"]}
    images = {stamp_ns(image) for image in cell_run.received["/camera/color/image_raw"]}
    assert images <= infos


def test_the_camera_info_holds_the_scenes_intrinsics(cell_run: CellRun, scene: LiberoScene) -> None:
    info = cell_run.received["/camera/color/camera_info"][0]
    np.testing.assert_array_equal(np.reshape(info.k, (3, 3)), scene.camera.matrix)
    assert (info.width, info.height, info.distortion_model) == (224, 224, "plumb_bob")


def test_tool_transforms_come_at_100_hz_and_bracket_every_image(cell_run: CellRun) -> None:
    stamps = np.array([stamp_ns(message.transforms[0]) for message in cell_run.received["/tf"]])
    assert set(np.diff(stamps)) == {10_000_000}
    images = [stamp_ns(image) for image in cell_run.received["/camera/color/image_raw"]]
    assert stamps[0] <= images[0]
    assert stamps[-1] >= images[-1]


def test_the_tool_transform_is_between_base_and_tool(cell_run: CellRun) -> None:
    transform = cell_run.received["/tf"][0].transforms[0]
    assert (transform.header.frame_id, transform.child_frame_id) == (FRAMES.base, FRAMES.tool)


def test_the_camera_stands_where_the_scene_has_it(cell_run: CellRun, scene: LiberoScene) -> None:
    (transform,) = cell_run.received["/tf_static"][0].transforms
    assert (transform.header.frame_id, transform.child_frame_id) == (FRAMES.base, FRAMES.camera)
    np.testing.assert_allclose(transform_from_message(transform.transform), scene.T_base_camera, atol=1e-9)


def test_the_instruction_is_the_tasks(cell_run: CellRun) -> None:
    assert [message.data for message in cell_run.received["/sqap_vla/instruction"]] == [
        "pick up the alphabet soup and place it in the basket"
    ]


def test_the_robot_description_holds_the_joints_of_the_joint_states(cell_run: CellRun) -> None:
    robot = ElementTree.fromstring(cell_run.received["/robot_description"][0].data)
    joints = {joint.get("name") for joint in robot.iter("joint")}
    assert tuple(cell_run.received["/joint_states"][0].name) == ARM_JOINTS + FINGER_JOINTS
    assert {*ARM_JOINTS, *FINGER_JOINTS} <= joints


def test_the_clock_never_goes_back(cell_run: CellRun) -> None:
    times = [message.clock.sec * 10**9 + message.clock.nanosec for message in cell_run.received["/clock"]]
    assert times == sorted(times)
    assert times[-1] > times[0]


def test_the_arm_follows_a_trajectory(cell_run: CellRun) -> None:
    states = cell_run.received["/joint_states"]
    moved = np.array(states[-1].position) - states[0].position
    assert moved[MOVED_JOINT] == pytest.approx(MOVE_RAD, abs=1e-3)
    assert np.abs(np.delete(moved[: len(ARM_JOINTS)], MOVED_JOINT)).max() < 1e-3


def test_the_gripper_follows_a_trajectory(cell_run: CellRun) -> None:
    states = cell_run.received["/joint_states"]
    assert states[0].position[-2] > 0.035
    assert states[-1].position[-2] < 0.005


def test_the_report_counts_commands_and_their_latency(cell_run: CellRun) -> None:
    assert cell_run.report["commands"] == cell_run.report["chunks"] > 0
    assert 0 < cell_run.report["latency_median_ms"] < 1000
