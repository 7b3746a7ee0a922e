"""Times of messages, which is all that is kept of most of them."""

from array import array

import numpy as np
from numpy.typing import NDArray


class Times:
    """Times at which messages were stamped and received, nanoseconds."""

    def __init__(self) -> None:
        self._stamps = array("q")
        self._received = array("q")

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, received_ns: int) -> None:
        """Add the times of one message."""
        self._stamps.append(stamp_ns)
        self._received.append(received_ns)

    @property
    def stamps_ns(self) -> NDArray[np.int64]:
        """Stamps, int64 (n,), in the order of arrival."""
        return np.array(self._stamps, np.int64)

    @property
    def received_ns(self) -> NDArray[np.int64]:
        """Times of arrival, int64 (n,)."""
        return np.array(self._received, np.int64)
