"""Where the tool is in a SIMPLER image."""

import math

import numpy as np
from simpler_scenes import CAMERA, FOCAL_PX, HEIGHT, WIDTH, SapienPose, observation

from sqap_vla_ros.simulation.simpler.tool import tool_in_image


def test_a_tool_on_the_optical_axis_is_at_the_image_s_centre() -> None:
    tool = tool_in_image(observation(), SapienPose((0.0, 0.0, 2.0)), CAMERA)
    # Between the two middle pixels, whose centres are at whole numbers.
    np.testing.assert_allclose(tool.tool_px, [(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    assert tool.no_ring_reason == ""


def test_a_tool_to_the_right_and_below_is_there_in_the_image() -> None:
    tool = tool_in_image(observation(), SapienPose((0.2, 0.1, 2.0)), CAMERA)
    expected = [(WIDTH - 1) / 2 + 0.1 * FOCAL_PX, (HEIGHT - 1) / 2 + 0.05 * FOCAL_PX]
    np.testing.assert_allclose(tool.tool_px, expected)


def test_the_camera_s_place_counts() -> None:
    seen = observation()
    # The camera is 1 m to the right of the origin: it sees everything 1 m further to the left.
    seen["camera_param"][CAMERA]["extrinsic_cv"][0, 3] = -1.0
    tool = tool_in_image(seen, SapienPose((1.0, 0.0, 2.0)), CAMERA)
    np.testing.assert_allclose(tool.tool_px, [(WIDTH - 1) / 2, (HEIGHT - 1) / 2])


def test_a_tool_off_the_image_is_not_placed_and_the_pixel_is_named() -> None:
    tool = tool_in_image(observation(), SapienPose((2.0, 0.0, 1.0)), CAMERA)
    assert tool.tool_px is None and "off the image, at pixel (280, 64) of 160x128" in tool.no_ring_reason


def test_a_tool_behind_the_camera_is_not_placed() -> None:
    tool = tool_in_image(observation(), SapienPose((0.0, 0.0, -1.0)), CAMERA)
    assert tool.tool_px is None and "behind the camera" in tool.no_ring_reason


def test_the_tool_s_pose_is_given_in_the_robot_s_base_frame() -> None:
    # The base stands at x = 1 m, turned by half a turn about z as SIMPLER's robots are.
    base = SapienPose((1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    quarter_about_z = (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))
    tool = tool_in_image(observation(base=base), SapienPose((0.4, 0.1, 1.0), quarter_about_z), CAMERA)
    expected = [[0, 1, 0, 0.6], [-1, 0, 0, -0.1], [0, 0, 1, 1.0], [0, 0, 0, 1]]
    np.testing.assert_allclose(tool.T_base_tool, expected, atol=1e-12)
