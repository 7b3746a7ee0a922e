# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Executable `sqap_vla_node`: the policy node in a process of its own.

The policy's process is spawned, and a spawned process imports this module again: rclpy is imported inside `run`, so
that the policy's process, which has no use for it, does not load it.
"""

import gc
import signal
import sys
import time
from typing import TYPE_CHECKING

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.ros.logging_directory import require_logging_directory
from sqap_vla_ros.ros.policy_messages import PolicyFactory

if TYPE_CHECKING:
    from rclpy.executors import SingleThreadedExecutor

    from sqap_vla_ros.ros.node import PolicyNode

DELIVERY_S = 0.5


def main() -> None:
    """Run the node with the policy that its parameters name."""
    run(load_policy)


def run(policy_factory: PolicyFactory) -> None:
    """
    Run the node until SIGINT or SIGTERM; the arm is left at rest.

    With the parameter `exit_on_failure`, a node that `autostart` cannot configure and activate ends with status 1.

    :param policy_factory: Builds the policy in its process.
    """
    import rclpy
    from rclpy.exceptions import NameValidationException, ParameterException
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from sqap_vla_ros.ros.node import PolicyNode

    # rclpy's own handlers shut the context down first, and then nothing can be published: the arm must stop first.
    try:
        require_logging_directory()
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        node = PolicyNode(policy_factory)
        flags = {name: node.declare_parameter(name, False).value for name in ("autostart", "exit_on_failure")}
    except (
        ConfigurationError,
        RuntimeError,
        NameValidationException,
        ParameterException,
    ) as error:  # of what follows --ros-args
        reason = in_one_line(error).partition(", at /")[0]  # without the places in rcl's sources
        sys.exit(f"sqap_vla_node: not started: {reason}")

    # What is loaded now stays: without it, the collector's rounds are short enough for a tick.
    gc.collect()
    gc.freeze()

    def end(_number: int, _frame: object) -> None:
        node.interrupted = True

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    starting = executor.create_task(node.start) if flags["autostart"] else None
    has_failed = False
    try:
        while not (node.interrupted or has_failed):
            executor.spin_once(timeout_sec=0.1)
            has_failed = flags["exit_on_failure"] and starting is not None and starting.done() and not starting.result()
    finally:
        node.close()
        _deliver_results(node, executor)
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
    if has_failed:
        sys.exit(1)


def _deliver_results(node: "PolicyNode", executor: "SingleThreadedExecutor") -> None:
    """Let those who wait for a goal know how it ended: rclpy answers them in several rounds of the executor."""
    end_s = time.monotonic() + (DELIVERY_S if node.execute.has_undelivered_results else 0.0)
    while time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.02)


if __name__ == "__main__":
    main()
