"""Samples at a constant rate: at each time of a grid the one that is nearest to it.

A camera that is faster loses frames, one that is slower or misses a frame repeats the nearest one, with its true stamp.
Where nothing came for longer than `gap_s`, or stamps go back, the episode is divided: no row is made up.
"""

from collections.abc import Iterable, Iterator

from sqap_vla_ros.tools.export.samples import Sample


def on_grid(samples: Iterable[Sample], rate_hz: int, gap_s: float) -> Iterator[Sample | None]:
    """The nearest sample at each time of the grid, which begins with the first sample.

    Args:
        samples: In the order of arrival.
        rate_hz: Times of the grid per second.
        gap_s: Longest time between two samples of one episode.

    Yields:
        A sample; None where another episode begins.
    """
    start_ns, step = 0, 0
    last: Sample | None = None

    def time_ns() -> int:
        return start_ns + round(step * 1e9 / rate_hz)

    for sample in samples:
        at_ns = sample.observation.stamp_ns
        if last is not None and not 0 < at_ns - last.observation.stamp_ns <= gap_s * 1e9:
            yield None
            last = None
        if last is None:
            start_ns, step = at_ns, 0
        while time_ns() <= at_ns:
            before = last or sample
            late_ns, early_ns = at_ns - time_ns(), time_ns() - before.observation.stamp_ns
            yield sample if late_ns <= early_ns or before is sample else before
            step += 1
        last = sample
    if last is not None and time_ns() - last.observation.stamp_ns < 0.5e9 / rate_hz:
        yield last
