"""What is found in messages: nothing where all is well, and the one thing that is spoilt."""

from typing import Any

import numpy as np
import pytest
from synthetic_bags import CAMERA_DISTANCE_M, FOCAL_PX, HEIGHT, START_NS, WIDTH, image, tool_x_m
from synthetic_evidence import evidence, levels, shifted_stamp, turned_quarter, words

from sqap_vla_ros.tools.doctor.camera import check_camera
from sqap_vla_ros.tools.doctor.evidence import Evidence, PlannedMotion
from sqap_vla_ros.tools.doctor.findings import Finding, Level
from sqap_vla_ros.tools.doctor.images import check_images
from sqap_vla_ros.tools.doctor.tool import check_motion, check_tool
from sqap_vla_ros.tools.doctor.transforms import check_transforms

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


def all_findings(collected: Evidence) -> list[Finding]:
    return [
        *check_images(collected),
        *check_camera(collected, PROBLEM),
        *check_transforms(collected, PROBLEM),
        *check_tool(collected, PROBLEM),
    ]


def changed(**fields: Any) -> Any:
    """Sets fields of a message."""

    def spoil(message: Any) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return spoil


def of_another_camera(message: Any) -> None:
    """Gives a message another frame."""
    message.header = type(message.header)(stamp=message.header.stamp, frame_id="wrist")


def k(fx: float = FOCAL_PX, fy: float = FOCAL_PX, cx: float = WIDTH / 2, cy: float = HEIGHT / 2) -> np.ndarray:
    return np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0])


def test_nothing_is_wrong_with_a_set_up_in_which_all_is_well() -> None:
    findings = all_findings(evidence())
    assert [finding for finding in findings if finding.level != OK] == []
    assert {"image rate", "image age", "camera_info", "TF tool", "TF camera", "tool in image", "workspace"} <= {
        finding.about for finding in findings
    }


@pytest.mark.parametrize(
    ("spoilt", "about", "level", "said"),
    [
        ({"image_spoilt": changed(encoding="32FC1")}, "images rejected", PROBLEM, "32FC1"),
        ({"image_delay_ns": 700_000_000}, "image age", PROBLEM, "700 ms old"),
        ({"image_delay_ns": 300_000_000}, "image age", WARNING, "300 ms old"),
        ({"image_spoilt": lambda m: shifted_stamp(m, 300_000_000)}, "image age", PROBLEM, "in the future"),
        ({"image_spoilt": lambda m: shifted_stamp(m, -(10**12))}, "image age", WARNING, "different clocks"),
        ({"action__rate_hz": 30.0}, "image rate", WARNING, "30 Hz"),
        ({"info_spoilt": None}, "camera_info", PROBLEM, "no camera_info on /camera/color/camera_info"),
        ({"info_spoilt": changed(k=np.zeros(9))}, "camera_info", PROBLEM, "not calibrated"),
        ({"info_spoilt": changed(distortion_model="fisheye9", d=np.ones(5))}, "camera_info", PROBLEM, "fisheye9"),
        ({"info_spoilt": changed(width=640, height=480)}, "camera_info", PROBLEM, "but the images are 160x120"),
        (
            {"info_spoilt": of_another_camera},
            "camera_info",
            WARNING,
            "frame is 'wrist', that of the images is 'camera'",
        ),
        ({"info_spoilt": changed(k=k(fy=160))}, "camera_info", WARNING, "pixels of real cameras are square"),
        ({"info_spoilt": changed(k=k(cx=30))}, "camera_info", WARNING, "far from the centre"),
        ({"info_spoilt": changed(k=k(cx=300))}, "camera_info", PROBLEM, "outside the image"),
        ({"info_spoilt": changed(k=k(1e4, 1e4))}, "camera_info", WARNING, "field of view"),
        (
            {"topics__image": "/camera/image_rect", "info_spoilt": changed(d=np.full(5, 0.1))},
            "camera_info",
            WARNING,
            "rect",
        ),
        ({"tool_frame": "flange"}, "TF tool", PROBLEM, "'tool' is unknown; there are: base, camera, flange"),
        ({"camera_frame": "elsewhere"}, "TF camera", PROBLEM, "'camera' is unknown"),
        ({"transform_period_ns": 300_000_000}, "TF tool", PROBLEM, "at 3 Hz"),
        ({"transform_delay_ns": 100_000_000}, "TF tool", PROBLEM, "wait in vain"),
        ({"transform_period_ns": 10**10}, "TF tool", PROBLEM, "came only once"),
        ({"tool_xyz": lambda at_ns: (0.5 * (at_ns // 10**9 % 2), 0.0, 0.0)}, "TF tool", WARNING, "by up to 0.50 m"),
        ({"tool_xyz": lambda at_ns: (3.0, 0.0, 0.0)}, "tool in image", PROBLEM, "off the image, at pixel (464, 60)"),
        ({"tool_xyz": lambda at_ns: (0.0, 0.0, -2.0)}, "tool in image", PROBLEM, "behind the camera"),
        ({"limits__workspace_min": (0.1, -1.0, -1.0)}, "workspace", WARNING, "50% of the time"),
    ],
)
def test_the_one_thing_that_is_wrong_is_found(spoilt: dict[str, Any], about: str, level: Level, said: str) -> None:
    findings = all_findings(evidence(**spoilt))
    assert max(levels(findings, about), key=list(Level).index) == level
    assert said in words(findings, about)


def test_without_images_that_is_said() -> None:
    findings = check_images(evidence(seconds=0.0))
    assert levels(findings, "images") == [PROBLEM]


def test_without_a_ring_in_the_policy_its_calibration_matters_less() -> None:
    assert levels(check_camera(evidence(info_spoilt=None), WARNING), "camera_info") == [WARNING]


def test_two_parents_of_a_frame_are_a_conflict() -> None:
    collected = evidence()
    collected.edges["tool"].parents["other_base"] += 1
    assert "'tool' is published with the parents base, other_base" in words(
        check_transforms(collected, PROBLEM), "TF tool"
    )


def test_after_the_clock_was_set_back_the_new_time_is_judged() -> None:
    collected = evidence()
    assert collected.planned == 20
    collected.add_image(image(START_NS - 5 * 10**9), received_ns=collected.observations[-1].stamp_ns)
    assert levels(check_images(collected), "clock") == [WARNING]
    assert len(collected.images) == 1 and collected.planned == 0


def with_motions(direction: np.ndarray, noise: np.random.Generator | None = None) -> Evidence:
    """A tool that circles in x and y, and chunks that say so after `direction`, float64 (3, 3), has turned them."""

    def circle(at_ns: int) -> tuple[float, float, float]:
        angle = (at_ns - START_NS) * 1e-9 * 2.0
        return 0.1 * np.cos(angle), 0.1 * np.sin(angle), 0.0

    collected = evidence(tool_xyz=circle, seconds=4.0)
    for at_ns, position in collected.tool_path:
        path = np.array([circle(at_ns + step * 10**8) for step in range(17)])
        actions = np.zeros((16, 7))
        actions[:, :3] = np.diff(path, axis=0) @ direction.T
        if noise is not None:
            actions[:, :3] = noise.normal(size=3) * 0.01
        T_base_tool = np.eye(4)
        T_base_tool[:3, 3] = position
        collected.motions.append(PlannedMotion(at_ns, 0.1, actions, T_base_tool))
    return collected


def test_chunks_that_the_tool_followed_agree_with_its_motion() -> None:
    (finding,) = check_motion(with_motions(np.eye(3)))
    assert finding.level == OK and "100% as far as planned" in finding.what and "cosine of 1.00" in finding.what


def test_a_frame_that_is_turned_is_named_with_its_angle() -> None:
    (finding,) = check_motion(with_motions(turned_quarter(np.eye(3))))
    assert finding.level == PROBLEM and "turned by 90°" in finding.what and "frames.base" in finding.advice


def test_chunks_that_contradict_each_other_tell_nothing() -> None:
    (finding,) = check_motion(with_motions(np.eye(3), np.random.default_rng(0)))
    assert finding.level == WARNING and "says nothing" in finding.what


def test_the_tool_is_placed_where_the_camera_model_says() -> None:
    collected = evidence()
    newest = collected.observations[-1]
    u = WIDTH / 2 + FOCAL_PX * tool_x_m(newest.stamp_ns) / CAMERA_DISTANCE_M
    assert f"at pixel ({u:.0f}, {HEIGHT / 2:.0f})" in words(check_tool(collected, PROBLEM), "tool in image")
