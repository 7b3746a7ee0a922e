"""Scenes: each recorded image with the plan made on it or before it, projected into the camera at that time.

A wrist camera moves, and the transforms for an image's stamp are recorded after the image. So each image waits here for
them, at most `WAIT_NS` of the recording.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.messages import token_grid
from sqap_vla_ros.bags.observations import Extrinsic
from sqap_vla_ros.bags.topics import BagTopics
from sqap_vla_ros.config.robot import Configuration, Frames
from sqap_vla_ros.core.clock import STAMP_BACK_NS, JumpDetector, stamp_ns
from sqap_vla_ros.perception.camera import CameraError, CameraModel
from sqap_vla_ros.perception.conventions import gripping_points
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree
from sqap_vla_ros.perception.transforms import rotation_from_vector, transform_from
from sqap_vla_ros.reporting.overlay import Overlay
from sqap_vla_ros.tools.replay.results_reader import Laps, Run

WAIT_NS = 10**9


@dataclass(frozen=True)
class Scene:
    """An image and what is drawn on it.

    Attributes:
        stamp_ns: Stamp of the image.
        recorded_ns: Recording time of the image.
        message: The sensor_msgs image.
        tick: Tick of the plan to show; None: nothing was planned yet.
        row: Row of that tick in `ticks.parquet`.
        own: Whether the plan was made on this image.
        overlay: What to draw.
        camera_size: Width and height that the calibration is for; None without a calibration.
    """

    stamp_ns: int
    recorded_ns: int
    message: Any
    tick: int | None
    row: Mapping[str, Any] | None
    own: bool
    overlay: Overlay
    camera_size: tuple[int, int] | None

    def overlay_on(self, image: NDArray[np.uint8]) -> Overlay:
        """Overlay for the decoded image: without paths if the calibration is for another size, as for the ring."""
        if self.camera_size == (image.shape[1], image.shape[0]):
            return self.overlay
        return replace(self.overlay, path_px=None, truth_px=None, baseline_px=None)


class SceneReader:
    """Combines the messages of a bag and the results of its replay to scenes, in the order of the images.

    Args:
        run: Results of the replay.
        topics: Topics of the bag that were replayed.
        configuration: Frames of the robot.
        extrinsic: Pose of the camera with which the bag was replayed.
    """

    def __init__(self, run: Run, topics: BagTopics, configuration: Configuration, extrinsic: Extrinsic | None) -> None:
        self._run = run
        self._topics = topics
        self._frames = configuration.frames
        self._tree = TransformTree(max_gap_s=configuration.freshness.transform)
        if extrinsic:
            self._tree.add(extrinsic.parent, extrinsic.child, 0, extrinsic.T_parent_child, static=True)
        self._camera: CameraModel | None = None
        self._ticks = run.planned_by_stamp()
        # Laps are counted as in the results: by the images that have a tick.
        self._laps, self._lap = Laps(), 0
        self._stamps = frozenset(run.stamps_ns.tolist())
        self._latest: int | None = None
        self._image_stamps = JumpDetector(STAMP_BACK_NS)
        self._waiting: deque[tuple[int, Any]] = deque()

    def add(self, topic: str, recorded_ns: int, message: Any) -> Iterator[Scene]:
        """Add a message; yields the scenes that it completes."""
        if topic == self._topics.image:
            at_ns = stamp_ns(message)
            if self._image_stamps.jump_ns(at_ns):
                yield from self.rest()
                self._tree.clear()
            self._waiting.append((recorded_ns, message))
        elif topic == self._topics.camera_info:
            try:
                self._camera = CameraModel.from_camera_info(message)
            except CameraError:
                self._camera = None  # then there is no ring either, and the ticks hold the reason
        elif topic in self._topics.transforms:
            self._tree.add_message(message, static=topic.endswith("tf_static"))
        while self._waiting and self._is_ready(recorded_ns):
            yield self._scene(*self._waiting.popleft())

    def rest(self) -> Iterator[Scene]:
        """Yield the scenes of the images that still wait at the end of the bag."""
        while self._waiting:
            yield self._scene(*self._waiting.popleft())

    def camera_frame(self, message: Any) -> str:
        """Optical frame of an image."""
        return self._frames.camera or str(message.header.frame_id)

    def _is_ready(self, now_ns: int) -> bool:
        recorded_ns, message = self._waiting[0]
        bracketed = self._tree.brackets(self._frames.base, self.camera_frame(message), stamp_ns(message))
        return bracketed or now_ns - recorded_ns > WAIT_NS

    def _scene(self, recorded_ns: int, message: Any) -> Scene:
        at_ns = stamp_ns(message)
        self._lap = self._laps.at(at_ns) if at_ns in self._stamps else self._lap
        own = self._ticks.get((self._lap, at_ns))
        self._latest = self._latest if own is None else own
        row = None if self._latest is None else self._run.row(self._latest)
        overlay = Overlay() if row is None else self._overlay(row, at_ns, self.camera_frame(message))
        size = (self._camera.width, self._camera.height) if self._camera else None
        return Scene(at_ns, recorded_ns, message, self._latest, row, own is not None, overlay, size)

    def _overlay(self, row: Mapping[str, Any], at_ns: int, camera_frame: str) -> Overlay:
        tool_px = None if row["tool_u_px"] is None else np.array([row["tool_u_px"], row["tool_v_px"]])
        paths = [self._project(points, at_ns, camera_frame) for points in gripping_paths_m(row, self._frames).values()]
        return Overlay(token_grid(row), tool_px, *paths)

    def _project(
        self, points_m: NDArray[np.float64] | None, at_ns: int, camera_frame: str
    ) -> NDArray[np.float64] | None:
        """Pixels, float64 (N, 2), of points (N, 3) in the base frame; None if the pose of the camera is unknown."""
        if self._camera is None or points_m is None or not camera_frame:
            return None
        try:
            T_camera_base = self._tree.lookup(camera_frame, self._frames.base, at_ns)
        except TransformError:
            return None
        return self._camera.project(points_m @ T_camera_base[:3, :3].T + T_camera_base[:3, 3])[0]


def gripping_paths_m(row: Mapping[str, Any], frames: Frames) -> dict[str, NDArray[np.float64] | None]:
    """The same of the gripping point, which the cross in a picture marks."""
    paths = paths_m(row)
    start = np.reshape(row["T_base_tool"], (4, 4))
    columns = {"plan": "path", "truth": "truth_path", "baseline": "baseline_path"}
    for name, column in columns.items():
        points, turns = paths[name], row.get(f"{column}_rotations_rad")
        if points is None or turns is None:
            continue
        poses = [start]
        for point, turn in zip(points[1:], np.reshape(np.array(turns, np.float64), (-1, 3)), strict=True):
            known = np.isfinite(turn).all() and np.isfinite(point).all()
            poses.append(transform_from(point, rotation_from_vector(turn)) if known else np.full((4, 4), np.nan))
        paths[name] = gripping_points(np.stack(poses), frames)
    return paths


def paths_m(row: Mapping[str, Any]) -> dict[str, NDArray[np.float64] | None]:
    """Paths of the tool in plan, truth and baseline, float64 (horizon + 1, 3), base frame, from the image's pose on."""
    start = np.reshape(row["T_base_tool"], (4, 4))[:3, 3]
    columns = {"plan": "path_m", "truth": "truth_path_m", "baseline": "baseline_path_m"}
    return {
        name: None if row[column] is None else np.vstack([start, np.array(row[column], np.float64).reshape(-1, 3)])
        for name, column in columns.items()
    }
