"""A bag played into the live node gives the chunks of its replay, bit for bit, also after the clock went back."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from live_cell import Cell
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock
from synthetic_bags import write_bag

from sqap_vla_ros import cli
from sqap_vla_ros.config.robot import Topics
from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.ros.conversions import time_message
from sqap_vla_ros.simulation.recorder import Recorder, cell_topics
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint

MakeCell = Callable[..., Cell]
IMAGE = "/camera/color/image_raw"
LATCHED_TOPICS = ("/tf_static", "/sqap_vla/instruction")
# What is carried from frame to frame shall show in the actions: layers that a small network has, and all that can be.
POLICY = """name: vla_cache
pruning: {method: vla_cache, most_reused: 256, relevant: 0, reuse_before_layers: [1, 2], damping: 1.0}
"""
# An image waits for its transforms as long as may be: on a busy machine they come late.
SETTINGS = {"frames.base": "base", "frames.tool": "tool", "frames.camera": "", "freshness.transform_wait": 1.0}


class Player(Node):
    """Publishes a bag's messages as they were recorded, and their time on /clock.

    It goes on as soon as the node has planned on an image: every image is a tick, on a machine of any speed.
    """

    def __init__(self, bag: Path, cell: Cell) -> None:
        super().__init__("player")
        self._cell = cell
        self._clock = self.create_publisher(Clock, "/clock", 10)
        with AnyReader([bag]) as reader:
            self._messages = [
                (connection.topic, at_ns, bytes(raw), reader.deserialize(raw, connection.msgtype))
                for connection, at_ns, raw in reader.messages()
            ]
            kinds = {connection.topic: connection.msgtype for connection in reader.connections}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._outputs = {
            topic: self.create_publisher(_message_class(kind), topic, latched if topic in LATCHED_TOPICS else 100)
            for topic, kind in kinds.items()
        }

    def play(self) -> None:
        """The whole bag, once."""
        waiting_ns = None
        for topic, at_ns, serialized, message in self._messages:
            self.set_clock(at_ns)
            self._outputs[topic].publish(serialized)
            if topic == IMAGE:
                waiting_ns = stamp_ns(message)
            elif topic == "/tf" and waiting_ns is not None and at_ns >= waiting_ns:
                self._cell.spin_for_chunks(1)
                waiting_ns = None

    def set_clock(self, at_ns: int) -> None:
        """Tell the time, and wait until the node has it."""
        self._clock.publish(Clock(clock=time_message(at_ns)))
        clock = self._cell.node.get_clock()
        self._cell.spin_until(lambda: clock.now().nanoseconds == at_ns)

    def set_clock_back(self) -> None:
        """To the bag's beginning; waits until the node, which looks at it more often than it reports, has seen it."""
        self.set_clock(self._messages[0][1])
        self._cell.spin_for_statuses(2)


def _message_class(kind: str) -> type:
    package, _, name = kind.split("/")
    return getattr(import_module(f"{package}.msg"), name)


def replayed(monkeypatch: pytest.MonkeyPatch, bag: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    """Planned ticks of `sqap-vla replay`."""
    monkeypatch.setattr("sys.argv", ["sqap-vla", "replay", str(bag), "--out", str(out), *options])
    cli.main()
    return [row for row in pq.read_table(out / "ticks.parquet").to_pylist() if not row["refused"]]


def kept(reasons: Any) -> list[int]:
    """Tokens that stay, of a mask's reasons."""
    return np.flatnonzero(np.asarray(reasons)).tolist()


def test_a_bag_played_live_twice_gives_the_chunks_of_its_replay_bit_for_bit(
    make_cell: MakeCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VLA-Cache plans on what it kept of the frame before: its chunks tell whether the jump made it forget."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    policy = str(file)
    run = write_random_checkpoint(tmp_path / "run", size="tiny")
    bag = write_bag(tmp_path / "bag", seconds=1.2)  # longer than what is taken for a jump
    cell = make_cell(load_policy, policy=policy, checkpoint=str(run), use_sim_time=True, dry_run=True, **SETTINGS)
    cell.robot.publishes_images = cell.robot.publishes_transforms = False
    player = Player(bag, cell)
    recorder = Recorder(tmp_path / "recording", cell_topics(Topics(gripper_command="/gripper").in_namespace("")))
    cell.executor.add_node(player)
    cell.executor.add_node(recorder)
    cell.start()
    player.play()
    player.set_clock_back()
    player.play()
    for node in (recorder, player):
        cell.executor.remove_node(node)
    recorder.close()
    for node in (recorder, player):
        node.destroy_node()

    half = len(cell.chunks) // 2
    first, second = cell.chunks[:half], cell.chunks[half:]
    assert len(first) == len(second) == 12
    assert {chunk.epoch for chunk in first}.isdisjoint(chunk.epoch for chunk in second)
    assert [chunk.data for chunk in first] == [chunk.data for chunk in second]

    assert any(Reason.OTHER in mask.reason for mask in cell.masks[1:half])

    robot = tmp_path / "robot.yaml"
    robot.write_text("/**:\n  ros__parameters:\n    frames: {base: base, tool: tool}\n    action: {rate_hz: 20.0}\n")
    options = ["--policy", policy, "--checkpoint", str(run), "--robot", str(robot)]
    rows = replayed(monkeypatch, bag, tmp_path / "replayed", *options)
    assert [row["actions"] for row in rows] == [list(chunk.data) for chunk in first]
    assert [(row["tool_u_px"], row["tool_v_px"]) for row in rows] == [(m.tool_u, m.tool_v) for m in cell.masks[:half]]
    assert [row["kept_tokens"] for row in rows] == [kept(mask.reason) for mask in cell.masks[:half]]

    rows = replayed(monkeypatch, tmp_path / "recording", tmp_path / "as_recorded", "--as-recorded", *options)
    assert [row["actions"] for row in rows] == [list(chunk.data) for chunk in cell.chunks]
    assert {row["recorded_difference"] for row in rows} == {0.0}
