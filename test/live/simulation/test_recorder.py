"""The bag that a run of the cell leaves."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqap_vla
from cell_run import CellRun
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability

from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.simulation.recorder import cell_topics, message_types, type_name


@pytest.fixture
def bag(cell_run: CellRun) -> Iterator[AnyReader]:
    with AnyReader([cell_run.bag]) as reader:
        yield reader


def test_a_bag_has_every_topic_with_its_type(bag: AnyReader) -> None:
    recorded = {connection.topic: connection.msgtype for connection in bag.connections}
    assert recorded == {t.name: type_name(t.kind) for t in cell_topics(load_configuration("libero_panda").topics)}


def test_nothing_that_another_subscriber_heard_is_missing(cell_run: CellRun, bag: AnyReader) -> None:
    counts = Counter({connection.topic: connection.msgcount for connection in bag.connections})
    heard = {topic: len(messages) for topic, messages in cell_run.received.items() if topic != "/clock"}
    assert {topic: counts[topic] >= count > 0 for topic, count in heard.items()} == dict.fromkeys(heard, True)


def test_a_recorded_image_is_the_published_one(cell_run: CellRun, bag: AnyReader) -> None:
    published = cell_run.received["/camera/color/image_raw"][10]
    images = [connection for connection in bag.connections if connection.topic == "/camera/color/image_raw"]
    for connection, _, raw in bag.messages(images):
        recorded = bag.deserialize(raw, connection.msgtype)
        if (recorded.header.stamp.sec, recorded.header.stamp.nanosec) == (
            published.header.stamp.sec,
            published.header.stamp.nanosec,
        ):
            np.testing.assert_array_equal(recorded.data, np.asarray(published.data))
            return
    pytest.fail("the image is not in the bag")


def test_messages_are_logged_in_simulated_time(cell_run: CellRun, bag: AnyReader) -> None:
    assert 0 <= bag.start_time <= 1_100_000_000
    assert bag.duration * 1e-9 == pytest.approx(cell_run.report["simulated_s"] + 1.0, abs=1.2)


def test_latched_and_best_effort_topics_are_noted_as_such(bag: AnyReader) -> None:
    offered = {connection.topic: connection.ext.offered_qos_profiles[0] for connection in bag.connections}
    assert offered["/tf_static"].durability == QosDurability.TRANSIENT_LOCAL
    assert offered["/tf"].durability == QosDurability.VOLATILE
    assert offered["/camera/color/image_raw"].reliability == QosReliability.BEST_EFFORT


@pytest.mark.parametrize("name", ["ActionChunk", "PolicyMetadata", "PolicyStatus", "TokenMask"])
def test_message_definitions_hash_to_what_ros_has(name: str) -> None:
    share = next(p for p in Path(sqap_vla.__file__).parents if (p / "share" / "sqap_vla" / "msg").is_dir())
    description = json.loads((share / "share" / "sqap_vla" / "msg" / f"{name}.json").read_text())
    expected = next(h["hash_string"] for h in description["type_hashes"] if h["type_name"] == f"sqap_vla/msg/{name}")
    assert message_types().hash_rihs01(f"sqap_vla/msg/{name}") == expected
