"""Executable `sqap_vla_node`: the policy node in a process of its own.

The policy's process is spawned, and a spawned process imports this module again: rclpy is imported inside `run`, so
that the policy's process, which has no use for it, does not load it.
"""

import gc
import signal
import sys

from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.ros.policy_messages import PolicyFactory


def main() -> None:
    """Run the node with the policy that its parameters name."""
    run(load_policy)


def run(policy_factory: PolicyFactory) -> None:
    """Run the node until SIGINT or SIGTERM; the arm is left at rest.

    With the parameter `exit_on_failure`, a node that `autostart` cannot configure and activate ends with status 1.

    Args:
        policy_factory: Builds the policy in its process.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from sqap_vla_ros.ros.node import PolicyNode

    # rclpy's own handlers shut the context down first, and then nothing can be published: the arm must stop first.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = PolicyNode(policy_factory)

    # What is loaded now stays: without it, the collector's rounds are short enough for a tick.
    gc.collect()
    gc.freeze()

    def end(_number: int, _frame: object) -> None:
        node.interrupted = True

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    exits_on_failure = node.declare_parameter("exit_on_failure", False).value
    starting = executor.create_task(node.start) if node.declare_parameter("autostart", False).value else None
    has_failed = False
    try:
        while not (node.interrupted or has_failed):
            executor.spin_once(timeout_sec=0.1)
            has_failed = exits_on_failure and starting is not None and starting.done() and not starting.result()
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
    if has_failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
