"""The faults: how each is brought about and undone, when it could be known, and what must come of it."""

import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import String

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.testing.fault import Fault
from sqap_vla_ros.testing.fault_actions import (
    die_once,
    flood,
    freeze,
    instructed,
    instructed_and_resumed,
    malformed_images,
    nothing,
    out_of_order,
    restart_controller,
    resume_when_started,
    right_qos,
    robot,
    send_gripper_state,
    send_image,
    set_clock,
    transforms_of_nan,
    unblock,
    wrong_qos,
)
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
from sqap_vla_ros.testing.graph_faults import GRAPH_FAULTS
from sqap_vla_ros.testing.motion_faults import MOTION_FAULTS
from sqap_vla_ros.testing.synthetic_robot import COMMANDS, TOOL, arm_urdf

_T_JUMP = np.eye(4)
_T_JUMP[1, 3] = 0.5
_ON_SIMULATED_TIME: dict[str, object] = {"use_sim_time": True}

FAULTS = (
    Fault(
        "camera stops",
        robot(publishes_images=False),
        robot(publishes_images=True),
        (Cause.IMAGE_STALE,),
        when_images_are_old,
    ),
    Fault("camera freezes", freeze, robot(is_frozen=False), (Cause.CAMERA_FROZEN,), lambda bench, _: bench.moved_s),
    Fault("camera late by 300 ms", robot(image_age_s=0.3), robot(image_age_s=0.0), (), not_timed, "goes on"),
    Fault("image stamps out of order", out_of_order, robot(image_age_s=0.0), (), not_timed, "goes on"),
    Fault(
        "transforms stop",
        robot(publishes_transforms=False),
        robot(publishes_transforms=True),
        (Cause.TRANSFORM_STALE,),
        when_transforms_are_old,
    ),
    Fault(
        "transform jumps by 0.5 m",
        robot(T_error=_T_JUMP),
        robot(T_error=np.eye(4)),
        (Cause.ROBOT_MODEL_DISAGREES,),
        at_once,
    ),
    Fault(
        "wrong frame name",
        robot(tool_frame="gripper"),
        robot(tool_frame=TOOL),
        (Cause.TRANSFORM_STALE,),
        when_transforms_are_old,
    ),
    Fault("policy gives NaN", instructed("nan"), instructed(GOOD), (Cause.CHUNK_INVALID,), when_planned),
    Fault("policy gives infinity", instructed("inf"), instructed(GOOD), (Cause.CHUNK_INVALID,), when_planned),
    Fault("policy raises", instructed("raise"), instructed(GOOD), (Cause.POLICY_FAILED,), when_planned),
    Fault(
        "policy hangs for 5 s",
        instructed("hang"),
        instructed_and_resumed,
        (Cause.POLICY_TIMEOUT, Cause.POLICY_RESTARTING),
        when_planning_takes_too_long,
        "stop, policy started again",
    ),
    Fault(
        "policy killed for memory",
        die_once,
        resume_when_started,
        (Cause.POLICY_DEAD, Cause.POLICY_RESTARTING),
        when_planned,
        "stop, started again",
    ),
    Fault(
        "camera_info changes",
        lambda bench: setattr(
            bench.robot, "camera_info", CameraInfo(width=320, height=240, k=[100.0, 0, 160, 0, 100, 120, 0, 0, 1])
        ),
        robot(camera_info=None),
        (),
        not_timed,
        "goes on without ring",
    ),
    Fault(
        "instructions at 1 kHz",
        flood(1000, lambda bench, n: bench.instruct(f"{GOOD} {n % 2}")),
        instructed(GOOD),
        (),
        not_timed,
        "rests at the end",
    ),
    Fault("images at 200 Hz", flood(200, send_image), nothing, (), not_timed, "goes on"),
    Fault(
        "malformed images",
        malformed_images,
        robot(publishes_images=True),
        (Cause.IMAGE_UNUSABLE,),
        when_images_are_old,
    ),
    Fault(
        "joint states of NaN",
        robot(reports_positions=False),
        robot(reports_positions=True),
        (Cause.JOINT_STATES_UNUSABLE,),
        when_joint_states_are_old,
    ),
    Fault(
        "transforms of NaN",
        transforms_of_nan,
        robot(publishes_transforms=True),
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
        "robot description of a longer arm",
        lambda bench: bench.robot.description.publish(String(data=arm_urdf().replace("0 0 0.35", "0 0 0.4"))),
        lambda bench: bench.robot.description.publish(String(data=arm_urdf())),
        (Cause.ROBOT_MODEL_DISAGREES,),
        at_once,
    ),
    Fault(
        "robot description with limits 0 to 0",
        lambda bench: bench.robot.description.publish(
            String(data=arm_urdf().replace('lower="-2.9" upper="2.9"', 'lower="0" upper="0"'))
        ),
        lambda bench: bench.robot.description.publish(String(data=arm_urdf())),
        (Cause.ROBOT_MODEL_UNUSABLE,),
        at_once,
    ),
    Fault(
        "a gripper's joint states at 500 Hz",
        flood(500, send_gripper_state),
        nothing,
        (),
        not_timed,
        "goes on",
    ),
    Fault(
        "controller asks for another QoS",
        wrong_qos,
        right_qos,
        (Cause.CONTROLLER_INCOMPATIBLE,),
        not_timed,
        "rests at the end",
        2.2,
    ),
    Fault(
        "controller restarts",
        restart_controller,
        lambda bench: bench.robot.connect(COMMANDS),
        (Cause.NO_CONTROLLER,),
        not_timed,
    ),
    Fault(
        "arm is blocked",
        robot(is_blocked=True),
        unblock,
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
    *GRAPH_FAULTS,
    *MOTION_FAULTS,
    Fault(
        "clock set ahead by 10 s",
        set_clock(10.0),
        set_clock(0.0),
        (Cause.IMAGE_STALE,),
        at_once,
        settings=_ON_SIMULATED_TIME,
    ),
    Fault(
        "clock set back by 10 s",
        set_clock(-10.0),
        set_clock(0.0),
        (Cause.STAMP_IN_FUTURE,),
        at_once,
        settings=_ON_SIMULATED_TIME,
    ),
)
