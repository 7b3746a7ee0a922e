"""The overlay video of a replay."""

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from replayed_runs import write_run
from synthetic_bags import FOCAL_PX, HEIGHT, WIDTH, write_bag

from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.tools.replay.results_reader import Run
from sqap_vla_ros.tools.replay.video import write_overlay

CONFIGURATION = validate(Configuration, {"frames.base": "base", "frames.tool": "tool"}, "test")
OFFSET_M = 0.1


def video(bag_path: Path, run: Path) -> Path | None:
    """Write the video of a synthetic bag's run."""
    with Bag(bag_path) as bag:
        topics = find_topics(bag, CONFIGURATION)
        return write_overlay(bag, topics, CONFIGURATION, Run(run), on_progress=lambda at_ns: None)


def frames(path: Path | None) -> list[tuple[float, NDArray[np.uint8]]]:
    """Time (s) and uint8 (height, width, 3), RGB, of each."""
    assert path is not None
    with av.open(str(path)) as container:
        return [(frame.time or 0.0, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_every_camera_frame_is_shown_at_its_time(tmp_path: Path) -> None:
    shown = frames(video(write_bag(tmp_path / "bag"), write_run(tmp_path / "run")))
    np.testing.assert_allclose([time for time, _ in shown], np.arange(10) * 0.1, atol=2e-3)


def test_a_frame_without_a_plan_of_its_own_shows_the_latest_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", offset_m=OFFSET_M, refused=(0, 4))
    shown = frames(video(write_bag(tmp_path / "bag"), run))
    # Where the plans of all frames end, within their motion of some pixels along a row.
    row = round((HEIGHT / 2 + FOCAL_PX * OFFSET_M + 0.5) * 640 / WIDTH)
    spread = [int(np.ptp(picture[row - 4 : row + 4, 200:500].astype(int))) for _, picture in shown]
    assert spread[0] < 40 < min(spread[1:])


def test_images_that_cannot_be_decoded_make_no_video(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", image_encoding="32FC1")
    run = write_run(tmp_path / "run", refused=tuple(range(10)))
    assert video(bag, run) is None
    assert not list(run.glob("*.mp4"))


@pytest.mark.parametrize("truncated", [0.4, 0.7])
def test_a_damaged_bag_is_shown_up_to_the_damage(tmp_path: Path, truncated: float) -> None:
    (file,) = write_bag(tmp_path / "bag").glob("*.mcap")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * truncated)])
    assert 0 < len(frames(video(file, write_run(tmp_path / "run")))) < 10
