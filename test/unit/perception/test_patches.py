"""The tool's patch and the ring around it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla_ros.perception.patches import patch_coordinates, ring_tokens
from sqap_vla_ros.vlm.preprocessing import model_image_affine

WIDE = model_image_affine(640, 480)


@pytest.mark.parametrize(
    "pixel, patch",
    [((-0.5, -0.5), (0, 0)), ((39.4, 29.4), (0, 0)), ((39.6, 29.6), (1, 1)), ((639.4, 479.4), (15, 15))],
)
def test_a_patch_covers_its_share_of_the_camera_image(pixel, patch):
    assert patch_coordinates(np.array(pixel), WIDE) == patch


@given(st.integers(0, 15), st.integers(0, 15))
def test_a_bright_square_lights_up_the_patch_that_its_middle_is_mapped_to(column, row):
    from sqap_vla_ros.vlm.preprocessing import resize

    image = np.zeros((480, 640, 3), np.uint8)
    image[row * 30 : (row + 1) * 30, column * 40 : (column + 1) * 40] = 255
    patches = resize(image)[..., 0].reshape(16, 14, 16, 14).mean(axis=(1, 3))
    middle = np.array((column * 40 + 19.5, row * 30 + 14.5))
    assert patch_coordinates(middle, WIDE) == (column, row)
    assert np.unravel_index(patches.argmax(), patches.shape) == (row, column)


@given(st.floats(-0.4, 639.4), st.floats(-0.4, 479.4), st.integers(0, 20))
def test_the_ring_is_the_ball_of_the_maximum_norm_clipped_at_the_edge(u, v, radius):
    column, row = int((u + 0.5) / 40), int((v + 0.5) / 30)
    expected = [t for t in range(256) if max(abs(t // 16 - row), abs(t % 16 - column)) <= radius]
    assert ring_tokens(np.array((u, v)), WIDE, radius).tolist() == expected


def test_a_ring_of_radius_two_inside_the_image_has_25_tokens():
    assert len(ring_tokens(np.array((320.0, 240.0)), WIDE, 2)) == 25


@pytest.mark.parametrize("pixel", [(-0.6, 100.0), (640.0, 100.0), (100.0, -1.0), (100.0, 480.0), (np.nan, 100.0)])
def test_a_tool_off_the_image_has_no_ring(pixel):
    assert len(ring_tokens(np.array(pixel), WIDE, 2)) == 0


def test_without_a_tool_there_is_no_ring():
    assert len(ring_tokens(None, WIDE, 2)) == 0


def test_a_tool_that_the_models_crop_cuts_off_has_no_ring():
    cropped = model_image_affine(640, 480, deploy_crop=True)
    assert len(ring_tokens(np.array((40.0, 240.0)), cropped, 2)) == 0
    assert len(ring_tokens(np.array((320.0, 240.0)), cropped, 2)) == 25


def test_rows_and_columns_are_not_confused():
    assert ring_tokens(np.array((5.0, 100.0)), np.array([(1.4, 0, 0), (0, 0.14, 0)]), 0, 2, 8).tolist() == [8]
