"""The states and events of the table in docs/explanation/safety-transitions.md, brought about on a hand-driven loop."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from control_robots import chain_urdf
from further_events import FURTHER_EVENTS
from hand_driven_loop import NO_CONTROLLER, HandDrivenLoop, S
from model_events import MODEL_EVENTS
from motion_events import MOTION_EVENTS
from policy_answers import gives_another_shape, gives_nan, is_far_away, is_old, lies_in_the_past, raises

from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.policy_messages import Failed

STOP = Rejection(Cause.STOPPED_BY_USER, Response.STOP, "stopped by ~/stop")


# States


def inactive() -> HandDrivenLoop:
    return HandDrivenLoop()


def running(kind: type[HandDrivenLoop] = HandDrivenLoop, **settings: object) -> HandDrivenLoop:
    bench = kind(**settings)
    bench.supervisor.activate()
    bench.pass_time(0.5)
    return bench


def waiting() -> HandDrivenLoop:
    bench = running()
    bench.sends.remove("image")
    bench.pass_time(1.5)
    return bench


def stopped() -> HandDrivenLoop:
    bench = running()
    bench.supervisor.stop(STOP)
    bench.pass_time(1.0)
    return bench


def fault() -> HandDrivenLoop:
    bench = running()
    bench.answers = lambda observation: None
    bench.pass_time(1.5)
    return bench


STATES: dict[str, Callable[[], HandDrivenLoop]] = {
    "inactive": inactive,
    "running": running,
    "waiting": waiting,
    "stopped": stopped,
    "fault": fault,
}

# Events

Event = Callable[[HandDrivenLoop], None]


def activate(bench: HandDrivenLoop) -> None:
    bench.supervisor.activate()
    bench.pass_time(0.1)


def without(name: str, seconds: float = 1.0) -> Event:
    def act(bench: HandDrivenLoop) -> None:
        bench.sends.discard(name)
        bench.pass_time(seconds)

    return act


def then(*events: Event) -> Event:
    def act(bench: HandDrivenLoop) -> None:
        for event in events:
            event(bench)

    return act


def sets(**values: object) -> Event:
    def act(bench: HandDrivenLoop) -> None:
        for name, value in values.items():
            setattr(bench, name, value)

    return act


def passes(seconds: float) -> Event:
    return lambda bench: bench.pass_time(seconds)


def stop(bench: HandDrivenLoop) -> None:
    bench.supervisor.stop(STOP)


def resume(bench: HandDrivenLoop) -> None:
    bench.supervisor.resume()
    bench.pass_time(0.1)


def no_robot_description(bench: HandDrivenLoop) -> None:
    bench.supervisor.sender.commander = None


def no_time(bench: HandDrivenLoop) -> None:
    bench.supervisor.activate()
    bench.clock.ros_ns = 0


def lacks_a_joint(bench: HandDrivenLoop) -> None:
    bench.sends.remove("joint states")
    bench.loop.inputs.reject_joint_states("joint states lack elbow")
    bench.pass_time(0.5)


def unsubscribes(bench: HandDrivenLoop) -> None:
    bench.output.no_controller, bench.output.has_lost_listener = NO_CONTROLLER, True
    bench.supervisor.watch()


def another_qos(bench: HandDrivenLoop) -> None:
    bench.output.no_controller = replace(NO_CONTROLLER, cause=Cause.CONTROLLER_INCOMPATIBLE)
    bench.supervisor.watch()


def instructed(text: str) -> Event:
    def act(bench: HandDrivenLoop) -> None:
        bench.supervisor.set_instruction(text)
        bench.supervisor.watch()

    return act


def another_instruction_while_a_plan_runs(bench: HandDrivenLoop) -> None:
    asked(bench)
    bench.supervisor.set_instruction("open the drawer")
    bench.answer()


def asked(bench: HandDrivenLoop) -> None:
    """The policy has been asked and has not answered yet."""
    answers, bench.answers = bench.answers, lambda observation: None
    bench.pass_time(0.05)
    assert bench.policy.asked is not None
    bench.answers = answers


def answers_once(answer: Callable[[HandDrivenLoop, Observation], ActionChunk | str]) -> Event:
    def act(bench: HandDrivenLoop) -> None:
        asked(bench)
        bench.answers = lambda observation: answer(bench, observation)
        bench.answer()

    return act


def computes_slowly(bench: HandDrivenLoop) -> None:
    asked(bench)
    bench.clock.computing_ns = S // 50
    bench.answer()
    bench.clock.computing_ns = 0


def commander_raises(bench: HandDrivenLoop) -> None:
    asked(bench)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.supervisor.sender.commander, "_follow_chunk", lambda *_: 1 / 0)
        bench.answer()
    assert sum("Traceback" in line for line in bench.log) == 1


def blocked(bench: HandDrivenLoop) -> None:
    """The trajectory goes on for the time of a plan, and the arm does not."""
    bench.is_blocked, bench.answers = True, lambda observation: None
    bench.pass_time(0.4)
    bench.answers = bench.chunk
    bench.answer()


def set_clock(seconds: float) -> Event:
    def act(bench: HandDrivenLoop) -> None:
        bench.clock.ros_ns += round(seconds * S)
        bench.supervisor.watch()

    return act


def dies(bench: HandDrivenLoop) -> None:
    bench.policy.report(Failed("the policy's process ended unexpectedly"))
    bench.loop.handle_reports()
    bench.supervisor.watch()


def shows_no_sign_of_life(bench: HandDrivenLoop) -> None:
    bench.policy.heartbeat_age_s = 3.0
    bench.supervisor.watch()


def answers_again(bench: HandDrivenLoop) -> None:
    bench.answers = bench.chunk
    bench.pass_time(0.5)


def cause_is_gone(bench: HandDrivenLoop) -> None:
    bench.sends.add("image")
    bench.pass_time(0.2)


EVENTS: dict[str, Event] = (
    {
        "the node is activated": then(activate, passes(0.3)),
        "the node is activated, and no image has been received": then(without("image", 0), activate),
        "the node is activated, and no transforms have been received": then(without("transforms", 0), activate),
        "the node is activated, and no joint states have been received": then(without("joint states", 0), activate),
        "the node is activated, and there is no instruction": then(instructed(""), activate),
        "the node is activated, and there is no robot description": then(no_robot_description, activate),
        "the node is activated, and there is no time": no_time,
        "`~/stop` is called, then the node is activated": then(stop, activate),
        "images stop": without("image"),
        "only images of an unknown encoding arrive": then(sets(image={"encoding": "32FC1"}), passes(1.0)),
        "images are stamped 1 s ahead of the clock": then(sets(image_ahead_s=1.0), passes(0.1)),
        "images freeze while the tool moves": then(sets(is_camera_frozen=True), passes(1.0)),
        "transforms stop": without("transforms", 0.4),
        "joint states stop": without("joint states", 0.4),
        "joint states lack a joint": lacks_a_joint,
        "the enabling switch falls silent": without("enable"),
        "the enabling switch is released": lambda bench: (
            bench.supervisor.gate.enable(False),
            bench.supervisor.watch(),
        )[0],
        "the controller unsubscribes": unsubscribes,
        "the controller asks for another QoS": another_qos,
        "the instruction becomes empty": instructed(""),
        "another instruction is given while a plan runs": another_instruction_while_a_plan_runs,
        "a robot description that is no URDF arrives": lambda bench: bench.supervisor.set_robot_description(
            "/etc/hosts"
        ),
        "another robot description arrives": lambda bench: bench.supervisor.set_robot_description(chain_urdf() + "\n"),
        "the clock is set ahead by 10 s": set_clock(10.0),
        "the clock is set back by 10 s": set_clock(-10.0),
        "`~/stop` is called": stop,
        "`~/resume` is called": resume,
        "`dry_run` is set": lambda bench: bench.supervisor.set_dry_run(True),
        "the node is deactivated": lambda bench: bench.supervisor.deactivate(),
        "the node is deactivated, then activated": then(lambda bench: bench.supervisor.deactivate(), activate),
        "the policy raises": answers_once(raises),
        "the policy raises for longer than `freshness.image`": then(
            sets(answers=lambda observation: "RuntimeError: out of cheese"), passes(0.8)
        ),
        "the policy gives NaN": answers_once(gives_nan),
        "the policy gives another shape": answers_once(gives_another_shape),
        "the chunk's first target is far from the tool": answers_once(is_far_away),
        "all poses of the chunk lie in the past": answers_once(lies_in_the_past),
        "the plan's image is too old when it is there": answers_once(is_old),
        "the command is computed too slowly": computes_slowly,
        "the commander raises": commander_raises,
        "the arm is blocked": blocked,
        "a plan takes longer than `plan_timeout`": then(sets(answers=lambda observation: None), passes(1.5)),
        "a plan takes longer than `plan_timeout`, and `restart_policy` is set": then(
            sets(answers=lambda observation: None), passes(1.5)
        ),
        "the policy's process dies": dies,
        "the policy's process dies, and `restart_policy` is set": dies,
        "the policy's process shows no sign of life": shows_no_sign_of_life,
        "the cause is gone": cause_is_gone,
        "images stop, then `~/resume` is called": then(without("image"), resume),
        "the policy answers": answers_again,
        "`~/stop` is called, then the policy answers": then(stop, answers_again),
        "images stop, then the policy answers": then(without("image"), answers_again),
    }
    | MODEL_EVENTS
    | MOTION_EVENTS
    | FURTHER_EVENTS
)
