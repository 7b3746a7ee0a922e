"""What the policy sees: camera images and the robot's state at the first image's stamp.

Everything in an observation belongs to one moment. Who assembles it (the node, a bag replay, the
simulation) has already waited for the transforms that bracket the stamp; the policy never looks anything up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """The image of a further camera.

    Attributes:
        stamp_ns: Time of exposure on the ROS clock, nanoseconds.
        image: uint8 (height, width, 3), RGB, as the camera gave it.
        tool_px: float64 (2,), projected tool position in pixels of `image`; None: it cannot be placed.
        no_ring_reason: Why `tool_px` is None, a sentence; empty when it is not.
    """

    stamp_ns: int
    image: NDArray[np.uint8]
    tool_px: NDArray[np.float64] | None = None
    no_ring_reason: str = ""


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
        further: Images of the other cameras by their names, in the order of the robot file.
        state: float64 (numbers,), the robot's state as `PolicyNeeds.state` defines it; None where none is needed.
    """

    stamp_ns: int
    image: NDArray[np.uint8]
    instruction: str
    T_base_tool: NDArray[np.float64]
    tool_px: NDArray[np.float64] | None = None
    no_ring_reason: str = ""
    further: Mapping[str, View] = field(default_factory=dict)
    state: NDArray[np.float64] | None = None

    @property
    def views(self) -> tuple[View, ...]:
        """The images of all cameras, the first camera's first."""
        return View(self.stamp_ns, self.image, self.tool_px, self.no_ring_reason), *self.further.values()
