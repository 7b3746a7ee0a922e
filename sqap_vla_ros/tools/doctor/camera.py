"""Is there a calibration of the camera, does it fit the images, and is it plausible?"""

import math

from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level

_ASPECT_TOLERANCE = 0.05
_CENTRE_TOLERANCE = 0.15  # of the image's size
_FIELD_OF_VIEW_DEG = (20.0, 140.0)


def check_camera(evidence: Evidence, ring_level: Level) -> list[Finding]:
    """Check that camera_info is present, usable and plausible.

    Args:
        evidence: The messages received.
        ring_level: Level of a finding that prevents the ring around the tool.
    """
    topic = evidence.configuration.topics.camera_info
    camera, info = evidence.camera, evidence.camera_info
    if info is None:
        advice = (
            "let the camera's driver publish its calibration (sent only once, it must be latched: durability transient "
            "local); without it there is no ring around the tool"
        )
        return [Finding(ring_level, "camera_info", f"no camera_info on {topic}", advice)]
    if isinstance(camera, str):
        is_calibrated = "calibrat" not in camera
        advice = "calibrate the camera (camera_calibration) and give the result to its driver"
        if is_calibrated:
            advice = f"correct what the camera's driver publishes on {topic}"
        return [Finding(ring_level, "camera_info", camera, advice)]
    fx, fy, cx, cy = (float(camera.K[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    fields_of_view = [
        math.degrees(2 * math.atan(size / (2 * f))) for size, f in ((camera.width, fx), (camera.height, fy))
    ]
    model = camera.distortion_model if camera.distortion.any() else "no"
    what = (
        f"{camera.width}x{camera.height}, fx {fx:.1f}, fy {fy:.1f}, centre ({cx:.1f}, {cy:.1f}) px, "
        f"{fields_of_view[0]:.0f}° wide, {model} distortion"
    )
    if evidence.camera_infos == 1 and len(evidence.images) > 1:
        what += "; received once, as from a publisher that latches it"
    findings = [Finding(Level.OK, "camera_info", what)]

    def doubt(level: Level, words: str, advice: str) -> None:
        findings.append(Finding(level, "camera_info", words, advice))

    if info.header.frame_id and evidence.image_frames and info.header.frame_id not in evidence.image_frames:
        frame = next(iter(dict(evidence.image_frames.most_common(1))))
        words = f"its frame is '{info.header.frame_id}', that of the images is '{frame}'"
        doubt(Level.WARNING, words, f"if {topic} is the calibration of another camera, the ring is wrong")
    sizes = {observation.image.shape[1::-1] for observation in evidence.observations}
    sizes |= {(width, height) for _, width, height in evidence.formats if width}
    if wrong := sorted(size for size in sizes if size != (camera.width, camera.height)):
        width, height = wrong[0]
        words = f"it is for {camera.width}x{camera.height} images, but the images are {width}x{height}"
        doubt(ring_level, words, "calibrate at the images' resolution, or let the driver scale its camera_info too")
    if abs(fx / fy - 1) > _ASPECT_TOLERANCE:
        words = f"fx {fx:.1f} and fy {fy:.1f} differ by {abs(fx / fy - 1):.0%}; pixels of real cameras are square"
        doubt(Level.WARNING, words, "if the image was stretched after the calibration, calibrate again")
    if not camera.contains(camera.K[:2, 2]):
        doubt(ring_level, f"the principal point ({cx:.0f}, {cy:.0f}) lies outside the image", "calibrate again")
    elif max(abs(cx / camera.width - 0.5), abs(cy / camera.height - 0.5)) > _CENTRE_TOLERANCE:
        words = f"the principal point ({cx:.0f}, {cy:.0f}) is far from the centre"
        doubt(Level.WARNING, words, "correct only for a cropped image; otherwise calibrate again")
    low, high = _FIELD_OF_VIEW_DEG
    if not low <= fields_of_view[0] <= high:
        words = f"a field of view of {fields_of_view[0]:.0f}° is unusual"
        doubt(Level.WARNING, words, "compare with the camera's data sheet; K must be in pixels of this resolution")
    if _is_rectified(evidence) and camera.distortion.any():
        words = "the topic's name says that images are rectified, but camera_info has distortion: the ring is off"
        doubt(Level.WARNING, words, "use the raw image topic, or a camera_info without distortion")
    return findings


def _is_rectified(evidence: Evidence) -> bool:
    return "rect" in evidence.configuration.topics.image.removesuffix("/compressed").rpartition("/")[2]
