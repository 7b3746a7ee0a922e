"""The simulated arm as URDF, made from the compiled MuJoCo model, for /robot_description.

The URDF has kinematics and limits only, which is all that inverse kinematics needs. They are those that move the
simulated arm, so that the two cannot differ.
"""

from xml.etree import ElementTree

import mujoco
import numpy as np

from sqap_vla_ros.perception.transforms import rpy_from_rotation

# MuJoCo has no velocity limits. Of the arm (rad/s): Franka Emika's data sheet; of a finger (m/s): its hand's.
_VELOCITY_LIMITS = {
    **{f"robot0_joint{i}": 2.175 for i in range(1, 5)},
    **{f"robot0_joint{i}": 2.61 for i in range(5, 8)},
    "gripper0_finger_joint1": 0.05,
    "gripper0_finger_joint2": 0.05,
}
_JOINT_TYPES = {int(mujoco.mjtJoint.mjJNT_HINGE): "revolute", int(mujoco.mjtJoint.mjJNT_SLIDE): "prismatic"}


def urdf_from_mujoco(model: mujoco.MjModel, base_body: str) -> str:
    """URDF of the bodies from `base_body` on.

    Args:
        model: Compiled MuJoCo model whose hinges and slides turn about their body's origin.
        base_body: Root link; links bear the names of the bodies.

    Returns:
        URDF text; lengths in metres, angles in radians.

    Raises:
        ValueError: A body has several joints, or one that URDF cannot express.
    """
    robot = ElementTree.Element("robot", name="panda")
    ElementTree.SubElement(robot, "link", name=base_body)
    linked = {model.body(base_body).id}
    for body_id in range(1, model.nbody):  # parents come first
        parent_id = int(model.body_parentid[body_id])
        if parent_id in linked and body_id not in linked:
            linked.add(body_id)
            _add_body(robot, model, body_id, parent_id)
    ElementTree.indent(robot)
    return ElementTree.tostring(robot, encoding="unicode")


def _add_body(robot: ElementTree.Element, model: mujoco.MjModel, body_id: int, parent_id: int) -> None:
    body, count, first = model.body(body_id), int(model.body_jntnum[body_id]), int(model.body_jntadr[body_id])
    kind = "fixed" if count == 0 else _JOINT_TYPES.get(int(model.jnt_type[first]), "")
    if count > 1 or not kind or (count == 1 and np.any(model.jnt_pos[first])):
        raise ValueError(f"body '{body.name}': URDF has one hinge or slide per link, through the link's origin")
    ElementTree.SubElement(robot, "link", name=body.name)
    joint = ElementTree.SubElement(
        robot, "joint", name=model.joint(first).name if count else f"{body.name}_fixed", type=kind
    )
    ElementTree.SubElement(joint, "parent", link=model.body(parent_id).name)
    ElementTree.SubElement(joint, "child", link=body.name)
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, body.quat)
    ElementTree.SubElement(
        joint, "origin", xyz=_numbers(body.pos), rpy=_numbers(rpy_from_rotation(rotation.reshape(3, 3)))
    )
    if count:
        ElementTree.SubElement(joint, "axis", xyz=_numbers(model.jnt_axis[first]))
        lower, upper = model.jnt_range[first]
        driver = model.actuator_trnid[:, 0].tolist().index(first)
        force = model.actuator_forcerange[driver] if kind == "prismatic" else model.actuator_ctrlrange[driver]
        ElementTree.SubElement(
            joint,
            "limit",
            lower=repr(float(lower)),
            upper=repr(float(upper)),
            effort=repr(float(force[1])),
            velocity=repr(_VELOCITY_LIMITS[model.joint(first).name]),
        )


def _numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)
