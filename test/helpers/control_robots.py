"""Two arms: robosuite's Panda (MJCF), and a generated chain of six joints (URDF)."""

import numpy as np

PANDA_JOINTS = tuple(f"joint{i}" for i in range(1, 8))
PANDA_HOME = np.array([0.0, 0.196, 0.0, -2.3, 0.0, 2.5, 0.785])
CHAIN_JOINTS = ("pan", "lift", "elbow", "wrist1", "wrist2", "wrist3")


def chain_urdf(pan: str = "revolute") -> str:
    """Six joints, a gripper's finger that no arm controller moves, and links named like joints."""
    axes = ((0, 0, 1), (0, 1, 0), (0, 1, 0), (0, 0, 1), (0, 1, 0), (0, 0, 1))

    def limit(velocity: float) -> str:
        return f'<limit lower="-3" upper="3" velocity="{velocity}" effort="10"/>'

    parts, parent = ['<link name="base"/>'], "base"
    for i, (name, axis) in enumerate(zip(CHAIN_JOINTS, axes, strict=True)):
        kind = pan if name == "pan" else "revolute"
        parts.append(
            f'<link name="link{i}"/><joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="link{i}"/>'
            f'<origin xyz="0 0 0.2"/><axis xyz="{axis[0]} {axis[1]} {axis[2]}"/>'
            f"{limit(0.5 if i == 5 else 2)}</joint>"
        )
        parent = f"link{i}"
    parts.append(
        '<link name="tool0"/><joint name="tool0" type="fixed"><parent link="link5"/><child link="tool0"/>'
        '<origin xyz="0 0 0.1"/></joint>'
        f'<link name="finger"/><joint name="finger" type="prismatic"><parent link="tool0"/><child link="finger"/>'
        f'<axis xyz="1 0 0"/>{limit(1)}</joint>'
    )
    return f'<robot name="chain">{"".join(parts)}</robot>'
