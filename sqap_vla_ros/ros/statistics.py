# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the node counts and times about itself."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from sqap_vla_ros.core.rejection import Rejection

WINDOW_TICKS = 200


@dataclass
class TickStatistics:
    """
    Counts since activation, and times of the last ticks.

    :ivar latencies_s: Image stamp to published command, ROS clock.
    :ivar overheads_s: The node's own share of a tick: slot taken to `plan` entered, plus `plan` returned to published.
        Waiting for transforms or for a running plan is not in it.
    :ivar planned_at_s: When chunks were published, steady clock.
    :ivar rejected_s: First and last rejection since the last chunk or generation, steady clock; None: there was none.
    """

    images_received: int = 0
    images_refused: int = 0
    chunks_published: int = 0
    chunks_without_ring: int = 0
    commands_published: int = 0
    commands_clipped: int = 0
    commands_refused: int = 0
    last_rejection: Rejection | None = None
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_TICKS))
    overheads_s: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_TICKS))
    planned_at_s: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_TICKS))
    rejected_s: tuple[float, float] | None = None

    def reject(self, rejection: Rejection, now_s: float) -> bool:
        """Count a rejection at a moment of steady time; returns whether its cause is new, and worth logging."""
        is_new = self.last_rejection is None or rejection.cause is not self.last_rejection.cause
        self.rejected_s = (now_s if self.rejected_s is None else self.rejected_s[0], now_s)
        self.commands_refused += 1
        self.last_rejection = rejection
        return is_new

    def count_chunk(self, with_ring: bool, now_s: float) -> None:
        """Count a chunk that is published at a moment of steady time."""
        self.chunks_published += 1
        self.chunks_without_ring += not with_ring
        self.planned_at_s.append(now_s)
        self.rejected_s = None

    def unplanned(self, longest_s: float) -> Rejection | None:
        """Why images have led to no chunk for longer than that; None when they have."""
        if self.rejected_s is None or self.rejected_s[1] - self.rejected_s[0] <= longest_s:
            return None
        return self.last_rejection

    def plan_rate_hz(self, now_s: float, window_s: float = 5.0) -> float:
        """Chunks per second over the last seconds."""
        return sum(1 for at in self.planned_at_s if now_s - at <= window_s) / window_s


def percentile(values_s: deque[float], q: float) -> float:
    """Return the q-th percentile, NaN when there are no values."""
    return float(np.percentile(np.fromiter(values_s, float), q)) if values_s else float("nan")
