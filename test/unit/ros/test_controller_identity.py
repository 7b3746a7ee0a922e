"""Which of a command topic's listeners is the controller; no node runs here."""

import pytest

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.ros.controller_identity import (
    Audience,
    ControllerPresence,
    Listener,
    audience,
    publishes_its_own,
)

TOPIC = "/arm_controller/joint_trajectory"
CONTROLLER = Listener("/arm_controller", b"1")
RECORDER = Listener("/rosbag2_recorder", b"2")


def nobody_publishes(node: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("topic", "node"),
    [
        (TOPIC, "/arm_controller"),
        ("/left/scaled_joint_trajectory_controller/joint_trajectory", "/left/scaled_joint_trajectory_controller"),
        ("/servo_node/delta_twist_cmds", "/servo_node"),
        ("/servo_server/pose_target_cmds", "/servo_server"),
        ("/cartesian_motion_controller/target_frame", "/cartesian_motion_controller"),
        ("/arm/controller/commands/pose", "/arm/controller"),
    ],
)
def test_the_node_that_a_topic_is_named_after_is_the_controller(topic: str, node: str) -> None:
    listeners = [Listener("/driver", b"3"), Listener(node, b"1"), RECORDER]
    found = audience(topic, listeners, "")
    assert found.names == node and found.is_known and found.no_controller is None
    assert found.others == ("/driver", "/rosbag2_recorder")


@pytest.mark.parametrize(
    "name",
    [
        "_ros2cli_4711",
        "_ros2cli_daemon_0",
        "rosbag2_recorder",
        "recorder",
        "episode_recorder",
        "foxglove_bridge",
        "rosbridge_websocket",
        "rqt_gui_py_node_77",
        "plotjuggler",
        "rviz2",
        "rviz",
        "topic_monitor",
    ],
)
def test_a_tool_that_watches_hides_no_missing_controller(name: str) -> None:
    found = audience(TOPIC, [Listener(f"/{name}", b"2")], "")
    rejection = found.no_controller
    assert rejection is not None and rejection.cause == Cause.NO_CONTROLLER
    assert f"listens only /{name}" in rejection.sentence and "/arm_controller does not" in rejection.sentence


def test_a_node_that_only_listens_is_no_controller_whatever_its_name() -> None:
    found = audience(TOPIC, [Listener("/my_own_log", b"2")], "", nobody_publishes)
    assert found.no_controller is not None and "command.controller" in found.no_controller.sentence


def test_without_a_listener_nothing_is_said_about_others() -> None:
    rejection = audience(TOPIC, [], "").no_controller
    assert rejection is not None and rejection.sentence == f"nothing listens on {TOPIC}: is the controller active?"


def test_a_driver_of_another_name_counts_until_the_controller_itself_is_there() -> None:
    driver = Listener("/driver", b"3")
    assert audience("/commands", [driver], "").names == "/driver"
    assert not audience(TOPIC, [driver], "").is_known and audience(TOPIC, [driver], "").names == "/driver"
    assert audience(TOPIC, [driver, CONTROLLER], "").names == "/arm_controller"


def test_the_robot_file_may_name_the_controller() -> None:
    driver = Listener("/driver", b"3")
    assert audience(TOPIC, [driver, CONTROLLER], "/driver").names == "/driver"
    rejection = audience(TOPIC, [CONTROLLER], "/driver").no_controller
    assert rejection is not None and "/driver does not" in rejection.sentence
    assert audience(TOPIC, [RECORDER], "/rosbag2_recorder").no_controller is None


def test_a_controller_that_cannot_receive_says_why_though_a_recorder_can() -> None:
    deaf = Listener("/arm_controller", b"1", "takes geometry_msgs/msg/TwistStamped")
    rejection = audience(TOPIC, [deaf, RECORDER], "").no_controller
    assert rejection is not None and rejection.cause == Cause.CONTROLLER_INCOMPATIBLE
    assert rejection.sentence == "/arm_controller takes geometry_msgs/msg/TwistStamped"


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (["/rosout", "/parameter_events"], False),
        (["/left/rosout", "/parameter_events", "/events/write_split", "/log/transition_event"], False),
        (["/rosout", "/joint_states"], True),
    ],
)
def test_what_every_node_publishes_is_not_its_own(topics: list[str], expected: bool) -> None:
    assert publishes_its_own(topics) == expected


class Watched:
    """A topic whose listeners are set by hand."""

    def __init__(self, *listeners: Listener, named: str = "") -> None:
        self.named = named
        self.presence = ControllerPresence(Audience(TOPIC))
        assert not self.loses(*listeners)

    def loses(self, *listeners: Listener) -> bool:
        return self.presence.see(audience(TOPIC, listeners, self.named))


def test_who_merely_watches_may_come_and_go() -> None:
    watched = Watched(CONTROLLER, RECORDER)
    echo = Listener("/_ros2cli_1", b"4")
    assert not watched.loses(CONTROLLER)
    assert not watched.loses(CONTROLLER, echo, Listener("/dashboard", b"5"))
    assert not watched.loses(CONTROLLER)


def test_a_controller_that_goes_is_noticed_once_though_a_recorder_stays() -> None:
    watched = Watched(CONTROLLER, RECORDER)
    assert watched.loses(RECORDER) and not watched.loses(RECORDER)
    assert not watched.loses(CONTROLLER, RECORDER)
    assert watched.loses(RECORDER)


def test_a_controller_that_is_started_again_at_once_is_another_one() -> None:
    assert Watched(CONTROLLER).loses(Listener("/arm_controller", b"9"))


def test_a_second_subscription_of_the_controller_may_go() -> None:
    watched = Watched(CONTROLLER)
    assert not watched.loses(CONTROLLER, Listener("/arm_controller", b"0"))
    assert not watched.loses(CONTROLLER)


def test_a_controller_that_changes_its_quality_of_service_is_lost() -> None:
    assert Watched(CONTROLLER).loses(Listener("/arm_controller", b"1", "asks for another quality of service"))


def test_the_arm_changing_hands_is_a_loss() -> None:
    assert Watched(Listener("/driver", b"3")).loses(Listener("/driver", b"3"), CONTROLLER)
