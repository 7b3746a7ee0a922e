"""LeRobot data sets: episodes of rows in Parquet files, with images in MP4 files.

Versions 2.0 and 2.1 have a file per episode, version 3.0 has files with many episodes. Both are read as their
documentation describes them, with pyarrow and PyAV: LeRobot's own library pins versions of torch that exclude most.
Nothing in a data set is executed, and nothing outside its directory is opened.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

INFO, SIDECAR, MODEL = "meta/info.json", "meta/sqap_vla.json", "meta/robot.urdf"
_EPISODE = re.compile(r"episode_(\d{1,9})")
_FIELD = re.compile(r"\{(\w+)(?::0?(\d+)d)?\}")
_VERSIONS = ("v2.0", "v2.1", "v3.0")


class DataSetError(ValueError):
    """A LeRobot data set that cannot be read; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
        index: Its number.
        length: Number of frames.
        places: What the names of its files are made of: chunk and file numbers.
        video_starts_s: Time in its video file at which the episode begins, by the name of the camera's feature.
    """

    index: int
    length: int
    places: Mapping[str, int]
    video_starts_s: Mapping[str, float]


class LeRobotDataSet:
    """A data set on the disk, whose description is read at once and whose rows and images when they are wanted.

    Args:
        root: Its directory.

    Attributes:
        root: The same.
        fps: Frames per second.
        features: Description of each column, by name.
        episodes: All episodes, in order.

    Raises:
        DataSetError: The description is missing, damaged, or of an unknown version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        info = _json_object(root / INFO)
        self.version = str(info.get("codebase_version"))
        if self.version not in _VERSIONS:
            raise DataSetError(
                f"{root / INFO}: codebase_version is {self.version!r}, expected one of {', '.join(_VERSIONS)}; convert "
                "the data set with LeRobot's own tools"
            )
        try:
            self.fps = float(info["fps"])
            self.features: dict[str, dict[str, Any]] = {
                str(name): dict(kind) for name, kind in info["features"].items()
            }
            self._data_path, self._video_path = str(info["data_path"]), str(info.get("video_path") or "")
            self._chunk_size = max(int(info.get("chunks_size") or 1000), 1)
            if not 0 < self.fps <= 1000:
                raise ValueError(f"fps is {self.fps:g}")
            self.episodes = tuple(self._v3_episodes() if self.version == "v3.0" else self._v2_episodes())
        except (KeyError, TypeError, ValueError, AttributeError, OSError, pa.ArrowException) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise DataSetError(f"{root}: the description in meta/ cannot be used: {reason}") from None

    def names(self, feature: str) -> tuple[str, ...]:
        """Names of a feature's numbers; empty where it has none."""
        names = self.features.get(feature, {}).get("names")
        if isinstance(names, Mapping):  # as {"motors": [...]}
            names = [name for group in names.values() if isinstance(group, list) for name in group]
        return tuple(map(str, names)) if isinstance(names, list) else ()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the features that are images."""
        return tuple(name for name, kind in self.features.items() if kind.get("dtype") in ("video", "image"))

    @cached_property
    def tasks(self) -> dict[int, str]:
        """The instruction of each task."""
        if self.version == "v3.0":
            table = pq.read_table(self.root / "meta" / "tasks.parquet")
            [texts] = [name for name in table.column_names if name != "task_index"]
            return dict(zip(table["task_index"].to_pylist(), map(str, table[texts].to_pylist()), strict=True))
        return {int(row["task_index"]): str(row["task"]) for row in _json_lines(self.root / "meta" / "tasks.jsonl")}

    @cached_property
    def sidecar(self) -> dict[str, Any]:
        """What the export of this project adds: frames and calibrations; empty for any other data set."""
        path = self.root / SIDECAR
        return _json_object(path) if path.exists() else {}

    @cached_property
    def model(self) -> str:
        """URDF of the robot, which the export of this project adds; empty: unknown."""
        path = self.root / MODEL
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def rows(self, episode: Episode) -> dict[str, NDArray[Any]]:
        """The columns of an episode but its images, each (frames,) or (frames, numbers)."""
        columns = [name for name in self.features if name not in self.cameras]
        return {name: _array(column) for name, column in self._table(episode, columns).items()}

    def images(self, episode: Episode, camera: str) -> Iterator[NDArray[np.uint8] | bytes]:
        """The images of an episode in order: uint8 (height, width, 3), RGB, or the bytes of a PNG or JPEG file.

        Raises:
            DataSetError: A frame is missing.
        """
        if self.features[camera].get("dtype") == "image":
            for picture in self._table(episode, [camera])[camera].to_pylist():
                if picture.get("bytes") is None:
                    raise DataSetError(
                        f"{self.root}: {camera} of episode {episode.index} is not stored in the data set"
                    )
                yield picture["bytes"]
            return
        start_s = episode.video_starts_s.get(camera, 0.0)
        yield from _frames(self.video_file(episode, camera), start_s, episode.length, self.fps)

    def files(self, episode: Episode) -> list[Path]:
        """The files that an episode is read from."""
        videos = [name for name in self.cameras if self.features[name].get("dtype") == "video"]
        return [self.root / INFO, self.data_file(episode), *(self.video_file(episode, name) for name in videos)]

    def data_file(self, episode: Episode) -> Path:
        """The Parquet file with an episode's rows."""
        places = {name.removeprefix("data/"): place for name, place in episode.places.items()}
        return self._file(self._data_path, places)

    def video_file(self, episode: Episode, camera: str) -> Path:
        """The MP4 file with an episode's images."""
        places = {name.removeprefix(f"videos/{camera}/"): place for name, place in episode.places.items()}
        return self._file(self._video_path, {**places, "video_key": camera})

    def _table(self, episode: Episode, columns: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        file = self.data_file(episode)
        try:
            table = pq.read_table(file, filters=[("episode_index", "=", episode.index)])
        except (OSError, pa.ArrowException) as error:
            raise DataSetError(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
        if len(table) != episode.length:
            raise DataSetError(f"{file}: {len(table)} rows of episode {episode.index}, expected {episode.length}")
        return {name: table[name] for name in columns if name in table.column_names}

    def _file(self, template: str, values: Mapping[str, Any]) -> Path:
        """The file of a template of the description, which must not lead out of the directory."""
        filled = _FIELD.sub(lambda field: str(values[field[1]]).zfill(int(field[2] or 0)), template)
        path = self.root / filled
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DataSetError(f"{self.root}: {filled!r} is outside the data set; it is not opened")
        return path

    def _v2_episodes(self) -> Iterator[Episode]:
        for row in _json_lines(self.root / "meta" / "episodes.jsonl"):
            index = int(row["episode_index"])
            places = {"episode_index": index, "episode_chunk": index // self._chunk_size}
            yield Episode(index, int(row["length"]), places, {})

    def _v3_episodes(self) -> Iterator[Episode]:
        starts = {f"videos/{camera}/from_timestamp": camera for camera in self.cameras}
        for file in sorted((self.root / "meta" / "episodes").glob("*/*.parquet")):
            names = [name for name in pq.read_schema(file).names if not name.startswith("stats/")]
            for row in pq.read_table(file, columns=names).to_pylist():
                places = {
                    name: int(row[name])
                    for name in row
                    if name.endswith(("chunk_index", "file_index")) and row[name] is not None
                }
                begins = {starts[name]: float(row[name]) for name in starts if row.get(name) is not None}
                yield Episode(int(row["episode_index"]), int(row["length"]), places, begins)


def find_episode(path: Path) -> tuple[Path, int | None] | None:
    """The data set that a path names, and the number of the episode; None for the number: all, and for both: no such.

    An episode is named as if it were a file in its data set: `DATASET/episode_000003`.
    """
    if (path / INFO).is_file():
        return path, None
    named = _EPISODE.fullmatch(path.name)
    if named and not path.exists() and (path.parent / INFO).is_file():
        return path.parent, int(named[1])
    return None


def episode_path(root: Path, index: int) -> Path:
    """The name of an episode, for `find_episode`."""
    return root / f"episode_{index:06d}"


def _frames(file: Path, start_s: float, count: int, fps: float) -> Iterator[NDArray[np.uint8]]:
    """So many frames of a video, those nearest to `start_s + k / fps`."""
    wanted = 0
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            base = stream.time_base or Fraction(1, 1)
            container.seek(max(int(start_s / base) - 1, 0), stream=stream)
            for frame in container.decode(stream):
                if wanted == count:
                    return
                if frame.pts is None or float(frame.pts * base) < start_s + (wanted - 0.5) / fps:
                    continue
                if float(frame.pts * base) > start_s + (wanted + 0.5) / fps:
                    break
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                wanted += 1
    except (OSError, IndexError, av.FFmpegError) as error:
        raise DataSetError(f"{file}: cannot be read as a video: {' '.join(str(error).split())}") from None
    if wanted < count:
        raise DataSetError(
            f"{file}: no frame at {start_s + wanted / fps:.3f} s, {count - wanted} of {count} are missing"
        )


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.array(column.to_pylist())


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataSetError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DataSetError(f"{path}: expected a JSON object")
    return content


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
