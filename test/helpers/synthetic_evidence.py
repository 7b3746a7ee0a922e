"""Two seconds of a set-up in which all is well, and in which one thing may be spoilt."""

from collections.abc import Callable
from typing import Any

import numpy as np
from synthetic_bags import CAMERA_DISTANCE_M, START_NS, camera_info, image, tool_x_m, transforms

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level

SETTINGS = {"frames.base": "base", "frames.tool": "tool", "action.rate_hz": 10.0}
Spoil = Callable[[Any], None]


def untouched(message: Any) -> None:
    """Spoils nothing."""


def configuration(**settings: Any) -> Configuration:
    """Of the synthetic set-up, with other values where given (dots written as __)."""
    values = SETTINGS | {name.replace("__", "."): v for name, v in settings.items()}
    return validate(Configuration, values, "test").in_namespace("")


def evidence(
    *,
    image_spoilt: Spoil = untouched,
    info_spoilt: Spoil | None = untouched,
    tool_xyz: Callable[[int], tuple[float, float, float]] = lambda at_ns: (tool_x_m(at_ns), 0.0, 0.0),
    transform_period_ns: int = 10**7,
    transform_delay_ns: int = 0,
    image_delay_ns: int = 2_000_000,
    camera_frame: str = "camera",
    tool_frame: str = "tool",
    seconds: float = 2.0,
    **settings: Any,
) -> Evidence:
    """Images at 10 Hz and transforms at 100 Hz, as they would be received; camera as in `synthetic_bags`.

    Args:
        image_spoilt: Changes each image.
        info_spoilt: Changes the CameraInfo; None: there is none.
        tool_xyz: Tool in the base frame at a time, metres.
        transform_period_ns: Between two transforms of the tool.
        transform_delay_ns: From a transform's stamp to its arrival.
        image_delay_ns: From an image's stamp to its arrival.
        camera_frame: Child of the static transform.
        tool_frame: Child of the moving one.
        seconds: How long it all takes.
        **settings: As in `configuration`.
    """
    collected = Evidence(configuration(**settings))
    collected.add_transforms(
        transforms(START_NS, "base", camera_frame, (0.0, 0.0, -CAMERA_DISTANCE_M)), static=True, received_ns=START_NS
    )
    if info_spoilt is not None:
        info = camera_info(START_NS)
        info_spoilt(info)
        collected.add_camera_info(info)
    arrivals: list[tuple[int, bool, Any]] = []
    for at_ns in range(START_NS, START_NS + round(seconds * 1e9) + 1, transform_period_ns):
        message = transforms(at_ns, "base", tool_frame, tool_xyz(at_ns))
        arrivals.append((at_ns + transform_delay_ns, False, message))
    for at_ns in range(START_NS + 52_000_000, START_NS + round(seconds * 1e9), 10**8):
        message = image(at_ns)
        image_spoilt(message)
        arrivals.append((at_ns + image_delay_ns, True, message))
    for received_ns, is_image, message in sorted(arrivals, key=lambda arrival: arrival[0]):
        if is_image:
            collected.add_image(message, received_ns)
        else:
            collected.add_transforms(message, static=False, received_ns=received_ns)
        collected.poll(received_ns)
    return collected


def shifted_stamp(message: Any, by_ns: int) -> None:
    """Change a message's stamp."""
    stamp = message.header.stamp
    total_ns = stamp.sec * 10**9 + stamp.nanosec + by_ns
    message.header = type(message.header)(
        stamp=type(stamp)(sec=total_ns // 10**9, nanosec=total_ns % 10**9), frame_id=message.header.frame_id
    )


def levels(findings: list[Finding], about: str) -> list[Level]:
    """Levels of all findings about something."""
    return [finding.level for finding in findings if finding.about == about]


def words(findings: list[Finding], about: str) -> str:
    """What was found about something, joined."""
    return "; ".join(finding.what for finding in findings if finding.about == about)


def turned_quarter(points: np.ndarray) -> np.ndarray:
    """Points float64 (n, 3), turned by 90 degrees about z."""
    return points @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
