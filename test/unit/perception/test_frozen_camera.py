"""A camera that freezes under a moving arm."""

import numpy as np
import pytest

from sqap_vla_ros.perception.frozen_camera import FrozenCamera
from sqap_vla_ros.perception.transforms import rotation_from_quaternion, transform_from

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def tool_at(x: float) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = x
    return T


def one_pixel_changed(row: int, column: int) -> np.ndarray:
    image = IMAGE.copy()
    image[row, column, 1] ^= 1
    return image


def test_identical_images_of_a_moving_arm_are_a_frozen_camera() -> None:
    camera = FrozenCamera(0.02)
    words = [camera.check(IMAGE.copy(), tool_at(x)) for x in (0.0, 0.015, 0.03)]
    assert words[:2] == ["", ""] and "moved by 0.030 m" in words[2]


def test_an_arm_at_rest_may_look_the_same() -> None:
    camera = FrozenCamera(0.02)
    assert [camera.check(IMAGE.copy(), tool_at(0.0)) for _ in range(5)] == [""] * 5


@pytest.mark.parametrize("pixel", [(0, 0), (33, 7)], ids=["compared first", "between those"])
def test_one_bit_shows_that_the_camera_lives(pixel: tuple[int, int]) -> None:
    camera = FrozenCamera(0.02)
    camera.check(IMAGE, tool_at(0.0))
    assert camera.check(one_pixel_changed(*pixel), tool_at(1.0)) == ""


def test_motion_counts_from_the_first_of_the_identical_images() -> None:
    camera = FrozenCamera(0.02)
    camera.check(IMAGE, tool_at(0.0))
    camera.check(one_pixel_changed(0, 0), tool_at(1.0))
    assert camera.check(one_pixel_changed(0, 0), tool_at(1.01)) == ""
    assert camera.check(one_pixel_changed(0, 0), tool_at(1.03)) != ""


def test_turning_the_tool_is_motion_too() -> None:
    camera = FrozenCamera(0.02)
    camera.check(IMAGE, np.eye(4))
    quarter = rotation_from_quaternion((0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)))
    assert camera.check(IMAGE, transform_from((0.0, 0.0, 0.0), quarter)) != ""


def test_a_camera_that_moves_on_is_no_longer_frozen() -> None:
    camera = FrozenCamera(0.02)
    camera.check(IMAGE, tool_at(0.0))
    assert camera.check(IMAGE, tool_at(0.1)) != ""
    assert camera.check(one_pixel_changed(0, 0), tool_at(0.1)) == ""


def test_another_resolution_is_another_image() -> None:
    camera = FrozenCamera(0.02)
    camera.check(IMAGE, tool_at(0.0))
    assert camera.check(IMAGE[:24], tool_at(1.0)) == ""
