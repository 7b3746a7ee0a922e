"""From episodes to tables and pictures."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
from stub_jobs import result_of

from sqap_vla_ros.config.files import named_file, read_yaml
from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.recipe import read_recipe
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.tools.evaluation.comparison import ROWS, comparable_results, figures, merged
from sqap_vla_ros.tools.evaluation.plots import Bar, plot_robustness, plot_success
from sqap_vla_ros.tools.evaluation.report import Row, markdown, summarise, write_report

TASKS = ("pick_can", "open_drawer")


def rows() -> list[Row]:
    """Float: all of ten succeed. SQAP: three of four, on the first two of each task; one of four with a wrong ring."""
    results = [result_of(task, "fp16", episode, True) for task in TASKS for episode in range(5)]
    results += [
        result_of(task, "sqap", episode, episode + (task == TASKS[0]) > 0) for task in TASKS for episode in (0, 1)
    ]
    results += [
        result_of(task, "sqap", e, e + (task == TASKS[0]) > 1, "tf_offset=0.05") for task in TASKS for e in (0, 1)
    ]
    return summarise(results, ["fp16", "sqap"], TASKS)


def test_there_is_a_row_per_policy_and_disturbance() -> None:
    expected = [("fp16", ""), ("sqap", ""), ("sqap", "tf_offset=0.05")]
    assert [(row.policy, row.disturbance) for row in rows()] == expected


def test_a_row_of_more_episodes_is_not_replaced_by_one_of_fewer() -> None:
    float_row, sqap_row, disturbed = rows()
    found = merged({"fp16": float_row}, {"fp16": sqap_row, "random": disturbed})
    assert list(found.items()) == [("fp16", float_row), ("random", disturbed)]
    assert merged({"fp16": sqap_row}, {"fp16": float_row}) == {"fp16": float_row}


def test_rates_are_counted_per_task_and_over_all() -> None:
    sqap = rows()[1]
    assert (sqap.tasks["pick_can"].value, sqap.tasks["open_drawer"].value, sqap.mean.value) == (1.0, 0.5, 0.75)


def test_a_policy_is_compared_with_the_first_over_the_episodes_that_both_played() -> None:
    float_model, sqap, _ = rows()
    assert float_model.difference is None
    assert sqap.difference is not None and (sqap.difference.value, sqap.difference.count) == (-0.25, 4)


def test_a_difference_over_fewer_episodes_than_its_row_says_over_how_many() -> None:
    sqap = rows()[1]
    assert sqap.difference is not None
    fewer = replace(sqap, difference=replace(sqap.difference, count=3))
    assert "] of 3 | 4 |" in markdown([rows()[0], fewer], TASKS, "") and " of 4 |" not in markdown(rows(), TASKS, "")


def test_a_disturbed_policy_is_compared_with_itself() -> None:
    disturbed = rows()[2]
    assert disturbed.compared_with == "sqap"
    assert disturbed.difference is not None and disturbed.difference.value == 0.25 - 0.75


def test_refusals_are_a_share_of_the_plans() -> None:
    assert rows()[1].refused_share == 5 / 200


def test_tables_have_a_line_per_row_and_the_command() -> None:
    text = markdown(rows(), TASKS, "sqap-vla evaluate out/run")
    assert "| sqap | 100 | 50 | 75.0 [30.1, 95.4] |" in text
    assert (
        "| sqap | tf_offset=0.05 |" in text and "difference to fp16" in text and "`sqap-vla evaluate out/run`" in text
    )


def test_reports_and_pictures_are_written(tmp_path: Path) -> None:
    write_report(rows(), TASKS, tmp_path, "sqap-vla evaluate out/run")
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 3
    plot_success([Bar.of(row) for row in rows()[:2]], tmp_path / "success.png")
    plot_robustness(rows(), tmp_path / "robustness.png")
    for name in ("success.png", "robustness.png"):
        picture = cv2.imread(str(tmp_path / name))
        assert picture is not None and picture.std() > 10


def test_every_row_of_the_benchmark_has_its_files() -> None:
    for variant in ROWS.values():
        path = named_file("policies", variant.policy)
        assert validate(PolicyConfig, read_yaml(path), str(path)).name == variant.policy
        assert not variant.recipe or read_recipe(variant.recipe).name == variant.recipe


def test_figures_of_the_benchmark_are_in_per_cent_and_points() -> None:
    float_model, sqap, _ = rows()
    found = figures({"fp16": float_model, "sqap": sqap})
    assert (found["success_fp16"], found["success_sqap"], found["paired_difference_sqap"]) == (100, 75, -25)
    assert found["success_sqap_low"] < 75 < found["success_sqap_high"]
    assert found["paired_difference_sqap_low"] < -25 and "paired_difference_fp16_low" not in found


def test_rows_that_are_not_named_stay_if_weights_and_tasks_are_the_same() -> None:
    content = {"figures": {"success_fp16": 80}, "weights_sha256": "weights", "task_names": list(TASKS)}
    assert comparable_results(content, "weights", TASKS) == content
    assert comparable_results(content, "others", TASKS) == comparable_results(content, "weights", TASKS[:1]) == {}
    assert comparable_results({}, "weights", TASKS) == {}
