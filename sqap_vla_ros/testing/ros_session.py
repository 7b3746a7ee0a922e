"""ROS for a benchmark: on this machine alone, and ended in good order by whoever ends it."""

import os
import signal
import sys
from types import FrameType

import rclpy
from rclpy.signals import SignalHandlerOptions


def start_ros() -> None:
    """Start ROS, without its signal handlers.

    They end the context at once, wherever the program is: what follows fails with "context is invalid", as if ROS had
    failed. Here SIGTERM, as of `timeout`, ends the program with a sentence, and nodes and processes in order.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(f"ended by {signal.Signals(number).name} (a time limit?) before the end: no results were written")
