"""How each fault is brought about and undone."""

import time
from collections.abc import Callable

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage

from sqap_vla_ros.simulation.messages import joint_state_message, transform_message
from sqap_vla_ros.testing.fault_bench import GOOD, FaultBench
from sqap_vla_ros.testing.synthetic_robot import BASE, COMMANDS, TOOL

Action = Callable[[FaultBench], None]


def nothing(_: FaultBench) -> None:
    pass


def robot(**values: object) -> Action:
    """Sets switches of the robot."""

    def act(bench: FaultBench) -> None:
        for name, value in values.items():
            setattr(bench.robot, name, value)

    return act


def instructed(text: str) -> Action:
    return lambda bench: bench.instruct(text)


def instructed_and_resumed(bench: FaultBench) -> None:
    bench.instruct(GOOD)
    resume_when_started(bench)


def die_once(bench: FaultBench) -> None:
    bench.instruct("die")
    bench.spin(0.3)
    bench.instruct(GOOD)


def resume_when_started(bench: FaultBench) -> None:
    bench.spin(1.0)
    bench.resume()


def flood(hz: float, send: Callable[[FaultBench, int], None], seconds: float = 1.0) -> Action:
    """Sends something far too often."""

    def act(bench: FaultBench) -> None:
        begin_s, count = time.monotonic(), 0
        while (elapsed_s := time.monotonic() - begin_s) < seconds:
            while count < elapsed_s * hz:
                send(bench, count)
                count += 1
            bench.spin(0.002)

    return act


def freeze(bench: FaultBench) -> None:
    bench.robot.is_frozen = True
    bench.watch_motion()


def out_of_order(bench: FaultBench) -> None:
    for age_s in (0.0, 0.12, 0.04, 0.2) * 6:
        bench.robot.image_age_s = age_s
        bench.spin(0.05)


def malformed_images(bench: FaultBench) -> None:
    bench.robot.publishes_images = False
    for _ in range(20):
        message = Image(height=120, width=160, encoding="rgb8", step=480, data=b"short")
        message.header.stamp = bench.robot.get_clock().now().to_msg()
        bench.robot.images.publish(message)
        bench.spin(0.05)


def transforms_of_nan(bench: FaultBench) -> None:
    bench.robot.publishes_transforms = False
    for _ in range(20):
        now_ns = bench.robot.get_clock().now().nanoseconds
        message = transform_message(np.eye(4), BASE, TOOL, now_ns)
        message.transform.translation.x = float("nan")
        bench.robot.transforms.publish(TFMessage(transforms=[message]))
        bench.spin(0.05)


def restart_controller(bench: FaultBench) -> None:
    bench.robot.restart_controller()


def unblock(bench: FaultBench) -> None:
    bench.robot.is_blocked = False
    bench.resume()


def wrong_qos(bench: FaultBench) -> None:
    bench.robot.disconnect()
    bench.robot.connect(QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))


def right_qos(bench: FaultBench) -> None:
    bench.robot.disconnect()
    bench.robot.connect(COMMANDS)


def set_clock(offset_s: float) -> Action:
    return lambda bench: bench.set_clock(offset_s)


def send_image(bench: FaultBench, _: int) -> None:
    bench.robot.publish_image()


def send_gripper_state(bench: FaultBench, _: int) -> None:
    now_ns = bench.robot.get_clock().now().nanoseconds
    bench.robot.joint_states.publish(joint_state_message(("finger",), [0.02], [0.0], now_ns))
