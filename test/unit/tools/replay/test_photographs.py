"""Pictures that no renderer made, in every form that a camera driver sends, through reading and replay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from paths import DATA
from rosbags.rosbag2 import StoragePlugin
from stand_in_replay import at_once
from synthetic_bags import START_NS, Entry, T, camera_info, messages, tool_x_m, write_messages

from sqap_vla_ros.bags.observations import observations
from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.tools.replay import many
from sqap_vla_ros.tools.replay.jobs import ReplayJob

Pixels = NDArray[np.uint8]

PHOTOGRAPHS = sorted((DATA / "photographs").glob("*.[jp][pn]g"))
CONFIGURATION = validate(Configuration, {"frames.base": "base", "frames.tool": "tool"}, "test")
FOCAL_PX = 500.0


def pixels_of(path: Path) -> Pixels:
    """uint8 (height, width, 3), RGB."""
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)


def raw(encoding: str, conversion: int | None) -> Callable[[Pixels, Any], Any]:
    """A sensor_msgs Image of the pixels."""

    def message(pixels: Pixels, header: Any) -> Any:
        stored = pixels if conversion is None else cv2.cvtColor(pixels, conversion)
        height, width, channels = stored.shape
        data = np.ascontiguousarray(stored).ravel()
        step = width * channels
        return T["sensor_msgs/msg/Image"](header, height, width, encoding, 0, step, data)

    return message


def compressed(codec: str, *options: int) -> Callable[[Pixels, Any], Any]:
    """A sensor_msgs CompressedImage of the pixels."""

    def message(pixels: Pixels, header: Any) -> Any:
        data = cv2.imencode(f".{codec}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1]
        return T["sensor_msgs/msg/CompressedImage"](header, f"bgr8; {codec} compressed bgr8", data)

    return message


FORMS = {
    "rgb8": raw("rgb8", None),
    "bgr8": raw("bgr8", cv2.COLOR_RGB2BGR),
    "rgba8": raw("rgba8", cv2.COLOR_RGB2RGBA),
    "png": compressed("png"),
    "jpeg": compressed("jpg", cv2.IMWRITE_JPEG_QUALITY, 95),
}


def calibration(width: int, height: int) -> Any:
    """A camera of that size with its principal point in the middle."""
    info = camera_info(START_NS)
    for name, value in (("width", width), ("height", height)):
        object.__setattr__(info, name, value)
    k = np.array([FOCAL_PX, 0, width / 2, 0, FOCAL_PX, height / 2, 0, 0, 1])
    object.__setattr__(info, "k", k)
    return info


def photographed(pixels: Pixels, form: str) -> list[Entry]:
    """A short recording whose camera sees the photograph all the time."""
    entries: list[Entry] = []
    for at_ns, topic, message in messages(0.4):
        if topic.endswith("image_raw"):
            message = FORMS[form](pixels, message.header)  # type: ignore[attr-defined]
        elif topic.endswith("camera_info"):
            message = calibration(pixels.shape[1], pixels.shape[0])
        entries.append((at_ns, topic, message))
    return entries


@pytest.mark.slow
@pytest.mark.parametrize("storage", StoragePlugin)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_a_photograph_arrives_as_it_was_taken(
    tmp_path: Path, storage: StoragePlugin, form: str, photograph: Path
) -> None:
    pixels = pixels_of(photograph)
    with Bag(write_messages(tmp_path / "bag", photographed(pixels, form), storage)) as bag:
        seen = list(observations(bag, find_topics(bag, CONFIGURATION), CONFIGURATION, on_progress=lambda at_ns: None))
    assert len(seen) == 4
    for observation in seen:
        assert isinstance(observation, Observation) and observation.tool_px is not None
        difference = np.abs(observation.image.astype(int) - pixels)
        assert difference.mean() < 3 if form == "jpeg" else not difference.any()


@pytest.mark.parametrize("storage", StoragePlugin)
def test_a_photograph_goes_through_replay_video_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: StoragePlugin
) -> None:
    many._policy.cache_clear()
    monkeypatch.setattr(many, "load_policy", at_once)
    pixels = pixels_of(PHOTOGRAPHS[0])
    bag = write_messages(tmp_path / "bag", photographed(pixels, "jpeg"), storage)
    job = ReplayJob(bag=bag, out=tmp_path / "out", configuration=CONFIGURATION)
    summary = many.replay_bag(job)
    assert (summary["ticks_planned"], summary["ring_coverage"]["in_image"]) == (4, 4)
    for row in pq.read_table(job.out / "ticks.parquet").to_pylist():
        assert row["tool_u_px"] == pytest.approx(pixels.shape[1] / 2 + FOCAL_PX * tool_x_m(row["stamp_ns"]))
    assert (job.out / "report.html").read_text(encoding="utf-8").count("data:image/jpeg;base64,") >= 1
    with av.open(str(job.out / "overlay.mp4")) as video:
        shown = next(video.decode(video=0)).to_ndarray(format="rgb24")
    small = cv2.resize(pixels, (shown.shape[1], round(pixels.shape[0] * shown.shape[1] / pixels.shape[1])))
    # Overlay and caption cover a part of it; most of the picture is the photograph.
    alike = np.abs(shown[: len(small)].astype(int) - small[: len(shown)]).mean(axis=2) < 40
    assert alike.mean() > 0.5
