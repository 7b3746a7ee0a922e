"""Two arms of six joints in test/data/robots: a plain one, and one whose joint `keep` turns back what j2 has turned."""

import re

import numpy as np
from paths import ROOT

from sqap_vla_ros.control.kinematics import Kinematics

JOINTS = tuple(f"j{number}" for number in range(1, 7))
PLAIN = (ROOT / "test/data/robots/bench_arm.urdf").read_text(encoding="utf-8")
MIMIC = (ROOT / "test/data/robots/mimic_arm.urdf").read_text(encoding="utf-8")
POSTURE = np.array([0.1, 0.5, 0.9, 0.1, 0.7, 0.3])


def arm(
    urdf: str = PLAIN, base: str = "base_link", tool: str = "tool0", joints: tuple[str, ...] = JOINTS
) -> Kinematics:
    """Kinematics of one of the arms, or of one that was changed."""
    return Kinematics(urdf, joints, base, tool)


def with_limit(joint: str, limit: str, urdf: str = PLAIN) -> str:
    """The arm with another `<limit>` of a joint; empty: without."""
    return re.sub(rf'(<joint name="{joint}".*?)<limit [^>]*/>', rf"\1{limit}", urdf)


def true_mimic_pose(q: np.ndarray) -> np.ndarray:
    """Where the tool of the mimicking arm is: `keep` is commanded as a joint of its own."""
    free = arm(re.sub(r"<mimic [^>]*/>", "", MIMIC), joints=(*JOINTS, "keep"))
    return free.forward(np.append(q, -q[1]))
