"""An example of topics for each maker of cameras, to be copied into a robot file."""

import pytest
from paths import ROOT

from sqap_vla_ros.config.files import flatten, robot_parameters
from sqap_vla_ros.config.robot import Configuration, load_configuration
from sqap_vla_ros.config.settings import validate

CAMERAS = ROOT / "config" / "cameras"


def test_every_maker_has_an_example() -> None:
    assert {file.stem for file in CAMERAS.glob("*.yaml")} == {"orbbec", "realsense", "usb_cam", "zed"}


@pytest.mark.parametrize("file", sorted(CAMERAS.glob("*.yaml")), ids=lambda file: file.stem)
def test_an_example_sets_a_cameras_topics_and_nothing_else(file) -> None:
    settings = flatten(robot_parameters(file))
    assert settings.keys() == {"topics.image", "topics.camera_info"}
    topics = validate(Configuration, settings, str(file)).in_namespace("left").topics
    # image_transport publishes a camera's calibration beside its images.
    assert topics.camera_info == f"{topics.image.rpartition('/')[0]}/camera_info" and topics.image.startswith("/left/")


@pytest.mark.parametrize("robot", ["franka", "ur5e", "widowx_bridge", "xarm"])
def test_the_robots_that_ship_have_a_realsense(robot: str) -> None:
    example = flatten(robot_parameters(CAMERAS / "realsense.yaml"))
    assert load_configuration(robot).topics.image == f"/{example['topics.image']}"
