"""Patches of the model image: the patch of the tool, and the protected ring around it.

The model sees the camera image resized to its own square. Its preprocessing gives that map for edge-based coordinates,
in which pixel i covers i <= x < i + 1; ROS puts pixel centres at whole numbers, so x = u + 0.5.
"""

import numpy as np
from numpy.typing import NDArray

PATCH_PX = 14


def patch_coordinates(pixel: NDArray[np.float64], model_image_affine: NDArray[np.float64]) -> tuple[int, int]:
    """Patch under a camera pixel, t_c = (floor(u / P_w), floor(v / P_h)) of SQAP-VLA (arXiv 2509.09090).

    Args:
        pixel: float64 (2,), pixel (u, v) of the camera image, pixel centres at whole numbers.
        model_image_affine: float64 (2, 3), from the camera image to the model image, edge-based pixels
            (`vlm.preprocessing.model_image_affine`).

    Returns:
        (column, row); they lie outside the grid if the pixel is not on the model image.
    """
    u, v = pixel
    x, y = model_image_affine @ (u + 0.5, v + 0.5, 1.0)
    return int(np.floor(x / PATCH_PX)), int(np.floor(y / PATCH_PX))


def ring_centre(
    tool_px: NDArray[np.float64] | None, model_image_affine: NDArray[np.float64], rows: int = 16, columns: int = 16
) -> tuple[int, int] | None:
    """Patch (column, row) of the tool, or None if no tool is on the model image; arguments as for `ring_tokens`."""
    if tool_px is None or not np.isfinite(tool_px).all():
        return None
    column, row = patch_coordinates(tool_px, model_image_affine)
    return (column, row) if 0 <= column < columns and 0 <= row < rows else None


def ring_tokens(
    tool_px: NDArray[np.float64] | None,
    model_image_affine: NDArray[np.float64],
    radius: int,
    rows: int = 16,
    columns: int = 16,
) -> NDArray[np.int64]:
    """Tokens of the protected ring, K_ring = {t : max-norm of (t - t_c) <= radius}, clipped at the image edge.

    Args:
        tool_px: float64 (2,), projected tool in the camera image, or None without one.
        model_image_affine: float64 (2, 3), see `patch_coordinates`.
        radius: R_t, patches.
        rows: Rows of the patch grid.
        columns: Columns of the patch grid.

    Returns:
        int64 (n,), ascending indices into the row-major grid; empty if the tool is not on the model image.
    """
    centre = ring_centre(tool_px, model_image_affine, rows, columns)
    if centre is None:
        return np.zeros(0, np.int64)
    column, row = centre
    ring_rows = np.arange(max(row - radius, 0), min(row + radius + 1, rows))
    ring_columns = np.arange(max(column - radius, 0), min(column + radius + 1, columns))
    return (ring_rows[:, None] * columns + ring_columns).ravel()
