"""A person stops the arm, lets go of the switch, or goes on."""

from collections.abc import Callable

import faulty_policies
import numpy as np
from live_cell import Cell
from rclpy.parameter import Parameter
from sqap_vla.msg import PolicyStatus
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.testing.stub_policies import sleeping

MakeCell = Callable[..., Cell]


def call(cell: Cell, service: str) -> Trigger.Response:
    client = cell.robot.create_client(Trigger, f"/sqap_vla/{service}")
    cell.spin_until(client.service_is_ready)
    future = client.call_async(Trigger.Request())
    cell.spin_until(future.done)
    return future.result()


def moving(make_cell: MakeCell, **settings: object) -> Cell:
    cell = make_cell(**settings)
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 5)
    return cell


def assert_nothing_more_is_commanded(cell: Cell) -> None:
    cell.spin_for_statuses(2)  # one may have been on its way, and so the ramp
    count = len(cell.robot.commands)
    cell.spin_for_chunks(3)
    assert len(cell.robot.commands) == count
    assert np.allclose(cell.robot.commands[-1].points[-1].velocities, 0)


def test_stop_brings_the_arm_to_rest_until_resume(make_cell: MakeCell) -> None:
    cell = moving(make_cell)
    assert call(cell, "stop").success
    assert_nothing_more_is_commanded(cell)
    cell.spin_until(lambda: cell.reports(PolicyStatus.STOPPED, Cause.STOPPED_BY_USER))
    count = len(cell.robot.commands)
    # A busy machine may have a late transform at this moment; the arm goes on when it comes.
    assert call(cell, "resume").message.startswith("resumed")
    cell.spin_until(lambda: len(cell.robot.commands) > count)
    assert [violation for violation in cell.robot.controller.violations if violation.kind == "jump"] == []


def test_a_stop_outlives_the_configuration(make_cell: MakeCell) -> None:
    cell = moving(make_cell)
    call(cell, "stop")
    cell.node.trigger_deactivate()
    cell.node.trigger_cleanup()
    cell.start()
    assert_nothing_more_is_commanded(cell)


def test_an_unconfigured_node_can_be_stopped_before_it_starts(make_cell: MakeCell) -> None:
    cell = make_cell()
    call(cell, "stop")
    cell.start()
    cell.spin_for_chunks(3)
    assert cell.robot.commands == []


def test_a_stop_outlives_a_configuration_that_fails(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.failing_to_load)
    call(cell, "stop")
    assert not cell.configure()
    cell.node._policy_factory = sleeping
    cell.start()
    cell.spin_for_chunks(3)
    cell.spin_until(lambda: cell.reports(PolicyStatus.STOPPED, Cause.STOPPED_BY_USER))
    assert cell.robot.commands == []


def test_resume_says_what_else_is_missing(make_cell: MakeCell) -> None:
    cell = moving(make_cell)
    call(cell, "stop")
    cell.robot.publishes_images = False
    cell.spin_until(lambda: cell.status.image_age > 1.1)
    assert "resumed; waiting: the last image" in call(cell, "resume").message


def test_resume_without_a_stop_says_so(make_cell: MakeCell) -> None:
    cell = moving(make_cell)
    response = call(cell, "resume")
    assert not response.success and "not stopped" in response.message


def test_the_arm_moves_only_while_the_enabling_switch_is_held(make_cell: MakeCell) -> None:
    cell = make_cell(**{"topics.enable": "/enable", "freshness.enable": 0.5})
    switch = cell.robot.create_publisher(Bool, "/enable", 1)
    cell.start()
    cell.spin_for_chunks(3)
    cell.spin_until(lambda: cell.status.cause == Cause.NOT_ENABLED)
    assert cell.robot.commands == []
    timer = cell.robot.create_timer(0.1, lambda: switch.publish(Bool(data=True)))
    cell.spin_until(lambda: len(cell.robot.commands) >= 5)
    timer.cancel()  # the switch falls silent
    cell.spin_until(lambda: cell.status.cause == Cause.NOT_ENABLED)
    assert_nothing_more_is_commanded(cell)


def test_a_false_of_the_enabling_switch_counts_at_once(make_cell: MakeCell) -> None:
    cell = make_cell(**{"topics.enable": "/enable", "freshness.enable": 60.0})
    switch = cell.robot.create_publisher(Bool, "/enable", 1)
    cell.start()
    timer = cell.robot.create_timer(0.1, lambda: switch.publish(Bool(data=True)))
    cell.spin_until(lambda: len(cell.robot.commands) >= 5)
    timer.cancel()
    switch.publish(Bool(data=False))
    cell.spin_until(lambda: cell.status.cause == Cause.NOT_ENABLED)
    assert_nothing_more_is_commanded(cell)


def test_a_dry_run_needs_no_controller(make_cell: MakeCell) -> None:
    cell = make_cell(dry_run=True, **{"topics.command": "/nobody/joint_trajectory"})
    cell.start()
    cell.spin_for_chunks(2)
    cell.spin_until(lambda: cell.status.state == PolicyStatus.RUNNING)
    assert cell.status.detail == "dry run: nothing is commanded"
    cell.node.set_parameters([Parameter("dry_run", value=False)])
    cell.spin_until(lambda: cell.status.cause == Cause.NO_CONTROLLER)


def test_an_instruction_of_a_book_is_refused(make_cell: MakeCell) -> None:
    cell = moving(make_cell)
    (result,) = cell.node.set_parameters([Parameter("instruction", value="go " * 1000)])
    assert not result.successful and "at most 1000 characters" in result.reason and len(result.reason) < 300
    publisher = cell.robot.create_publisher(String, "/sqap_vla/instruction", 1)
    cell.spin_until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(String(data="go " * 1000))
    cell.spin_for_chunks(2)
    assert cell.chunks[-1].instruction == "pick up the can"
