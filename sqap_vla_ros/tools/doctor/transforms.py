"""Are the transforms from base to tool and camera present, steady, and in time for the images?"""

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.perception.transform_tree import TransformError
from sqap_vla_ros.tools.doctor.evidence import Edge, Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level
from sqap_vla_ros.tools.doctor.images import OTHER_CLOCK_S
from sqap_vla_ros.tools.doctor.times import Times

_LATE_SHARE = 0.05  # share of the images up to which late transforms do not matter
_ADVICE = {
    "tool": "start the publisher of the arm's transforms (robot_state_publisher), or correct frames.base, frames.tool",
    "camera": "publish the camera's pose (static_transform_publisher), or set frames.camera to its optical frame",
}


def check_transforms(evidence: Evidence, ring_level: Level) -> list[Finding]:
    """Check existence, rate, gaps, jumps and delay of the transforms that an image needs.

    Args:
        evidence: The messages received.
        ring_level: Level of a finding that prevents the ring around the tool.
    """
    frames = evidence.configuration.frames
    findings = _check_chain(evidence, frames.tool, "tool", Level.PROBLEM)
    if evidence.camera_frame:
        findings += _check_chain(evidence, evidence.camera_frame, "camera", ring_level)
    elif len(evidence.images):
        advice = "set frames.camera to the camera's optical frame, or let the driver fill in frame_id"
        findings.append(Finding(ring_level, "TF camera", "the images have no frame_id", advice))
    if evidence.rejected_transforms.total:
        words = "; ".join(
            f"{count} times: {what}" for what, count in evidence.rejected_transforms.most_common().items()
        )
        findings.append(Finding(Level.WARNING, "TF rejected", words, "correct the node that publishes them"))
    return findings


def _check_chain(evidence: Evidence, frame: str, name: str, missing: Level) -> list[Finding]:
    base, about = evidence.configuration.frames.base, f"TF {name}"
    try:
        children = evidence.tree.children_between(base, frame)
    except TransformError as error:
        return [Finding(missing, about, f"no transform '{base}' -> '{frame}': {error}", _ADVICE[name])]
    edges = {child: evidence.edges[child] for child in children if child in evidence.edges}
    moving = {child: edge for child, edge in edges.items() if not edge.static}
    chain = f"'{base}' -> '{frame}' over {len(edges)} transform{'s' * (len(edges) != 1)}"
    if not moving:
        if name == "tool":
            advice = "the tool never moves: frames.tool must be below the arm's joints"
            return [Finding(Level.WARNING, about, f"{chain}, all static", advice)]
        return [Finding(Level.OK, about, f"{chain}, all static")]
    findings = [_steadiness(evidence, about, chain, moving)]
    findings += [finding for child, edge in edges.items() for finding in _conflicts(about, child, edge)]
    return [*findings, *_delay(evidence, about, moving, missing)]


def _steadiness(evidence: Evidence, about: str, chain: str, moving: dict[str, Edge]) -> Finding:
    """Check rate and gaps of the slowest transform."""
    limit_s = evidence.configuration.freshness.transform
    intervals_s = {child: np.diff(np.unique(edge.times.stamps_ns) * 1e-9) for child, edge in moving.items()}
    once = [child for child, intervals in intervals_s.items() if not len(intervals)]
    if once:
        advice = "publish a fixed transform on /tf_static, and one that moves steadily on /tf"
        return Finding(Level.PROBLEM, about, f"{chain}; '{once[0]}' came only once, on /tf", advice)
    slowest = max(intervals_s, key=lambda child: float(np.median(intervals_s[child])))
    rate_hz = 1 / float(np.median(intervals_s[slowest]))
    longest_s = max(float(intervals.max()) for intervals in intervals_s.values())
    gaps = sum(int((intervals > limit_s).sum()) for intervals in intervals_s.values())
    what = f"{chain}, at {rate_hz:.0f} Hz, longest gap {longest_s * 1e3:.0f} ms"
    if 1 / rate_hz > limit_s:
        advice = f"publish it at 50 Hz or more: no gap over {limit_s:g} s is interpolated (freshness.transform)"
        return Finding(Level.PROBLEM, about, what, advice)
    if gaps:
        what += f"; {gaps} gaps longer than {limit_s:g} s (freshness.transform)"
        return Finding(Level.WARNING, about, what, "images in a gap are not planned on: look for load or a lossy link")
    return Finding(Level.OK, about, what)


def _conflicts(about: str, child: str, edge: Edge) -> list[Finding]:
    findings = []
    if len(edge.parents) > 1:
        what = f"'{child}' is published with the parents {', '.join(sorted(edge.parents))}"
        findings.append(Finding(Level.PROBLEM, about, what, "two nodes publish it: stop one of them"))
    if edge.jumps:
        what = f"'{child}' jumps {edge.jumps} times, by up to {edge.farthest_jump_m:.2f} m, faster than an arm moves"
        advice = "look for two publishers, a gap in the recording, or a calibration that changed meanwhile"
        findings.append(Finding(Level.WARNING, about, what, advice))
    return findings


def _delay(evidence: Evidence, about: str, moving: dict[str, Edge], missing: Level) -> list[Finding]:
    """Compare the delay of an image's transforms with the time that an image waits for them."""
    if not len(evidence.images):
        return []
    waits_s = np.max([_waits_s(evidence.images, edge.times) for edge in moving.values()], axis=0)
    known = waits_s[np.isfinite(waits_s)]
    limit_s = evidence.configuration.freshness.transform_wait
    if not len(known):
        what = "no image has transforms on both sides of its stamp"
        return [Finding(missing, about, what, "images and transforms must be stamped by the same clock")]
    median_s, late_s = (float(value) for value in np.percentile(known, (50, 95)))
    what = f"an image's transforms arrive {median_s * 1e3:.0f} ms after it (median), {late_s * 1e3:.0f} ms (95 %)"
    if abs(median_s) > OTHER_CLOCK_S:
        return [Finding(missing, about, what, "images and transforms must be stamped by the same clock")]
    late = float((known > limit_s).mean())
    if late <= _LATE_SHARE:
        return [Finding(Level.OK, about, what if late_s > 0 else "an image's transforms arrive before it")]
    what += f"; {late:.0%} of the images wait in vain (freshness.transform_wait = {limit_s:g} s)"
    advice = "publish transforms more often, synchronise the clocks, or raise freshness.transform_wait"
    return [Finding(missing if late > 0.5 else Level.WARNING, about, what, advice)]


def _waits_s(images: Times, transforms: Times) -> NDArray[np.float64]:
    """Time from the arrival of each image to that of the first transform stamped no earlier, seconds (images,).

    It is NaN for images that no transform follows or precedes, where the recording begins or ends.
    """
    order = np.argsort(transforms.stamps_ns, kind="stable")
    stamps_ns = transforms.stamps_ns[order]
    # The first arrival among all transforms that are stamped at or after an image.
    first_ns = np.minimum.accumulate(transforms.received_ns[order][::-1])[::-1]
    place = np.searchsorted(stamps_ns, images.stamps_ns)
    followed = (place < len(stamps_ns)) & (images.stamps_ns >= stamps_ns[0])
    waits_s = np.full(len(images), np.nan)
    waits_s[followed] = (first_ns[place[followed]] - images.received_ns[followed]) * 1e-9
    return np.asarray(waits_s, np.float64)
