"""Picture of the newest image with the projected tool, its axes and the ring: it makes a wrong calibration visible."""

from pathlib import Path

import cv2
import numpy as np

from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.perception.camera import CameraModel
from sqap_vla_ros.perception.conventions import tool_policy_transform
from sqap_vla_ros.perception.images import Pixels
from sqap_vla_ros.perception.patches import PATCH_PX, ring_tokens
from sqap_vla_ros.perception.transforms import Array
from sqap_vla_ros.reporting.overlay import REASON_COLOURS, Overlay, add_caption, draw_overlay
from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.vlm.preprocessing import MODEL_IMAGE_PX, model_image_affine

WIDTH_PX = 960
_AXIS_M = 0.1
_AXES = (("x", (230, 60, 60)), ("y", (70, 200, 70)), ("z", (80, 120, 255)))
_PER_SIDE = MODEL_IMAGE_PX // PATCH_PX


def write_picture(evidence: Evidence, ring_radius: int | None, path: Path) -> bool:
    """Write the newest image that could be planned on.

    Args:
        evidence: The messages received.
        ring_radius: Radius of the ring around the tool, patches; None: the policy has no ring.
        path: Path of the PNG file.

    Returns:
        Whether there was such an image.
    """
    if not evidence.observations:
        return False
    observation = evidence.observations[-1]
    image, tool_px = observation.image, observation.tool_px
    scale = WIDTH_PX / image.shape[1]
    picture = draw_overlay(image, Overlay(), WIDTH_PX)
    if tool_px is not None and ring_radius is not None:
        _draw_ring(picture, tool_px, image.shape[1], image.shape[0], ring_radius)
    if isinstance(evidence.camera, CameraModel) and evidence.T_camera_base is not None:
        frames = evidence.configuration.frames
        T_camera_policy = evidence.T_camera_base @ observation.T_base_tool @ tool_policy_transform(frames)
        _draw_axes(picture, evidence.camera, T_camera_policy, scale, _AXIS_M)
        _draw_axes(picture, evidence.camera, evidence.T_camera_base, scale, 2 * _AXIS_M)
    if tool_px is not None:  # over everything else
        picture = draw_overlay(picture, Overlay(tool_px=(tool_px + 0.5) * scale - 0.5), WIDTH_PX)
    lines = [
        "cross: the gripping point by TF and camera_info (frames.ring_xyz)",
        "The cross must lie on the gripper in the image.",
        f"axes of tool ({100 * _AXIS_M:.0f} cm) and base ({200 * _AXIS_M:.0f} cm): x red, y green, z blue",
        *([f"no ring: {observation.no_ring_reason}"] if observation.no_ring_reason else ["square: the ring"]),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = cv2.cvtColor(add_caption(picture, lines, reasons=False), cv2.COLOR_RGB2BGR)
    # OpenCV itself says nothing of a disk that is full.
    write_whole(path, cv2.imencode(path.suffix, shown)[1].tobytes())
    return True


def _draw_ring(picture: Pixels, tool_px: Array, width: int, height: int, radius: int) -> None:
    ring = ring_tokens(tool_px, model_image_affine(width, height), radius, _PER_SIDE, _PER_SIDE)
    if not ring.size:
        return
    rows, columns = ring // _PER_SIDE, ring % _PER_SIDE
    patch = np.array(picture.shape[1::-1]) / _PER_SIDE
    start, end = (np.array(corner) * patch for corner in ((columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)))
    corners = [tuple(round(float(value)) for value in corner) for corner in (start, end - 1)]
    cv2.rectangle(picture, corners[0], corners[1], REASON_COLOURS[Reason.RING], 2, cv2.LINE_AA)


def _draw_axes(picture: Pixels, camera: CameraModel, T_camera_frame: Array, scale: float, length_m: float) -> None:
    """Draw the axes that can be projected; none if the origin cannot."""
    ends = np.vstack([np.zeros(3), length_m * np.eye(3)])
    pixels, valid = camera.project(ends @ T_camera_frame[:3, :3].T + T_camera_frame[:3, 3])
    drawn = np.clip((pixels + 0.5) * scale - 0.5, -4000, 4000)
    for (name, colour), end, there in zip(_AXES, drawn[1:], valid[1:], strict=True):
        if not (valid[0] and there):
            continue
        start_px, end_px = (tuple(round(float(value)) for value in point) for point in (drawn[0], end))
        cv2.arrowedLine(picture, start_px, end_px, colour, 3, cv2.LINE_AA, tipLength=0.15)
        cv2.putText(
            picture, name, (end_px[0] + 6, end_px[1] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 2, cv2.LINE_AA
        )
