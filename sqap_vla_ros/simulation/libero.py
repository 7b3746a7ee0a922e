"""One LIBERO task in MuJoCo: the scene, and an arm that tracks joint references.

The benchmark supplies the scene, the official initial states, the instruction and the success predicate. The control
loop is our own: LIBERO's step works in units of 20 Hz operational-space actions, whereas a controller on ROS topics
is asked for a joint reference at every simulation step.

Nothing here knows ROS.
"""

import contextlib
import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.perception.transforms import inverse, transform_from
from sqap_vla_ros.simulation.scene_camera import SceneCamera, Vector  # before mujoco: it sets up the rendering

# robosuite recommends a private settings file on every import; nothing here uses one.
logging.getLogger("robosuite_logs").addFilter(lambda record: "macro" not in record.getMessage())

import mujoco  # noqa: E402
from libero.libero.benchmark import get_benchmark_dict  # noqa: E402
from libero.libero.envs.env_wrapper import ControlEnv  # noqa: E402

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


def count_tasks(suite: str) -> int:
    """The number of tasks in a LIBERO suite.

    Raises:
        ValueError: There is no such suite.
    """
    return int(_benchmark(suite).get_num_tasks())


class LiberoScene:
    """A LIBERO task with its arm under joint tracking.

    Attributes:
        instruction: The task's instruction, as the benchmark gives it.
        model: The compiled MuJoCo model.
        data: Its state.
        camera: The camera that sees it.
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
            initial_state: Index of the official initial state; None: a random one, as the task describes it.
            seed: Seed of what the initial states leave open (fixtures shift by millimetres). LIBERO draws from numpy's
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

        self.camera = SceneCamera(self.model, self.data, camera, width, height)
        self.reset(initial_state, seed)

    def _actuators(self, joints: tuple[str, ...]) -> NDArray[np.int64]:
        driven = self.model.actuator_trnid[:, 0].tolist()
        return np.array([driven.index(self.model.joint(name).id) for name in joints])

    def reset(self, initial_state: int | None = 0, seed: int = 0) -> None:
        """Put an initial state in place, gripper open, let the objects settle, and start time at zero.

        Args:
            initial_state: Index of an official one; None: a random one that the task's file allows.
            seed: Seed of everything that is drawn.

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
        self.camera.put_back()
        self.data.time = 0.0
        still = np.zeros(len(ARM_JOINTS))
        held = self.joint_positions
        self.step(lambda _: (held, still, still), _SETTLING_S, FINGER_OPEN_M)
        self.data.time = 0.0
        mujoco.mj_forward(self.model, self.data)

    def step(self, reference: Reference, until_s: float, finger_m: float) -> None:
        """Simulate while the arm tracks a reference by computed torque, tau = M (a + kd e' + kp e) + bias.

        Args:
            reference: Called once per simulation step, for the end of that step.
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

    def success(self) -> bool:
        """Whether the task is done, by LIBERO's own predicate."""
        return bool(self._env.check_success())

    def close(self) -> None:
        """Free the graphics context."""
        self.camera.close()

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

    def joint_position(self, name: str) -> float:
        """Position of a hinge or slide of the scene, e.g. a drawer's (rad or m)."""
        return float(self.data.joint(name).qpos[0])

    def site_position(self, name: str) -> Vector:
        """float64 (3,), of a MuJoCo site in the arm's base, metres."""
        T_base_world = inverse(self.T_world_body(BASE_BODY))
        position: Vector = T_base_world[:3, :3] @ self.data.site(name).xpos + T_base_world[:3, 3]
        return position

    def body_position(self, name: str) -> Vector:
        """float64 (3,), of a MuJoCo body in the arm's base, metres."""
        position: Vector = (inverse(self.T_world_body(BASE_BODY)) @ self.T_world_body(name))[:3, 3]
        return position

    def T_world_body(self, name: str) -> Vector:
        """float64 (4, 4), pose of a MuJoCo body in the world, metres."""
        body = self.data.body(name)
        return transform_from(body.xpos, body.xmat.reshape(3, 3))

    @property
    def T_base_tool(self) -> Vector:
        """float64 (4, 4), the tool (the hand's flange) in the arm's base, metres."""
        return inverse(self.T_world_body(BASE_BODY)) @ self.T_world_body(TOOL_BODY)

    @property
    def T_base_camera(self) -> Vector:
        """float64 (4, 4), the camera's optical frame in the arm's base, metres."""
        return inverse(self.T_world_body(BASE_BODY)) @ self.camera.T_world_camera


def _benchmark(suite: str) -> Any:
    suites = get_benchmark_dict()
    if suite not in suites:
        raise ValueError(f"no LIBERO suite '{suite}'; there are: {', '.join(sorted(suites))}")
    with contextlib.redirect_stdout(io.StringIO()):  # it announces its task order
        return suites[suite]()
