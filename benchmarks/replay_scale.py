"""Measures whether a replay's memory grows with its bag, and how fast bags are read.

Bags are generated: a 640x480 camera at 30 Hz as JPEG, its calibration, and transforms at 100 Hz. Memory is the peak of
a process that replays a bag from beginning to report, with a policy that takes no time. Speed is that of reading,
decoding and projecting alone, on one core, in processor time: what other programs take does not count.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from rich.progress import track
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from benchmarks.results import RESULTS, write_results
from sqap_vla_ros.bags.observations import observations
from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.core.worker_pool import run_jobs
from sqap_vla_ros.testing.stub_policies import SleepingPolicy
from sqap_vla_ros.tools.replay import many
from sqap_vla_ros.tools.replay.jobs import ReplayJob

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types
WIDTH, HEIGHT, RATE_HZ, TRANSFORM_HZ = 640, 480, 30, 100
START_NS = 1_700_000_000 * 10**9
PICTURES = 32  # different ones, repeated
CONFIGURATION = validate(
    Configuration, {"frames.base": "base", "frames.tool": "tool", "instruction": "pick up the can"}, "the benchmark"
)


@dataclass(frozen=True)
class Generated:
    """A bag to make: how long, and whether its images are compressed."""

    path: Path
    seconds: float
    jpeg: bool


def pictures() -> list[np.ndarray]:
    """uint8 (480, 640, 3), BGR: smooth shapes with a sensor's noise; a JPEG is as large as of a photo."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(PICTURES):
        coarse = random.integers(0, 256, (HEIGHT // 40, WIDTH // 40, 3), np.uint8)
        smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        made.append(np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8))
    return made


def header(at_ns: int, frame: str) -> Any:
    """A std_msgs Header."""
    stamp = T["builtin_interfaces/msg/Time"](at_ns // 10**9, at_ns % 10**9)
    return T["std_msgs/msg/Header"](stamp, frame)


def transform(at_ns: int, child: str, x: float, z: float) -> Any:
    """A TFMessage that places a frame in the base frame."""
    vector, quaternion = (
        T["geometry_msgs/msg/Vector3"](x, 0.0, z),
        T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0),
    )
    pose = T["geometry_msgs/msg/Transform"](vector, quaternion)
    return T["tf2_msgs/msg/TFMessage"]([T["geometry_msgs/msg/TransformStamped"](header(at_ns, "base"), child, pose)])


def camera_info(at_ns: int) -> Any:
    """A calibration with a little distortion."""
    k = np.array([600.0, 0, WIDTH / 2, 0, 600.0, HEIGHT / 2, 0, 0, 1])
    whole = T["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    distortion = np.array([-0.1, 0.02, 0.001, 0.0, 0.0])
    return T["sensor_msgs/msg/CameraInfo"](
        header(at_ns, "camera"), HEIGHT, WIDTH, "plumb_bob", distortion, k, np.eye(3).ravel(), np.zeros(12), 0, 0, whole
    )


def image(at_ns: int, data: np.ndarray, jpeg: bool) -> Any:
    """A sensor_msgs CompressedImage or Image."""
    if jpeg:
        return T["sensor_msgs/msg/CompressedImage"](header(at_ns, "camera"), "jpeg", data)
    return T["sensor_msgs/msg/Image"](header(at_ns, "camera"), HEIGHT, WIDTH, "bgr8", 0, 3 * WIDTH, data)


def messages(bag: Generated) -> Iterator[tuple[int, str, Any]]:
    """(time, topic, message) in order."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
    data = [cv2.imencode(".jpg", picture, quality)[1] if bag.jpeg else picture.ravel() for picture in pictures()]
    yield START_NS, "/tf_static", transform(START_NS, "camera", 0.0, -1.0)
    frame = 0
    for step in range(round(bag.seconds * TRANSFORM_HZ)):
        at_ns = START_NS + step * 10**9 // TRANSFORM_HZ
        yield at_ns, "/tf", transform(at_ns, "tool", 0.3 * np.sin(at_ns * 1e-9 % 60), 0.0)
        if step * RATE_HZ >= frame * TRANSFORM_HZ:
            yield at_ns, "/camera/color/camera_info", camera_info(at_ns)
            yield at_ns, "/camera/color/image_raw", image(at_ns, data[frame % PICTURES], bag.jpeg)
            frame += 1


def generate(bag: Generated) -> Path:
    """Write the bag."""
    with Writer(bag.path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Connection] = {}
        for at_ns, topic, message in messages(bag):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], at_ns, STORE.serialize_cdr(message, kind))
    return bag.path


def peak_mib(path: Path) -> float:
    """Peak memory of this process, which does nothing but replay the bag, MiB."""
    many.load_policy = lambda configuration, on_progress: SleepingPolicy(0)
    with tempfile.TemporaryDirectory() as out:
        many.replay_bag(ReplayJob(bag=path, out=Path(out), configuration=CONFIGURATION))
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def realtime_factor(path: Path) -> float:
    """Seconds of the bag per second of one core's time, for everything that comes before the policy."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    with Bag(path) as bag:
        topics = find_topics(bag, CONFIGURATION)
        begin_s = time.process_time()
        seen = list(
            observation.stamp_ns
            for observation in observations(bag, topics, CONFIGURATION, on_progress=lambda at_ns: None)
            if not isinstance(observation, tuple) and observation.tool_px is not None
        )
        took_s = time.process_time() - begin_s
        if len(seen) < 0.95 * bag.count(topics.image):
            raise SystemExit(f"only {len(seen)} of {bag.count(topics.image)} frames could be used")
        return bag.duration_s / took_s


def main(short_minutes: float = 1.0, long_minutes: float = 10.0, out: Path = RESULTS) -> None:
    """Generate bags, measure, and write `replay_scale.json`.

    Example: python -m benchmarks.replay_scale --short-minutes 0.1 --long-minutes 0.2 --out out/benchmarks

    Args:
        short_minutes: Duration of the shorter bag [min]; speed is measured on it.
        long_minutes: Duration of the longer bag [min].
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        bags = {
            "short": Generated(Path(folder) / "short", 60 * short_minutes, jpeg=True),
            "long": Generated(Path(folder) / "long", 60 * long_minutes, jpeg=True),
            "raw": Generated(Path(folder) / "raw", 15 * short_minutes, jpeg=False),
        }
        for bag in track(bags.values(), "generating bags"):
            generate(bag)
        # A process of its own for each, so that none inherits the peak of another.
        steps = [(realtime_factor, "short"), (realtime_factor, "raw"), (peak_mib, "short"), (peak_mib, "long")]
        measured = [
            next(run_jobs(function, [bags[name].path], workers=1)) for function, name in track(steps, "measuring")
        ]
    factor, factor_raw, short_mib, long_mib = measured
    figures = {
        "memory_ratio_10min_to_1min": long_mib / short_mib,
        "realtime_factor_one_core": factor,
        "realtime_factor_one_core_raw": factor_raw,
        "peak_mib_1min": short_mib,
        "peak_mib_10min": long_mib,
    }
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    write_results("replay_scale", figures, out, short_minutes=short_minutes, long_minutes=long_minutes)


if __name__ == "__main__":
    tyro.cli(main)
