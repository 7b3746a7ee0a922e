"""From messages to observations: what waits, what is refused, and what loses only its ring."""

from types import SimpleNamespace

import numpy as np
import pytest

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.perception.assembly import ObservationAssembler, RejectedImage, Waiting
from sqap_vla_ros.perception.images import ImageError
from sqap_vla_ros.perception.transforms import quaternion_from_matrix, rotation_from_rpy, transform_from

MS = 10**6
T0 = 100 * 10**9  # stamp of the first image
WIDTH, HEIGHT, F = 64, 48, 50.0
# A camera one metre above the base's origin, looking down: its x along the base's x, its y against the base's y.
T_BASE_CAMERA = transform_from((0, 0, 1), rotation_from_rpy((np.pi, 0, 0)))
T_BASE_TOOL = transform_from((0.2, 0.1, 0.5), rotation_from_rpy((0, 0, 0.3)))
# 0.5 m below the camera, 0.2 m right and 0.1 m up in the image
TOOL_PX = (WIDTH / 2 + F * 0.4, HEIGHT / 2 - F * 0.2)


def stamp(stamp_ns):
    return SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def image(stamp_ns=T0, value=0, frame_id="camera", **changes):
    fields = {"encoding": "rgb8", "width": WIDTH, "height": HEIGHT, "step": 3 * WIDTH}
    data = np.full(WIDTH * HEIGHT * 3, value, np.uint8)
    header = SimpleNamespace(stamp=stamp(stamp_ns), frame_id=frame_id)
    return SimpleNamespace(**fields | {"data": data, "header": header} | changes)


def transforms(stamp_ns, parent, child, T):
    x, y, z, w = quaternion_from_matrix(T)
    translation = SimpleNamespace(**dict(zip("xyz", T[:3, 3].tolist(), strict=True)))
    transform = SimpleNamespace(translation=translation, rotation=SimpleNamespace(x=x, y=y, z=z, w=w))
    header = SimpleNamespace(frame_id=parent, stamp=stamp(stamp_ns))
    return SimpleNamespace(transforms=[SimpleNamespace(header=header, child_frame_id=child, transform=transform)])


def camera_info(stamp_ns=T0, **changes):
    fields = {
        "header": SimpleNamespace(stamp=stamp(stamp_ns), frame_id="camera"),
        "width": WIDTH,
        "height": HEIGHT,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": [F, 0, WIDTH / 2, 0, F, HEIGHT / 2, 0, 0, 1],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**fields | changes)


def assembler(
    calibrated=True,
    camera_transform=True,
    instruction="pick up the can",
    T_base_tool=T_BASE_TOOL,
    freshness=(),
    **frames,
):
    """Everything but the tool's transforms and an image."""
    frames = {"base": "base", "tool": "tool"} | frames
    made = ObservationAssembler(Configuration(frames=frames, freshness=dict(freshness)))
    made.set_instruction(instruction)
    if calibrated:
        made.set_camera_info(camera_info())
    if camera_transform:
        made.add_transforms(transforms(0, "base", "camera", T_BASE_CAMERA), static=True)
    return made


def add_tool(made, *stamps_ns, T=T_BASE_TOOL):
    for stamp_ns in stamps_ns:
        made.add_transforms(transforms(stamp_ns, "base", "tool", T))


def ready(T_base_tool=T_BASE_TOOL, **settings):
    """An assembler whose tree brackets the first image."""
    made = assembler(**settings)
    add_tool(made, T0 - 10 * MS, T0 + 10 * MS, T=T_base_tool)
    return made


def observe(made, now_ns=T0, **fields):
    made.offer(image(**fields), now_ns)
    outcome = made.poll(now_ns)
    assert isinstance(outcome, Observation), outcome
    return outcome


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


@pytest.mark.parametrize("instruction", ["", "  \n"])
def test_an_empty_instruction_refuses_the_image_at_once(instruction):
    made = assembler(instruction=instruction)
    made.offer(image(), T0)
    refused = made.poll(T0)
    assert (
        isinstance(refused, RejectedImage)
        and "instruction is empty; publish one on ~/instruction" in refused.rejection.sentence
    )


def test_a_newer_image_replaces_the_one_that_waits():
    made = ready()
    made.offer(image(T0, value=1), T0)
    made.offer(image(T0 + MS, value=2), T0 + MS)
    seen = made.poll(T0 + MS)
    assert isinstance(seen, Observation) and seen.image.max() == 2
    assert made.dropped == 1


def test_a_camera_faster_than_the_wait_does_not_put_an_image_off_for_ever():
    made = assembler()
    for k in range(6):
        made.offer(image(stamp_ns=T0 + k * 10 * MS), T0 + k * 10 * MS)
        outcome = made.poll(T0 + k * 10 * MS)
    assert isinstance(outcome, RejectedImage) and outcome.stamp_ns == T0


def test_the_newest_image_wins_when_its_transforms_are_there():
    made = assembler()
    made.offer(image(stamp_ns=T0), T0)
    assert isinstance(made.poll(T0), Waiting)
    made.offer(image(stamp_ns=T0 + 10 * MS), T0 + 10 * MS)
    add_tool(made, T0 - 10 * MS, T0 + 20 * MS)
    outcome = made.poll(T0 + 20 * MS)
    assert isinstance(outcome, Observation) and outcome.stamp_ns == T0 + 10 * MS
    assert made.dropped == 1


def test_a_late_image_does_not_replace_a_newer_one():
    made = ready()
    made.offer(image(T0 + MS, value=2), T0)
    made.offer(image(T0, value=1), T0)
    seen = made.poll(T0)
    assert isinstance(seen, Observation) and seen.image.max() == 2
    assert made.dropped == 1


@pytest.mark.parametrize("back_ns", [0, MS, 900 * MS])
def test_an_image_that_is_not_newer_than_the_last_one_used_is_refused(back_ns):
    made = ready()
    observe(made)
    with pytest.raises(ImageError, match="not newer than the last one used"):
        made.offer(image(T0 - back_ns), T0)


def test_a_clock_that_was_set_back_clears_the_tree_and_the_slot():
    made = ready()
    made.offer(image(), T0)
    with pytest.raises(ImageError, match="stamps went back by 50.000 s"):
        made.offer(image(T0 // 2), T0)
    assert made.poll(T0) is None
    assert not made.tree.brackets("base", "tool", T0)


def test_after_the_clock_was_set_back_images_are_used_again():
    made = ready()
    observe(made)
    with pytest.raises(ImageError):
        made.offer(image(T0 // 2), T0)
    add_tool(made, T0 // 2, T0 // 2 + 20 * MS)
    seen = observe(made, stamp_ns=T0 // 2 + 10 * MS)
    np.testing.assert_allclose(seen.tool_px, TOOL_PX)


def test_an_image_without_stamp_is_refused():
    with pytest.raises(ImageError, match="stamp is 0 ns; the camera driver must stamp its images"):
        ready().offer(image(0), T0)


def test_an_image_of_an_unknown_encoding_is_refused_when_it_arrives():
    with pytest.raises(ImageError, match="'16UC1' is not supported"):
        ready().offer(image(encoding="16UC1"), T0)


def test_a_refused_image_leaves_the_one_in_the_slot():
    made = ready()
    made.offer(image(), T0)
    with pytest.raises(ImageError):
        made.offer(image(T0 + MS, encoding="16UC1"), T0)
    assert isinstance(made.poll(T0), Observation)


def test_compressed_data_that_turns_out_corrupt_refuses_the_image():
    made = ready()
    corrupt = image()
    made.offer(SimpleNamespace(header=corrupt.header, format="jpeg", data=np.ones(99, np.uint8)), T0)
    refused = made.poll(T0)
    assert isinstance(refused, RejectedImage) and "neither JPEG nor PNG" in refused.rejection.sentence


def test_what_the_tree_refuses_is_passed_on():
    message = transforms(T0, "base", "tool", T_BASE_TOOL)
    message.transforms[0].transform.rotation.w = np.nan
    assert "must have length 1" in ready().add_transforms(message)[0]
