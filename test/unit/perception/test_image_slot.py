"""Which image is planned on: the newest one whose transforms are there, and none that cannot be used."""

from types import SimpleNamespace

import numpy as np
import pytest
from assembled_scenes import (
    MS,
    T0,
    T_BASE_TOOL,
    TOOL_PX,
    add_tool,
    assembler,
    image,
    observe,
    ready,
    transforms,
)

from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.perception.assembly import RejectedImage, Waiting
from sqap_vla_ros.perception.images import ImageError


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


def test_an_image_of_one_pixel_is_refused():
    made, picture = ready(), image()
    one = SimpleNamespace(
        header=picture.header, height=1, width=1, encoding="rgb8", is_bigendian=0, step=3, data=np.zeros(3, np.uint8)
    )
    with pytest.raises(ImageError, match="image of 1x1 pixels shows nothing"):
        made.offer(one, T0)
