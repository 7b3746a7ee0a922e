"""A recording on which the arm would stand still: the report says so, and why it may be."""

import json
from pathlib import Path

import numpy as np
import pytest

from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.tools.replay.results import ReplayResults
from sqap_vla_ros.tools.replay.standstill import StandingPlans


def plans(step_m: float, gripper: float, count: int = 10) -> StandingPlans:
    standing = StandingPlans()
    for stamp_ns in range(count):
        standing.count(chunk(stamp_ns, step_m, gripper), Robot())
    return standing


def chunk(stamp_ns: int, step_m: float, gripper: float) -> ActionChunk:
    actions = np.tile([step_m, 0, 0, 0, 0, 0, gripper], (16, 1))
    return ActionChunk(stamp_ns, actions, 0.2, np.eye(4), "pick", 0, keep_all())


def test_plans_that_move_the_arm_and_the_gripper_need_no_note() -> None:
    assert plans(0.01, 1.0).notes == []


@pytest.mark.parametrize("step_m", [0.0, 1e-4])
def test_plans_of_no_motion_are_named_by_the_cause_of_the_live_node(step_m: float) -> None:
    (note,) = plans(step_m, 0.0).notes
    assert note.startswith("plans_stand_still: 10 of 10 plans") and "statistics_key" in note


def test_a_gripper_that_is_never_told_to_move_is_named() -> None:
    (note,) = plans(0.01, 0.5).notes
    assert "the gripper is never told to move" in note


def test_a_few_plans_say_nothing() -> None:
    assert plans(0.0, 0.5, count=4).notes == []


def test_the_summary_has_the_notes(tmp_path: Path) -> None:
    results = ReplayResults(tmp_path, {})
    with results:
        for stamp_ns in range(6):
            results.add_tick(chunk(stamp_ns, 0.0, 1.0), {})
    results.write_summary()
    (note,) = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["notes"]
    assert "6 of 6 plans" in note
