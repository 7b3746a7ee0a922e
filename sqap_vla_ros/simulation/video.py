"""A video of a recorded episode: every camera frame with the visual tokens that were kept and the planned path.

It is made from the bag, so that it shows what was on the topics. A frame that was not planned on shows the latest plan
before it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.perception.camera import CameraModel
from sqap_vla_ros.perception.conventions import gripping_points, integrate
from sqap_vla_ros.perception.transforms import inverse, transform_from_message
from sqap_vla_ros.reporting.overlay import Overlay, add_caption, draw_overlay
from sqap_vla_ros.reporting.video_writer import write_mp4

_WIDTH_PX = 640  # even, for H.264


@dataclass(frozen=True)
class _Plan:
    """A chunk with its token mask: the latest plan at a frame."""

    chunk: Any
    mask: Any = None


def write_video(bag: Path, path: Path, configuration: Configuration) -> int:
    """Write an H.264 MP4 that browsers play.

    Args:
        bag: Recording of a cell.
        path: The MP4.
        configuration: Topics, frames and action convention of the robot.

    Returns:
        Number of frames written.

    Raises:
        ValueError: The bag has no images.
    """
    frames = write_mp4(_pictures(bag, configuration), path)
    if not frames:
        raise ValueError(f"{bag}: no images on {configuration.topics.image}; nothing to show")
    return frames


def path_in_image(
    actions: NDArray[np.float64],
    T_base_tool: NDArray[np.float64],
    configuration: Configuration,
    camera: CameraModel,
    T_camera_base: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The pixels of the gripping point along the tool poses that a chunk leads to.

    Args:
        actions: float64 (horizon, 7), un-normalised.
        T_base_tool: float64 (4, 4), the pose that they start from [m].
        configuration: Frames and action convention of the robot.
        camera: Intrinsics.
        T_camera_base: float64 (4, 4), the base in the camera's optical frame [m].

    Returns:
        float64 (horizon + 1, 2), (u, v), the start included; NaN where a pose cannot be seen.
    """
    poses = integrate(actions, T_base_tool, configuration.action, configuration.frames)
    points = gripping_points(np.concatenate([T_base_tool[None], poses]), configuration.frames)
    return camera.project(points @ T_camera_base[:3, :3].T + T_camera_base[:3, 3])[0]


def _pictures(bag: Path, configuration: Configuration) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Stamp and picture of every camera frame, in the order of recording, each drawn once its own plan is known."""
    plans = _plans(bag, configuration)
    latest: _Plan | None = None
    state = _State(configuration)
    start_ns: int | None = None
    for topic, message in _messages(bag, state.topics):
        if topic != configuration.topics.image:
            state.update(topic, message)
            continue
        at_ns = stamp_ns(message)
        start_ns = at_ns if start_ns is None else start_ns
        latest = plans.get(at_ns, latest)
        image = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        picture = draw_overlay(image, state.overlay(latest), _WIDTH_PX)
        yield at_ns, add_caption(picture, state.caption(latest, (at_ns - start_ns) * 1e-9))


class _State:
    """The last messages on the camera, its pose and the task."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._camera: CameraModel | None = None
        self._T_camera_base: NDArray[np.float64] | None = None
        self._instruction = ""
        self._latency_s = float("nan")
        camera = configuration.topics.image, configuration.topics.camera_info
        self.topics = (*camera, "/tf", "/tf_static", "/sqap_vla/instruction", "/sqap_vla/status")

    def update(self, topic: str, message: Any) -> None:
        """Take a message of one of `topics`, except the images."""
        if topic == self._configuration.topics.camera_info:
            self._camera = self._camera or CameraModel.from_camera_info(message)
        elif topic in ("/tf", "/tf_static"):
            frames = self._configuration.frames
            for transform in message.transforms:
                if (transform.header.frame_id, transform.child_frame_id) == (frames.base, frames.camera):
                    T_base_camera = transform_from_message(transform.transform)
                    self._T_camera_base = inverse(T_base_camera)
        elif topic == "/sqap_vla/status":
            self._latency_s = message.latency_p50
        else:
            self._instruction = message.data

    def overlay(self, plan: _Plan | None) -> Overlay:
        """The overlay for a plan."""
        if plan is None:
            return Overlay()
        overlay = Overlay(path_px=self._path_px(plan.chunk))
        if plan.mask is None:
            return overlay
        mask = plan.mask
        tool_px = np.array([mask.tool_u, mask.tool_v]) if mask.tool_valid else None
        return replace(overlay, reasons=np.asarray(mask.reason).reshape(mask.rows, mask.columns), tool_px=tool_px)

    def _path_px(self, chunk: Any) -> NDArray[np.float64] | None:
        if self._camera is None or self._T_camera_base is None:
            return None
        actions = np.asarray(chunk.data).reshape(-1, 7)
        T_base_tool = transform_from_message(chunk.tool_pose)
        return path_in_image(actions, T_base_tool, self._configuration, self._camera, self._T_camera_base)

    def caption(self, plan: _Plan | None, time_s: float) -> list[str]:
        """Three lines: the task; time, policy and kept tokens; durations."""
        if plan is None:
            return [self._instruction, f"{time_s:.1f} s   no plan yet", ""]
        what = f"{time_s:.1f} s   {plan.chunk.policy_id}"
        if plan.mask is not None:
            what += f"   {np.count_nonzero(plan.mask.reason)} of {len(plan.mask.reason)} visual tokens kept"
        took = f"planned in {plan.chunk.inference_time * 1e3:.0f} ms"
        if np.isfinite(self._latency_s):
            took += f"   image to command, median {self._latency_s * 1e3:.0f} ms"
        return [self._instruction, what, took]


def _plans(bag: Path, configuration: Configuration) -> dict[int, _Plan]:
    """The plans by stamp of their image; chunks are recorded after the frames that follow their own."""
    plans: dict[int, _Plan] = {}
    for topic, message in _messages(bag, ("/sqap_vla/chunk", "/sqap_vla/token_mask")):
        at_ns = stamp_ns(message)
        if topic.endswith("chunk"):
            plans[at_ns] = replace(plans.get(at_ns, _Plan(None)), chunk=message)
        else:
            plans[at_ns] = replace(plans.get(at_ns, _Plan(None)), mask=message)
    return {at_ns: plan for at_ns, plan in plans.items() if plan.chunk is not None}


def _messages(bag: Path, topics: Collection[str]) -> Iterator[tuple[str, Any]]:
    with Bag(bag) as recording:
        yield from ((topic, message) for topic, _, message in recording.messages(topics))
