"""The camera's calibration: is there one, does it fit the images, and does it look like that of a real camera."""

import math

from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level

_ASPECT_TOLERANCE = 0.05
_CENTRE_TOLERANCE = 0.15  # of the image's size
_FIELD_OF_VIEW_DEG = (20.0, 140.0)


def check_camera(evidence: Evidence, ring_level: Level) -> list[Finding]:
    """Sanity of camera_info.

    Args:
        evidence: What was received.
        ring_level: How much it matters when the ring around the tool cannot be drawn.
    """
    topic = evidence.configuration.topics.camera_info
    camera, info = evidence.camera, evidence.camera_info
    if info is None:
        advice = "let the camera's driver publish its calibration: without it there is no ring around the tool"
        return [Finding(ring_level, "camera_info", f"no camera_info on {topic}", advice)]
    if isinstance(camera, str):
        advice = "calibrate the camera (camera_calibration) and give the result to its driver"
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
    findings = [Finding(Level.OK, "camera_info", what)]

    def doubt(level: Level, words: str, advice: str) -> None:
        findings.append(Finding(level, "camera_info", words, advice))

    if info.header.frame_id and evidence.image_frames and info.header.frame_id not in evidence.image_frames:
        frame = next(iter(dict(evidence.image_frames.most_common(1))))
        words = f"it is of frame '{info.header.frame_id}', the images are of '{frame}'"
        doubt(Level.WARNING, words, f"is {topic} the calibration of another camera? Then the ring is wrong")
    sizes = {observation.image.shape[1::-1] for observation in evidence.observations}
    sizes |= {(width, height) for _, width, height in evidence.formats if width}
    if wrong := sorted(size for size in sizes if size != (camera.width, camera.height)):
        width, height = wrong[0]
        words = f"it is for {camera.width}x{camera.height} images, those that come are {width}x{height}"
        doubt(ring_level, words, "calibrate at the images' resolution, or let the driver scale its camera_info too")
    if abs(fx / fy - 1) > _ASPECT_TOLERANCE:
        words = f"fx {fx:.1f} and fy {fy:.1f} differ by {abs(fx / fy - 1):.0%}; pixels of real cameras are square"
        doubt(Level.WARNING, words, "was the image stretched after the calibration? Calibrate again")
    if not camera.contains(camera.K[:2, 2]):
        doubt(ring_level, f"the principal point ({cx:.0f}, {cy:.0f}) lies off the image", "calibrate again")
    elif max(abs(cx / camera.width - 0.5), abs(cy / camera.height - 0.5)) > _CENTRE_TOLERANCE:
        words = f"the principal point ({cx:.0f}, {cy:.0f}) is far from the middle"
        doubt(Level.WARNING, words, "right only for a cropped image; else calibrate again")
    low, high = _FIELD_OF_VIEW_DEG
    if not low <= fields_of_view[0] <= high:
        words = f"a field of view of {fields_of_view[0]:.0f}° is unusual"
        doubt(Level.WARNING, words, "compare with the camera's data sheet: is K in pixels, of this resolution?")
    if _is_rectified(evidence) and camera.distortion.any():
        words = "the images are rectified by the topic's name, but camera_info has distortion: the ring will be off"
        doubt(Level.WARNING, words, "take the raw image topic, or a camera_info without distortion")
    return findings


def _is_rectified(evidence: Evidence) -> bool:
    return "rect" in evidence.configuration.topics.image.removesuffix("/compressed").rpartition("/")[2]
