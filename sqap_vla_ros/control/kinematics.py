"""Forward and inverse kinematics of the arm, from its URDF or MJCF.

Pinocchio holds the model, pink solves each step of the inverse kinematics as a quadratic programme (DAQP): reach the
target, stay near the start in the directions that the tool does not need, keep the joints in their limits.

Optional extra [ik]: pin, pin-pink and daqp are imported when a model is built.
"""

import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.core.types import Array

# A target counts as reached within these; far below what an arm repeats.
POSITION_TOLERANCE_M = 1e-4
ROTATION_TOLERANCE_RAD = 1e-3
# The first target lies aside from where the arm is, as far as its joints move in this time at most [s]. The trajectory
# closes that gap at its own pace; the solutions must not, or they would run after the targets instead of along them.
APPROACH_S = 0.5
# Steps per target: 2 or 3 where it can be reached; out of reach, more do not help.
ITERATIONS = 6
# Costs, relative to 1 per metre of position error: where both cannot be had, position comes first. The posture's
# leaves errors far below the tolerances.
ROTATION_COST = 0.2
POSTURE_COST = 5e-4
# Levenberg-Marquardt damping grows with the squared error: none at the target, bounded steps far from it.
DAMPING = 0.3


class KinematicsError(ValueError):
    """The robot model cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class InverseKinematics:
    """Joint positions for a sequence of tool poses.

    Attributes:
        q: float64 (poses, joints) [rad or m]; joints that turn without limit are unwrapped from the start.
        position_error_m: float64 (poses,), what is left between tool and target.
        rotation_error_rad: float64 (poses,).
    """

    q: Array
    position_error_m: Array
    rotation_error_rad: Array


class Kinematics:
    """Kinematics of the named joints between two frames; all other joints of the model stay at neutral."""

    def __init__(self, model: str | Path, joints: tuple[str, ...], base_frame: str, tool_frame: str) -> None:
        """Build the model.

        Args:
            model: URDF text, or the path of a URDF or MJCF file.
            joints: Joints that move, in the order of every array here.
            base_frame: Link that poses are given in; it must not be moved by `joints`.
            tool_frame: Link whose pose is controlled.

        Raises:
            KinematicsError: No model can be read, or it lacks a joint or frame.
        """
        try:
            import pink
            import pinocchio
        except ImportError as error:
            raise KinematicsError(
                f"joint trajectories need the optional extra [ik] (pin, pin-pink, daqp): {error}"
            ) from None
        self.joints = joints
        self._pin: Any = pinocchio
        self._pink: Any = pink
        full = _read_model(pinocchio, model)
        for joint in joints:
            if not full.existJointName(joint):
                raise KinematicsError(_missing("joint", joint, list(full.names)[1:]))
        moving = {full.getJointId(joint) for joint in joints}
        locked = [index for index in range(1, full.njoints) if index not in moving]
        self._model = pinocchio.buildReducedModel(full, locked, pinocchio.neutral(full))
        self._data = self._model.createData()
        self._joints = [self._model.joints[self._model.getJointId(joint)] for joint in joints]
        for name, joint in zip(joints, self._joints, strict=True):
            if joint.nv != 1:
                raise KinematicsError(f"joint '{name}' has {joint.nv} degrees of freedom; a trajectory joint has one")
        self._q = np.array([joint.idx_q for joint in self._joints])
        self._v = np.array([joint.idx_v for joint in self._joints])
        self._endless = np.array([joint.nq == 2 for joint in self._joints])
        self._neutral = pinocchio.neutral(self._model)
        self._base = self._link(base_frame)
        self._tool = self._add_tool(self._link(tool_frame))
        if self._model.frames[self._base].parentJoint != 0:
            raise KinematicsError(f"base frame '{base_frame}' moves with the joints; name a frame that stands still")
        pinocchio.framesForwardKinematics(self._model, self._data, pinocchio.neutral(self._model))
        self._T_world_base = self._data.oMf[self._base].copy()
        self.lower, self.upper = self._position_limits()
        limits = self._model.velocityLimit[self._v]
        self.velocity: Array = np.where(limits > 0, limits, np.inf)

    def forward(self, q: Array) -> Array:
        """Tool pose.

        Args:
            q: float64 (joints,), positions [rad or m].

        Returns:
            T_base_tool, float64 (4, 4).
        """
        self._pin.framesForwardKinematics(self._model, self._data, self._configuration(q))
        return self._T_world_base.actInv(self._data.oMf[self._tool]).homogeneous

    def tool_positions(self, q: Array) -> Array:
        """Where the tool is, float64 (points, 3), in the base frame [m], at each of q, float64 (points, joints)."""
        pin, model, data = self._pin, self._model, self._data
        in_world = np.empty((len(q), 3))
        for row, joints in enumerate(q):
            pin.forwardKinematics(model, data, self._configuration(joints))
            in_world[row] = pin.updateFramePlacement(model, data, self._tool).translation
        return (in_world - self._T_world_base.translation) @ self._T_world_base.rotation

    def inverse(self, targets: Array, q0: Array, limits: JointLimits, dt: float) -> InverseKinematics:
        """Joint positions that bring the tool to each target in turn, each found from the one before.

        Args:
            targets: float64 (poses, 4, 4), T_base_tool.
            q0: float64 (joints,), where the arm is before the first target.
            limits: A joint moves from one pose to the next by at most its velocity times `dt`, to the first by as much
                as in `APPROACH_S`, and only within its position limits; so neither a singularity nor a far target
                makes it leap.
            dt: Time between two targets [s].

        Returns:
            The nearest that was found; the errors say how near.
        """
        import daqp

        pin, pink = self._pin, self._pink
        configuration = pink.Configuration(self._model, self._data, self._configuration(q0), copy_data=False)
        reach = pink.tasks.FrameTask(
            self._model.frames[self._tool].name, position_cost=1.0, orientation_cost=ROTATION_COST, lm_damping=DAMPING
        )
        posture = pink.tasks.PostureTask(cost=POSTURE_COST)
        posture.set_target(configuration.q)
        travel = limits.velocity * max(dt, APPROACH_S)
        # Steps are bounded variable by variable, which the solver takes directly.
        most, least = np.empty((2, self._model.nv))
        no_rows, kinds = np.empty((0, self._model.nv)), np.zeros(self._model.nv, np.int32)
        before = q = np.array(q0, dtype=np.float64)
        is_reached = False
        result = InverseKinematics(np.empty((len(targets), len(q))), np.empty(len(targets)), np.empty(len(targets)))
        for row, T_base_target in enumerate(targets):
            target = self._T_world_base * pin.SE3(np.asarray(T_base_target, dtype=np.float64))
            # Standing still is always allowed, also from a start beyond a limit.
            lower = np.minimum(np.maximum(limits.lower, q - travel), q)
            upper = np.maximum(np.minimum(limits.upper, q + travel), q)
            # Going on as before is nearly right on a smooth path, and saves most of the iterations.
            before, q = q, np.minimum(np.maximum(2 * q - before, lower), upper) if row > 1 and is_reached else q
            position_m, rotation_rad = self._error(q, target)
            for _ in range(ITERATIONS):
                if is_reached := position_m < POSITION_TOLERANCE_M and rotation_rad < ROTATION_TOLERANCE_RAD:
                    break
                reach.set_target(target)
                configuration.update(self._configuration(q))
                problem = pink.build_ik(configuration, (reach, posture), 1.0, limits=())
                most[self._v], least[self._v] = upper - q, lower - q
                step, _, status, _ = daqp.solve(problem.P, problem.q, no_rows, most, least, kinds)
                if status != 1:
                    break
                q = np.clip(q + step[self._v], lower, upper)
                position_m, rotation_rad = self._error(q, target)
            travel = limits.velocity * dt
            result.q[row] = q
            result.position_error_m[row] = position_m
            result.rotation_error_rad[row] = rotation_rad
        return result

    def _error(self, q: Array, target: Any) -> tuple[float, float]:
        """Distance [m] and angle [rad] from the tool at q, float64 (joints,), to a target, T_world_tool."""
        self._pin.forwardKinematics(self._model, self._data, self._configuration(q))
        tool = self._pin.updateFramePlacement(self._model, self._data, self._tool)
        error = self._pin.log6(tool.actInv(target)).np
        return math.sqrt(error[:3] @ error[:3]), math.sqrt(error[3:] @ error[3:])

    def _configuration(self, q: Array) -> Array:
        """Pinocchio's configuration vector: joints in the model's order, endless ones as cosine and sine."""
        configuration = self._neutral.copy()
        configuration[self._q] = q
        for index, value in zip(self._q[self._endless], q[self._endless], strict=True):
            configuration[index : index + 2] = np.cos(value), np.sin(value)
        return configuration

    def _position_limits(self) -> tuple[Array, Array]:
        lower, upper = np.full((2, len(self._joints)), np.inf) * [[-1], [1]]
        for i, joint in enumerate(self._joints):
            if joint.nq == 1:
                lower[i], upper[i] = (
                    self._model.lowerPositionLimit[joint.idx_q],
                    self._model.upperPositionLimit[joint.idx_q],
                )
        return lower, upper

    def _link(self, name: str) -> int:
        body = self._pin.FrameType.BODY  # joints of a URDF may bear the name of a link
        if not self._model.existFrame(name, body):
            links = [frame.name for frame in self._model.frames if frame.type == body]
            raise KinematicsError(_missing("frame", name, links))
        return int(self._model.getFrameId(name, body))

    def _add_tool(self, link: int) -> int:
        """A frame at a link, of a name that nothing else has: pink finds frames by name only."""
        frame = self._model.frames[link]
        tool = self._pin.Frame(
            f"{frame.name} (controlled)", frame.parentJoint, link, frame.placement, self._pin.FrameType.OP_FRAME
        )
        index = int(self._model.addFrame(tool))
        self._data = self._model.createData()
        return index


def _missing(kind: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, cutoff=0.4)
    hint = f"did you mean {' or '.join(repr(match) for match in near)}?" if near else f"there are: {', '.join(known)}"
    return f"the robot model has no {kind} '{name}'; {hint}"


def _read_model(pin: Any, model: str | Path) -> Any:
    """The whole model, every joint with its limits.

    Raises:
        KinematicsError: No such file, or neither URDF nor MJCF.
    """
    text = str(model)
    source = "the robot description"
    if not text.lstrip().startswith("<"):
        source = text
        try:
            text = Path(model).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KinematicsError(
                f"robot model {source!r}: {error}; expected URDF text, or the path of a URDF or MJCF file"
            ) from None
    try:
        root = ElementTree.fromstring(text.strip())
        if root.tag == "robot":
            return pin.buildModelFromXML(text.strip())
        if root.tag == "mujoco":
            # From the file, when there is one: MJCF may include others by relative path.
            full = pin.buildModelFromMJCF(source if source != "the robot description" else text)
            _correct_mjcf_limits(pin, full, root)
            return full
    except (ElementTree.ParseError, ValueError, RuntimeError) as error:
        raise KinematicsError(f"{source} is not a valid robot model: {error}") from None
    raise KinematicsError(f"{source}: the root element is <{root.tag}>; expected <robot> (URDF) or <mujoco> (MJCF)")


def _correct_mjcf_limits(pin: Any, model: Any, root: ElementTree.Element) -> None:
    """Undo wrong conversions of position limits from degrees.

    MJCF angles are degrees unless `<compiler angle="radian"/>`; Pinocchio then converts slides, which are lengths, as
    well. And robosuite's robot files are fragments: the element that says radian stands in the scene they go into.
    Such a file shows itself by hinges that could all turn by less than a full turn *in degrees*.
    """
    compiler = root.find("compiler")
    angle = None if compiler is None else compiler.get("angle")
    if angle == "radian":
        return
    joints = [joint for joint in model.joints[1:] if joint.nq == 1]
    limits = model.lowerPositionLimit, model.upperPositionLimit
    slides = [joint.idx_q for joint in joints if "JointModelP" in joint.shortname()]
    hinges = [joint.idx_q for joint in joints if joint.idx_q not in slides]
    ranges = np.abs([limit[index] for limit in limits for index in hinges])
    fragment = angle is None and np.all(ranges[np.isfinite(ranges)] <= np.deg2rad(2 * np.pi))
    for limit in limits:
        limit[slides + (hinges if fragment else [])] *= 180 / np.pi
