"""The video of a run."""

from pathlib import Path

import av
import numpy as np
import pytest
from cell_run import CellRun
from rosbags.highlevel import AnyReader

from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.simulation.video import write_video

ROBOT = load_configuration("libero_panda")


@pytest.fixture(scope="module")
def video(cell_run: CellRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "run.mp4"
    write_video(cell_run.bag, path, ROBOT)
    return path


def test_a_video_has_a_frame_per_recorded_image(cell_run: CellRun, video: Path) -> None:
    with AnyReader([cell_run.bag]) as bag:
        images = bag.topics["/camera/color/image_raw"].msgcount
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == images


def test_a_video_is_one_that_browsers_play(video: Path) -> None:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.width == 640


def test_a_video_lasts_as_long_as_the_simulation(video: Path) -> None:
    with av.open(str(video)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(np.diff(times), 0.05, atol=2e-3)


def test_a_bag_without_images_is_named(cell_run: CellRun, tmp_path: Path) -> None:
    elsewhere = ROBOT.model_copy(update={"topics": replace_topics("/other/image")})
    with pytest.raises(ValueError, match="no images on /other/image"):
        write_video(cell_run.bag, tmp_path / "none.mp4", elsewhere)


def replace_topics(image: str) -> object:
    """The robot's topics with another image topic."""
    return ROBOT.topics.model_copy(update={"image": image})
