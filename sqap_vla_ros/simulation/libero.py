"""One LIBERO task in MuJoCo: the scene, its camera, and an arm that tracks joint references.

The benchmark supplies the scene, the official initial states, the instruction and the success predicate. The control
loop is our own: LIBERO's step works in units of 20 Hz operational-space actions, whereas a controller on ROS topics
is asked for a joint reference at every simulation step.

Nothing here knows ROS. Rendering has a thread of its own, which the graphics context stays on: it takes forty times as
long as the physics between two images, and only needs a snapshot of it.
"""

import contextlib
import io
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Read when mujoco is imported: EGL renders in software and needs no display.
os.environ.setdefault("MUJOCO_GL", "egl")
# robosuite recommends a private settings file on every import; nothing here uses one.
logging.getLogger("robosuite_logs").addFilter(lambda record: "macro" not in record.getMessage())

# Rendering in software loads an LLVM of its own. Triton's crashes the process when it comes second; first, both work.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

import mujoco  # noqa: E402
from libero.libero.benchmark import get_benchmark_dict  # noqa: E402
from libero.libero.envs.env_wrapper import ControlEnv  # noqa: E402

Vector = NDArray[np.float64]
Reference = Callable[[float], tuple[Vector, Vector, Vector]]
"""From simulated time (s) to joint positions (rad), velocities (rad/s) and accelerations (rad/s^2)."""

BASE_BODY = "robot0_base"
TOOL_BODY = "robot0_right_hand"
ARM_JOINTS = tuple(f"robot0_joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("gripper0_finger_joint1", "gripper0_finger_joint2")
FINGER_OPEN_M = 0.04

# Error dynamics of the arm's tracking, e'' + 2 w e' + w^2 e = 0: slow against the 500 Hz of the loop, stiff enough
# that a grasped object (some N·m) bends it by less than a milliradian.
_TRACKING_RAD_S = 40.0
_JOINT_NOISE_RAD = 0.02  # of a drawn state of the arm
_SETTLING_S = 0.5  # the official initial states hold their objects just above the table
_OPTICAL = np.diag([1.0, -1.0, -1.0])  # MuJoCo's camera looks along -z with y up, an optical frame along +z, y down


def count_tasks(suite: str) -> int:
    """How many tasks a LIBERO suite has.

    Raises:
        ValueError: There is no such suite.
    """
    return int(_benchmark(suite).get_num_tasks())


class LiberoScene:
    """A LIBERO task with its arm under joint tracking.

    Attributes:
        instruction: The task in words, as the benchmark gives it.
        model: The compiled MuJoCo model.
        data: Its state.
        width: Image width (px).
        height: Image height (px).
    """

    def __init__(
        self,
        suite: str = "libero_object",
        task: int = 0,
        *,
        initial_state: int | None = 0,
        seed: int = 0,
        camera: str = "agentview",
        width: int = 224,
        height: int = 224,
    ) -> None:
        """Load a task and reset it.

        Args:
            suite: Name of a LIBERO suite, e.g. "libero_object" or "libero_90".
            task: Index of the task in its suite, in the suite's default order.
            initial_state: Index of the official initial state; None: drawn afresh, as the task describes it.
            seed: Of what the initial states leave open (fixtures shift by millimetres). LIBERO draws from numpy's
                global generator, which is seeded with it.
            camera: Name of a camera in the scene.
            width: Image width (px).
            height: Image height (px).

        Raises:
            ValueError: The suite, task, initial state or camera does not exist.
        """
        benchmark = _benchmark(suite)
        if not 0 <= task < benchmark.get_num_tasks():
            raise ValueError(f"task {task} of suite '{suite}' does not exist; it has {benchmark.get_num_tasks()}")
        self.instruction: str = benchmark.get_task(task).language
        self._initial_states = benchmark.get_task_init_states(task)

        np.random.seed(seed)
        self._env = ControlEnv(
            benchmark.get_task_bddl_file_path(task),
            use_camera_obs=False,
            has_offscreen_renderer=False,
            hard_reset=False,
        )
        self.model: mujoco.MjModel = self._env.sim.model._model
        self.data: mujoco.MjData = self._env.sim.data._data
        # The hand's inertia is that of a box metres wide, which in air would stop joint 7 at 1.3 rad/s.
        self.model.opt.density = self.model.opt.viscosity = 0.0
        self._arm_q = np.array([self.model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._arm_v = np.array([self.model.joint(name).dofadr[0] for name in ARM_JOINTS])
        self._finger_q = np.array([self.model.joint(name).qposadr[0] for name in FINGER_JOINTS])
        self._finger_v = np.array([self.model.joint(name).dofadr[0] for name in FINGER_JOINTS])
        self._arm_ctrl = self._actuators(ARM_JOINTS)
        self._finger_ctrl = self._actuators(FINGER_JOINTS)
        self._acceleration = np.zeros(self.model.nv)
        self._force = np.zeros(self.model.nv)

        cameras = [self.model.camera(i).name for i in range(self.model.ncam)]
        if camera not in cameras:
            raise ValueError(f"no camera '{camera}' in this scene; there are: {', '.join(cameras)}")
        self._camera = cameras.index(camera)
        self._camera_pose = self.model.cam_pos[self._camera].copy(), self.model.cam_quat[self._camera].copy()
        self.width, self.height = width, height
        # Shadow maps and multisampling are most of the cost of software rendering.
        self.model.vis.quality.shadowsize = 1024
        self.model.vis.quality.offsamples = 0
        self.model.vis.global_.offwidth = max(width, self.model.vis.global_.offwidth)
        self.model.vis.global_.offheight = max(height, self.model.vis.global_.offheight)
        self._render_thread = ThreadPoolExecutor(1, "render")
        self._renderer = self._render_thread.submit(mujoco.Renderer, self.model, height, width).result()
        self._scene_option = mujoco.MjvOption()
        self._scene_option.geomgroup[0] = 0  # collision geometry
        self.reset(initial_state, seed)

    def _actuators(self, joints: tuple[str, ...]) -> NDArray[np.int64]:
        driven = self.model.actuator_trnid[:, 0].tolist()
        return np.array([driven.index(self.model.joint(name).id) for name in joints])

    def reset(self, initial_state: int | None = 0, seed: int = 0) -> None:
        """Put an initial state in place, gripper open, let the objects settle, and start time at zero.

        Args:
            initial_state: Index of an official one; None: drawn with the seed from what the task's file allows.
            seed: Of everything that is drawn.

        Raises:
            ValueError: There is no such initial state.
        """
        if initial_state is not None and not 0 <= initial_state < len(self._initial_states):
            raise ValueError(f"initial state {initial_state} does not exist; there are {len(self._initial_states)}")
        np.random.seed(seed)
        self._env.reset()
        if initial_state is None:
            # As much as LIBERO's own states differ by.
            self.data.qpos[self._arm_q] += np.random.normal(0.0, _JOINT_NOISE_RAD, len(self._arm_q))
        else:
            _, q, v = np.split(self._initial_states[initial_state], [1, 1 + self.model.nq])
            self.data.qpos[:], self.data.qvel[:] = q, v
        self.model.cam_pos[self._camera], self.model.cam_quat[self._camera] = self._camera_pose
        self.data.time = 0.0
        still = np.zeros(len(ARM_JOINTS))
        held = self.joint_positions
        self.step(lambda _: (held, still, still), _SETTLING_S, FINGER_OPEN_M)
        self.data.time = 0.0
        mujoco.mj_forward(self.model, self.data)

    def step(self, reference: Reference, until_s: float, finger_m: float) -> None:
        """Simulate while the arm tracks a reference by computed torque, tau = M (a + kd e' + kp e) + bias.

        Args:
            reference: Asked once per simulation step, for the end of that step.
            until_s: Simulated time to stop at (s).
            finger_m: Position that each finger is driven to (m).
        """
        model, data, arm_v = self.model, self.data, self._arm_v
        data.ctrl[self._finger_ctrl] = finger_m, -finger_m
        time_step = model.opt.timestep
        kp, kd = _TRACKING_RAD_S**2, 2 * _TRACKING_RAD_S
        while data.time < until_s - 0.5 * time_step:
            mujoco.mj_step1(model, data)
            q, v, a = reference(data.time)
            self._acceleration[arm_v] = a + kd * (v - data.qvel[arm_v]) + kp * (q - data.qpos[self._arm_q])
            mujoco.mj_mulM(model, data, self._force, self._acceleration)
            torque = self._force[arm_v] + data.qfrc_bias[arm_v] - data.qfrc_passive[arm_v]
            data.ctrl[self._arm_ctrl] = torque  # MuJoCo clips it to the motors' range
            mujoco.mj_step2(model, data)
        # Poses of the state that was reached, for the camera and the transforms.
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)

    def render(self) -> NDArray[np.uint8]:
        """The camera's image of the present state: uint8 (height, width, 3), RGB, first row on top."""
        return self.start_rendering().result()

    def start_rendering(self) -> Future[NDArray[np.uint8]]:
        """The image of the present state, as `render` gives it, while the simulation goes on."""
        self._render_thread.submit(
            self._renderer.update_scene, self.data, self._camera, self._scene_option
        ).result()  # only now may the simulation go on
        return self._render_thread.submit(self._renderer.render)

    def displace_camera(self, rotation: Vector, translation: Vector) -> None:
        """Move the camera until the next reset, as a bumped one.

        Args:
            rotation: float64 (3,), rotation vector about the axes of its mount (rad).
            translation: float64 (3,), along the same axes (m).
        """
        position, quaternion = self._camera_pose
        turn, turned = np.zeros(4), np.zeros(4)
        angle = float(np.linalg.norm(rotation))
        mujoco.mju_axisAngle2Quat(turn, rotation / max(angle, 1e-12), angle)
        mujoco.mju_mulQuat(turned, turn, quaternion)
        self.model.cam_pos[self._camera], self.model.cam_quat[self._camera] = position + translation, turned
        mujoco.mj_camlight(self.model, self.data)

    def success(self) -> bool:
        """Whether the task is done, by LIBERO's own predicate."""
        return bool(self._env.check_success())

    def close(self) -> None:
        """Free the graphics context."""
        self._render_thread.submit(self._renderer.close).result()
        self._render_thread.shutdown()

    @property
    def time_s(self) -> float:
        """Simulated time since the reset (s)."""
        return float(self.data.time)

    @property
    def joint_positions(self) -> Vector:
        """float64 (7,), of the arm (rad)."""
        return self.data.qpos[self._arm_q]

    @property
    def joint_velocities(self) -> Vector:
        """float64 (7,), of the arm (rad/s)."""
        return self.data.qvel[self._arm_v]

    @property
    def joint_ranges(self) -> Vector:
        """float64 (7, 2), lower and upper end of each joint of the arm (rad)."""
        return np.array([self.model.joint(name).range for name in ARM_JOINTS])

    @property
    def finger_positions(self) -> Vector:
        """float64 (2,), m; the second finger's axis is mirrored."""
        return self.data.qpos[self._finger_q]

    @property
    def finger_velocities(self) -> Vector:
        """float64 (2,), m/s."""
        return self.data.qvel[self._finger_v]

    @property
    def camera_matrix(self) -> Vector:
        """float64 (3, 3), pinhole intrinsics (px); the image's centre, as pixel centres are at whole numbers."""
        focal_px = 0.5 * self.height / np.tan(0.5 * np.deg2rad(self.model.cam_fovy[self._camera]))
        return np.array([[focal_px, 0, (self.width - 1) / 2], [0, focal_px, (self.height - 1) / 2], [0, 0, 1]])

    @property
    def camera_is_fixed(self) -> bool:
        """Whether the camera stands still with respect to the arm's base."""
        return bool(self.model.body_weldid[self.model.cam_bodyid[self._camera]] == 0)

    @property
    def T_world_camera(self) -> Vector:
        """float64 (4, 4), the camera's optical frame (z forward, x right, y down) in the world, metres."""
        return _transform(self.data.cam_xmat[self._camera].reshape(3, 3) @ _OPTICAL, self.data.cam_xpos[self._camera])

    def joint_position(self, name: str) -> float:
        """Position of a hinge or slide of the scene, e.g. a drawer's (rad or m)."""
        return float(self.data.joint(name).qpos[0])

    def site_position(self, name: str) -> Vector:
        """float64 (3,), of a MuJoCo site in the arm's base, metres."""
        T_base_world = np.linalg.inv(self.T_world_body(BASE_BODY))
        position: Vector = T_base_world[:3, :3] @ self.data.site(name).xpos + T_base_world[:3, 3]
        return position

    def body_position(self, name: str) -> Vector:
        """float64 (3,), of a MuJoCo body in the arm's base, metres."""
        position: Vector = (np.linalg.inv(self.T_world_body(BASE_BODY)) @ self.T_world_body(name))[:3, 3]
        return position

    def T_world_body(self, name: str) -> Vector:
        """float64 (4, 4), pose of a MuJoCo body in the world, metres."""
        body = self.data.body(name)
        return _transform(body.xmat.reshape(3, 3), body.xpos)

    @property
    def T_base_tool(self) -> Vector:
        """float64 (4, 4), the tool (the hand's flange) in the arm's base, metres."""
        return np.linalg.inv(self.T_world_body(BASE_BODY)) @ self.T_world_body(TOOL_BODY)

    @property
    def T_base_camera(self) -> Vector:
        """float64 (4, 4), the camera's optical frame in the arm's base, metres."""
        return np.linalg.inv(self.T_world_body(BASE_BODY)) @ self.T_world_camera


def _benchmark(suite: str) -> Any:
    suites = get_benchmark_dict()
    if suite not in suites:
        raise ValueError(f"no LIBERO suite '{suite}'; there are: {', '.join(sorted(suites))}")
    with contextlib.redirect_stdout(io.StringIO()):  # it announces its task order
        return suites[suite]()


def _transform(rotation: Vector, translation: Vector) -> Vector:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation, translation
    return T
