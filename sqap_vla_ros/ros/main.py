"""Executable `sqap_vla_node`: the policy node in a process of its own.

The policy's worker is spawned, and a spawned process imports this module again: rclpy is imported inside `main`, so
that the worker, which has no use for it, does not load it.
"""

import gc
import signal

from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.ros.worker import PolicyFactory


def main() -> None:
    """Run the node with the policy that its parameters name."""
    run(load_policy)


def run(policy_factory: PolicyFactory) -> None:
    """Run the node until SIGINT or SIGTERM; the arm is left at rest.

    Args:
        policy_factory: Builds the policy in the worker's process.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from sqap_vla_ros.ros.policy_node import PolicyNode

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
    if node.declare_parameter("autostart", False).value:
        executor.create_task(node.start)
    try:
        while not node.interrupted:
            executor.spin_once(timeout_sec=0.1)
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
