"""Do camera images arrive, often enough and fresh enough, and can they be decoded?"""

import numpy as np

from sqap_vla_ros.control.safety.checks import STAMP_TOLERANCE_S
from sqap_vla_ros.perception.calibration import other_camera_frame
from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level
from sqap_vla_ros.tools.doctor.times import Times

# Beyond this difference, stamps and times of arrival come from different clocks.
OTHER_CLOCK_S = 60.0


def check_images(evidence: Evidence) -> list[Finding]:
    """Check rate, gaps, age on arrival, size and encoding of the images."""
    topic = evidence.configuration.topics.image
    if not len(evidence.images):
        advice = "start the camera's driver, or correct topics.image in the robot's file"
        return [Finding(Level.PROBLEM, "images", f"no image on {topic}", advice)]
    findings = [_rate(evidence), _format(evidence)]
    if difference := other_camera_frame(evidence.configuration.frames, next(iter(evidence.image_frames), "")):
        advice = "correct only where the driver's frame_id is not the optical frame that TF has"
        findings.append(Finding(Level.WARNING, "camera frame", difference, advice))
    findings += age_findings("image age", evidence.images, evidence.configuration.freshness.image, "freshness.image")
    if evidence.rejected_images.total:
        what, count = next(iter(evidence.rejected_images.most_common().items()))
        share = evidence.rejected_images.total / len(evidence.images)
        level = Level.PROBLEM if share > 0.5 else Level.WARNING
        words = f"{share:.0%} of the images cannot be used; {count} of them: {what}"
        findings.append(Finding(level, "images rejected", words, "set the driver to rgb8, bgr8, JPEG or PNG"))
    if evidence.clock_jumps:
        what = f"the clock was set back {evidence.clock_jumps} times; the findings are about the last stretch"
        findings.append(Finding(Level.WARNING, "clock", what, "play the bag without --loop, or wait for its end"))
    return findings


def age_findings(about: str, times: Times, limit_s: float, limit: str) -> list[Finding]:
    """Check the age of messages on arrival.

    Args:
        about: The part of the set-up, for the findings.
        times: Times of the messages.
        limit_s: Largest age at which a message is used.
        limit: Name of that setting.
    """
    ages_s = (times.received_ns - times.stamps_ns) * 1e-9
    median_s, late_s = (float(value) for value in np.percentile(ages_s, (50, 95)))
    what = f"{_duration(median_s)} old on arrival (median), {_duration(late_s)} (95 %)"
    if abs(median_s) > OTHER_CLOCK_S:
        what = f"stamps and times of arrival are {abs(median_s):.0f} s apart (median): they come from different clocks"
        advice = (
            "live: synchronise the clocks, or use --use-sim-time for a simulation; in a bag: record with the same clock"
        )
        return [Finding(Level.WARNING, about, what, advice)]
    if median_s < -STAMP_TOLERANCE_S:
        advice = "synchronise the clocks of the computers (chrony), or of the camera with its computer"
        return [Finding(Level.PROBLEM, about, f"{what}: stamped in the future", advice)]
    if median_s > limit_s:
        advice = "find what delays the messages, or whether the clocks of two computers differ"
        return [Finding(Level.PROBLEM, about, f"{what}; nothing older than {limit} = {limit_s:g} s is used", advice)]
    if late_s > limit_s / 2:
        advice = f"little of {limit} = {limit_s:g} s remains for planning: use a faster link or smaller images"
        return [Finding(Level.WARNING, about, what, advice)]
    return [Finding(Level.OK, about, what)]


def _rate(evidence: Evidence) -> Finding:
    stamps_ns = np.sort(evidence.images.stamps_ns)
    if stamps_ns[0] <= 0:
        return Finding(Level.PROBLEM, "image rate", "images have no stamp", "the camera's driver must stamp its images")
    if len(stamps_ns) < 3:
        return Finding(
            Level.WARNING,
            "image rate",
            f"only {len(stamps_ns)} images: too few to measure a rate",
            "record or listen for longer",
        )
    intervals_s = np.diff(stamps_ns) * 1e-9
    median_s, longest_s = float(np.median(intervals_s)), float(intervals_s.max())
    if median_s <= 0:
        advice = "every image needs the stamp of its own exposure"
        return Finding(Level.PROBLEM, "image rate", "most images have the stamp of the previous one", advice)
    what = f"{len(stamps_ns)} images at {1 / median_s:.1f} Hz, longest gap {_duration(longest_s)}"
    action = evidence.configuration.action
    limit_s = evidence.configuration.freshness.image
    if longest_s > limit_s:
        advice = f"the arm stops in such a gap (freshness.image = {limit_s:g} s): look for load or a lossy link"
        return Finding(Level.WARNING, "image rate", what, advice)
    if median_s > 1.5 / action.rate_hz:
        what += f"; the policy was trained at {action.rate_hz:g} Hz"
        return Finding(Level.WARNING, "image rate", what, "a faster camera lets the policy react sooner")
    return Finding(Level.OK, "image rate", what)


def _format(evidence: Evidence) -> Finding:
    names = []
    for (encoding, width, height), count in evidence.formats.most_common():
        size = f" {width}x{height}" if width else ""
        names.append(f"{encoding}{size}" + (f" ({count} times)" if len(evidence.formats) > 1 else ""))
    what = ", ".join(names)
    if evidence.observations and not evidence.formats.most_common(1)[0][0][1]:
        height, width = evidence.observations[-1].image.shape[:2]
        what += f", {width}x{height}"
    if len(evidence.formats) > 1:
        advice = "this topic must carry a single camera in a single mode; a calibration is for one size"
        return Finding(Level.WARNING, "image format", what, advice)
    return Finding(Level.OK, "image format", what)


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if abs(seconds) < 10 else f"{seconds:.0f} s"
