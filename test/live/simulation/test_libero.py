"""The scene: tracking, camera, reset, success."""

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.simulation.libero import FINGER_JOINTS, FINGER_OPEN_M, LiberoScene

OBJECTS = ("salad_dressing_1", "milk_1", "tomato_sauce_1", "butter_1")  # nothing stands before these
AWAY = (1, -1, 1, 1, 1, -1, -1)  # of each joint: from the table and from its nearer end


@pytest.fixture(autouse=True)
def reset(scene: LiberoScene) -> None:
    """Every test starts from the first initial state."""
    scene.reset()


def hold(scene: LiberoScene, seconds: float, finger_m: float = FINGER_OPEN_M) -> None:
    """Simulate with the arm where it is."""
    held, still = scene.joint_positions, np.zeros(7)
    scene.step(lambda _: (held, still, still), scene.time_s + seconds, finger_m)


def vertices(scene: LiberoScene, body: str) -> NDArray[np.float64]:
    """float64 (N, 3), visible mesh vertices of a body in the world."""
    model, data = scene.model, scene.data
    corners = []
    for geom in np.flatnonzero(model.geom_bodyid == model.body(body).id):
        if model.geom_group[geom] == 1 and model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
            mesh = model.geom_dataid[geom]
            first = model.mesh_vertadr[mesh]
            points = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
            corners.append(points @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return np.concatenate(corners)


def project(scene: LiberoScene, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (N, 2), pixels of points in the world, pixel centres at whole numbers."""
    T_camera_world = np.linalg.inv(scene.camera.T_world_camera)
    in_camera = points @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]
    pixels = in_camera @ scene.camera.matrix.T
    return pixels[:, :2] / pixels[:, 2:]


def test_the_arm_tracks_a_joint_path_within_a_milliradian(scene: LiberoScene) -> None:
    start, amplitude, rate = scene.joint_positions, np.array([0.2, 0.15, 0.2, 0.2, 0.3, 0.2, 0.3]), np.pi

    def reference(time_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        sine, cosine = np.sin(rate * time_s), np.cos(rate * time_s)
        return start + amplitude * (1 - cosine), amplitude * rate * sine, amplitude * rate**2 * cosine

    errors = []
    for step in range(1, 101):
        scene.step(reference, step * 0.02, FINGER_OPEN_M)
        errors.append(np.abs(scene.joint_positions - reference(scene.time_s)[0]).max())
    assert max(errors) < 1e-3


@pytest.mark.parametrize("joint", range(7))
def test_every_joint_can_move_at_the_limits_that_the_node_keeps(scene: LiberoScene, joint: int) -> None:
    limits = load_configuration("libero_panda").limits
    speed, acceleration = limits.joint_velocity[joint], limits.joint_acceleration[joint]
    start, axis = scene.joint_positions, np.eye(7)[joint] * AWAY[joint]

    def reference(time_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        ramp_s = speed / acceleration
        if time_s < ramp_s:
            return start + axis * acceleration * time_s**2 / 2, axis * acceleration * time_s, axis * acceleration
        return start + axis * speed * (time_s - ramp_s / 2), axis * speed, 0 * axis

    scene.step(reference, 0.7, FINGER_OPEN_M)
    error = scene.joint_positions - reference(scene.time_s)[0]
    assert np.abs(error).max() < 5e-3


def test_the_fingers_close_when_told(scene: LiberoScene) -> None:
    hold(scene, 1.0, finger_m=0.0)
    assert np.abs(scene.finger_positions).max() < 2e-3


def test_an_object_is_in_the_image_where_the_camera_matrices_project_it(scene: LiberoScene) -> None:
    sides = []
    for name in OBJECTS:
        joint = scene.data.joint(f"{name}_joint0")
        with_it, at = scene.camera.render().astype(int), joint.qpos.copy()
        projected = project(scene, vertices(scene, f"{name}_main"))
        joint.qpos[:3] = (0.0, 0.0, -5.0)
        mujoco.mj_kinematics(scene.model, scene.data)
        changed = np.abs(with_it - scene.camera.render()).max(axis=2) > 8
        joint.qpos[:] = at
        mujoco.mj_kinematics(scene.model, scene.data)
        rows, columns = np.nonzero(changed)
        low, high = projected.min(axis=0), projected.max(axis=0)
        # A pixel is hit when its centre is: half a pixel inside the outline on average.
        sides.append([columns.min() - low[0], rows.min() - low[1], columns.max() - high[0], rows.max() - high[1]])
    differences = np.array(sides)
    assert np.abs(differences).max() < 1.5
    shift = differences.reshape(-1, 2, 2).mean(axis=(0, 1))  # the outline's half pixels cancel
    assert np.abs(shift).max() < 0.3


def test_a_camera_pixel_is_as_wide_as_it_is_high(scene: LiberoScene) -> None:
    assert scene.camera.matrix[0, 0] == scene.camera.matrix[1, 1] == pytest.approx(270.39, abs=0.01)


def test_the_same_state_and_seed_give_the_same_scene(scene: LiberoScene) -> None:
    first = scene.data.qpos.copy()
    scene.reset(initial_state=1)
    other = scene.data.qpos.copy()
    scene.reset()
    np.testing.assert_array_equal(scene.data.qpos, first)
    assert np.abs(other - first).max() > 1e-3


def test_a_reset_starts_with_open_fingers_at_rest(scene: LiberoScene) -> None:
    assert scene.time_s == 0.0
    assert np.abs(scene.finger_positions) == pytest.approx([FINGER_OPEN_M] * len(FINGER_JOINTS), abs=2e-3)
    assert np.abs(scene.data.qvel).max() < 0.05


def test_the_task_is_done_when_the_can_is_in_the_basket_and_not_before(scene: LiberoScene) -> None:
    assert not scene.success()
    basket = scene.T_world_body("basket_1_main")[:3, 3]
    scene.data.joint("alphabet_soup_1_joint0").qpos[:3] = basket + (0, 0, 0.06)
    hold(scene, 0.5)
    assert scene.success()


def test_a_state_that_does_not_exist_is_named(scene: LiberoScene) -> None:
    with pytest.raises(ValueError, match="initial state 50 does not exist; there are 50"):
        scene.reset(initial_state=50)


def test_a_suite_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="no LIBERO suite 'libero_kitchen'; there are: .*libero_object"):
        LiberoScene("libero_kitchen")


def test_a_task_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="task 10 of suite 'libero_object' does not exist; it has 10"):
        LiberoScene("libero_object", 10)
