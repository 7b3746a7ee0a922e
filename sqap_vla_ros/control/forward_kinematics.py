"""Forward kinematics of the arm: the tool's pose from the joints.

Optional extra [ik]: pin, pin-pink and daqp are imported when a model is built.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.control.robot_model import KinematicsError, no_such, read_model
from sqap_vla_ros.core.types import Array


class ForwardKinematics:
    """The tool's pose from the named joints, between two frames; all other joints of the model stay at neutral."""

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
        self.pin: Any = pinocchio
        self.pink: Any = pink
        full = read_model(pinocchio, model)
        for joint in joints:
            if not full.existJointName(joint):
                raise KinematicsError(no_such("joint", joint, list(full.names)[1:]))
        moving = {full.getJointId(joint) for joint in joints}
        locked = [index for index in range(1, full.njoints) if index not in moving]
        self.model = pinocchio.buildReducedModel(full, locked, pinocchio.neutral(full))
        self.data = self.model.createData()
        self._joints = [self.model.joints[self.model.getJointId(joint)] for joint in joints]
        for name, joint in zip(joints, self._joints, strict=True):
            if joint.nv != 1:
                raise KinematicsError(f"joint '{name}' has {joint.nv} degrees of freedom; a trajectory joint has one")
        self._q = np.array([joint.idx_q for joint in self._joints])
        self.velocity_index = np.array([joint.idx_v for joint in self._joints])
        self._endless = np.array([joint.nq == 2 for joint in self._joints])
        self._neutral = pinocchio.neutral(self.model)
        self._base = self._link(base_frame)
        self.tool = self._add_tool(self._link(tool_frame))
        if self.model.frames[self._base].parentJoint != 0:
            raise KinematicsError(f"base frame '{base_frame}' moves with the joints; name a frame that stands still")
        pinocchio.framesForwardKinematics(self.model, self.data, pinocchio.neutral(self.model))
        self.T_world_base = self.data.oMf[self._base].copy()
        self.lower, self.upper = self._position_limits()
        limits = self.model.velocityLimit[self.velocity_index]
        self.velocity: Array = np.where(limits > 0, limits, np.inf)

    def forward(self, q: Array) -> Array:
        """Tool pose.

        Args:
            q: float64 (joints,), positions [rad or m].

        Returns:
            T_base_tool, float64 (4, 4).
        """
        self.pin.framesForwardKinematics(self.model, self.data, self.configuration(q))
        return self.T_world_base.actInv(self.data.oMf[self.tool]).homogeneous

    def tool_positions(self, q: Array) -> Array:
        """Where the tool is, float64 (points, 3), in the base frame [m], at each of q, float64 (points, joints)."""
        pin, model, data = self.pin, self.model, self.data
        in_world = np.empty((len(q), 3))
        for row, joints in enumerate(q):
            pin.forwardKinematics(model, data, self.configuration(joints))
            in_world[row] = pin.updateFramePlacement(model, data, self.tool).translation
        return (in_world - self.T_world_base.translation) @ self.T_world_base.rotation

    def configuration(self, q: Array) -> Array:
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
                    self.model.lowerPositionLimit[joint.idx_q],
                    self.model.upperPositionLimit[joint.idx_q],
                )
        return lower, upper

    def _link(self, name: str) -> int:
        body = self.pin.FrameType.BODY  # joints of a URDF may bear the name of a link
        if not self.model.existFrame(name, body):
            links = [frame.name for frame in self.model.frames if frame.type == body]
            raise KinematicsError(no_such("frame", name, links))
        return int(self.model.getFrameId(name, body))

    def _add_tool(self, link: int) -> int:
        """A frame at a link, of a name that nothing else has: pink finds frames by name only."""
        frame = self.model.frames[link]
        tool = self.pin.Frame(
            f"{frame.name} (controlled)", frame.parentJoint, link, frame.placement, self.pin.FrameType.OP_FRAME
        )
        index = int(self.model.addFrame(tool))
        self.data = self.model.createData()
        return index
