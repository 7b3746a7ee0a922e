"""The annotated recording: what a viewer needs, at the bag's own times."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replayed_runs import HORIZON, KEPT, stamp_ns, write_run
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability
from synthetic_bags import FOCAL_PX, HEIGHT, START_NS, WIDTH, tool_x_m, write_bag, write_messages
from synthetic_bags import messages as bag_messages

from sqap_vla_ros.bags.observations import Extrinsic
from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.core import clock as stamps
from sqap_vla_ros.perception.images import decode
from sqap_vla_ros.tools.replay.annotate import CHUNK_TOPIC, MASK_TOPIC, OVERLAY_TOPIC, PATH_TOPIC, write_annotated
from sqap_vla_ros.tools.replay.results_reader import Run

CONFIGURATION = validate(Configuration, {"frames.base": "base", "frames.tool": "tool"}, "test")
OFFSET_M = 0.1


def annotated(bag_path: Path, run: Path, extrinsic: Extrinsic | None = None) -> Path:
    """Write the recording of a synthetic bag's run."""
    with Bag(bag_path) as bag:
        topics = find_topics(bag, CONFIGURATION)
        return write_annotated(
            bag, topics, CONFIGURATION, Run(run), extrinsic=extrinsic, on_progress=lambda at_ns: None
        )


def messages(bag: Path, topic: str) -> list[tuple[int, Any]]:
    """Recording time and message; read with nothing but the definitions in the bag."""
    with AnyReader([bag]) as reader:
        return [
            (recorded_ns, reader.deserialize(raw, connection.msgtype))
            for connection, recorded_ns, raw in reader.messages()
            if connection.topic == topic
        ]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of ten plans, the third refused."""
    folder = tmp_path_factory.mktemp("annotated")
    return annotated(write_bag(folder / "bag"), write_run(folder / "run", offset_m=OFFSET_M, refused=(2,)))


def test_after_the_clock_was_set_back_an_image_has_its_own_plan(tmp_path: Path) -> None:
    lap = bag_messages(1.6)
    bag = write_messages(tmp_path / "bag", [*lap, *((at_ns + 2 * 10**9, *rest) for at_ns, *rest in lap)])
    written = annotated(bag, write_run(tmp_path / "run", ticks=16, laps=2))
    assert [chunk.sequence for _, chunk in messages(written, CHUNK_TOPIC)] == list(range(32))


@pytest.mark.parametrize("topic", [CHUNK_TOPIC, MASK_TOPIC, PATH_TOPIC, OVERLAY_TOPIC])
def test_every_plan_has_its_messages_at_the_time_of_its_image(recording: Path, topic: str) -> None:
    times = [recorded_ns for recorded_ns, _ in messages(recording, topic)]
    assert times == [stamp_ns(tick) + 2_000_000 for tick in range(10) if tick != 2]


def test_all_definitions_are_in_the_recording(recording: Path) -> None:
    with AnyReader([recording]) as reader:
        assert all(connection.msgdef.data for connection in reader.connections)


def test_a_chunk_tells_what_was_planned(recording: Path) -> None:
    chunk = messages(recording, CHUNK_TOPIC)[0][1]
    assert (stamps.stamp_ns(chunk), chunk.header.frame_id) == (stamp_ns(0), "base")
    assert (chunk.policy_id, chunk.instruction, chunk.horizon) == ("sqap-1234", "pick up the can", HORIZON)
    assert chunk.tool_pose.position.x == pytest.approx(tool_x_m(stamp_ns(0)))
    assert chunk.inference_time == pytest.approx(0.1)


def test_a_token_mask_tells_what_was_kept(recording: Path) -> None:
    mask = messages(recording, MASK_TOPIC)[0][1]
    np.testing.assert_array_equal(mask.reason, KEPT.reasons)
    assert (mask.rows, mask.columns, mask.tool_valid) == (16, 16, True)
    assert mask.tool_u == pytest.approx(WIDTH / 2 + FOCAL_PX * tool_x_m(stamp_ns(0)))


def test_markers_lead_from_the_tool_along_plan_truth_and_baseline(recording: Path) -> None:
    markers = {marker.ns: marker for marker in messages(recording, PATH_TOPIC)[0][1].markers}
    start, *steps = [(point.x, point.y) for point in markers["plan"].points]
    assert start == pytest.approx((tool_x_m(stamp_ns(0)), 0.0))
    assert steps[-1] == pytest.approx((tool_x_m(stamp_ns(0) + 200_000_000), OFFSET_M))
    assert [len(markers[name].points) for name in ("truth", "baseline")] == [HORIZON + 1] * 2


def test_a_line_without_points_is_taken_away(recording: Path) -> None:
    markers = {marker.ns: marker for marker in messages(recording, PATH_TOPIC)[-1][1].markers}
    assert (markers["truth"].action, markers["plan"].action) == (2, 0)  # DELETE, ADD


def test_the_overlay_is_as_large_as_its_calibration_says(recording: Path) -> None:
    picture = messages(recording, OVERLAY_TOPIC)[0][1]
    (_, info), *_ = messages(recording, "/sqap_vla/overlay/camera_info")
    assert decode(picture).shape == (HEIGHT, WIDTH, 3) and (info.width, info.height) == (WIDTH, HEIGHT)


def test_the_plan_is_drawn_where_it_projects_to(recording: Path) -> None:
    picture = decode(messages(recording, OVERLAY_TOPIC)[0][1]).astype(int)
    v = round(HEIGHT / 2 + FOCAL_PX * OFFSET_M)
    u = round(WIDTH / 2 + FOCAL_PX * tool_x_m(stamp_ns(0) + 200_000_000))
    red, green, _ = picture[v, u]
    assert red > 180 and green < 120


def test_calibration_and_transforms_are_those_of_the_bag(recording: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    for topic in ("/tf", "/tf_static", "/camera/color/camera_info"):
        theirs, ours = messages(bag, topic), messages(recording, topic)
        assert [repr(message) for message in ours] == [repr(message) for message in theirs]


def test_static_transforms_are_latched(recording: Path) -> None:
    with AnyReader([recording]) as reader:
        (connection,) = (connection for connection in reader.connections if connection.topic == "/tf_static")
        assert connection.ext.offered_qos_profiles[0].durability == QosDurability.TRANSIENT_LOCAL  # type: ignore[union-attr]


def test_an_extrinsic_that_the_bag_lacks_is_in_the_recording(tmp_path: Path) -> None:
    extrinsic = Extrinsic(parent="base", child="wrist_camera", xyz=(0.0, 0.0, -1.0), rpy=(0.0, 0.0, 0.0))
    recording = annotated(write_bag(tmp_path / "bag"), write_run(tmp_path / "run"), extrinsic)
    children = [message.transforms[0].child_frame_id for _, message in messages(recording, "/tf_static")]
    assert children == ["wrist_camera", "camera"]


def test_a_recording_that_is_there_is_replaced(tmp_path: Path) -> None:
    bag, run = write_bag(tmp_path / "bag"), write_run(tmp_path / "run")
    annotated(bag, run)
    recording = annotated(bag, run)
    assert len(messages(recording, CHUNK_TOPIC)) == 10


def test_a_damaged_bag_is_annotated_up_to_the_damage(tmp_path: Path) -> None:
    bag, run = write_bag(tmp_path / "bag"), write_run(tmp_path / "run")
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    count = len(messages(annotated(file, run), CHUNK_TOPIC))
    assert 0 < count < 10


def test_nothing_that_looks_complete_is_left_when_writing_breaks_off(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")

    def stop(at_ns: int) -> None:
        if at_ns > START_NS + 5 * 10**8:
            raise KeyboardInterrupt

    with Bag(write_bag(tmp_path / "bag")) as bag, pytest.raises(KeyboardInterrupt):
        write_annotated(bag, find_topics(bag, CONFIGURATION), CONFIGURATION, Run(run), on_progress=stop)
    assert not (run / "annotated").exists()
