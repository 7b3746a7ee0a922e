"""Forward kinematics of the arm: the tool's pose from the joints.

Optional extra [ik]: pin, pin-pink and daqp are imported when a model is built.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.control.model_limits import LARGEST_DISTANCE_M, limits_problem
from sqap_vla_ros.control.robot_model import (
    KinematicsError,
    ModelSource,
    build_model,
    link_name,
    no_such,
    open_model,
)
from sqap_vla_ros.control.urdf_checks import Mimic, mimic_problem, mimics
from sqap_vla_ros.core.types import Array


class ForwardKinematics:
    """The tool's pose from the named joints, between two frames; all other joints of the model stay at neutral.

    Joints between the two frames that mimic a named one follow it.

    Attributes:
        joints: Names of the joints that move.
        held: Names of the joints that stay at neutral.
        base: Index of the base frame in the model.
        tool_link: Index of the tool frame in the model.
        tool: Index of a frame at the same place, of a name that nothing else has.
        lower: float64 (joints,), position limits [rad or m]; infinite: none.
        upper: float64 (joints,).
        velocity: float64 (joints,), velocity limits [rad/s or m/s]; infinite: none.
    """

    def __init__(self, model: str | Path, joints: tuple[str, ...], base_frame: str, tool_frame: str) -> None:
        """Build the model.

        Args:
            model: URDF text, or the path of a URDF or MJCF file.
            joints: Joints that move, in the order of every array here.
            base_frame: Link that poses are given in; it must not be moved by `joints`. As of the tool, what stands
                before a slash is not looked for (robot_state_publisher's `frame_prefix`).
            tool_frame: Link whose pose is controlled.

        Raises:
            KinematicsError: No model can be read, it lacks a joint or frame, or its numbers cannot be those of an arm.
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
        source = open_model(model)
        whole = build_model(pinocchio, source)
        for joint in joints:
            if not whole.existJointName(joint):
                raise KinematicsError(no_such("joint", joint, list(whole.names)[1:]))
        followers = self._followers(source, whole, tool_frame)
        full = build_model(pinocchio, source, followers) if followers else whole
        moving = {full.getJointId(joint) for joint in (*joints, *followers)}
        locked = [index for index in range(1, full.njoints) if index not in moving]
        self.held = frozenset(full.names[index] for index in locked)
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
        self._chain = self._links_between(whole, base_frame, tool_frame)
        self.base = self._link(self.model, base_frame)
        self.tool_link = self._link(self.model, tool_frame)
        self.tool = self._add_tool(self.tool_link)
        if self.model.frames[self.base].parentJoint != 0:
            raise KinematicsError(f"base frame '{base_frame}' moves with the joints; name a frame that stands still")
        pinocchio.framesForwardKinematics(self.model, self.data, pinocchio.neutral(self.model))
        self.T_world_base = self.data.oMf[self.base].copy()
        self.lower, self.upper = self._position_limits()
        limits = self.model.velocityLimit[self.velocity_index]
        self._check_numbers()
        self.velocity: Array = np.where(limits > 0, limits, np.inf)
        for follower in followers.values():
            self._keep_limits_of(follower, whole)

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

    def chain(self, q: Array) -> list[tuple[str, str, Array]]:
        """The links from base to tool at q, each with the joint that leads to it, and T_base_link float64 (4, 4)."""
        self.pin.framesForwardKinematics(self.model, self.data, self.configuration(q))
        return [
            (link, joint, self.T_world_base.actInv(self.data.oMf[self._link(self.model, link)]).homogeneous)
            for link, joint in self._chain
        ]

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

    def _check_numbers(self) -> None:
        """Raise for limits or distances that cannot be those of an arm."""
        slides = ["JointModelP" in joint.shortname() for joint in self._joints]
        if problem := limits_problem(self.joints, slides, self.lower, self.upper):
            raise KinematicsError(problem)
        for name, T_parent_joint in zip(self.model.names, self.model.jointPlacements, strict=True):
            if np.linalg.norm(T_parent_joint.translation) > LARGEST_DISTANCE_M:
                far_m = np.linalg.norm(T_parent_joint.translation)
                raise KinematicsError(
                    f"joint '{name}' is {far_m:g} m from the joint before it: is the model in millimetres?"
                )
        if not np.isfinite(self.forward(np.zeros(len(self.joints)))).all():
            raise KinematicsError("the tool's pose by the robot model is not finite; see its origins and axes")

    def _followers(self, source: ModelSource, whole: Any, tool_frame: str) -> dict[str, Mimic]:
        """The joints between base and tool that mimic one of the named joints."""
        if not source.is_urdf:
            return {}
        index = whole.frames[self._link(whole, tool_frame)].parentJoint
        followers, of_model = {}, mimics(source.root)
        while index:
            name = whole.names[index]
            if name in of_model:
                if problem := mimic_problem(of_model, name, self.joints, list(whole.names)):
                    raise KinematicsError(problem)
                followers[name] = mimic = of_model[name]
                leader = whole.joints[whole.getJointId(mimic.leader)]
                if leader.nq == 2 and abs(mimic.multiplier) != 1:  # its turns are not counted
                    raise KinematicsError(
                        f"joint '{name}' turns {mimic.multiplier:g} times as far as '{mimic.leader}', which turns "
                        f"without end: make '{mimic.leader}' revolute, with limits"
                    )
            index = whole.parents[index]
        return followers

    def _links_between(self, whole: Any, base_frame: str, tool_frame: str) -> list[tuple[str, str]]:
        """The links from base to tool, each with the joint that leads to it; in a reduced model this is not kept."""
        base, index, links = self._link(whole, base_frame), self._link(whole, tool_frame), []
        while index not in (0, base):
            frame, above = whole.frames[index], whole.frames[index].parentFrame
            if frame.type == self.pin.FrameType.BODY:
                links.append((frame.name, whole.frames[above].name))
            index = above
        return links[::-1]

    def _keep_limits_of(self, follower: Mimic, whole: Any) -> None:
        """Narrow the limits of a joint to those of one that follows it, if these make sense."""
        joint, leader = whole.joints[whole.getJointId(follower.joint)], self.joints.index(follower.leader)
        if not follower.multiplier or joint.nq != 1:
            return
        limits = np.array([whole.lowerPositionLimit[joint.idx_q], whole.upperPositionLimit[joint.idx_q]])
        low, high = np.sort((limits - follower.offset) / follower.multiplier)
        if limits[0] < limits[1] and max(low, self.lower[leader]) < min(high, self.upper[leader]):
            self.lower[leader] = max(low, self.lower[leader])
            self.upper[leader] = min(high, self.upper[leader])
        if (speed := whole.velocityLimit[joint.idx_v]) > 0:
            self.velocity[leader] = min(self.velocity[leader], speed / abs(follower.multiplier))

    def _link(self, model: Any, name: str) -> int:
        body = self.pin.FrameType.BODY  # joints of a URDF may bear the name of a link
        links = [frame.name for frame in model.frames if frame.type == body]
        if (link := link_name(name, links)) is None:
            raise KinematicsError(no_such("frame", name, links))
        return int(model.getFrameId(link, body))

    def _add_tool(self, link: int) -> int:
        """A frame at a link, of a name that nothing else has: pink finds frames by name only."""
        frame = self.model.frames[link]
        tool = self.pin.Frame(
            f"{frame.name} (controlled)", frame.parentJoint, link, frame.placement, self.pin.FrameType.OP_FRAME
        )
        index = int(self.model.addFrame(tool))
        self.data = self.model.createData()
        return index
