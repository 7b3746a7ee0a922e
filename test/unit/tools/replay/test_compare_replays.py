"""Two replays compared: the figures, the verdict, the exit code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from replayed_runs import OTHER_KEPT, write_run, write_runs

from sqap_vla_ros import cli
from sqap_vla_ros.tools.replay.compare import compare, judge_comparison, problems
from sqap_vla_ros.tools.replay.judgement import Outcome
from sqap_vla_ros.tools.replay.results_reader import RunError


def run_compare(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of the command."""
    monkeypatch.setattr("sys.argv", ["sqap-vla", "compare", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_displacement_is_that_between_the_planned_paths(tmp_path: Path) -> None:
    comparison = compare(write_run(tmp_path / "a", offset_m=0.001), write_run(tmp_path / "b", offset_m=0.004))
    expected = np.full(10, 0.003)
    expected[5] = 0.006
    np.testing.assert_allclose(comparison.displacement_m, expected, atol=1e-12)
    np.testing.assert_allclose(comparison.final_displacement_m, expected, atol=1e-12)


def test_latency_is_that_of_the_policies(tmp_path: Path) -> None:
    comparison = compare(write_run(tmp_path / "a", seconds=0.4), write_run(tmp_path / "b", seconds=0.1))
    assert comparison.latency_ratio == pytest.approx(0.25)


def test_kept_overlap_is_the_share_of_what_a_keeps(tmp_path: Path) -> None:
    comparison = compare(write_run(tmp_path / "a"), write_run(tmp_path / "b", selection=OTHER_KEPT))
    np.testing.assert_allclose(comparison.kept_overlap, 14 / 18)


def test_metrics_are_those_of_common_ticks(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", offset_m=0.001, refused=(5,))
    b = write_run(tmp_path / "b", offset_m=0.002)
    assert compare(a, b).metrics["truth_mean_displacement_m"] == pytest.approx((0.001, 0.002))


@pytest.mark.parametrize(
    ("offset_m", "seconds", "limits", "words"),
    [
        (0.002, 0.1, (0.0045, 1.1), ()),
        (0.002, 0.1, (0.0019, None), ("displacement",)),
        (0.0, 0.2, (0.001, 1.5), ("latency ratio of 2.000",)),
        (0.002, 0.2, (0.001, 1.5), ("latency ratio", "displacement")),
    ],
)
def test_each_limit_that_is_passed_is_named(
    tmp_path: Path,
    offset_m: float,
    seconds: float,
    limits: tuple[float | None, float | None],
    words: tuple[str, ...],
) -> None:
    b = write_run(tmp_path / "b", offset_m=offset_m, seconds=seconds)
    verdict = judge_comparison(compare(write_run(tmp_path / "a"), b), {"displacement": limits[0]}, limits[1])
    assert verdict.outcome is (Outcome.FAIL if words else Outcome.PASS)
    clauses = verdict.sentence.removeprefix("FAIL: ").split("; ")
    assert not words or all(word in clause for word, clause in zip(words, clauses, strict=True))


@pytest.mark.parametrize(("offset_m", "outcome"), [(0.001, Outcome.PASS), (0.004, Outcome.FAIL)])
def test_without_a_limit_the_noise_floor_of_a_decides(tmp_path: Path, offset_m: float, outcome: Outcome) -> None:
    a = write_run(tmp_path / "a", ticks=60, noise_m=0.002)
    b = write_run(tmp_path / "b", ticks=60, offset_m=offset_m)
    assert judge_comparison(compare(a, b), {}).outcome is outcome


def test_b_may_have_measured_the_floor_of_a_as_its_baseline(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", ticks=60)
    b = write_run(tmp_path / "b", ticks=60, offset_m=0.001, noise_m=0.002, noise_of="baseline")
    assert judge_comparison(compare(a, b), {}).outcome is Outcome.UNDECIDED  # B's baseline is another than A
    summary = json.loads((a / "summary.json").read_text())
    (a / "summary.json").write_text(json.dumps({**summary, "policy": "fp16-1234"}))
    assert judge_comparison(compare(a, b), {}).outcome is Outcome.PASS


def test_rotation_and_gripper_are_judged_too(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", ticks=60, noise_m=0.002)
    b = write_run(tmp_path / "b", ticks=60)
    ticks = pq.read_table(b / "ticks.parquet")
    for column, row in (("path_rotations_rad", [0.0] * 9 + [0.0, 0.3, 0.0]), ("path_gripper", [1.0, 1.0, 1.0, 0.0])):
        place = ticks.schema.get_field_index(column)
        ticks = ticks.set_column(place, ticks.field(column), pa.array([row] * len(ticks), pa.list_(pa.float64())))
    pq.write_table(ticks, b / "ticks.parquet")
    displacement, rotation, gripper = judge_comparison(compare(a, b), {}).findings
    assert displacement.outcome is Outcome.PASS
    assert rotation.outcome is Outcome.FAIL and rotation.value == pytest.approx(0.3)
    assert gripper.outcome is Outcome.FAIL and gripper.value == pytest.approx(0.25)
    within = judge_comparison(compare(a, b), {"rotation": 0.31, "gripper": 0.25})
    assert within.outcome is Outcome.PASS


def test_ticks_that_b_refuses_count_against_it(tmp_path: Path) -> None:
    comparison = compare(write_run(tmp_path / "a"), write_run(tmp_path / "b", refused=(3, 4)))
    assert problems(comparison, None) == ["2 ticks are planned in A only"]


def test_ticks_that_only_b_plans_do_not(tmp_path: Path) -> None:
    comparison = compare(write_run(tmp_path / "a", refused=(3, 4)), write_run(tmp_path / "b"))
    assert problems(comparison, 1.1) == []


def test_bags_are_joined_by_name_and_missing_ones_count(tmp_path: Path) -> None:
    write_runs(tmp_path / "a", "kitchen", "lab")
    write_runs(tmp_path / "b", "lab", "office")
    comparison = compare(tmp_path / "a", tmp_path / "b")
    assert (comparison.bags, comparison.ticks) == (1, 10)
    assert problems(comparison, None) == ["bags in A only: kitchen"]


def test_bags_of_several_folders_that_are_called_the_same_are_told_apart(tmp_path: Path) -> None:
    names = ("monday-bag", "tuesday-bag")
    for number, name in enumerate(names):
        write_run(tmp_path / name, "bag", ticks=10 - number, offset_m=0.001 * number)
    (tmp_path / "summary.json").write_text(json.dumps({"bags": dict.fromkeys(names), "failed": {}}))
    comparison = compare(tmp_path, tmp_path)
    assert (comparison.bags, comparison.ticks, comparison.missing_ticks) == (2, 19, 0)
    assert comparison.displacement_m.max() == 0


def test_stamps_that_come_again_after_the_clock_was_set_back_are_ticks_of_their_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", ticks=20, laps=2, lap_seconds=0.4)
    comparison = compare(run, run)
    assert (comparison.ticks, comparison.missing_ticks) == (40, 0)
    assert sorted(set(comparison.seconds[0].round(6))) == [0.1, 0.5]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"T_base_tool": np.eye(4)}, "tool poses"),
        ({"instruction": "open the drawer"}, "instructions"),
        ({"time_step_s": 0.2}, "time steps"),
    ],
)
def test_runs_with_the_same_stamps_and_other_inputs_cannot_be_compared(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(RunError, match=words):
        compare(write_run(tmp_path / "a"), write_run(tmp_path / "b", changed=changed))


def test_replays_of_many_bags_that_were_interrupted_are_not_compared(tmp_path: Path) -> None:
    write_runs(tmp_path / "a", "kitchen")
    (tmp_path / "a/summary.json").unlink()
    with pytest.raises(RunError, match="--resume"):
        compare(tmp_path / "a", tmp_path / "a")


@pytest.mark.parametrize(("limit", "code", "word"), [("0.01", 0, "PASS"), ("0.001", 1, "FAIL")])
def test_the_exit_code_is_the_verdict(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limit: str,
    code: int,
    word: str,
) -> None:
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", offset_m=0.003)
    assert run_compare(monkeypatch, a, b, "--max-displacement", limit, "--max-latency-ratio", 1.2) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(word)


def test_without_floor_and_limit_nothing_is_judged_and_the_exit_code_is_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert run_compare(monkeypatch, a, b) == 3
    assert run_compare(monkeypatch, a, b, "--max-latency-ratio", 2) == 3  # which says nothing about the plans
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("UNDECIDED: ") and "--noise-floor on" in said and "--max-displacement" in said


@pytest.mark.parametrize("option", ["displacement", "rotation", "gripper", "latency-ratio"])
@pytest.mark.parametrize("limit", ["-1", "nan", "inf"])
def test_a_limit_that_is_none_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, limit: str
) -> None:
    a = write_run(tmp_path / "a")
    assert run_compare(monkeypatch, a, a, f"--max-{option}", limit) == 2
    assert f"--max-{option}" in capsys.readouterr().err


def test_a_users_mistake_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_compare(monkeypatch, write_run(tmp_path / "a"), tmp_path / "nothing") == 2
    assert "no results of a replay" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("ticks", [10, 0], ids=["others", "none at all"])
def test_runs_without_a_common_tick_cannot_be_compared(tmp_path: Path, ticks: int) -> None:
    a = write_run(tmp_path / "a", ticks=ticks, refused=tuple(range(5)))
    b = write_run(tmp_path / "b", refused=tuple(range(5, 10)))
    with pytest.raises(RunError, match="no tick is planned in both"):
        compare(a, b)


def test_a_damaged_file_of_results_is_named(tmp_path: Path) -> None:
    b = write_run(tmp_path / "b")
    (b / "ticks.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(RunError, match=r"b/ticks\.parquet: cannot be read"):
        compare(write_run(tmp_path / "a"), b)
