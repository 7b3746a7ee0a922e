"""Parameters of the simulated cell, with their types, ranges and descriptions."""

from dataclasses import dataclass, field, fields
from typing import Any, Self

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node


def _setting(default: Any, description: str, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"description": description, "range": (low, high)})


@dataclass(frozen=True)
class CellParameters:
    """Parameters of the cell; ROS checks types and ranges when the node starts."""

    suite: str = _setting("libero_object", "LIBERO suite")
    task: int = _setting(0, "Index of the task in its suite", 0, 129)
    initial_state: int = _setting(0, "Index of the task's official initial state", 0, 999)
    seed: int = _setting(0, "Seed of what the initial states leave open: fixtures shift by millimetres", 0, 2**31 - 1)
    camera: str = _setting("agentview", "Name of the MuJoCo camera")
    image_width: int = _setting(224, "[px]", 16, 4096)
    image_height: int = _setting(224, "[px]", 16, 4096)
    rate_hz: float = _setting(20.0, "Images per simulated second [Hz]", 0.1, 250.0)
    publish_clock: bool = _setting(
        False, "Publish simulated time on /clock and stamp with it (the other nodes: use_sim_time); else wall time"
    )
    real_time_factor: float = _setting(
        1.0, "Simulated seconds per wall second, at most; 0: no limit. Other than 1 needs publish_clock", 0, 100
    )
    episode_s: float = _setting(
        0.0, "Simulated time after which the cell ends, as on success [s]; 0: it runs on", 0, 1e6
    )
    wait_for_subscriber: bool = _setting(False, "Hold the simulation until another node subscribes to the images")
    bag: str = _setting("", "Directory to record an MCAP bag in; must not exist; empty: none")
    report: str = _setting("", "JSON file that the episode's figures are written to every second; empty: none")

    @classmethod
    def declare(cls, node: Node) -> Self:
        """Declare all on a node, read-only, and take their values.

        Raises:
            rclpy.exceptions.InvalidParameterValueException: A value out of range.
            rclpy.exceptions.InvalidParameterTypeException: A value of another type.
            ValueError: Values that do not go together.
        """
        values = {
            setting.name: node.declare_parameter(setting.name, setting.default, _descriptor(setting)).value
            for setting in fields(cls)
        }
        parameters = cls(**values)
        if parameters.real_time_factor != 1 and not parameters.publish_clock:
            factor = parameters.real_time_factor
            raise ValueError(f"real_time_factor = {factor:g} needs publish_clock: wall time passes at its own rate")
        return parameters


def _descriptor(setting: Any) -> ParameterDescriptor:
    low, high = setting.metadata["range"]
    descriptor = ParameterDescriptor(description=setting.metadata["description"], read_only=True)
    if low is not None and setting.type is int:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    elif low is not None:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    return descriptor
