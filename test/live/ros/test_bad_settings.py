"""The node with settings that it cannot use: configure fails with one sentence, and the node stays alive."""

import sys
from collections.abc import Callable

import faulty_policies
import pytest
from live_cell import Cell
from rclpy.parameter import Parameter
from sqap_vla.msg import PolicyStatus

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.policies.registry import load_policy

MakeCell = Callable[..., Cell]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"limits.setp": 0.1}, "'limits.setp' is not a setting; did you mean 'limits.step'?"),
        ({"limits.step": -0.1}, "limits.step = -0.1"),
        ({"limits.step": "far"}, "limits.step = 'far'"),
        ({"action.rotation": "quaternion"}, "'axis_angle'"),
        ({"device": "gpu"}, "device = 'gpu'"),
        ({"topics.command": "/arm controller/x"}, "topics.command = '/arm controller/x'"),
        ({"instruction": "go " * 1000}, "...: String should have at most 1000 characters"),
        ({"action.increment": "commanded"}, "overshoots"),
        ({"qos_overrides./tf.subscription.depth": 10}, "the node has no overrides of quality of service"),
        ({"autostarts": True}, "'autostarts' is not a setting; did you mean 'autostart'?"),
    ],
    ids=[
        "typo",
        "out of range",
        "wrong type",
        "unknown convention",
        "unknown device",
        "topic name",
        "long instruction",
        "overshoot",
        "quality of service",
        "typo of a launch argument",
    ],
)
def test_a_bad_parameter_fails_configure_with_a_sentence_that_names_it(
    make_cell: MakeCell, settings: dict[str, object], words: str
) -> None:
    cell = make_cell(**settings)
    assert not cell.configure()
    cell.spin_until(lambda: cell.reports(PolicyStatus.UNCONFIGURED, Cause.CONFIGURATION_FAILED))
    assert words in cell.status.detail


def test_a_corrected_parameter_lets_configure_succeed(make_cell: MakeCell) -> None:
    cell = make_cell(**{"limits.step": -0.1})
    assert not cell.configure()
    cell.node.set_parameters([Parameter("limits.step", value=0.05)])
    assert cell.configure()


def test_settings_of_a_configured_node_are_locked(make_cell: MakeCell) -> None:
    cell = make_cell()
    assert cell.configure()
    (result,) = cell.node.set_parameters([Parameter("limits.step", value=0.01)])
    assert not result.successful and "clean up first" in result.reason


def test_a_policy_that_cannot_be_loaded_fails_configure(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.failing_to_load)
    assert not cell.configure()
    cell.spin_until(lambda: "no room for the weights" in cell.status.detail)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"checkpoint": ""}, "random-checkpoint"),
        ({"checkpoint": "/nowhere/run"}, "/nowhere/run"),
        ({"policy": "sqapp"}, ", sqap, "),
    ],
    ids=["no checkpoint", "checkpoint not found", "no such policy"],
)
def test_a_checkpoint_or_policy_that_is_not_there_is_named(
    make_cell: MakeCell, settings: dict[str, object], words: str
) -> None:
    cell = make_cell(load_policy, **settings)
    assert not cell.configure()
    cell.spin_until(lambda: words in cell.status.detail)


def test_a_servo_robot_without_the_solver_fails_configure(make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "daqp", None)
    cell = make_cell(**{"command.output": "servo_pose", "topics.command": "/poses"})
    assert not cell.configure()
    cell.spin_until(lambda: cell.reports(PolicyStatus.UNCONFIGURED, Cause.CONFIGURATION_FAILED))
    assert "daqp" in cell.status.detail
