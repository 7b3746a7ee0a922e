"""From messages to observations: what waits, what is refused, and what loses only its ring."""

import numpy as np
from assembled_scenes import (
    HEIGHT,
    MS,
    T0,
    T_BASE_CAMERA,
    TOOL_PX,
    WIDTH,
    F,
    add_tool,
    assembler,
    camera_info,
    image,
    observe,
    ready,
    transforms,
)

from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.perception.assembly import RejectedImage, Waiting
from sqap_vla_ros.perception.transforms import transform_from


def test_everything_in_an_observation_belongs_to_the_images_stamp():
    made = assembler()
    add_tool(made, T0 - 10 * MS, T=transform_from((0, 0, 0), np.eye(3)))
    add_tool(made, T0 + 10 * MS, T=transform_from((0.1, 0, 0), np.eye(3)))
    seen = observe(made, value=7)
    assert (seen.stamp_ns, seen.instruction) == (T0, "pick up the can")
    np.testing.assert_array_equal(seen.image, np.full((HEIGHT, WIDTH, 3), 7))
    np.testing.assert_allclose(seen.T_base_tool, transform_from((0.05, 0, 0), np.eye(3)), atol=1e-12)


def test_the_tool_is_projected_into_the_image():
    seen = observe(ready())
    np.testing.assert_allclose(seen.tool_px, TOOL_PX)
    assert seen.no_ring_reason == ""


def test_a_moving_camera_is_placed_at_the_images_stamp():
    made = ready(camera_transform=False)
    for sign in (-1, 1):
        T = transform_from((0.1 + sign * 0.1, 0, 1), T_BASE_CAMERA[:3, :3])
        made.add_transforms(transforms(T0 + sign * 10 * MS, "base", "camera", T))
    np.testing.assert_allclose(observe(made).tool_px, (TOOL_PX[0] - F * 0.2, TOOL_PX[1]))


def test_the_policys_tool_point_is_projected_and_the_tool_pose_is_not_shifted():
    T_base_tool = transform_from((0.2, 0.1, 0.6), np.eye(3))
    seen = observe(ready(T_base_tool, tool_policy_xyz=(0.0, 0.0, -0.1)))
    np.testing.assert_allclose(seen.tool_px, TOOL_PX)
    np.testing.assert_allclose(seen.T_base_tool, T_base_tool, atol=1e-12)


def test_a_configured_camera_frame_replaces_the_images():
    seen = observe(ready(camera="camera"), frame_id="wrong")
    np.testing.assert_allclose(seen.tool_px, TOOL_PX)


def test_without_an_image_there_is_nothing():
    assert ready().poll(T0) is None


def test_an_image_is_handed_out_once():
    made = ready()
    observe(made)
    assert made.poll(T0 + MS) is None


def test_an_image_waits_for_the_transform_that_brackets_it():
    made = assembler()
    add_tool(made, T0 - 10 * MS)
    made.offer(image(), T0 + 3 * MS)
    waiting = made.poll(T0 + 4 * MS)
    assert isinstance(waiting, Waiting)
    assert waiting.until_ns == T0 + 53 * MS and "'base' -> 'tool'" in waiting.reason
    add_tool(made, T0 + 10 * MS)
    assert isinstance(made.poll(T0 + 12 * MS), Observation)


def test_an_image_waits_for_the_cameras_transform_too():
    made = ready(camera_transform=False)
    made.offer(image(), T0)
    waiting = made.poll(T0)
    assert isinstance(waiting, Waiting) and "'base' -> 'camera'" in waiting.reason


def test_after_the_wait_a_missing_tool_transform_refuses_the_image():
    made = assembler()
    made.offer(image(), T0)
    assert isinstance(made.poll(T0 + 49 * MS), Waiting)
    refused = made.poll(T0 + 50 * MS)
    assert isinstance(refused, RejectedImage)
    assert refused.stamp_ns == T0 and "frame 'tool' is unknown" in refused.rejection.sentence
    assert made.poll(T0 + 51 * MS) is None


def test_after_the_wait_a_tool_transform_older_than_the_image_refuses_it():
    made = assembler()
    add_tool(made, T0 - 10 * MS)
    made.offer(image(), T0)
    refused = made.poll(T0 + 50 * MS)
    assert (
        isinstance(refused, RejectedImage)
        and "after the last transform of 'base' -> 'tool'" in refused.rejection.sentence
    )


def test_tool_transforms_too_far_apart_refuse_the_image():
    made = assembler()
    add_tool(made, T0 - 150 * MS, T0 + 150 * MS)
    made.offer(image(), T0)
    refused = made.poll(T0)
    assert isinstance(refused, RejectedImage) and "more than 0.2 s apart" in refused.rejection.sentence


def test_after_the_wait_a_missing_camera_transform_costs_only_the_ring():
    made = ready(camera_transform=False)
    made.offer(image(), T0)
    seen = made.poll(T0 + 50 * MS)
    assert isinstance(seen, Observation) and seen.tool_px is None
    assert "frame 'camera' is unknown" in seen.no_ring_reason


def test_after_the_wait_a_stale_camera_transform_costs_only_the_ring():
    made = ready(camera_transform=False)
    made.add_transforms(transforms(T0 - 10 * MS, "base", "camera", T_BASE_CAMERA))
    made.offer(image(), T0)
    seen = made.poll(T0 + 50 * MS)
    assert isinstance(seen, Observation) and seen.tool_px is None
    assert "after the last transform of 'base' -> 'camera'" in seen.no_ring_reason


def without_ring(made, **fields):
    seen = observe(made, **fields)
    assert seen.tool_px is None
    return seen.no_ring_reason


def test_an_old_camera_info_costs_the_ring_where_a_limit_is_set():
    made = ready(freshness={"camera_info": 2.0})
    made.set_camera_info(camera_info(T0 - 3000 * MS))
    assert "CameraInfo is 3.00 s older than the image (freshness.camera_info is 2 s" in without_ring(made)


def test_a_calibration_that_is_told_once_holds():
    made = ready()
    made.set_camera_info(camera_info(0))
    assert observe(made).tool_px is not None


def test_without_camera_info_there_is_no_ring():
    assert without_ring(ready(calibrated=False)) == "no CameraInfo received on /camera/color/camera_info"


def test_an_uncalibrated_camera_has_no_ring_and_says_what_to_do():
    made = ready()
    made.set_camera_info(camera_info(k=[0.0] * 9))
    assert "not calibrated; calibrate it" in without_ring(made)


def test_a_calibration_of_another_size_gives_no_ring():
    made = ready()
    made.set_camera_info(camera_info(binning_x=2, binning_y=2))
    reason = without_ring(made)
    assert "describes 32x24 images" in reason and "the image is 64x48" in reason


def test_a_usable_calibration_brings_the_ring_back():
    made = ready()
    made.set_camera_info(camera_info(k=[0.0] * 9))
    made.set_camera_info(camera_info())
    assert observe(made).tool_px is not None


def test_an_image_without_frame_has_no_ring():
    assert "set frames.camera" in without_ring(ready(), frame_id="")


def test_a_tool_behind_the_camera_has_no_ring():
    assert "behind the camera" in without_ring(ready(transform_from((0, 0, 1.5), np.eye(3))))


def test_a_tool_off_the_image_has_no_ring():
    assert "off the image, at pixel (82, 24) of 64x48" in without_ring(ready(transform_from((0.5, 0, 0.5), np.eye(3))))
