"""The one time-stamped transform tree, fed from /tf and /tf_static, live and from bags.

It never extrapolates: it interpolates between the two transforms that bracket a time and rejects everything else, since
a stale transform puts the tool, and with it the command, in the wrong place.
"""

import math
from bisect import bisect_left, insort
from typing import Any

import numpy as np

from sqap_vla_ros.config.robot import Freshness
from sqap_vla_ros.core.clock import time_ns
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transforms import (
    Quaternion,
    inverse,
    quaternion_from_matrix,
    rotation_from_quaternion,
    slerp,
    transform_from,
    unit_quaternion,
)

Point = tuple[float, float, float]

# A bound on memory whatever the stamps are: 10 s at 2 kHz.
MAX_SAMPLES = 20_000


class TransformError(Exception):
    """A transform cannot be looked up, or added; the message names frames and times."""


class UnknownFrameError(TransformError):
    """No transform with this frame was received."""


class DisconnectedFramesError(TransformError):
    """Both frames are known, but no chain of transforms joins them."""


class ExtrapolationError(TransformError):
    """The time lies before the first or after the last transform of an edge."""


class GapError(TransformError):
    """The transforms that bracket the time are too far apart to interpolate between."""


class InvalidTransformError(TransformError):
    """A transform that cannot be added to the tree."""


class _Edge:
    """The transforms from one frame to its parent, by time; a static edge has a single one, for all times."""

    def __init__(self, parent: str, static: bool) -> None:
        self.parent = parent
        self.static = static
        self.samples: list[tuple[int, Point, Quaternion]] = []
        self._leap_ns: int | None = None  # the last stamp, if it was too far ahead to be accepted

    def insert(self, stamp_ns: int, translation: Point, quaternion: Quaternion, cache_ns: int) -> None:
        sample = stamp_ns, translation, quaternion
        samples = self.samples
        if self.static or not samples:
            self.samples = [sample]
            return
        if stamp_ns > samples[-1][0] + cache_ns:
            # A single stamp from the future would displace all samples, and all that follow: two in a row are a jump.
            if self._leap_ns is None or abs(stamp_ns - self._leap_ns) > cache_ns:
                self._leap_ns = stamp_ns
                return
            samples.clear()
        self._leap_ns = None
        if not samples or stamp_ns > samples[-1][0]:
            samples.append(sample)
        elif stamp_ns >= samples[-1][0] - cache_ns:
            index = bisect_left(samples, (stamp_ns,))
            if samples[index][0] == stamp_ns:
                samples[index] = sample
            else:
                insort(samples, sample)
        expired = bisect_left(samples, (samples[-1][0] - cache_ns,))
        del samples[: max(expired, len(samples) - MAX_SAMPLES)]

    def brackets(self, stamp_ns: int) -> bool:
        return self.static or self.samples[0][0] <= stamp_ns <= self.samples[-1][0]

    def bracket(self, stamp_ns: int) -> tuple[tuple[int, Point, Quaternion], tuple[int, Point, Quaternion]]:
        """The samples that bracket a time, which the edge must bracket."""
        if self.static:
            return self.samples[0], self.samples[0]
        index = bisect_left(self.samples, (stamp_ns,))
        after = self.samples[index]
        return (after if after[0] == stamp_ns else self.samples[index - 1]), after


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns / 1e9:.6f} s"


class TransformTree:
    """Transforms between frames, by time.

    Args:
        cache_s: Time that the transforms of an edge reach back from its newest one.
        max_gap_s: Largest time between two transforms that are interpolated between.
    """

    def __init__(self, cache_s: float = 10.0, max_gap_s: float = Freshness().transform) -> None:
        self._cache_ns = round(cache_s * 1e9)
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._edges: dict[str, _Edge] = {}

    def add(self, parent: str, child: str, stamp_ns: int, T_parent_child: Array, static: bool = False) -> None:
        """Add one transform.

        A second transform with the same stamp replaces the first; one older than the cache is dropped; one that leaps
        ahead by more than the cache is accepted once the next one does so, too; a child that comes with another parent
        (or becomes static, or dynamic) starts anew under that parent.

        Raises:
            InvalidTransformError: It is not a finite rigid transform, a frame has no name, or it would close a loop.
        """
        R = T_parent_child[:3, :3]
        finite = np.isfinite(T_parent_child).all()
        if not finite or not np.allclose(R @ R.T, np.eye(3), atol=1e-3) or np.linalg.det(R) < 0:
            raise InvalidTransformError(f"transform '{parent}' -> '{child}' is not a finite rigid transform")
        x, y, z = (float(value) for value in T_parent_child[:3, 3])
        self._insert(parent, child, stamp_ns, (x, y, z), quaternion_from_matrix(T_parent_child), static)

    def add_message(self, message: Any, static: bool = False) -> tuple[str, ...]:
        """Add the transforms of a tf2_msgs TFMessage.

        Args:
            message: From /tf, or from /tf_static.
            static: Whether it came from /tf_static.

        Returns:
            A sentence about each rejected transform; the others are added.
        """
        rejected = []
        for transform in message.transforms:
            translation, rotation = transform.transform.translation, transform.transform.rotation
            try:
                self._insert(
                    transform.header.frame_id,
                    transform.child_frame_id,
                    time_ns(transform.header.stamp),
                    (float(translation.x), float(translation.y), float(translation.z)),
                    (rotation.x, rotation.y, rotation.z, rotation.w),
                    static,
                )
            except InvalidTransformError as error:
                rejected.append(str(error))
        return tuple(rejected)

    def lookup(self, target: str, source: str, stamp_ns: int) -> Array:
        """Look up the pose of `source` in `target` at a time.

        Returns:
            T_target_source, float64 (4, 4), metres.

        Raises:
            UnknownFrameError: A frame was never received.
            DisconnectedFramesError: The frames belong to different trees.
            ExtrapolationError: The time is not bracketed by the transforms of an edge between the frames.
            GapError: The transforms that bracket the time are more than `max_gap_s` apart.
        """
        try:
            to_target, to_source = self._paths(target, source)
            T_common_target = self._compose(to_target, stamp_ns)
            T_common_source = self._compose(to_source, stamp_ns)
        except TransformError as error:
            raise type(error)(f"no transform '{target}' -> '{source}' at {_seconds(stamp_ns)}: {error}") from None
        return inverse(T_common_target) @ T_common_source

    def children_between(self, target: str, source: str) -> tuple[str, ...]:
        """The child frame of every edge between the frames.

        Raises:
            UnknownFrameError: A frame was never received.
            DisconnectedFramesError: The frames belong to different trees.
        """
        return tuple(child for path in self._paths(target, source) for child in path)

    def brackets(self, target: str, source: str, stamp_ns: int) -> bool:
        """Whether every edge between the frames has transforms on both sides of the time (or is static)."""
        try:
            return all(self._edges[child].brackets(stamp_ns) for child in self.children_between(target, source))
        except TransformError:
            return False

    def latest_ns(self, target: str, source: str) -> int | None:
        """The newest time that every edge between the frames reaches; None without such frames or dynamic edges."""
        try:
            children = self.children_between(target, source)
        except TransformError:
            return None
        edges = [self._edges[child] for child in children]
        return min((edge.samples[-1][0] for edge in edges if not edge.static), default=None)

    def clear(self) -> None:
        """Forget all dynamic transforms, as after a jump of the clock; static ones are sent only once and stay."""
        self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def _insert(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: Point,
        quaternion: Quaternion,
        static: bool,
    ) -> None:
        parent, child = parent.lstrip("/"), child.lstrip("/")
        name = f"transform '{parent}' -> '{child}' at {_seconds(stamp_ns)}"
        if not parent or not child:
            raise InvalidTransformError(f"{name}: both frames need a name")
        if not all(map(math.isfinite, translation)):
            raise InvalidTransformError(f"{name}: translation {translation} is not finite")
        try:
            quaternion = unit_quaternion(quaternion)
        except ValueError as error:
            raise InvalidTransformError(f"{name}: {error}") from None
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent or edge.static != static:
            if child in self._ancestors(parent):
                raise InvalidTransformError(f"{name} would close a loop: '{child}' is above '{parent}' in the tree")
            edge = self._edges[child] = _Edge(parent, static)
        edge.insert(stamp_ns, translation, quaternion, self._cache_ns)

    def _ancestors(self, frame: str) -> list[str]:
        """The frame and all above it, up to the root."""
        frames = [frame]
        while (edge := self._edges.get(frames[-1])) is not None:
            frames.append(edge.parent)
        return frames

    def _paths(self, target: str, source: str) -> tuple[list[str], list[str]]:
        """The frames below the nearest common one, from `target` and from `source` up."""
        target, source = target.lstrip("/"), source.lstrip("/")
        above_target, above_source = self._ancestors(target), self._ancestors(source)
        if above_target[-1] != above_source[-1] or target == source:
            known = self._edges.keys() | {edge.parent for edge in self._edges.values()}
            for frame in (target, source):
                if frame not in known:
                    there_are = ", ".join(sorted(known)) or "none"
                    prefixed = " or ".join(f"'{name}'" for name in sorted(known) if name.endswith(f"/{frame}"))
                    hint = f"; is it {prefixed}, with robot_state_publisher's frame_prefix?" if prefixed else ""
                    raise UnknownFrameError(f"frame '{frame}' is unknown; there are: {there_are}{hint}")
        if above_target[-1] != above_source[-1]:
            raise DisconnectedFramesError(
                f"not connected: '{target}' hangs below '{above_target[-1]}', '{source}' below '{above_source[-1]}'"
            )
        while above_target and above_source and above_target[-1] == above_source[-1]:
            above_target.pop()
            above_source.pop()
        return above_target, above_source

    def _compose(self, path: list[str], stamp_ns: int) -> Array:
        """The pose of the path's first frame in the parent of its last."""
        T = np.eye(4)
        for child in path:
            edge = self._edges[child]
            first_ns, last_ns = edge.samples[0][0], edge.samples[-1][0]
            if not edge.brackets(stamp_ns):
                side = "before the first" if stamp_ns < first_ns else "after the last"
                raise ExtrapolationError(
                    f"it lies {side} transform of '{edge.parent}' -> '{child}', "
                    f"which reach from {_seconds(first_ns)} to {_seconds(last_ns)}"
                )
            (before_ns, p0, q0), (after_ns, p1, q1) = edge.bracket(stamp_ns)
            if after_ns - before_ns > self._max_gap_ns:
                raise GapError(
                    f"the transforms of '{edge.parent}' -> '{child}' around it, at {_seconds(before_ns)} and "
                    f"{_seconds(after_ns)}, are more than {self._max_gap_ns / 1e9:g} s apart"
                )
            if after_ns == before_ns:
                translation, quaternion = p0, q0
            else:
                f = (stamp_ns - before_ns) / (after_ns - before_ns)
                (x0, y0, z0), (x1, y1, z1) = p0, p1
                translation = (x0 + f * (x1 - x0), y0 + f * (y1 - y0), z0 + f * (z1 - z0))
                quaternion = slerp(q0, q1, f)
            T = transform_from(translation, rotation_from_quaternion(quaternion)) @ T
        return T
