"""LeRobot data sets that are written as the format's documentation describes them, and not by this project's export."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sqap_vla_ros.bags.observations import observations
from sqap_vla_ros.bags.robot_bag import RobotBag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.observation import Observation

FPS, HEIGHT, WIDTH = 10, 48, 64
CAMERA = "observation.images.top"
TASKS = ("pick up the can", "open the drawer")
POSE_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def grey(episode: int, frame: int) -> int:
    """The level of every pixel of a frame."""
    return 40 + 100 * episode + 8 * frame


def state(frame: int) -> list[float]:
    """A tool that moves by 10 mm per frame along x."""
    return [0.01 * frame, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0]


def observed_in(path: Path, robot: Configuration) -> list[Observation]:
    """What a replay plans on; no image is rejected."""
    with RobotBag(path, robot) as bag:
        found = list(observations(bag, find_topics(bag, robot), robot, on_progress=lambda at_ns: None))
    good = [outcome for outcome in found if isinstance(outcome, Observation)]
    assert len(good) == len(found), found
    return good


def write_video(path: Path, levels: Sequence[int]) -> None:
    """A video of grey pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for level in levels:
            picture: NDArray[np.uint8] = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_data_set(
    root: Path, version: str = "v3.0", lengths: Sequence[int] = (6, 5), names: Sequence[str] = POSE_NAMES
) -> Path:
    """A data set with one camera; of version 3.0 all episodes are in one file, of 2.1 each has its own."""
    (root / "meta").mkdir(parents=True)
    rows = [
        {
            "observation.state": state(frame)[: len(names)],
            "action": state(frame)[: len(names)],
            "timestamp": frame / FPS,
            "frame_index": frame,
            "episode_index": episode,
            "task_index": episode % 2,
        }
        for episode, length in enumerate(lengths)
        for frame in range(length)
    ]
    rows = [{**row, "index": number} for number, row in enumerate(rows)]
    (_write_v3 if version == "v3.0" else _write_v2)(root, rows, lengths)
    numbers = {"dtype": "float32", "shape": [len(names)], "names": {"motors": list(names)}}
    paths = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    if version != "v3.0":
        paths = {
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        }
    info: dict[str, Any] = {
        "codebase_version": version,
        "fps": FPS,
        "chunks_size": 1000,
        **paths,
        "features": {
            CAMERA: {"dtype": "video", "shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channels"]},
            "observation.state": numbers,
            "action": numbers,
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{
                name: {"dtype": "int64", "shape": [1], "names": None}
                for name in ("frame_index", "episode_index", "index", "task_index")
            },
        },
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    return root


def _write_v3(root: Path, rows: list[dict[str, Any]], lengths: Sequence[int]) -> None:
    files = [root / place for place in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet")]
    for file in files:
        file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), files[0])
    starts = [sum(lengths[:episode]) / FPS for episode in range(len(lengths))]
    episodes = [
        {
            "episode_index": episode,
            "length": length,
            "tasks": [TASKS[episode % 2]],
            "data/chunk_index": 0,
            "data/file_index": 0,
            f"videos/{CAMERA}/chunk_index": 0,
            f"videos/{CAMERA}/file_index": 0,
            f"videos/{CAMERA}/from_timestamp": starts[episode],
        }
        for episode, length in enumerate(lengths)
    ]
    pq.write_table(pa.Table.from_pylist(episodes), files[1])
    tasks = pa.table({"task_index": [0, 1], "__index_level_0__": list(TASKS)})
    pq.write_table(tasks, root / "meta" / "tasks.parquet")
    levels = [grey(episode, frame) for episode, length in enumerate(lengths) for frame in range(length)]
    write_video(root / "videos" / CAMERA / "chunk-000" / "file-000.mp4", levels)


def _write_v2(root: Path, rows: list[dict[str, Any]], lengths: Sequence[int]) -> None:
    for episode, length in enumerate(lengths):
        file = root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row for row in rows if row["episode_index"] == episode]), file)
        video = root / "videos" / "chunk-000" / CAMERA / f"episode_{episode:06d}.mp4"
        write_video(video, [grey(episode, frame) for frame in range(length)])
    lines = {
        "episodes": [
            {"episode_index": episode, "tasks": [TASKS[episode % 2]], "length": length}
            for episode, length in enumerate(lengths)
        ],
        "tasks": [{"task_index": number, "task": task} for number, task in enumerate(TASKS)],
    }
    for name, entries in lines.items():
        (root / "meta" / f"{name}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
