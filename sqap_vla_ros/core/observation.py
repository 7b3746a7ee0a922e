"""What the policy sees: one camera image and the robot's state at that image's stamp.

Everything in an observation belongs to one moment. Who assembles it (the node, a bag replay, the
simulation) has already waited for the transforms that bracket the stamp; the policy never looks anything up.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Observation:
    """One policy input.

    Attributes:
        stamp_ns: Time of exposure on the ROS clock, nanoseconds.
        image: uint8 (height, width, 3), RGB, as the camera gave it (not resized).
        instruction: What to do, as a sentence; never empty.
        T_base_tool: float64 (4, 4), tool pose in the base frame at `stamp_ns`, metres.
        tool_px: float64 (2,), projected tool position (u to the right, v down) in pixels of `image`, or None
            when the tool cannot be placed in the image; the protected ring is drawn around it.
        no_ring_reason: Why `tool_px` is None, a sentence; empty when it is not.
    """

    stamp_ns: int
    image: NDArray[np.uint8]
    instruction: str
    T_base_tool: NDArray[np.float64]
    tool_px: NDArray[np.float64] | None = None
    no_ring_reason: str = ""
