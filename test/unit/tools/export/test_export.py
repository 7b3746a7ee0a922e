"""Recordings become a LeRobot data set: episodes, rows at a rate, and a replay that plans on the same."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_data import observed_in
from synthetic_bags import START_NS, STORE, Entry, messages, tool_x_m, write_messages

from sqap_vla_ros.bags.lerobot import LeRobotDataSet, episode_path
from sqap_vla_ros.bags.reader import BagError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.core.run_directory import RunDirectoryError
from sqap_vla_ros.tools.export.export import ExportSettings, Result, export

ROBOT = validate(Configuration, {"frames.base": "base", "frames.tool": "tool", "action.rate_hz": 10.0}, "test")
INSTRUCTION = "/sqap_vla/instruction"
CAMERA = "observation.images.camera_color"


def made(out: Path, *bags: Path, rate_hz: int = 10, **settings: Any) -> Result:
    """Export with the synthetic robot."""
    given = validate(ExportSettings, {"robot": "synthetic", "rate_hz": rate_hz, "quality": 0, **settings}, "test")
    return export(bags, out, ROBOT, given, lambda bag, seconds, total: None)


def text(at_s: float, words: str) -> Entry:
    """An instruction."""
    return START_NS + round(at_s * 1e9), INSTRUCTION, STORE.types["std_msgs/msg/String"](data=words)


def with_texts(path: Path, seconds: float, *texts: Entry) -> Path:
    """A bag with these instructions."""
    entries = [*messages(seconds, instruction=""), *texts]
    return write_messages(path, sorted(entries, key=lambda entry: entry[0]))


def rows(root: Path, episode: int) -> dict[str, Any]:
    """The columns of an episode."""
    return pq.read_table(root / "data" / "chunk-000" / f"file-{episode:03d}.parquet").to_pydict()


def test_a_replay_of_the_export_plans_on_what_a_replay_of_the_bag_plans_on(tmp_path: Path) -> None:
    bag = write_messages(tmp_path / "bag", messages(1.0))
    made(tmp_path / "set", bag)
    ours, theirs = observed_in(episode_path(tmp_path / "set", 0), ROBOT), observed_in(bag, ROBOT)
    assert [frame.stamp_ns for frame in ours] == [frame.stamp_ns for frame in theirs] and len(ours) == 10
    for a, b in zip(ours, theirs, strict=True):
        assert a.instruction == b.instruction
        np.testing.assert_allclose(a.T_base_tool, b.T_base_tool, atol=1e-12)
        np.testing.assert_allclose(a.tool_px, b.tool_px, atol=1e-9)  # calibration and camera's pose are there, too
        assert np.abs(a.image.astype(int) - b.image).max() <= 2  # grey pictures lose what colour conversion rounds


def test_actions_lead_from_row_to_row_and_the_last_one_stays(tmp_path: Path) -> None:
    made(tmp_path / "set", write_messages(tmp_path / "bag", messages(1.0)))
    columns = rows(tmp_path / "set", 0)
    np.testing.assert_allclose([action[0] for action in columns["action"]], [0.01] * 9 + [0.0], atol=1e-6)
    places = [pose[0] for pose in columns["tool_pose"]]
    np.testing.assert_allclose(places, [tool_x_m(at_ns) for at_ns in columns["stamp_ns"]], atol=1e-9)
    assert columns["timestamp"] == pytest.approx([frame / 10 for frame in range(10)])


def test_rows_come_at_the_rate_that_was_asked_for(tmp_path: Path) -> None:
    bag = write_messages(tmp_path / "bag", messages(2.0))
    made(tmp_path / "half", bag, rate_hz=5)
    assert np.diff(rows(tmp_path / "half", 0)["stamp_ns"]).tolist() == [2 * 10**8] * 9
    made(tmp_path / "double", bag, rate_hz=20)
    stamps = rows(tmp_path / "double", 0)["stamp_ns"]
    assert len(stamps) == 39 and len(set(stamps)) == 20  # a camera of 10 Hz: the nearest image stands twice
    assert len(observed_in(episode_path(tmp_path / "double", 0), ROBOT)) == 20


def test_an_instruction_begins_an_episode_and_an_empty_one_ends_it(tmp_path: Path) -> None:
    texts = [text(0, "pick it up"), text(1.0, "pick it up"), text(1.5, ""), text(2.0, "put it down")]
    result = made(tmp_path / "set", with_texts(tmp_path / "bag", 3.0, *texts))
    assert [(done.instruction, done.length) for done in result.episodes] == [("pick it up", 15), ("put it down", 10)]


def goal(at_s: float, *states: tuple[int, int]) -> Entry:
    """A status of `~/execute`: each goal's first byte and state."""
    at_ns, types = START_NS + round(at_s * 1e9), STORE.types
    stamp = types["builtin_interfaces/msg/Time"](sec=0, nanosec=0)

    def status(number: int, state: int) -> object:
        identity = types["unique_identifier_msgs/msg/UUID"](uuid=np.full(16, number, np.uint8))
        info = types["action_msgs/msg/GoalInfo"](goal_id=identity, stamp=stamp)
        return types["action_msgs/msg/GoalStatus"](goal_info=info, status=state)

    listed = [status(*entry) for entry in states]
    return at_ns, "/sqap_vla/execute/_action/status", types["action_msgs/msg/GoalStatusArray"](status_list=listed)


@pytest.mark.parametrize("end", [4, 5, 6])
def test_a_goal_is_an_episode_from_its_beginning_to_its_result(tmp_path: Path, end: int) -> None:
    goals = [goal(0.5, (1, 2)), goal(1.0, (1, 2)), goal(1.5, (1, end)), goal(2.0, (1, end), (2, 1)), goal(2.5, (2, 3))]
    bag = with_texts(tmp_path / "bag", 3.0, text(0, "pick it up"), *goals)
    result = made(tmp_path / "set", bag)
    assert [(done.first_stamp_ns, done.length) for done in result.episodes] == [
        (START_NS + 547 * 10**6, 10),
        (START_NS + 2047 * 10**6, 10),
    ]


def test_a_gap_divides_an_episode(tmp_path: Path) -> None:
    entries = [
        entry for entry in messages(4.0) if "image" not in entry[1] or not 10**9 < entry[0] - START_NS < 2 * 10**9
    ]
    result = made(tmp_path / "set", write_messages(tmp_path / "bag", entries))
    assert [done.length for done in result.episodes] == [10, 20]


def test_without_an_instruction_one_is_asked_for_and_can_be_given(tmp_path: Path) -> None:
    bag = with_texts(tmp_path / "bag", 1.0)
    with pytest.raises(BagError, match="give one with --instruction"):
        made(tmp_path / "set", bag)
    result = made(tmp_path / "other", bag, instruction="wave")
    assert [done.instruction for done in result.episodes] == ["wave"]


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and content of the rows and videos."""
    found = sorted([*root.rglob("data/**/*.parquet"), *root.rglob("*.mp4")])
    return {str(file.relative_to(root)): (file.stat().st_mtime_ns, file.read_bytes()) for file in found}


def test_what_is_written_stays_and_the_same_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text(0, "one"), text(1.0, "two"), text(2.0, "three")]
    bag = with_texts(tmp_path / "bag", 3.0, *texts)
    whole = made(tmp_path / "whole", bag)

    from sqap_vla_ros.tools.export import export as module

    begun: list[Path] = []

    class Stopped(module.EpisodeFiles):
        def __init__(self, data: Path, *rest: Any) -> None:
            begun.append(data)
            super().__init__(data, *rest)

        def add(self, sample: Any) -> None:
            if len(begun) == 3 and self.length == 4:
                raise KeyboardInterrupt
            super().add(sample)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "EpisodeFiles", Stopped)
        made(tmp_path / "set", bag)
    assert not list((tmp_path / "set").rglob("*.part")) and not (tmp_path / "set" / "meta").exists()
    before = files(tmp_path / "set")
    assert len(before) == 4
    result = made(tmp_path / "set", bag)
    assert (result.added, len(result.episodes)) == (1, 3)
    after = files(tmp_path / "set")
    assert {name: after[name] for name in before} == before
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in files(tmp_path / "whole").items()
    }
    assert whole.episodes == result.episodes


def test_further_bags_are_added_and_other_settings_are_refused(tmp_path: Path) -> None:
    bags = [write_messages(tmp_path / name, messages(1.0, instruction=name)) for name in ("a", "b")]
    made(tmp_path / "set", bags[0])
    before = files(tmp_path / "set")
    assert made(tmp_path / "set", *bags).added == 1
    assert {name: files(tmp_path / "set")[name] for name in before} == before
    assert LeRobotDataSet(tmp_path / "set").tasks == {0: "a", 1: "b"}
    indices = [rows(tmp_path / "set", episode)["index"] for episode in (0, 1)]
    assert sum(indices, []) == list(range(20))
    with pytest.raises(RunDirectoryError, match="rate_hz"):
        made(tmp_path / "set", *bags, rate_hz=5)


def test_a_directory_with_other_files_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.tex").write_text("precious")
    with pytest.raises(RunDirectoryError, match=r"thesis\.tex"):
        made(tmp_path / "set", write_messages(tmp_path / "bag", messages(1.0)))
    assert [file.name for file in (tmp_path / "set").iterdir()] == ["thesis.tex"]


def test_the_statistics_are_those_of_all_rows(tmp_path: Path) -> None:
    bags: Sequence[Path] = [write_messages(tmp_path / name, messages(s)) for name, s in (("a", 1.0), ("b", 3.0))]
    made(tmp_path / "set", *bags)
    statistics = json.loads((tmp_path / "set" / "meta" / "stats.json").read_text())
    values = np.array(rows(tmp_path / "set", 0)["action"] + rows(tmp_path / "set", 1)["action"])
    for name, expected in {"mean": values.mean(0), "std": values.std(0), "min": values.min(0)}.items():
        np.testing.assert_allclose(statistics["action"][name], expected, atol=1e-9)
    assert statistics["action"]["count"] == [40] and np.shape(statistics[CAMERA]["mean"]) == (3, 1, 1)
