"""An MP4 video of a replay: every camera frame with the latest plan on it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.observations import Extrinsic
from sqap_vla_ros.bags.reader import Bag, BagDamage
from sqap_vla_ros.bags.topics import BagTopics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.perception.images import ImageError, decode
from sqap_vla_ros.reporting.overlay import add_caption, draw_overlay
from sqap_vla_ros.reporting.video_writer import write_mp4
from sqap_vla_ros.tools.replay.results_reader import Run
from sqap_vla_ros.tools.replay.scene import Scene, SceneReader

OVERLAY = "overlay.mp4"  # in the directory of a run
_WIDTH, _LARGEST_HEIGHT = 640, 960


def write_overlay(
    bag: Bag,
    topics: BagTopics,
    configuration: Configuration,
    run: Run,
    *,
    extrinsic: Extrinsic | None = None,
    on_progress: Callable[[int], None],
) -> Path | None:
    """Write the overlay video of a replayed bag; arguments as for `write_annotated`.

    Returns:
        Path of the MP4; None if none of the bag's images can be decoded.
    """
    path = run.directory / OVERLAY
    path.unlink(missing_ok=True)
    scenes = SceneReader(run, topics, configuration, extrinsic)
    frames = write_mp4(_pictures(_scenes(bag, topics, scenes, on_progress), bag.start_ns), path)
    return path if frames else None


def _scenes(bag: Bag, topics: BagTopics, scenes: SceneReader, on_progress: Callable[[int], None]) -> Iterator[Scene]:
    try:
        for topic, recorded_ns, message in bag.messages(topics.camera_names):
            on_progress(recorded_ns)
            yield from scenes.add(topic, recorded_ns, message)
    except BagDamage:
        pass  # the replay ended there too, and has reported it
    yield from scenes.rest()


def _pictures(scenes: Iterator[Scene], start_ns: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield recording time and picture of each frame, all of one size; stamps are not used, since they may jump."""
    size: tuple[int, int] | None = None
    last_ns = -1
    for scene in scenes:
        try:
            image = decode(scene.message)
        except ImageError:
            continue
        height, width = image.shape[:2]
        shown_width = min(_WIDTH, max(_LARGEST_HEIGHT * width // height // 2 * 2, 2))
        picture = add_caption(draw_overlay(image, scene.overlay_on(image), shown_width), _caption(scene, start_ns))
        size = size or (picture.shape[1], picture.shape[0])
        if picture.shape[1::-1] != size:
            picture = np.asarray(cv2.resize(picture, size), np.uint8)
        # The encoder rejects a second frame within the same millisecond.
        last_ns = max(scene.recorded_ns, last_ns + 10**6)
        yield last_ns, picture


def _caption(scene: Scene, start_ns: int) -> list[str]:
    """Caption: the instruction; the time and the kept tokens; the displacement from truth and baseline."""
    time = f"{(scene.recorded_ns - start_ns) * 1e-9:.1f} s"
    row = scene.row
    if row is None:
        return ["", f"{time}   no plan yet", ""]
    kept = f"{len(row['kept_tokens'])} of {len(row['token_reasons'])} visual tokens kept"
    distances = [
        f"{1e3 * row[column]:.0f} mm from {words}"
        for words, column in (
            ("the recorded motion (cyan)", "truth_mean_displacement_m"),
            ("the baseline's plan (violet)", "baseline_mean_displacement_m"),
        )
        if row[column] is not None
    ]
    age = "" if scene.own else f"   plan of {(scene.stamp_ns - row['stamp_ns']) * 1e-9:.2f} s before"
    return [row["instruction"], f"{time}   {kept}{age}", "   ".join(distances)]
