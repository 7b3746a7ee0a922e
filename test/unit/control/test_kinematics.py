import re
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
from control_robots import CHAIN_JOINTS, PANDA_HOME, PANDA_JOINTS, chain_urdf

from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.robot_model import KinematicsError, urdf_text
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.perception.transforms import rotation_from_rpy, transform_from


def limits(kinematics: Kinematics, velocity: float = 2.0) -> JointLimits:
    each = np.ones(len(kinematics.lower))
    return JointLimits(kinematics.lower, kinematics.upper, velocity * each, 5 * each, 100 * each)


def moved(T: np.ndarray, x: float = 0, y: float = 0, z: float = 0, rpy: tuple[float, ...] = (0, 0, 0)) -> np.ndarray:
    return transform_from(T[:3, 3] + (x, y, z), rotation_from_rpy(rpy) @ T[:3, :3])


def radian_scene(panda_file: Path) -> mujoco.MjModel:
    """The robot file as robosuite's scenes include it: in radians."""
    specification = mujoco.MjSpec.from_file(str(panda_file))
    specification.compiler.degree = False
    return specification.compile()


def test_the_panda_moves_as_in_mujoco(panda: Kinematics, panda_file: Path) -> None:
    model = radian_scene(panda_file)
    data = mujoco.MjData(model)
    for q in np.random.default_rng(0).uniform(panda.lower, panda.upper, (20, 7)):
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        base, tool = data.body("base"), data.body("right_hand")
        T_world_base = transform_from(base.xpos, base.xmat.reshape(3, 3))
        T_world_tool = transform_from(tool.xpos, tool.xmat.reshape(3, 3))
        np.testing.assert_allclose(T_world_base @ panda.forward(q), T_world_tool, atol=1e-9)


def test_tool_positions_are_those_of_the_poses(panda: Kinematics) -> None:
    q = np.random.default_rng(0).uniform(panda.lower, panda.upper, (5, 7))
    np.testing.assert_allclose(panda.tool_positions(q), [panda.forward(row)[:3, 3] for row in q], atol=1e-12)


def test_limits_of_a_robot_fragment_are_those_that_mujoco_has_in_a_scene(panda: Kinematics, panda_file: Path) -> None:
    expected = radian_scene(panda_file).jnt_range[:7]
    np.testing.assert_allclose(np.stack([panda.lower, panda.upper], axis=1), expected, atol=1e-9)


@pytest.mark.parametrize("compiler", ["", '<compiler angle="degree"/>', '<compiler angle="radian"/>'])
def test_mjcf_limits_are_mujocos_in_every_unit(compiler: str, tmp_path: Path) -> None:
    hinge = "-1 2" if "radian" in compiler else "-60 120"
    file = tmp_path / "arm.xml"
    file.write_text(
        f"<mujoco>{compiler}<worldbody><body name='base'><geom size='.1'/><body name='arm'><geom size='.1'/>"
        f"<joint name='turn' axis='0 0 1' limited='true' range='{hinge}'/><body name='tool'><geom size='.1'/>"
        "<joint name='slide' type='slide' limited='true' range='-0.3 0.5'/></body></body></body></worldbody></mujoco>"
    )
    kinematics = Kinematics(file, ("turn", "slide"), "base", "tool")
    expected = mujoco.MjModel.from_xml_path(str(file)).jnt_range
    np.testing.assert_allclose(np.stack([kinematics.lower, kinematics.upper], axis=1), expected, atol=1e-9)


def test_inverse_kinematics_reaches_a_path_of_targets(panda: Kinematics) -> None:
    T = panda.forward(PANDA_HOME)
    targets = np.array([moved(T, x=0.01 * k, y=-0.008 * k, z=0.005 * k, rpy=(0, 0, 0.03 * k)) for k in range(1, 17)])
    solution = panda.inverse(targets, PANDA_HOME, limits(panda), 0.2)
    reached = np.array([panda.forward(q) for q in solution.q])
    np.testing.assert_allclose(reached[:, :3, 3], targets[:, :3, 3], atol=2e-4)
    np.testing.assert_allclose(reached[:, :3, :3], targets[:, :3, :3], atol=2e-3)
    assert solution.position_error_m.max() < 1e-4 and solution.rotation_error_rad.max() < 1e-3


def test_six_joints_reach_what_they_can_reach(chain: Kinematics) -> None:
    q = np.array([0.3, 0.5, 0.8, -0.4, 0.7, 0.2])
    near = q + 0.05
    solution = chain.inverse(chain.forward(near)[None], q, limits(chain), 0.2)
    np.testing.assert_allclose(chain.forward(solution.q[0]), chain.forward(near), atol=2e-3)


def test_targets_out_of_reach_are_approached_and_the_error_is_reported(panda: Kinematics) -> None:
    T = panda.forward(PANDA_HOME)
    targets = np.array([moved(T, x=0.2 * k) for k in range(1, 11)])
    solution = panda.inverse(targets, PANDA_HOME, limits(panda), 0.2)
    assert solution.position_error_m[-1] > 0.5
    reached = panda.forward(solution.q[-1])
    assert np.linalg.norm(reached[:3, 3] - targets[-1, :3, 3]) == pytest.approx(solution.position_error_m[-1], abs=0.02)
    assert (solution.q >= panda.lower).all() and (solution.q <= panda.upper).all()


def test_joints_stay_within_their_limits(panda: Kinematics) -> None:
    T = panda.forward(PANDA_HOME)
    targets = np.array([moved(T, rpy=(0, 0, 0.4 * k)) for k in range(1, 13)])  # joint 7 cannot turn that far
    solution = panda.inverse(targets, PANDA_HOME, limits(panda, velocity=5), 0.2)
    assert (solution.q >= panda.lower).all() and (solution.q <= panda.upper).all()


def test_near_a_singularity_joints_travel_no_further_than_their_velocity_allows(panda: Kinematics) -> None:
    stretched = np.array([0, 0.3, 0, -0.0699, 0, 1.9, 0.785])
    T = panda.forward(stretched)
    targets = np.array([moved(T, y=0.02 * (-1) ** k, z=0.03) for k in range(8)])
    solution = panda.inverse(targets, stretched, limits(panda, velocity=1), 0.2)
    assert np.abs(np.diff(solution.q, axis=0, prepend=stretched[None])).max() <= 0.2 + 1e-9


def test_a_start_beyond_a_limit_comes_back_or_stays(panda: Kinematics) -> None:
    q = PANDA_HOME.copy()
    q[5] = panda.upper[5] + 0.02
    solution = panda.inverse(panda.forward(PANDA_HOME)[None], q, limits(panda), 0.2)
    assert panda.lower[5] <= solution.q[0, 5] <= q[5]


def test_joints_are_in_the_order_asked_for(chain: Kinematics) -> None:
    turned = Kinematics(chain_urdf(), CHAIN_JOINTS[::-1], "base", "tool0")
    q = np.array([0.3, 0.5, 0.8, -0.4, 0.7, 0.2])
    np.testing.assert_allclose(turned.forward(q[::-1]), chain.forward(q), atol=1e-12)
    np.testing.assert_allclose(turned.velocity, chain.velocity[::-1])


def test_joints_not_named_stay_at_neutral(chain: Kinematics) -> None:
    part = Kinematics(chain_urdf(), ("pan", "elbow"), "base", "tool0")
    np.testing.assert_allclose(part.forward(np.array([0.4, 0.6])), chain.forward(np.array([0.4, 0, 0.6, 0, 0, 0])))


def test_endless_joints_are_unwrapped_from_the_start() -> None:
    endless = Kinematics(chain_urdf(pan="continuous"), CHAIN_JOINTS, "base", "tool0")
    assert endless.upper[0] == np.inf
    q = np.array([7.0, 0.5, 0.8, -0.4, 0.7, 0.2])  # more than a turn
    target = q + (0.1, 0, 0, 0, 0, 0)
    solution = endless.inverse(endless.forward(target)[None], q, limits(endless), 0.2)
    np.testing.assert_allclose(solution.q[0], target, atol=5e-3)


def test_velocity_limits_come_from_the_model(chain: Kinematics) -> None:
    np.testing.assert_array_equal(chain.velocity, (2, 2, 2, 2, 2, 0.5))


def test_a_model_without_velocity_limits_has_none(panda: Kinematics) -> None:
    assert np.isinf(panda.velocity).all()


@pytest.mark.parametrize(
    ("joints", "base", "tool", "message"),
    [
        (("panda_joint1",), "base", "right_hand", "no joint 'panda_joint1'; did you mean 'joint1'"),
        (("joint1",), "base", "hand", "no frame 'hand'; did you mean 'right_hand'"),
        (("joint1",), "world", "right_hand", "no frame 'world'"),
        (("joint1",), "link1", "right_hand", "base frame 'link1' moves"),
    ],
)
def test_names_that_the_model_lacks_are_named_with_near_matches(
    panda_file: Path, joints: tuple[str, ...], base: str, tool: str, message: str
) -> None:
    with pytest.raises(KinematicsError, match=re.escape(message)):
        Kinematics(panda_file, joints, base, tool)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<robot name='x'>", "not a valid robot model"),
        ("<robot name='x'><link name='a'/><joint/></robot>", "not a valid robot model"),
        ("<html/>", "root element is <html>"),
        ("", "expected URDF text"),
        ("/nowhere/arm.urdf", "/nowhere/arm.urdf"),
    ],
)
def test_a_malformed_model_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(KinematicsError, match=message):
        Kinematics(text, ("a",), "base", "tool")


def test_without_the_libraries_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pink", None)
    with pytest.raises(KinematicsError, match=re.escape("[ik]")):
        Kinematics(chain_urdf(), PANDA_JOINTS, "base", "tool0")


def test_a_robot_description_behind_a_byte_order_mark_is_text_as_well() -> None:
    assert urdf_text("\n\ufeff<robot/>") == "<robot/>"


@pytest.mark.parametrize("text", ["/etc/hostname", "<mujoco/>", ""])
def test_a_robot_description_that_is_not_urdf_is_rejected(text: str) -> None:
    with pytest.raises(KinematicsError):
        urdf_text(text)
