"""Arms to measure with: those whose models come with robosuite, and generated chains of six and seven joints."""

import importlib.util
from pathlib import Path

import numpy as np

from sqap_vla_ros.control.kinematics import Kinematics

# Joints and tool of robosuite's models; the base of all is "base".
ROBOSUITE = {
    "panda": tuple(f"joint{number}" for number in range(1, 8)),
    "iiwa": tuple(f"joint_{number}" for number in range(1, 8)),
    "jaco": tuple(f"j2s7s300_joint_{number}" for number in range(1, 8)),
    "kinova3": tuple(f"Actuator{number}" for number in range(1, 8)),
    "sawyer": tuple(f"right_j{number}" for number in range(7)),
    "ur5e": (
        *("shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint"),
        *("wrist_1_joint", "wrist_2_joint", "wrist_3_joint"),
    ),
}
CHAINS = {6: 2, 7: 2}  # joints -> how many


def arms() -> dict[str, Kinematics]:
    """All of them, by name."""
    models = {name: robosuite_arm(name) for name in ROBOSUITE}
    for joints, count in CHAINS.items():
        for seed in range(count):
            names = tuple(f"joint{number}" for number in range(joints))
            models[f"chain{joints}-{seed}"] = Kinematics(_chain_urdf(names, seed), names, "base", "tool")
    return models


def robosuite_arm(name: str) -> Kinematics:
    """One of robosuite's."""
    package = importlib.util.find_spec("robosuite")  # not imported: that writes to its log
    if package is None or not package.submodule_search_locations:
        raise SystemExit("robosuite, whose robot models are used here, is not installed: run `make demo` once")
    folder = Path(package.submodule_search_locations[0])
    return Kinematics(folder / f"models/assets/robots/{name}/robot.xml", ROBOSUITE[name], "base", "right_hand")


def _chain_urdf(joints: tuple[str, ...], seed: int) -> str:
    """A chain with links of drawn lengths whose neighbouring axes are square to each other or parallel, never equal."""
    rng = np.random.default_rng(seed)
    axis, parts, parent = 2, ['<link name="base"/>'], "base"
    for number, joint in enumerate(joints):
        if number:
            axis = int(rng.choice([other for other in range(3) if other != axis]))
        length = rng.uniform(0.08, 0.3)
        child = "tool" if number == len(joints) - 1 else f"link{number}"
        direction = " ".join("1" if k == axis else "0" for k in range(3))
        parts.append(
            f'<link name="{child}"/><joint name="{joint}" type="revolute"><parent link="{parent}"/>'
            f'<child link="{child}"/><origin xyz="0 0 {length:.4f}"/><axis xyz="{direction}"/>'
            '<limit lower="-2.8" upper="2.8" velocity="2.5" effort="50"/></joint>'
        )
        parent = child
    return f'<robot name="chain">{"".join(parts)}</robot>'
