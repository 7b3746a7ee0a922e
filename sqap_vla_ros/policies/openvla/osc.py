"""LIBERO's actions: inputs of robosuite's operational-space controller, which are no motions.

At every tick the controller's target is the measured pose plus the input times a scale, and the arm goes there like a
critically damped spring. It never arrives: the next tick sets another target. A constant input moves the arm steadily,
by half the spring's frequency times the input per second.
"""

import math

import numpy as np

from sqap_vla_ros.core.types import Array

RATE_HZ = 20.0
# The controller's target is this far from the measured pose at an input of 1, and its stiffness [1/s^2].
_TRANSLATION_M, _ROTATION_RAD, _STIFFNESS = 0.05, 0.5, 150.0
# Motion per tick of a constant input, relative to its target's distance: 0.31.
_REACHED = math.sqrt(_STIFFNESS) / 2 / RATE_HZ
_SCALE = _REACHED * np.repeat([_TRANSLATION_M, _ROTATION_RAD], 3)


def reached_changes(inputs: Array) -> Array:
    """Changes of the tool pose that the arm reaches per tick.

    Args:
        inputs: float64 (..., 7): six inputs, which the controller clips to ±1, and the gripper.

    Returns:
        float64 (..., 7): metres and radians (axis-angle in base axes), gripper as it is.
    """
    changes = inputs.copy()
    changes[..., :6] = np.clip(inputs[..., :6], -1, 1) * _SCALE
    return changes


def controller_inputs(changes: Array) -> Array:
    """The inputs that `reached_changes` were made of, but for what was clipped: float64 (..., 7)."""
    inputs = changes.copy()
    inputs[..., :6] = changes[..., :6] / _SCALE
    return inputs
