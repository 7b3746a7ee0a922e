"""The overlay on the camera image."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.reporting.overlay import REASON_COLOURS, Overlay, add_caption, draw_overlay

WIDTH = 640
GREY = np.full((224, 224, 3), 100, np.uint8)


def patch(picture: NDArray[np.uint8], row: int, column: int) -> NDArray[np.float64]:
    """Mean colour of the middle of a patch of a 16 x 16 grid, float64 (3,)."""
    size = WIDTH // 16
    middle = slice(row * size + size // 4, (row + 1) * size - size // 4)
    return picture[middle, column * size + size // 4 : (column + 1) * size - size // 4].mean(axis=(0, 1))


def grid(**kept: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 (16, 16), the named reasons at their places."""
    reasons = np.zeros((16, 16), np.uint8)
    for name, place in kept.items():
        reasons[place] |= Reason[name.upper()]
    return reasons


def test_a_pruned_patch_is_darker_than_the_image() -> None:
    picture = draw_overlay(GREY, Overlay(reasons=grid(attention=(3, 5))), WIDTH)
    assert patch(picture, 8, 8).max() < 60


@pytest.mark.parametrize("name", ["attention", "spatial", "ring"])
def test_a_kept_patch_is_tinted_by_its_reason(name: str) -> None:
    picture = draw_overlay(GREY, Overlay(reasons=grid(**{name: (3, 5)})), WIDTH)
    expected = 0.7 * 100 + 0.3 * np.array(REASON_COLOURS[Reason[name.upper()]])
    np.testing.assert_allclose(patch(picture, 3, 5), expected, atol=3)


def test_a_policy_that_prunes_nothing_leaves_the_image_as_it_is() -> None:
    picture = draw_overlay(GREY, Overlay(reasons=np.full((16, 16), Reason.UNPRUNED, np.uint8)), WIDTH)
    assert (picture == 100).all()


def test_the_ring_is_outlined_where_its_patches_are() -> None:
    reasons = np.zeros((16, 16), np.uint8)
    reasons[4:9, 6:11] = Reason.RING
    picture = draw_overlay(GREY, Overlay(reasons=reasons), WIDTH)
    for corner in ((4 * 40, 6 * 40), (9 * 40 - 1, 11 * 40 - 1)):
        np.testing.assert_allclose(picture[corner], REASON_COLOURS[Reason.RING], atol=40)


def test_the_tool_is_marked_at_its_pixel() -> None:
    picture = draw_overlay(GREY, Overlay(tool_px=np.array([111.5, 55.5])), WIDTH)
    v, u = 56 * WIDTH / 224 - 0.5, 112 * WIDTH / 224 - 0.5
    marked = np.argwhere((picture == 255).all(axis=2))
    np.testing.assert_allclose(marked.mean(axis=0), (v, u), atol=1.0)


def test_the_path_leads_from_its_first_to_its_last_pose() -> None:
    path = np.array([[20.0, 30.0], [100.0, 30.0], [100.0, 180.0]])
    changed = (draw_overlay(GREY, Overlay(path_px=path), WIDTH) != 100).any(axis=2)
    for u, v in path:
        assert changed[round((v + 0.5) * WIDTH / 224), round((u + 0.5) * WIDTH / 224)]


def test_poses_behind_the_camera_or_far_outside_are_left_out() -> None:
    path = np.array([[np.nan, np.nan], [1e12, -1e12], [100.0, 100.0]])
    picture = draw_overlay(GREY, Overlay(path_px=path), WIDTH)
    assert picture.shape == (WIDTH, WIDTH, 3)


def test_the_aspect_ratio_of_the_camera_is_kept() -> None:
    assert draw_overlay(np.zeros((480, 848, 3), np.uint8), Overlay(), WIDTH).shape == (362, WIDTH, 3)


def test_a_captioned_picture_has_an_even_height_and_the_picture_on_top() -> None:
    picture = draw_overlay(GREY[:223], Overlay(), WIDTH)
    captioned = add_caption(picture, ["pick up the can", "1.0 s"])
    assert captioned.shape[0] % 2 == 0
    np.testing.assert_array_equal(captioned[: len(picture)], picture)
    assert (captioned[len(picture) :] > 200).any()
