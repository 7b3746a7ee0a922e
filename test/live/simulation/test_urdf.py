"""The URDF describes the arm that is simulated."""

import mujoco
import numpy as np
import pinocchio
import pytest

from sqap_vla_ros.simulation.libero import ARM_JOINTS, BASE_BODY, FINGER_JOINTS, TOOL_BODY, LiberoScene
from sqap_vla_ros.simulation.urdf import urdf_from_mujoco


@pytest.fixture(scope="module")
def robot(scene: LiberoScene) -> pinocchio.Model:
    """The URDF as inverse kinematics reads it."""
    return pinocchio.buildModelFromXML(urdf_from_mujoco(scene.model, BASE_BODY))


def test_forward_kinematics_equal_those_of_the_simulation(scene: LiberoScene, robot: pinocchio.Model) -> None:
    data, rng = robot.createData(), np.random.default_rng(0)
    simulated = mujoco.MjData(scene.model)
    for _ in range(20):
        q = pinocchio.neutral(robot)
        for name in (*ARM_JOINTS, *FINGER_JOINTS):
            value = rng.uniform(*scene.model.joint(name).range)
            simulated.joint(name).qpos = q[robot.joints[robot.getJointId(name)].idx_q] = value
        mujoco.mj_kinematics(scene.model, simulated)
        pinocchio.framesForwardKinematics(robot, data, q)
        base, tool = simulated.body(BASE_BODY), simulated.body(TOOL_BODY)
        R_base = base.xmat.reshape(3, 3)
        placement = data.oMf[robot.getFrameId(TOOL_BODY)]
        np.testing.assert_allclose(placement.translation, R_base.T @ (tool.xpos - base.xpos), atol=1e-9)
        np.testing.assert_allclose(placement.rotation, R_base.T @ tool.xmat.reshape(3, 3), atol=1e-9)


def test_joint_limits_are_those_of_the_simulation(scene: LiberoScene, robot: pinocchio.Model) -> None:
    for name, (lower, upper) in zip(ARM_JOINTS, scene.joint_ranges, strict=True):
        index = robot.joints[robot.getJointId(name)].idx_q
        assert (robot.lowerPositionLimit[index], robot.upperPositionLimit[index]) == (lower, upper)


def test_links_bear_the_names_of_the_bodies(robot: pinocchio.Model) -> None:
    assert robot.existFrame(BASE_BODY)
    assert robot.existFrame("gripper0_leftfinger")


def test_a_body_with_two_joints_is_refused() -> None:
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody><body name="base"><body name="ball">
        <joint type="hinge" axis="1 0 0"/><joint type="hinge" axis="0 1 0"/><geom size="0.1"/>
        </body></body></worldbody></mujoco>"""
    )
    with pytest.raises(ValueError, match="body 'ball': URDF has one hinge or slide per link"):
        urdf_from_mujoco(model, "base")
