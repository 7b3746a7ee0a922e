"""A replay measured against what the tool really did, and against another policy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replays import CONFIGURATION, replayed
from rosbags.rosbag2 import StoragePlugin, Writer
from synthetic_bags import START_NS, STORE, TOOL_SPEED_M_S, T, image, tool_x_m, transforms, write_bag

from sqap_vla_ros.bags.observations import observations
from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.token_selection import Reason, selection_of
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.testing.stub_policies import HORIZON, TIME_STEP_S, SleepingPolicy
from sqap_vla_ros.tools.replay.results import ReplayResults

FINAL_S = HORIZON * TIME_STEP_S
TRUE_STEP_M = TOOL_SPEED_M_S * TIME_STEP_S


class SteadyPolicy(SleepingPolicy):
    """Moves the tool by the same distance along x at every step, and counts how often it was reset."""

    def __init__(self, step_m: float, *kept: int) -> None:
        super().__init__(0)
        self.step_m = step_m
        self.kept = kept
        self.resets = 0

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        """Plan the steps."""
        chunk = super().plan(observation, committed)
        chunk.actions[:, :3] = (self.step_m, 0.0, 0.0)
        if self.kept:
            chunk = replace(chunk, selection=selection_of({Reason.RING: np.array(self.kept)}))
        return chunk

    def reset(self) -> None:
        """Count."""
        self.resets += 1


def test_a_plan_that_comes_true_is_without_error(tmp_path: Path) -> None:
    rows, _ = replayed(write_bag(tmp_path / "bag", seconds=2.0), tmp_path / "out", SteadyPolicy(TRUE_STEP_M))
    for row in rows[:10]:
        assert row["truth_mean_displacement_m"] == pytest.approx(0, abs=1e-9)
        assert row["truth_final_displacement_m"] == pytest.approx(0, abs=1e-9)
        assert row["truth_rotation_rad"] == pytest.approx(0, abs=1e-9)
        assert row["truth_direction_cosine"] == pytest.approx(1)
        assert row["jerk_m_s3"] == pytest.approx(0, abs=1e-6)
    assert all(row["overlap_m"] == pytest.approx(0, abs=1e-9) for row in rows[1:]) and rows[0]["overlap_m"] is None


def test_a_plan_to_stand_still_is_off_by_what_the_tool_moved(tmp_path: Path) -> None:
    rows, _ = replayed(write_bag(tmp_path / "bag", seconds=2.0), tmp_path / "out", SteadyPolicy(0.0))
    assert rows[0]["truth_final_displacement_m"] == pytest.approx(TOOL_SPEED_M_S * FINAL_S)
    assert rows[0]["truth_mean_displacement_m"] == pytest.approx(TRUE_STEP_M * (HORIZON + 1) / 2)
    assert rows[0]["truth_direction_cosine"] is None


def test_both_paths_are_positions_in_the_base_frame(tmp_path: Path) -> None:
    rows, _ = replayed(write_bag(tmp_path / "bag", seconds=2.0), tmp_path / "out", SteadyPolicy(2 * TRUE_STEP_M))
    at_ns = rows[0]["stamp_ns"] + round(TIME_STEP_S * 1e9) * np.arange(1, HORIZON + 1)
    truth, path = (np.reshape(rows[0][name], (HORIZON, 3)) for name in ("truth_path_m", "path_m"))
    np.testing.assert_allclose(truth[:, 0], [tool_x_m(ns) for ns in at_ns.tolist()])
    start = tool_x_m(rows[0]["stamp_ns"])
    np.testing.assert_allclose(path[:, 0], start + 2 * TRUE_STEP_M * np.arange(1, HORIZON + 1))


def test_near_the_end_of_the_bag_the_truth_goes_only_as_far_as_the_bag(tmp_path: Path) -> None:
    rows, _ = replayed(write_bag(tmp_path / "bag", seconds=2.0), tmp_path / "out", SteadyPolicy(0.0))
    last = rows[-1]  # 53 ms before the last transform
    known = np.isfinite(np.reshape(last["truth_path_m"], (HORIZON, 3))).all(axis=1)
    assert known.tolist() == [True] + [False] * (HORIZON - 1)
    assert last["truth_mean_displacement_m"] == pytest.approx(TRUE_STEP_M) and last["truth_rotation_rad"] is None


def test_a_policy_is_no_way_from_itself_as_baseline(tmp_path: Path) -> None:
    policy = SteadyPolicy(TRUE_STEP_M)
    rows, summary = replayed(write_bag(tmp_path / "bag"), tmp_path / "out", policy, SteadyPolicy(TRUE_STEP_M))
    for row in rows:
        assert (row["baseline_mean_displacement_m"], row["baseline_final_displacement_m"]) == (0, 0)
        assert (row["baseline_gripper_agreement"], row["kept_overlap"]) == (1, 1)
        assert row["baseline_actions"] == row["actions"] and row["baseline_path_m"] == row["path_m"]
        assert row["baseline_truth_mean_displacement_m"] == row["truth_mean_displacement_m"]
    assert summary["baseline"] == policy.metadata.policy_id


def test_policy_and_baseline_are_compared_with_each_other_and_each_with_the_truth(tmp_path: Path) -> None:
    policy, baseline = SteadyPolicy(TRUE_STEP_M, 1, 2, 3, 4), SteadyPolicy(-TRUE_STEP_M, 4, 5)
    rows, _ = replayed(write_bag(tmp_path / "bag", seconds=2.0), tmp_path / "out", policy, baseline)
    row = rows[0]
    assert row["baseline_final_displacement_m"] == pytest.approx(2 * TOOL_SPEED_M_S * FINAL_S)
    assert row["baseline_truth_final_displacement_m"] == pytest.approx(2 * TOOL_SPEED_M_S * FINAL_S)
    assert row["truth_final_displacement_m"] == pytest.approx(0, abs=1e-9)
    assert (row["baseline_direction_cosine"], row["kept_overlap"]) == (pytest.approx(-1), 0.5)


def test_without_baseline_its_columns_are_empty(tmp_path: Path) -> None:
    rows, summary = replayed(write_bag(tmp_path / "bag"), tmp_path / "out", SteadyPolicy(0.0))
    assert all(row[name] is None for row in rows for name in row if name.startswith(("baseline_", "kept_overlap")))
    assert summary["baseline"] == "" and not any(name.startswith("baseline") for name in summary["metrics"])


class NoisyPolicy(SteadyPolicy):
    """Adds to each step what it draws from the seed of its observation."""

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        """Plan the steps."""
        chunk = super().plan(observation, committed)
        generator = np.random.Generator(np.random.Philox(key=observation.stamp_ns))
        chunk.actions[:, 1] = generator.normal(0, 1e-3)
        return chunk


@pytest.mark.parametrize("noisy", [True, False])
def test_the_noise_floor_is_how_far_two_plans_of_the_baseline_are_apart(tmp_path: Path, noisy: bool) -> None:
    baseline = NoisyPolicy(0.0) if noisy else SteadyPolicy(0.0)
    bag = write_bag(tmp_path / "bag", seconds=2.0)
    rows, _ = replayed(bag, tmp_path / "out", NoisyPolicy(0.001), baseline, noise_floor=True)
    floors = np.array([row["noise_final_displacement_m"] for row in rows])
    # The difference of two normal draws, integrated over the horizon.
    assert np.sqrt((floors**2).mean()) == pytest.approx(HORIZON * np.sqrt(2) * 1e-3 * noisy, rel=0.4)
    assert {row["noise_gripper_agreement"] for row in rows} == {1.0}


def test_without_a_baseline_the_noise_floor_is_the_policys_own_and_unasked_there_is_none(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    measured, _ = replayed(bag, tmp_path / "measured", NoisyPolicy(0.0), noise_floor=True)
    without, summary = replayed(bag, tmp_path / "without", NoisyPolicy(0.0))
    assert all(row["noise_mean_displacement_m"] > 0 for row in measured)
    assert all(row["noise_mean_displacement_m"] is None for row in without)
    assert not any(name.startswith("noise") for name in summary["metrics"])
    # Measuring it changes nothing else.
    assert [row["actions"] for row in measured] == [row["actions"] for row in without]


def test_a_baseline_of_other_steps_is_refused(tmp_path: Path) -> None:
    baseline = SteadyPolicy(0.0)
    baseline.metadata = replace(baseline.metadata, horizon=8)
    with pytest.raises(ConfigurationError, match="8 steps of 0.05 s"):
        replayed(write_bag(tmp_path / "bag"), tmp_path / "out", SteadyPolicy(0.0), baseline)


def test_the_summary_counts_up_the_columns_and_names_the_worst_tick(tmp_path: Path) -> None:
    class WorseAndWorse(SteadyPolicy):
        def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
            self.step_m += 0.001
            return super().plan(observation, committed)

    rows, summary = replayed(write_bag(tmp_path / "bag"), tmp_path / "out", WorseAndWorse(0.0), SteadyPolicy(0.0))
    values = [row["baseline_mean_displacement_m"] for row in rows]
    metric = summary["metrics"]["baseline_mean_displacement_m"]
    assert metric["mean"] == pytest.approx(np.mean(values)) and metric["p95"] == pytest.approx(
        np.percentile(values, 95)
    )
    assert (metric["worst"], metric["worst_stamp_ns"]) == (values[-1], rows[-1]["stamp_ns"])
    assert summary["metrics"]["kept_overlap"]["p50"] == 1


def test_the_worst_agreement_is_the_least(tmp_path: Path) -> None:
    class LastWayBack(SteadyPolicy):
        def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
            self.step_m = -TRUE_STEP_M if tool_x_m(observation.stamp_ns) > 0.1 * 0.9 else TRUE_STEP_M
            return super().plan(observation, committed)

    rows, summary = replayed(write_bag(tmp_path / "bag"), tmp_path / "out", LastWayBack(0.0), SteadyPolicy(TRUE_STEP_M))
    worst = summary["metrics"]["baseline_direction_cosine"]
    assert (worst["worst"], worst["worst_stamp_ns"]) == (pytest.approx(-1), rows[-1]["stamp_ns"])


def test_figures_that_are_not_finite_do_not_get_into_the_json(tmp_path: Path) -> None:
    bag, policy = write_bag(tmp_path / "bag"), SteadyPolicy(0.0)
    with Bag(bag) as opened:
        tick = next(iter(observations(opened, find_topics(opened, CONFIGURATION), CONFIGURATION, on_progress=print)))
    assert isinstance(tick, Observation)
    with ReplayResults(tmp_path / "out", {"as_recorded": True}) as results:
        for value, recorded in ((0.5, np.zeros((1, 7))), (np.inf, np.full((HORIZON, 7), np.nan))):
            results.add_tick(policy.plan(tick), {"jerk_m_s3": value}, recorded)
    summary = results.write_summary()
    assert "Infinity" not in (tmp_path / "out/summary.json").read_text()
    assert summary["metrics"]["jerk_m_s3"]["worst"] == 0.5
    assert summary["recorded"]["largest_difference"] is None


def test_seconds_are_told_per_policy_and_stage(tmp_path: Path) -> None:
    _, summary = replayed(write_bag(tmp_path / "bag"), tmp_path / "out", SleepingPolicy(0.002), SleepingPolicy(0.001))
    assert summary["seconds"]["policy"]["sleep"] == {"p50": 0.002, "p95": 0.002, "p99": 0.002}
    assert summary["seconds"]["baseline"]["total"]["p99"] == 0.001


@pytest.mark.parametrize(("kept", "used"), [((1, 2), 10), ((), 0)], ids=["with ring", "without ring"])
def test_a_tool_in_the_image_is_covered_where_the_policy_draws_a_ring(
    tmp_path: Path, kept: tuple[int, ...], used: int
) -> None:
    _, summary = replayed(write_bag(tmp_path / "bag"), tmp_path / "out", SteadyPolicy(0.0, *kept))
    reasons = {} if used else {"the policy protects no ring": 10}
    assert summary["ring_coverage"] == {"in_image": 10, "used": used, "reasons": reasons}


def test_a_tick_that_a_policy_cannot_plan_is_refused_and_the_others_are_planned(tmp_path: Path) -> None:
    class NotFiniteOnce(SteadyPolicy):
        def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
            self.step_m += 1
            if self.step_m == 3:
                raise ValueError("samples are not finite")
            return super().plan(observation, committed)

    rows, summary = replayed(write_bag(tmp_path / "bag"), tmp_path / "out", NotFiniteOnce(0.0), SteadyPolicy(0.0))
    assert [row["refused"] for row in rows] == ["samples are not finite" if k == 2 else "" for k in range(10)]
    assert summary["ticks_planned"] == 9


def test_the_summary_holds_the_settings(tmp_path: Path) -> None:
    _, summary = replayed(write_bag(tmp_path / "bag"), tmp_path / "out", SteadyPolicy(0.0))
    assert summary["settings"]["frames"]["tool"] == "tool" and summary["policy"].startswith("sleeping@")


@pytest.fixture
def set_back(tmp_path: Path) -> Path:
    """A bag whose clock is set back to its beginning after two seconds."""
    path = tmp_path / "set_back"
    kinds = {
        "/image_raw": "sensor_msgs/msg/Image",
        "/tf": "tf2_msgs/msg/TFMessage",
        "/instruction": "std_msgs/msg/String",
    }
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in kinds.items()}

        def write(topic: str, at_ns: int, message: Any) -> None:
            writer.write(connections[topic], at_ns, STORE.serialize_cdr(message, kinds[topic]))

        write("/instruction", START_NS, T["std_msgs/msg/String"](data="pick up the can"))
        for step in range(400):
            recorded_ns, at_ns = START_NS + step * 10**7, START_NS + step % 200 * 10**7
            write("/tf", recorded_ns, transforms(at_ns, "base", "tool", (tool_x_m(at_ns), 0.0, 0.0)))
            if step % 10 == 5:
                write("/image_raw", recorded_ns, image(at_ns))
    return path


def test_nothing_is_carried_across_a_jump_of_the_clock(set_back: Path, tmp_path: Path) -> None:
    policy, baseline = SteadyPolicy(TRUE_STEP_M), SteadyPolicy(TRUE_STEP_M)
    rows, _ = replayed(set_back, tmp_path / "out", policy, baseline)
    planned = [row for row in rows if not row["refused"]]
    first = next(k for k in range(1, len(planned)) if planned[k]["stamp_ns"] < planned[k - 1]["stamp_ns"])
    assert (policy.resets, baseline.resets) == (2, 2)
    assert [k for k, row in enumerate(planned) if row["overlap_m"] is None] == [0, first]


def test_the_truth_of_either_side_of_a_jump_is_its_own(set_back: Path, tmp_path: Path) -> None:
    rows, summary = replayed(set_back, tmp_path / "out", SteadyPolicy(TRUE_STEP_M))
    whole = [row for row in rows if row["truth_final_displacement_m"] is not None]
    assert len(whole) >= 20 and summary["metrics"]["truth_mean_displacement_m"]["worst"] < 1e-9


def test_the_same_networks_twice_give_the_same_file(tmp_path: Path) -> None:
    run = write_random_checkpoint(tmp_path / "run", size="tiny")
    bag = write_bag(tmp_path / "bag", seconds=0.5)
    for out in ("a", "b"):
        sqap, fp16 = (
            load_policy(CONFIGURATION.model_copy(update={"policy": name, "checkpoint": str(run)}), lambda words: None)
            for name in ("sqap", "fp16")
        )
        rows, _ = replayed(bag, tmp_path / out, sqap, fp16)
    assert (tmp_path / "a/ticks.parquet").read_bytes() == (tmp_path / "b/ticks.parquet").read_bytes()
    assert all(row["baseline_mean_displacement_m"] > 0 and row["kept_overlap"] == 154 / 256 for row in rows)
