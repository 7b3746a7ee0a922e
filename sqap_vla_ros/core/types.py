"""Names of array types that many modules share."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""An array of float64; each use states its shape and units."""
