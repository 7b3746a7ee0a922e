"""Overlay on the camera image: kept tokens by reason, ring, projected tool, planned path.

Coordinates are pixels of the camera image with pixel centres at whole numbers, as in ROS. Lines are drawn at the scale
of the output picture, so that they stay thin.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.reporting.text import Colour, draw_text

# RGB. Colour-blind safe (Okabe and Ito 2008).
REASON_COLOURS: dict[Reason, Colour] = {
    Reason.ATTENTION: (230, 159, 0),
    Reason.RING: (0, 158, 115),
    Reason.SPATIAL: (86, 180, 233),
    Reason.OTHER: (204, 121, 167),
}
REASON_NAMES = {
    Reason.ATTENTION: "attention",
    Reason.RING: "ring",
    Reason.SPATIAL: "farthest point",
    Reason.OTHER: "other",
}
_TOOL_COLOUR: Colour = (255, 255, 255)
PATH_COLOURS: tuple[Colour, Colour] = ((255, 235, 60), (225, 30, 90))  # first and last pose of the plan
TRUTH_COLOUR: Colour = (0, 220, 255)
BASELINE_COLOUR: Colour = (190, 150, 255)
_TEXT_COLOUR: Colour = (235, 235, 235)
_TINT = 0.3  # share of the reason's colour in a kept patch
_PRUNED_BRIGHTNESS = 0.45
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Overlay:
    """What to draw; None leaves a part out.

    Attributes:
        reasons: uint8 (rows, columns), why each patch was kept (`Reason` bits), 0 where it was pruned.
        tool_px: float64 (2,), the projected tool.
        path_px: float64 (N, 2), projected tool poses of the plan, in order; NaN rows are left out.
        truth_px: float64 (N, 2), likewise the recorded motion of the tool.
        baseline_px: float64 (N, 2), likewise the plan of the baseline.
    """

    reasons: NDArray[np.uint8] | None = None
    tool_px: NDArray[np.float64] | None = None
    path_px: NDArray[np.float64] | None = None
    truth_px: NDArray[np.float64] | None = None
    baseline_px: NDArray[np.float64] | None = None


def draw_overlay(image: NDArray[np.uint8], overlay: Overlay, width: int = 640) -> NDArray[np.uint8]:
    """Draw an overlay on an image.

    Args:
        image: uint8 (height, width, 3), RGB. The patch grid covers all of it, as the model sees it (stretched to its
            own square).
        overlay: What to draw.
        width: Width of the picture, pixels; the height keeps the aspect ratio.

    Returns:
        uint8 (picture height, width, 3), RGB.
    """
    scale = width / image.shape[1]
    size = width, max(round(image.shape[0] * scale), 1)
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    picture: NDArray[Any] = cv2.resize(image, size, interpolation=interpolation)
    if overlay.reasons is not None:
        picture = _tint(picture, overlay.reasons)
        _outline_ring(picture, overlay.reasons)
    for path_px, colours in (
        (overlay.truth_px, (TRUTH_COLOUR, TRUTH_COLOUR)),
        (overlay.baseline_px, (BASELINE_COLOUR, BASELINE_COLOUR)),
        (overlay.path_px, PATH_COLOURS),
    ):
        if path_px is not None:
            _draw_path(picture, (path_px + 0.5) * scale - 0.5, colours)
    if overlay.tool_px is not None:
        _draw_tool(picture, (overlay.tool_px + 0.5) * scale - 0.5)
    return picture


def add_caption(picture: NDArray[np.uint8], lines: list[str], reasons: bool = True) -> NDArray[np.uint8]:
    """Add lines of text below a picture, and a legend of what is drawn on it.

    Args:
        picture: uint8 (height, width, 3), RGB.
        lines: One or more lines of text; one that is too long is drawn smaller, and ends with … if it still is.
        reasons: Whether to add the legend.

    Returns:
        uint8 (greater height, width, 3). The added rows depend on the number of lines alone; the height is even, as
        video encoders need it.
    """
    size = max(11.0, picture.shape[1] / 46)
    line_px = round(1.45 * size)
    rows = len(lines) + reasons
    height = picture.shape[0] + rows * line_px + line_px // 2
    captioned = np.full((height + height % 2, picture.shape[1], 3), 24, np.uint8)
    captioned[: picture.shape[0]] = picture
    baseline = picture.shape[0] + line_px
    margin = line_px // 2
    for line in lines:
        draw_text(captioned, line, margin, baseline, size, _TEXT_COLOUR, picture.shape[1] - 2 * margin)
        baseline += line_px
    if reasons:
        _draw_legend(captioned, margin, baseline, size)
    return captioned


def _draw_legend(picture: NDArray[np.uint8], x: int, baseline: int, size: float) -> None:
    """The colours of the reasons, the cross and the plan: all that is drawn in every picture."""
    side = round(0.7 * size)
    for reason in (Reason.ATTENTION, Reason.RING, Reason.SPATIAL):
        cv2.rectangle(picture, (x, baseline - side), (x + side, baseline), REASON_COLOURS[reason], -1)
        x += side + side // 2
        x += draw_text(picture, REASON_NAMES[reason], x, baseline, size, _TEXT_COLOUR) + side
    middle = baseline - side / 2
    _draw_tool(picture, np.array([x + side / 2, middle]), side / 2)
    x += side + side // 2
    x += draw_text(picture, "gripping point", x, baseline, size, _TEXT_COLOUR) + side
    _draw_path(picture, np.array([[x, middle], [x + side, middle], [x + 2 * side, middle]]), PATH_COLOURS)
    draw_text(picture, "plan", x + 2 * side + side // 2 + 3, baseline, size, _TEXT_COLOUR)


def _tint(picture: NDArray[np.uint8], reasons: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tint kept patches in the colour of their reason and darken pruned ones; others do not change."""
    colours = np.zeros((*reasons.shape, 3), np.float32)
    weights = np.zeros((*reasons.shape, 1), np.float32)
    # The ring is drawn over attention, attention over farthest points: the rarer reason is visible.
    for reason in (Reason.OTHER, Reason.SPATIAL, Reason.ATTENTION, Reason.RING):
        has = (reasons & reason) > 0
        colours[has], weights[has] = REASON_COLOURS[reason], _TINT
    brightness = np.where(reasons[..., None] == Reason.PRUNED, _PRUNED_BRIGHTNESS, 1.0 - weights).repeat(3, axis=2)
    size = picture.shape[1::-1]
    dimmed, tint = (
        cv2.resize(layer.round().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        for layer in (255 * brightness, colours * weights)
    )
    tinted: NDArray[Any] = cv2.add(cv2.multiply(picture, dimmed, scale=1 / 255), tint)
    return tinted


def _outline_ring(picture: NDArray[np.uint8], reasons: NDArray[np.uint8]) -> None:
    rows, columns = np.nonzero(reasons & Reason.RING)
    if not rows.size:
        return
    patch = np.array([picture.shape[1] / reasons.shape[1], picture.shape[0] / reasons.shape[0]])
    start = np.array([columns.min(), rows.min()]) * patch
    end = np.array([columns.max() + 1, rows.max() + 1]) * patch - 1
    cv2.rectangle(picture, _point(start), _point(end), REASON_COLOURS[Reason.RING], 2, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_path(picture: NDArray[np.uint8], path_px: NDArray[np.float64], first_and_last: tuple[Colour, Colour]) -> None:
    visible = path_px[np.isfinite(path_px).all(axis=1)]
    first, last = (np.array(colour, float) for colour in first_and_last)
    shares = np.linspace(0, 1, max(len(visible), 2))
    colours = [tuple(int(value) for value in (1 - share) * first + share * last) for share in shares]
    for start, end, colour in zip(visible[:-1], visible[1:], colours, strict=False):
        cv2.line(picture, _point(start), _point(end), colour, 2, cv2.LINE_AA, _SUBPIXEL_BITS)
    for point, colour in zip(visible, colours, strict=False):
        cv2.circle(picture, _point(point), 3 << _SUBPIXEL_BITS, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_tool(picture: NDArray[np.uint8], tool_px: NDArray[np.float64], arm_px: float = 9.0) -> None:
    arm = np.array([arm_px, 0.0])
    for direction in (arm, arm[::-1]):
        for colour, thickness in (((0, 0, 0), 4), (_TOOL_COLOUR, 2)):
            start, end = _point(tool_px - direction), _point(tool_px + direction)
            cv2.line(picture, start, end, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _point(pixel: NDArray[np.float64]) -> tuple[int, int]:
    """OpenCV's fixed-point coordinates, within the range of its 16-bit line clipping."""
    x, y = np.clip(pixel, -4000, 4000) * (1 << _SUBPIXEL_BITS)
    return round(float(x)), round(float(y))
