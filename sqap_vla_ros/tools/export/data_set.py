"""The description of a LeRobot data set, version 3.0: `meta/`, as the project's documentation defines it.

Each episode has a Parquet and a video file of its own, which version 3.0 allows: what is written stays as it is.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sqap_vla_ros.bags.lerobot import INFO, MODEL, SIDECAR
from sqap_vla_ros.bags.lerobot_episodes import CAMERA_POSE, POSE_NAMES, STAMP, STATE, TOOL_POSE
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.files import whole_file, write_whole
from sqap_vla_ros.tools.export.episode import ACTION, Statistics, action_names

_CHUNK = 1000  # files per folder
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True)
class Done:
    """An episode that is written.

    Attributes:
        bag: The recording that it is from.
        first_stamp_ns: Stamp of its first image.
        length: Number of frames.
        instruction: What was to be done.
        state: Names of the numbers of `observation.state`.
        size: Height and width of the images.
        pixel_format: The stored form of colours.
        camera_frame: Optical frame of the camera.
        calibration: Of the camera, as `camera_info_message` takes it; None: unknown.
        statistics: Of each feature.
    """

    bag: str
    first_stamp_ns: int
    length: int
    instruction: str
    state: tuple[str, ...]
    size: tuple[int, int]
    pixel_format: str
    camera_frame: str
    calibration: dict[str, Any] | None
    statistics: Statistics

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> "Done":
        """The episode of an entry in the record."""
        return cls(**{**entry, "state": tuple(entry["state"]), "size": tuple(entry["size"])})

    def as_json(self) -> dict[str, Any]:
        """The entry."""
        return asdict(self)


def data_file(root: Path, index: int) -> Path:
    """The Parquet file of an episode."""
    return root / _DATA.format(chunk_index=index // _CHUNK, file_index=index % _CHUNK)


def video_file(root: Path, index: int, camera: str) -> Path:
    """The video of an episode."""
    return root / _VIDEO.format(video_key=camera, chunk_index=index // _CHUNK, file_index=index % _CHUNK)


def instructions(episodes: Sequence[Done]) -> list[str]:
    """The instructions, in the order of their first episode: their places are their numbers."""
    return list(dict.fromkeys(episode.instruction for episode in episodes))


def write_description(
    root: Path, episodes: Sequence[Done], robot: Configuration, rate_hz: int, camera: str, model: str
) -> None:
    """Write `meta/`; the one of fewer episodes is replaced, and `info.json` is written last.

    Args:
        root: The data set.
        episodes: All its episodes.
        robot: Names of joints and frames, and the convention of the actions.
        rate_hz: Frames per second.
        camera: Name of the camera's feature.
        model: URDF of the robot; empty: unknown.
    """
    meta = root / "meta"
    (meta / "episodes" / "chunk-000").mkdir(parents=True, exist_ok=True)
    tasks = instructions(episodes)
    with whole_file(meta / "tasks.parquet") as part:
        pq.write_table(_indexed(tasks), part)
    with whole_file(meta / "episodes" / "chunk-000" / "file-000.parquet") as part:
        pq.write_table(pa.Table.from_pylist(_rows(episodes, rate_hz, camera)), part)
    statistics = json.dumps(merged([episode.statistics for episode in episodes]), indent=2)
    write_whole(meta / "stats.json", statistics.encode())
    if model:
        write_whole(root / MODEL, model.encode())
    write_whole(root / SIDECAR, json.dumps(_sidecar(episodes, robot, camera), indent=2).encode())
    write_whole(root / INFO, json.dumps(_info(episodes, robot, rate_hz, camera), indent=2).encode())


def merged(parts: Sequence[Statistics]) -> Statistics:
    """Statistics over all episodes; a feature that is not known in one of them is left out."""
    found: Statistics = {}
    for name in parts[0]:
        figures = [part.get(name) or {} for part in parts]
        if not all(figures):
            continue
        count = np.array([figure["count"][0] for figure in figures], np.float64)
        mean, std = (np.array([figure[key] for figure in figures]) for key in ("mean", "std"))
        weights = (count / count.sum()).reshape(-1, *[1] * (mean.ndim - 1))
        whole = (weights * mean).sum(axis=0)
        variance = (weights * (std**2 + (mean - whole) ** 2)).sum(axis=0)
        found[name] = {
            "min": np.min([figure["min"] for figure in figures], axis=0).tolist(),
            "max": np.max([figure["max"] for figure in figures], axis=0).tolist(),
            "mean": whole.tolist(),
            "std": np.sqrt(variance).tolist(),
            "count": [int(count.sum())],
        }
    return found


def _rows(episodes: Sequence[Done], rate_hz: int, camera: str) -> list[dict[str, Any]]:
    rows, first = [], 0
    for index, episode in enumerate(episodes):
        place = {"chunk_index": index // _CHUNK, "file_index": index % _CHUNK}
        rows.append(
            {
                "episode_index": index,
                "tasks": [episode.instruction],
                "length": episode.length,
                **{f"data/{name}": number for name, number in place.items()},
                "dataset_from_index": first,
                "dataset_to_index": first + episode.length,
                **{f"videos/{camera}/{name}": number for name, number in place.items()},
                f"videos/{camera}/from_timestamp": 0.0,
                f"videos/{camera}/to_timestamp": episode.length / rate_hz,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        first += episode.length
    return rows


def _indexed(tasks: list[str]) -> pa.Table:
    """A table that pandas reads with the instructions as its index, as LeRobot expects."""
    kinds = {"task": ("unicode", "object"), "task_index": ("int64", "int64")}
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored, "metadata": None}
            for name, (kind, stored) in kinds.items()
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": tasks})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def _info(episodes: Sequence[Done], robot: Configuration, rate_hz: int, camera: str) -> dict[str, Any]:
    first = episodes[0]
    height, width = first.size
    video = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": first.pixel_format,
        "video.is_depth_map": False,
        "video.fps": rate_hz,
        "video.channels": 3,
        "has_audio": False,
    }

    def numbers(dtype: str, names: Sequence[str]) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [len(names)], "names": list(names)}

    def number(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [1], "names": None}

    return {
        "codebase_version": "v3.0",
        "robot_type": robot.robot_name,
        "total_episodes": len(episodes),
        "total_frames": sum(episode.length for episode in episodes),
        "total_tasks": len(instructions(episodes)),
        "chunks_size": _CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": rate_hz,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": _DATA,
        "video_path": _VIDEO,
        "features": {
            camera: {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": video,
            },
            STATE: numbers("float32", first.state),
            ACTION: numbers("float32", action_names(robot)),
            TOOL_POSE: numbers("float64", POSE_NAMES),
            CAMERA_POSE: numbers("float64", POSE_NAMES),
            STAMP: number("int64"),
            "timestamp": number("float32"),
            **{name: number("int64") for name in ("frame_index", "episode_index", "index", "task_index")},
        },
    }


def _sidecar(episodes: Sequence[Done], robot: Configuration, camera: str) -> dict[str, Any]:
    """What a replay needs and LeRobot's description has no place for."""
    return {
        "frames": {
            "base": robot.frames.base,
            "tool": robot.frames.tool,
            "camera": next((episode.camera_frame for episode in episodes if episode.camera_frame), ""),
        },
        "action": robot.action.model_dump(mode="json"),
        "calibrations": {camera: [episode.calibration for episode in episodes]},
        "bags": [episode.bag for episode in episodes],
    }
