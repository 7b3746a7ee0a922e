"""Times of ROS messages as nanoseconds; for messages of rclpy and of rosbags alike."""

from typing import Any


def time_ns(time: Any) -> int:
    """Nanoseconds of a builtin_interfaces Time or Duration."""
    return int(time.sec) * 10**9 + int(time.nanosec)


def stamp_ns(message: Any) -> int:
    """Nanoseconds of the stamp in a message's header."""
    return time_ns(message.header.stamp)
