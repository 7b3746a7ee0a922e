"""Several cameras and the state in a robot file."""

from typing import Any

import pytest

from sqap_vla_ros.config.cameras import Camera
from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate

TWO = {
    "topics.cameras.names": ["front", "wrist"],
    "topics.cameras.images": ["front/image", "wrist/image/compressed"],
    "topics.cameras.camera_infos": ["front/camera_info", ""],
    "topics.cameras.frames": ["front_optical", ""],
}


def configuration(**settings: Any) -> Configuration:
    return validate(Configuration, settings, "test")


def test_the_single_form_is_one_camera() -> None:
    (camera,) = configuration(**{"topics.image": "/a", "topics.camera_info": "/b", "frames.camera": "c"}).cameras
    assert camera == Camera("camera", "/a", "/b", "c")


def test_the_first_of_several_cameras_is_also_the_one_of_the_single_form() -> None:
    two = configuration(**TWO)
    assert (two.topics.image, two.topics.camera_info, two.frames.camera) == (
        "front/image",
        "front/camera_info",
        "front_optical",
    )
    assert two.cameras == (
        Camera("front", "front/image", "front/camera_info", "front_optical"),
        Camera("wrist", "wrist/image/compressed", "", ""),
    )


def test_cameras_are_in_the_nodes_namespace() -> None:
    left = configuration(**TWO).in_namespace("left")
    assert [camera.image for camera in left.cameras] == ["/left/front/image", "/left/wrist/image/compressed"]
    assert [camera.camera_info for camera in left.cameras] == ["/left/front/camera_info", ""]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"topics.cameras.images": ["a"]}, "topics.cameras.images has 1 entries for 2 names"),
        ({"topics.cameras.frames": []}, "topics.cameras.frames has 0 entries for 2 names"),
        ({"topics.cameras.names": ["wrist", "wrist"]}, "names one twice: wrist, wrist"),
        ({"topics.cameras.images": ["a", "a"]}, "topics.cameras.images names one twice"),
        ({"topics.cameras.images": ["a b", "c"]}, "topics.cameras.images.0 = 'a b'"),
        ({"topics.image": "/other"}, "topics.image = '/other', but topics.cameras has 'front/image'"),
        ({"frames.camera": "other"}, "frames.camera = 'other', but topics.cameras has 'front_optical'"),
        ({"state.joints": ["a", "a"]}, "state.joints names one twice"),
        ({"state.joints": ["a"], "state.factors": [1.0, 2.0]}, "state.factors has 2 values for the 1 state.joints"),
    ],
)
def test_what_does_not_fit_together_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        configuration(**TWO | settings)
    assert says in str(raised.value)
