"""From episodes to the published tables."""

import json
from pathlib import Path

import pytest

from sqap_vla_ros.simulation.simpler.episode import TASKS
from sqap_vla_ros.simulation.simpler.evaluation import EpisodeResult
from sqap_vla_ros.simulation.simpler.report import markdown, summarise, write_report


def some(
    task: str,
    outcomes: str,
    policy: str = "fp16@1",
    setting: str = "visual_matching",
    environment: str = "Open",
    without_ring: int = 0,
) -> list[EpisodeResult]:
    """An episode of ten steps for each letter: s, success, or f, failure."""
    reasons = {"off the image": without_ring} if without_ring else {}
    return [
        EpisodeResult(
            policy, "float", task, setting, environment, f"{environment} {index}", letter == "s", 10, 0.1, reasons
        )
        for index, letter in enumerate(outcomes)
    ]


def all_tasks(*outcomes: str) -> list[EpisodeResult]:
    tasks = TASKS["google_robot"]
    return [result for task, letters in zip(tasks, outcomes, strict=True) for result in some(task, letters)]


def test_a_task_s_rate_is_the_share_of_its_successes() -> None:
    [row] = summarise(some("drawer", "sssf"))
    assert row.tasks["drawer"].value == 0.75 and row.tasks["drawer"].count == 4


def test_the_mean_is_over_tasks_not_over_episodes() -> None:
    [row] = summarise(all_tasks("s", "s", "s", "ffffff"))
    assert row.mean == 0.75


def test_there_is_no_mean_while_a_task_is_missing() -> None:
    [row] = summarise(some("drawer", "s"))
    assert row.mean is None


def test_opening_and_closing_are_also_told_apart() -> None:
    [row] = summarise(some("drawer", "ss", environment="Open") + some("drawer", "ff", environment="Close"))
    assert row.tasks["drawer"].value == 0.5
    assert {name: rate.value for name, rate in row.environments.items()} == {"Open": 1.0, "Close": 0.0}


def test_plans_without_ring_are_a_share_of_all() -> None:
    [row] = summarise(some("drawer", "ss", without_ring=5))
    assert row.share_without_ring == pytest.approx(0.5)


def test_robots_and_settings_have_tables_of_their_own() -> None:
    results = some("drawer", "s") + some("drawer", "s", setting="variant_aggregation") + some("stack_cubes", "f")
    text = markdown(summarise(results))
    assert [line for line in text.splitlines() if line.startswith("Success")] == [
        "Success in SIMPLER, google_robot, visual matching [%] (95 % Wilson interval; episodes)",
        "Success in SIMPLER, google_robot, variant aggregation [%] (95 % Wilson interval; episodes)",
        "Success in SIMPLER, widowx_bridge, visual matching [%] (95 % Wilson interval; episodes)",
    ]


def test_policies_are_rows_of_one_table() -> None:
    rows = markdown(summarise(all_tasks("s", "sf", "s", "f") + some("drawer", "sf", policy="sqap@1"))).splitlines()
    assert (
        "| fp16@1 | float | 100.0 (21–100; 1) | 50.0 (9–91; 2) | 100.0 (21–100; 1) | 0.0 (0–79; 1) | 62.5 |" in rows[4]
    )
    assert rows[5] == "| sqap@1 | float |  |  | 50.0 (9–91; 2) |  |  | 0.100 |"


def test_the_report_is_written_for_people_and_for_programs(tmp_path: Path) -> None:
    text = write_report(some("drawer", "sssf"), tmp_path)
    assert (tmp_path / "results.md").read_text() == text
    [row] = json.loads((tmp_path / "results.json").read_text())
    assert (row["policy"], row["tasks"]["drawer"]["value"]) == ("fp16@1", 0.75)
