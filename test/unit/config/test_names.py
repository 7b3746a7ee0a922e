"""Names of topics in a namespace, as ROS resolves them."""

import pytest
from paths import ROOT

from sqap_vla_ros.config.names import absolute_name
from sqap_vla_ros.config.robot import Configuration, load_configuration
from sqap_vla_ros.config.settings import validate

ROBOTS = sorted(file.stem for file in (ROOT / "config" / "robots").glob("*.yaml"))


@pytest.mark.parametrize("namespace", ["left", "/left", "/left/", "a/b", "", "/"])
@pytest.mark.parametrize("name", ["joint_states", "/joint_states", "camera/color/image_raw", "~/image", "~"])
def test_a_name_is_resolved_as_rclpy_does(name: str, namespace: str) -> None:
    expand = pytest.importorskip("rclpy.expand_topic_name").expand_topic_name
    root = "/" + namespace.strip("/")
    assert absolute_name(name, namespace) == expand(name, "sqap_vla", root)
    assert absolute_name(name, namespace, "policy") == expand(name, "policy", root)


def test_no_name_stays_none() -> None:
    assert absolute_name("", "left") == ""


@pytest.mark.parametrize("robot", ROBOTS)
def test_two_arms_with_the_same_file_share_no_topic(robot: str) -> None:
    left, right = (load_configuration(robot, name).topics.model_dump(exclude={"cameras"}) for name in ("left", "right"))
    assert all(name.startswith("/left/") for name in left.values() if name)
    assert not {name for name in left.values() if name} & set(right.values())


def test_a_setting_that_is_left_out_does_not_join_two_arms() -> None:
    plain = validate(Configuration, {}, "test")
    topics = plain.in_namespace("left").topics.model_dump(exclude={"cameras"})
    assert all(name.startswith("/left/") for name in topics.values() if name)


def test_offline_tools_name_topics_as_a_bag_does() -> None:
    assert load_configuration("ur5e").topics.image == "/camera/camera/color/image_raw"
