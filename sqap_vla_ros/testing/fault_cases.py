"""The faults: how each is brought about and undone, when it could be known, and what must come of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.simulation.messages import transform_message
from sqap_vla_ros.testing.fault_bench import GOOD, FaultBench
from sqap_vla_ros.testing.fault_moments import (
    at_once,
    not_timed,
    when_images_are_old,
    when_joint_states_are_old,
    when_planned,
    when_planning_takes_too_long,
    when_transforms_are_old,
)
from sqap_vla_ros.testing.synthetic_robot import BASE, COMMANDS, TOOL, arm_urdf

Action = Callable[[FaultBench], None]
Moment = Callable[[FaultBench, float], float | None]


def _nothing(_: FaultBench) -> None:
    pass


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Of the fault.
        inject: Brings it about.
        clear: Undoes it.
        causes: The node's status must report one of these, as its cause or as that of the last rejection; empty: the
            arm goes on, and nothing need be reported.
        detectable: When it could be known, on the monotonic clock, given when it was injected.
        response: What follows, for the table.
        lasts_s: How long it is watched.
        settings: Of the node, in addition to the usual ones.
    """

    name: str
    inject: Action
    clear: Action
    causes: tuple[Cause, ...]
    detectable: Moment
    response: str = "hold"
    lasts_s: float = 1.2
    settings: dict[str, object] = field(default_factory=dict)


def _robot(**values: object) -> Action:
    """Sets switches of the robot."""

    def act(bench: FaultBench) -> None:
        for name, value in values.items():
            setattr(bench.robot, name, value)

    return act


def _instructed(text: str) -> Action:
    return lambda bench: bench.instruct(text)


def _instructed_and_resumed(bench: FaultBench) -> None:
    bench.instruct(GOOD)
    _resume_when_started(bench)


def _die_once(bench: FaultBench) -> None:
    bench.instruct("die")
    bench.spin(0.3)
    bench.instruct(GOOD)


def _resume_when_started(bench: FaultBench) -> None:
    bench.spin(1.0)
    bench.resume()


def _flood(hz: float, send: Callable[[FaultBench, int], None], seconds: float = 1.0) -> Action:
    """Sends something far too often."""

    def act(bench: FaultBench) -> None:
        begin_s, count = time.monotonic(), 0
        while (elapsed_s := time.monotonic() - begin_s) < seconds:
            while count < elapsed_s * hz:
                send(bench, count)
                count += 1
            bench.spin(0.002)

    return act


def _freeze(bench: FaultBench) -> None:
    bench.robot.is_frozen = True
    bench.watch_motion()


def _out_of_order(bench: FaultBench) -> None:
    for age_s in (0.0, 0.12, 0.04, 0.2) * 6:
        bench.robot.image_age_s = age_s
        bench.spin(0.05)


def _malformed_images(bench: FaultBench) -> None:
    bench.robot.publishes_images = False
    for _ in range(20):
        message = Image(height=120, width=160, encoding="rgb8", step=480, data=b"short")
        message.header.stamp = bench.robot.get_clock().now().to_msg()
        bench.robot.images.publish(message)
        bench.spin(0.05)


def _transforms_of_nan(bench: FaultBench) -> None:
    bench.robot.publishes_transforms = False
    for _ in range(20):
        now_ns = bench.robot.get_clock().now().nanoseconds
        message = transform_message(np.eye(4), BASE, TOOL, now_ns)
        message.transform.translation.x = float("nan")
        bench.robot.transforms.publish(TFMessage(transforms=[message]))
        bench.spin(0.05)


def _restart_controller(bench: FaultBench) -> None:
    bench.robot.restart_controller()


def _unblock(bench: FaultBench) -> None:
    bench.robot.is_blocked = False
    bench.resume()


def _wrong_qos(bench: FaultBench) -> None:
    bench.robot.disconnect()
    bench.robot.connect(QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))


def _right_qos(bench: FaultBench) -> None:
    bench.robot.disconnect()
    bench.robot.connect(COMMANDS)


def _set_clock(offset_s: float) -> Action:
    return lambda bench: bench.set_clock(offset_s)


def _send_image(bench: FaultBench, _: int) -> None:
    bench.robot.publish_image()


_T_JUMP = np.eye(4)
_T_JUMP[1, 3] = 0.5
_ON_SIMULATED_TIME: dict[str, object] = {"use_sim_time": True}

FAULTS = (
    Fault(
        "camera stops",
        _robot(publishes_images=False),
        _robot(publishes_images=True),
        (Cause.IMAGE_STALE,),
        when_images_are_old,
    ),
    Fault("camera freezes", _freeze, _robot(is_frozen=False), (Cause.CAMERA_FROZEN,), lambda bench, _: bench.moved_s),
    Fault("camera late by 300 ms", _robot(image_age_s=0.3), _robot(image_age_s=0.0), (), not_timed, "goes on"),
    Fault("image stamps out of order", _out_of_order, _robot(image_age_s=0.0), (), not_timed, "goes on"),
    Fault(
        "transforms stop",
        _robot(publishes_transforms=False),
        _robot(publishes_transforms=True),
        (Cause.TRANSFORM_STALE,),
        when_transforms_are_old,
    ),
    Fault(
        "transform jumps by 0.5 m",
        _robot(T_error=_T_JUMP),
        _robot(T_error=np.eye(4)),
        (Cause.TARGET_FAR_FROM_TOOL,),
        when_planned,
    ),
    Fault(
        "wrong frame name",
        _robot(tool_frame="gripper"),
        _robot(tool_frame=TOOL),
        (Cause.TRANSFORM_STALE,),
        when_transforms_are_old,
    ),
    Fault("policy gives NaN", _instructed("nan"), _instructed(GOOD), (Cause.CHUNK_INVALID,), when_planned),
    Fault("policy gives infinity", _instructed("inf"), _instructed(GOOD), (Cause.CHUNK_INVALID,), when_planned),
    Fault("policy raises", _instructed("raise"), _instructed(GOOD), (Cause.POLICY_FAILED,), when_planned),
    Fault(
        "policy hangs for 5 s",
        _instructed("hang"),
        _instructed_and_resumed,
        (Cause.POLICY_TIMEOUT, Cause.POLICY_RESTARTING),
        when_planning_takes_too_long,
        "stop, policy started again",
    ),
    Fault(
        "policy killed for memory",
        _die_once,
        _resume_when_started,
        (Cause.POLICY_DEAD, Cause.POLICY_RESTARTING),
        when_planned,
        "stop, started again",
    ),
    Fault(
        "camera_info changes",
        lambda bench: setattr(
            bench.robot, "camera_info", CameraInfo(width=320, height=240, k=[100.0, 0, 160, 0, 100, 120, 0, 0, 1])
        ),
        _robot(camera_info=None),
        (),
        not_timed,
        "goes on without ring",
    ),
    Fault(
        "instructions at 1 kHz",
        _flood(1000, lambda bench, n: bench.instruct(f"{GOOD} {n % 2}")),
        _instructed(GOOD),
        (),
        not_timed,
        "rests at the end",
    ),
    Fault("images at 200 Hz", _flood(200, _send_image), _nothing, (), not_timed, "goes on"),
    Fault(
        "malformed images",
        _malformed_images,
        _robot(publishes_images=True),
        (Cause.IMAGE_UNUSABLE,),
        when_images_are_old,
    ),
    Fault(
        "joint states of NaN",
        _robot(reports_positions=False),
        _robot(reports_positions=True),
        (Cause.JOINT_STATES_UNUSABLE,),
        when_joint_states_are_old,
    ),
    Fault(
        "transforms of NaN",
        _transforms_of_nan,
        _robot(publishes_transforms=True),
        (Cause.TRANSFORM_STALE,),
        when_transforms_are_old,
    ),
    Fault(
        "robot description is a file's path",
        lambda bench: bench.robot.description.publish(String(data="/etc/hostname")),
        lambda bench: bench.robot.description.publish(String(data=arm_urdf())),
        (Cause.ROBOT_MODEL_UNUSABLE,),
        at_once,
    ),
    Fault(
        "controller asks for another QoS",
        _wrong_qos,
        _right_qos,
        (Cause.CONTROLLER_INCOMPATIBLE,),
        not_timed,
        "rests at the end",
        2.2,
    ),
    Fault(
        "controller restarts",
        _restart_controller,
        lambda bench: bench.robot.connect(COMMANDS),
        (Cause.NO_CONTROLLER,),
        not_timed,
    ),
    Fault(
        "arm is blocked",
        _robot(is_blocked=True),
        _unblock,
        (Cause.NOT_FOLLOWING,),
        not_timed,
        "stop",
    ),
    Fault(
        "enabling switch released",
        lambda bench: bench.enable(False),
        lambda bench: bench.enable(True),
        (Cause.NOT_ENABLED,),
        at_once,
    ),
    Fault("~/stop is called", FaultBench.stop, FaultBench.resume, (Cause.STOPPED_BY_USER,), at_once, "stop"),
    Fault(
        "clock set ahead by 10 s",
        _set_clock(10.0),
        _set_clock(0.0),
        (Cause.IMAGE_STALE,),
        at_once,
        settings=_ON_SIMULATED_TIME,
    ),
    Fault(
        "clock set back by 10 s",
        _set_clock(-10.0),
        _set_clock(0.0),
        (Cause.STAMP_IN_FUTURE,),
        at_once,
        settings=_ON_SIMULATED_TIME,
    ),
)
