"""From recordings to a LeRobot data set: what is done stays done, and the same command goes on from there.

A record in the directory has a line for each episode that is written, and one for each recording that is read to its
end. The same command with further recordings adds their episodes to the data set.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from sqap_vla_ros.bags.observations import Extrinsic
from sqap_vla_ros.bags.robot_bag import RobotBag
from sqap_vla_ros.bags.topics import configured_for, find_topics, other_images
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import Group
from sqap_vla_ros.core.run_directory import Record, reserve
from sqap_vla_ros.tools.export.data_set import Done, data_file, instructions, video_file, write_description
from sqap_vla_ros.tools.export.episode import LEAST_FRAMES, EpisodeFiles, state_names
from sqap_vla_ros.tools.export.grid import on_grid
from sqap_vla_ros.tools.export.samples import Sample, SampleReader
from sqap_vla_ros.tools.export.spans import Span, find_spans
from sqap_vla_ros.tools.replay.jobs import file_states

RECORD = "export.jsonl"
_IDENTITY = "export.json"
_COMPLETE = "complete"


class ExportError(ValueError):
    """Recordings that do not make one data set; the message says why, and what to do."""


class ExportSettings(Group):
    """What a data set is made with.

    Attributes:
        robot: Name of the robot file, or its path.
        rate_hz: Rows per second.
        quality: See `Clip`.
        instruction: Text in place of the recorded instructions; empty: these.
        image_topic: Image topic; empty: the configured one, or the only one.
        camera_info_topic: Topic of the calibration; empty: the one in the images' namespace.
        tf_namespace: Namespace of the transforms; empty: none, or the only one, or the images'.
        extrinsic: Pose of the camera, for recordings without it.
    """

    robot: str
    rate_hz: int = Field(ge=1, le=1000)
    quality: int = Field(18, ge=0, le=51)
    instruction: str = ""
    image_topic: str = ""
    camera_info_topic: str = ""
    tf_namespace: str = ""
    extrinsic: Extrinsic | None = None


@dataclass(frozen=True)
class Result:
    """What an export has made.

    Attributes:
        episodes: All episodes of the data set.
        added: Number of those that this run has written.
        notes: Sentences about what is not in it, and why.
    """

    episodes: Sequence[Done]
    added: int
    notes: Sequence[str]


def export(
    bags: Sequence[Path],
    out: Path,
    configuration: Configuration,
    settings: ExportSettings,
    on_progress: Callable[[Path, float, float], None],
) -> Result:
    """Write the episodes of some recordings into a data set.

    Args:
        bags: The recordings.
        out: Directory of the data set: new, or one that the same settings began.
        configuration: The robot's settings.
        settings: What the data set is made with.
        on_progress: Called with the recording, and the seconds of it that are read, of how many.

    Raises:
        BagError: A recording cannot be read, or does not say what was to be done.
        RunDirectoryError: The directory holds something else.
        ExportError: There is no episode, or recordings do not fit together.
    """
    files = {str(bag.resolve()): file_states(bag) for bag in bags}
    described = {"frames": configuration.frames, "action": configuration.action}
    identity = {
        **settings.model_dump(mode="json"),
        **{name: part.model_dump(mode="json") for name, part in described.items()},
        "joints": configuration.command.joints,
        "bags": files,
    }
    run = reserve(out, identity, file=_IDENTITY, growing=("bags",))
    with run.lock():
        writer = _Writer(out, configuration, settings, run.record(RECORD))
        before = len(writer.episodes)
        for bag in bags:
            writer.add(bag, on_progress)
        if not writer.episodes:
            raise ExportError("; ".join(["the recordings hold no episode", *writer.notes]))
        writer.describe()
    return Result(writer.episodes, len(writer.episodes) - before, writer.notes)


class _Writer:
    def __init__(self, out: Path, configuration: Configuration, settings: ExportSettings, record: Record) -> None:
        self._out, self._robot, self._settings, self._record = out, configuration, settings, record
        entries = record.read(dict)
        self._finished = {entry[_COMPLETE]: entry for entry in entries if _COMPLETE in entry}
        self.episodes = [Done.parse(entry) for entry in entries if _COMPLETE not in entry]
        self._camera = next((entry["camera"] for entry in self._finished.values()), "")
        self._model = next((entry["model"] for entry in self._finished.values() if entry["model"]), "")
        self.notes: list[str] = []

    def add(self, path: Path, on_progress: Callable[[Path, float, float], None]) -> None:
        """Write the episodes of a recording, unless they are there."""
        name = str(path.resolve())
        if name in self._finished:
            return
        settings = self._settings
        with RobotBag(path, self._robot) as bag:
            topics = find_topics(
                bag, self._robot, settings.image_topic, settings.camera_info_topic, settings.tf_namespace
            )
            robot = configured_for(self._robot, topics, settings.image_topic)
            robot = robot.model_copy(update={"instruction": settings.instruction or "any"})  # spans say which
            spans = find_spans(bag, topics, settings.instruction)
            reader = SampleReader(bag, topics, robot, settings.extrinsic)
            self._camera = self._camera or camera_feature(topics.image)
            self._model = self._model or bag.model
            samples = reader.read(lambda at_ns: on_progress(path, (at_ns - bag.start_ns) * 1e-9, bag.duration_s))
            first = len(self.episodes)
            for span, part in _divided(samples, spans, settings.rate_hz, robot.freshness.image):
                self._write(name, span, part, reader)
            self._note(path, [bag.poses, reader.damage, *_sentences(reader.rejected)])
            if others := other_images(bag, topics.image):
                self._note(path, [f"images of {topics.image} alone are exported, not of {', '.join(others)}"])
            if len(self.episodes) == first:
                self._note(path, ["holds no episode of two rows or more"])
        entry = {_COMPLETE: name, "camera": self._camera, "model": self._model}
        self._record.append(entry)

    def describe(self) -> None:
        """Write the description."""
        write_description(self._out, self.episodes, self._robot, self._settings.rate_hz, self._camera, self._model)

    def _write(self, bag: str, span: Span, samples: Iterator[Sample], reader: SampleReader) -> None:
        """Write one episode; one that is there already is read over."""
        first = next(samples, None)
        if first is None:
            return
        stamp_ns = first.observation.stamp_ns
        if any((done.bag, done.first_stamp_ns) == (bag, stamp_ns) for done in self.episodes):
            for _ in samples:
                pass
            return
        index = len(self.episodes)
        self._check_fits(bag, first, state_names(reader.joints, self._robot))
        places = data_file(self._out, index), video_file(self._out, index, self._camera)
        files = EpisodeFiles(*places, self._settings.rate_hz, self._settings.quality)
        try:
            files.add(first)
            for sample in samples:
                self._check_fits(bag, sample, state_names(reader.joints, self._robot))
                files.add(sample)
        except BaseException:
            files.discard()
            raise
        if files.length < LEAST_FRAMES:
            files.discard()
            return
        tasks = instructions(self.episodes)
        statistics = files.finish(
            self._robot,
            index=index,
            first_row=sum(episode.length for episode in self.episodes),
            task=tasks.index(span.instruction) if span.instruction in tasks else len(tasks),
            camera=self._camera,
        )
        assert files.size is not None
        done = Done(
            bag=bag,
            first_stamp_ns=stamp_ns,
            length=files.length,
            instruction=span.instruction,
            state=state_names(reader.joints, self._robot),
            size=files.size,
            pixel_format=files.pixel_format,
            camera_frame=reader.camera_frame,
            calibration=_calibration(reader),
            statistics=statistics,
        )
        self._record.append(done.as_json())
        self.episodes.append(done)

    def _check_fits(self, bag: str, sample: Sample, state: tuple[str, ...]) -> None:
        """All episodes of a data set have images of one size and the same state."""
        size = sample.observation.image.shape[:2]
        for before in self.episodes[:1]:
            if before.size != size:
                sizes = f"{size[1]}x{size[0]} pixels, those before have {before.size[1]}x{before.size[0]}"
                raise ExportError(f"{bag}: its images have {sizes}; export it into a data set of its own")
            if before.state != state:
                words = f"{', '.join(state)}; those before have {', '.join(before.state)}"
                raise ExportError(f"{bag}: its states are {words}; export it into a data set of its own")

    def _note(self, path: Path, sentences: Sequence[str]) -> None:
        self.notes += [f"{path}: {sentence.removeprefix(f'{path}: ')}" for sentence in sentences if sentence]


def camera_feature(image_topic: str) -> str:
    """Name of the feature of a camera, from the namespace of its images: /wrist/color/image_raw is wrist_color."""
    namespace = image_topic.removesuffix("/compressed").rpartition("/")[0].strip("/")
    name = re.sub(r"\W+", "_", namespace.removeprefix("observation/images/")) or "camera"
    return f"observation.images.{name}"


def _divided(
    samples: Iterator[Sample], spans: Sequence[Span], rate_hz: int, gap_s: float
) -> Iterator[tuple[Span, Iterator[Sample]]]:
    """The rows of each episode, as they come; each must be read to its end before the next."""
    waiting = list(spans)
    held: list[Sample] = []

    def of_span(span: Span) -> Iterator[Sample]:
        for sample in samples:
            if sample.recorded_ns >= span.end_ns:
                held.append(sample)
                return
            if sample.recorded_ns >= span.start_ns:
                yield sample

    for span in waiting:
        rest = iter(held[:])
        held.clear()
        rows = on_grid(_chain(rest, of_span, span), rate_hz, gap_s)
        more = [True]

        def part(rows: Iterator[Sample | None] = rows, more: list[bool] = more) -> Iterator[Sample]:
            for row in rows:
                if row is None:
                    return
                yield row
            more[0] = False

        while more[0]:
            yield span, part()


def _chain(held: Iterator[Sample], rest: Callable[[Span], Iterator[Sample]], span: Span) -> Iterator[Sample]:
    yield from (sample for sample in held if span.start_ns <= sample.recorded_ns < span.end_ns)
    yield from rest(span)


def _calibration(reader: SampleReader) -> dict[str, Any] | None:
    camera = reader.camera
    if camera is None:
        return None
    return {
        "width": camera.width,
        "height": camera.height,
        "distortion_model": camera.distortion_model,
        "D": camera.distortion.tolist(),
        "K": camera.K.ravel().tolist(),
    }


def _sentences(rejected: dict[str, int]) -> list[str]:
    return [f"{count} images are not exported: {reason}" for reason, count in sorted(rejected.items())]
