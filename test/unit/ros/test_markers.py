"""What RViz is shown lies where it should."""

from dataclasses import replace

import numpy as np
from visualization_msgs.msg import Marker

from sqap_vla_ros.config.robot import Limits, Robot
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.token_selection import Reason, keep_all, selection_of
from sqap_vla_ros.perception.camera import CameraModel
from sqap_vla_ros.ros.markers import marker_array, ring_outline, workspace_edges

CAMERA = CameraModel(160, 160, np.array([[100.0, 0, 79.5], [0, 100.0, 79.5], [0, 0, 1]]), "", np.zeros(0))
CHUNK = ActionChunk(10**9, np.zeros((16, 7)), 0.05, np.eye(4), "pick", 0, keep_all())
NO_RING = np.zeros((0, 3))


def test_the_workspace_has_its_twelve_edges_of_the_right_lengths() -> None:
    edges = workspace_edges(Limits(workspace_min=(0, 0, 0), workspace_max=(1, 2, 3))).reshape(12, 2, 3)
    lengths = np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1)
    assert sorted(lengths.tolist()) == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


def test_the_plan_starts_at_the_tool_and_adds_up_the_actions() -> None:
    actions = np.zeros((16, 7))
    actions[:, 0] = 0.01
    plan = marker_array(Robot(), replace(CHUNK, actions=actions), "camera", NO_RING).markers[1]
    assert plan.header.frame_id == "base_link" and len(plan.points) == 17
    assert plan.points[0].x == 0.0 and np.isclose(plan.points[-1].x, 0.16)


def test_the_ring_projects_onto_the_border_of_its_patches() -> None:
    ring = selection_of({Reason.RING: np.array([2 * 16 + 4, 3 * 16 + 5])})  # rows 2 to 3, columns 4 to 5 of 16
    outline_m = ring_outline(replace(CHUNK, selection=ring), CAMERA, depth_m=0.5)
    pixels, _ = CAMERA.project(outline_m)
    assert np.allclose(outline_m[:, 2], 0.5)
    assert np.allclose(pixels.min(axis=0), [39.5, 19.5]) and np.allclose(pixels.max(axis=0), [59.5, 39.5])


def test_without_a_ring_its_marker_is_taken_away() -> None:
    assert ring_outline(CHUNK, CAMERA, 0.5).shape == (0, 3)
    assert marker_array(Robot(), CHUNK, "camera", NO_RING).markers[2].action == Marker.DELETE
