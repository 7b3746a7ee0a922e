"""Are the further cameras and the state there that the policy needs, and is each camera the one it is named for?"""

import numpy as np

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.perception.needs import require
from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level

_ABOUT = "cameras"


def check_cameras(evidence: Evidence, policy: str) -> list[Finding]:
    """Compare the robot file with what the policy needs, and the cameras with the first one.

    Args:
        evidence: With the images of all cameras.
        policy: Name of the policy that the set-up runs.
    """
    findings = []
    try:
        require(evidence.needs, evidence.configuration, policy)
    except ConfigurationError as error:
        findings.append(Finding(Level.PROBLEM, _ABOUT, str(error), "see Add a robot: several cameras, and a state"))
    if evidence.further_problem:
        findings.append(Finding(Level.PROBLEM, _ABOUT, evidence.further_problem, "the node would not command anything"))
    frames = {camera.frame.lstrip("/"): camera.name for camera in evidence.configuration.cameras if camera.frame}
    for camera in evidence.configuration.cameras[: evidence.needs.cameras]:
        if (own := frames.get(evidence.frame_of_images(camera.name))) not in (None, camera.name):
            what = f"images of camera {camera.name} on {camera.image} carry the frame of camera {own}: swapped?"
            advice = "correct the order in topics.cameras.images, or the drivers' frame_id; nothing else notices it"
            findings.append(Finding(Level.PROBLEM, _ABOUT, what, advice))
    return findings + [_in_step(evidence, name) for name in evidence.further_images]


def _in_step(evidence: Evidence, name: str) -> Finding:
    """How far the stamps of a camera are from the first one's."""
    skew_s = evidence.configuration.freshness.camera_skew
    first, other = evidence.images.stamps_ns, np.sort(evidence.further_images[name].stamps_ns)
    if not len(other):
        what = f"camera {name}: no images"
        return Finding(Level.PROBLEM, _ABOUT, what, "start its driver, or correct topics.cameras.images")
    after = np.clip(np.searchsorted(other, first), 0, len(other) - 1)
    nearest = np.minimum(np.abs(other[after] - first), np.abs(other[np.maximum(after - 1, 0)] - first)) * 1e-9
    share = float((nearest > skew_s).mean()) if len(first) else 0.0
    typical_ms = 1e3 * float(np.median(nearest)) if len(first) else 0.0
    what = f"camera {name}: {len(other)} images, typically {typical_ms:.0f} ms from the first camera's"
    if not share:
        return Finding(Level.OK, _ABOUT, what)
    what += f"; {share:.0%} of the first camera's images have none within {skew_s:g} s (freshness.camera_skew)"
    advice = "synchronise the drivers or their clocks; for cameras that run freely, half their period"
    return Finding(Level.PROBLEM if share > 0.5 else Level.WARNING, _ABOUT, what, advice)
