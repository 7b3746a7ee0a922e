# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Markers for RViz and Foxglove: the workspace, the way that the policy wants the tool to go, the protected ring."""

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from sqap_vla_ros.config.robot import Limits, Robot
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.camera import CameraModel
from sqap_vla_ros.perception.conventions import integrate
from sqap_vla_ros.ros.conversions import time_message

_WORKSPACE = ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.8)
_PLAN = ColorRGBA(r=0.95, g=0.6, b=0.1, a=1.0)
_RING = ColorRGBA(r=0.2, g=0.8, b=0.3, a=1.0)
_LINE_M = 0.004


def marker_array(robot: Robot, chunk: ActionChunk, camera_frame: str, ring_m: Array) -> MarkerArray:
    """
    All markers of one plan.

    :param robot: With frames, action convention and workspace.
    :param chunk: The plan: where its actions lead as the policy gave them, before limits and blending.
    :param camera_frame: Frame of `ring_m`.
    :param ring_m: float64 (points, 3), from `ring_outline` [m]; without points the ring's marker is taken away.
    """
    way_m = chunk.T_base_tool[None, :3, 3]
    if not chunk.space.of_joints:  # where joints lead is drawn by who shows the command
        poses = integrate(chunk.actions, chunk.T_base_tool, robot.action, robot.frames)
        way_m = np.concatenate([way_m, poses[:, :3, 3]])
    base = robot.frames.base
    return MarkerArray(
        markers=[
            _lines("workspace", base, 0, workspace_edges(robot.limits), _WORKSPACE, Marker.LINE_LIST),
            _lines("plan", base, chunk.stamp_ns, way_m, _PLAN, Marker.LINE_STRIP),
            _lines("ring", camera_frame, chunk.stamp_ns, ring_m, _RING, Marker.LINE_STRIP),
        ]
    )


def workspace_edges(limits: Limits) -> Array:
    """Return the twelve edges of the workspace, float64 (24, 3), two points each [m]."""
    low, high = np.array(limits.workspace_min), np.array(limits.workspace_max)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    pairs = [(a, b) for i, a in enumerate(corners) for b in corners[i + 1 :] if np.abs(a - b).sum() == 1]
    return low + (high - low) * np.array(pairs, np.float64).reshape(-1, 3)


def ring_outline(chunk: ActionChunk, camera: CameraModel, depth_m: float) -> Array:
    """
    Return the ring's border, in a plane through the tool that faces the camera.

    :param chunk: With the tokens that were kept for the ring.
    :param camera: Whose image the patch grid covers; its distortion is left out.
    :param depth_m: Of the tool in front of the camera [m].

    :returns: float64 (5, 3), a closed square in the camera's optical frame [m]; (0, 3) without a ring.
    """
    grid = chunk.selection.reasons.reshape(chunk.selection.rows, chunk.selection.columns)
    rows, columns = np.nonzero(grid & Reason.RING)
    if not rows.size:
        return np.zeros((0, 3))
    top, bottom = np.array([rows.min(), rows.max() + 1]) * camera.height / grid.shape[0] - 0.5
    left, right = np.array([columns.min(), columns.max() + 1]) * camera.width / grid.shape[1] - 0.5
    pixels = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(camera.K).T
    return depth_m * rays


def _lines(name: str, frame: str, stamp_ns: int, points_m: Array, colour: ColorRGBA, kind: int) -> Marker:
    marker = Marker(header=Header(stamp=time_message(stamp_ns), frame_id=frame), ns=name, type=kind, color=colour)
    marker.action = Marker.ADD if len(points_m) else Marker.DELETE
    marker.pose.orientation.w = 1.0
    marker.scale.x = _LINE_M
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in points_m.tolist()]
    return marker
