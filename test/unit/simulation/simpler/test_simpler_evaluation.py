"""Running episodes: SIMPLER's protocol, what is recorded, what a stopped run leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from simpler_plans import ToldPolicy
from simpler_scenes import CAMERA, SapienPose, Scene, limited

from sqap_vla_ros.core.run_directory import Record, RunDirectoryError
from sqap_vla_ros.simulation.simpler.convention import SETUPS
from sqap_vla_ros.simulation.simpler.episode import Variant
from sqap_vla_ros.simulation.simpler.evaluation import (
    EPISODES_FILE,
    EpisodeResult,
    Outcome,
    evaluate,
    read_results,
    reserve_results,
    run_episode,
)
from sqap_vla_ros.simulation.simpler.policy import SimplerPolicy
from sqap_vla_ros.simulation.simpler.published import episodes

EPISODE = episodes("google_robot")[7]
CHUNKS = np.random.default_rng(1).normal(0, 0.01, (60, 16, 7))


@pytest.fixture
def told() -> ToldPolicy:
    return ToldPolicy(CHUNKS, time_step_s=1 / 3)


@pytest.fixture
def policy(told: ToldPolicy) -> SimplerPolicy:
    return SimplerPolicy(told, SETUPS["google_robot"])


def run(scene: Scene, policy: SimplerPolicy, max_steps: int = 4) -> Outcome:
    return run_episode(limited(scene, max_steps), policy, EPISODE, CAMERA)


def test_an_episode_takes_all_of_its_time(policy: SimplerPolicy) -> None:
    scene = Scene(done_at=frozenset({2}))
    assert run(scene, policy).steps == scene.steps == 4


@pytest.mark.parametrize(("done_at", "success"), [({4}, True), ({1, 2, 3}, False), (set(), False)])
def test_success_is_what_the_last_step_says(policy: SimplerPolicy, done_at: set[int], success: bool) -> None:
    assert run(Scene(done_at=frozenset(done_at)), policy).success is success


def test_an_episode_begins_where_the_grid_says(policy: SimplerPolicy) -> None:
    scene = Scene()
    run(scene, policy)
    robot, thing = scene.reset_options["robot_init_options"], scene.reset_options["obj_init_options"]
    np.testing.assert_array_equal(robot["init_xy"], [0.35, 0.20])
    np.testing.assert_allclose(robot["init_rot_quat"], [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(thing["init_xy"], EPISODE.placing["init_xy"])


def test_the_environment_is_given_translation_rotation_and_gripper(policy: SimplerPolicy) -> None:
    scene = Scene()
    run(scene, policy, max_steps=1)
    assert scene.actions[0].shape == (7,)
    np.testing.assert_array_equal(scene.actions[0][:3], CHUNKS[0][0, :3])


def test_the_next_instruction_reaches_the_policy(policy: SimplerPolicy, told: ToldPolicy) -> None:
    run(Scene(instructions=("open top drawer", "place apple into top drawer"), second_from=2), policy)
    assert [seen.instruction[:5] for seen in told.seen] == ["open ", "open ", "place", "place"]


def test_the_policy_knows_where_the_tool_is(policy: SimplerPolicy, told: ToldPolicy) -> None:
    outcome = run(Scene(), policy)
    assert outcome.without_ring == {}
    assert all(seen.tool_px is not None and np.isfinite(seen.T_base_tool).all() for seen in told.seen)


def test_plans_without_ring_are_counted(policy: SimplerPolicy) -> None:
    [(reason, count)] = run(Scene(tool=SapienPose((9.0, 0.0, 1.0))), policy).without_ring.items()
    assert count == 4 and "off the image" in reason


Build = Callable[[Variant, str], gymnasium.Env[Any, Any]]


class Scenes:
    """Builds scenes and keeps them; the one after `stops_after` fails."""

    def __init__(self, stops_after: int = 1000) -> None:
        self.built: list[Scene] = []
        self._stops_after = stops_after

    def __call__(self, variant: Variant, robot: str) -> gymnasium.Env[Any, Any]:
        if len(self.built) == self._stops_after:
            raise KeyboardInterrupt
        self.built.append(Scene(done_at=frozenset({2})))
        return limited(self.built[-1], 2)


def results_of(build: Build, policy: SimplerPolicy, out: Path, name: str = "fp16@1") -> list[EpisodeResult]:
    grid = episodes("google_robot")[:3]
    out.mkdir(exist_ok=True)
    return list(evaluate(grid, policy, (name, "float"), "google_robot", Record(out / EPISODES_FILE), build))


def test_every_episode_has_a_scene_of_its_own_which_is_freed(policy: SimplerPolicy, tmp_path: Path) -> None:
    scenes = Scenes()
    results = results_of(scenes, policy, tmp_path)
    assert len(results) == len(scenes.built) == 3
    assert all(scene.closed for scene in scenes.built)


def test_what_is_written_is_what_was_found(policy: SimplerPolicy, tmp_path: Path) -> None:
    results = results_of(Scenes(), policy, tmp_path)
    assert read_results(Record(tmp_path / EPISODES_FILE)) == results
    assert all(result.success and result.task == "pick_coke_can" and result.policy == "fp16@1" for result in results)


def test_a_stopped_run_goes_on(policy: SimplerPolicy, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        results_of(Scenes(stops_after=2), policy, tmp_path)
    rest = Scenes()
    results = results_of(rest, policy, tmp_path)
    assert len(rest.built) == 1 and len(results) == len(read_results(Record(tmp_path / EPISODES_FILE))) == 3


def test_an_episode_s_noise_does_not_depend_on_those_before(tmp_path: Path) -> None:
    seeds = []
    for stops_after in (1000, 2):
        told = ToldPolicy(CHUNKS, time_step_s=1 / 3)
        policy = SimplerPolicy(told, SETUPS["google_robot"])
        out = tmp_path / str(stops_after)
        try:
            results_of(Scenes(stops_after), policy, out)
        except KeyboardInterrupt:
            results_of(Scenes(), policy, out)
        seeds.append([seen.stamp_ns for seen in told.seen])
    assert seeds[0] == seeds[1]


def test_a_line_that_was_not_written_to_its_end_is_run_again(policy: SimplerPolicy, tmp_path: Path) -> None:
    results_of(Scenes(), policy, tmp_path)
    path = tmp_path / EPISODES_FILE
    path.write_text(path.read_text()[:-10])
    again = Scenes()
    assert len(results_of(again, policy, tmp_path)) == 3 and len(again.built) == 1
    assert len(read_results(Record(path))) == 3


def test_another_policy_s_episodes_are_not_taken_for_its_own(policy: SimplerPolicy, tmp_path: Path) -> None:
    results_of(Scenes(), policy, tmp_path, "fp16@1")
    scenes = Scenes()
    results_of(scenes, policy, tmp_path, "sqap@1")
    assert len(scenes.built) == 3 and len(read_results(Record(tmp_path / EPISODES_FILE))) == 6


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / EPISODES_FILE
    path.write_text('{"success": true}\n')
    with pytest.raises(RunDirectoryError, match="line 1: not an entry"):
        read_results(Record(path))


def test_an_id_stands_for_one_policy_in_a_directory(tmp_path: Path) -> None:
    reserve_results(tmp_path, "sqap@0123", {"policy": {"ratio": 0.4}})
    reserve_results(tmp_path, "fp16@0123", {"policy": {}})
    reserve_results(tmp_path, "sqap@0123", {"policy": {"ratio": 0.4}})
    with pytest.raises(
        RunDirectoryError, match="another policies: sqap@0123: policy: ratio .*choose another directory"
    ):
        reserve_results(tmp_path, "sqap@0123", {"policy": {"ratio": 0.6}})
