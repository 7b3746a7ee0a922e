"""Videos of failed episodes, with the visual tokens that the policy kept and the path that it planned.

A failure is played again to be filmed: an episode in one process repeats itself on the same machine, and the hundreds
that nobody looks at need no rendering between their plans.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.simulation.loaded_scene import scene_of
from sqap_vla_ros.tools.evaluation.episodes import EpisodeJob, EpisodeResult, play
from sqap_vla_ros.tools.evaluation.variants import UNDISTURBED


@dataclass(frozen=True)
class Film:
    """A filmed episode.

    Attributes:
        result: Its result this time.
        mp4: Content of the video file.
    """

    result: EpisodeResult
    mp4: bytes

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{_stem(*self.result.key)}-{'success' if self.result.success else 'failure'}.mp4"


@dataclass(frozen=True)
class _Frame:
    """One camera image.

    Attributes:
        at_ns: Its stamp.
        image: uint8 (height, width, 3), RGB.
        chunk: The plan that was made on it, or None.
    """

    at_ns: int
    image: NDArray[np.uint8]
    chunk: ActionChunk | None


def is_filmed(job: EpisodeJob, folder: Path) -> bool:
    """Whether the folder has a video of the episode."""
    return any(folder.glob(f"{_stem(*job.key)}-*.mp4"))


def _stem(task: str, variant: str, disturbance: str, episode: int) -> str:
    return "-".join(filter(None, (variant.replace("/", "-"), task, disturbance, f"{episode:03d}")))


def failures_to_film(jobs: Iterable[EpisodeJob], results: Iterable[EpisodeResult], per_policy: int) -> list[EpisodeJob]:
    """Choose the undisturbed failures of each policy that are filmed: the first of each task in turn.

    Args:
        jobs: All episodes.
        results: Results of those that are done.
        per_policy: Largest number of failures per policy.
    """
    failed = {result.key for result in results if not result.success}
    candidates = [job for job in jobs if job.condition == UNDISTURBED and job.key in failed]
    of_task = Counter[tuple[str, str]]()
    ranked = []
    for job in candidates:
        ranked.append((of_task[str(job.variant), job.task.name], job))
        of_task[str(job.variant), job.task.name] += 1
    filmed = Counter[str]()
    chosen = []
    for _, job in sorted(ranked, key=lambda entry: entry[0]):
        if filmed[str(job.variant)] < per_policy:
            filmed[str(job.variant)] += 1
            chosen.append(job)
    return chosen


def film(job: EpisodeJob) -> Film:
    """Play an episode and film it."""
    from sqap_vla_ros.reporting.video_writer import write_mp4

    frames: list[_Frame] = []
    result = play(job, lambda loop, chunk: frames.append(_Frame(loop.now_ns, loop.observe().image, chunk)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.mp4"
        write_mp4(_pictures(frames, job, result), path)
        return Film(result, path.read_bytes())


def _pictures(
    frames: Sequence[_Frame], job: EpisodeJob, result: EpisodeResult
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Stamp and picture of each image; an image that was not planned on shows the latest plan before it."""
    from sqap_vla_ros.perception.camera import CameraModel
    from sqap_vla_ros.perception.transforms import inverse
    from sqap_vla_ros.reporting.overlay import Overlay, add_caption, draw_overlay
    from sqap_vla_ros.simulation.video import path_in_image

    scene = scene_of(job.task)
    camera = CameraModel(scene.camera.width, scene.camera.height, scene.camera.matrix, "", np.zeros(0))
    T_camera_base = inverse(scene.T_base_camera)
    overlay, kept = Overlay(), "no plan yet"
    for frame in frames:
        if frame.chunk is not None:
            chunk, selection = frame.chunk, frame.chunk.selection
            overlay = Overlay(
                reasons=selection.reasons.reshape(selection.rows, selection.columns),
                tool_px=chunk.tool_px,
                path_px=path_in_image(chunk.actions, chunk.T_base_tool, job.configuration, camera, T_camera_base),
            )
            kept = f"{len(selection.indices)} of {len(selection.reasons)} visual tokens kept"
        lines = [
            scene.instruction,
            f"{(frame.at_ns - frames[0].at_ns) * 1e-9:.1f} s   {result.policy_id}   {kept}",
            f"{job.task.name}, episode {job.number}: {'success' if result.success else 'failure'}",
        ]
        yield frame.at_ns, add_caption(draw_overlay(frame.image, overlay), lines)
