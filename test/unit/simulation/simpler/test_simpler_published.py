"""The published grid: how much of it there is, and what an episode says."""

from collections import Counter

import numpy as np
import pytest
from transforms3d.euler import euler2quat
from transforms3d.quaternions import qmult

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.simulation.simpler.episode import ROBOTS, TASKS
from sqap_vla_ros.simulation.simpler.published import choose, episodes

BOTH = ("visual_matching", "variant_aggregation")


@pytest.mark.parametrize(
    ("robot", "setting", "counts"),
    [
        ("google_robot", "visual_matching", (300, 240, 216, 108)),
        ("google_robot", "variant_aggregation", (675, 480, 378, 189)),
        ("widowx_bridge", "visual_matching", (24, 24, 24, 24)),
    ],
)
def test_there_are_as_many_episodes_as_were_published(robot: str, setting: str, counts: tuple[int, ...]) -> None:
    found = Counter(episode.variant.task for episode in episodes(robot) if episode.variant.setting == setting)
    assert found == dict(zip(TASKS[robot], counts, strict=True))


@pytest.mark.parametrize("robot", ROBOTS)
def test_no_two_episodes_have_the_same_name_or_number(robot: str) -> None:
    grid = episodes(robot)
    assert len({episode.name for episode in grid}) == len({episode.number for episode in grid}) == len(grid)


def test_only_matched_scenes_have_a_real_background() -> None:
    for episode in (*episodes("google_robot"), *episodes("widowx_bridge")):
        assert bool(episode.variant.overlay) == (episode.variant.setting == "visual_matching")


def test_the_robot_is_turned_to_the_scene_and_by_its_yaw() -> None:
    episode = next(episode for episode in episodes("google_robot") if episode.robot_yaw == -0.09)
    turned = qmult(euler2quat(0, 0, -0.09), [0, 0, 0, 1])
    np.testing.assert_allclose(episode.reset_options["robot_init_options"]["init_rot_quat"], turned, atol=1e-12)


def test_some_episodes_are_as_many_of_each_task_and_setting() -> None:
    chosen = choose("google_robot", (), BOTH, 10)
    columns = Counter((episode.variant.task, episode.variant.setting) for episode in chosen)
    assert columns == {(task, setting): 10 for task in TASKS["google_robot"] for setting in BOTH}


def test_some_episodes_are_spread_over_the_scenes() -> None:
    chosen = choose("google_robot", ("drawer",), ("visual_matching",), 25)
    assert {episode.variant.environment[:4] for episode in chosen} == {"Open", "Clos"}
    assert len({episode.variant.overlay for episode in chosen}) > 4


def test_more_episodes_include_fewer() -> None:
    few, many = (choose("widowx_bridge", ("stack_cubes",), BOTH, count) for count in (5, 20))
    assert {episode.name for episode in few} < {episode.name for episode in many}


def test_none_asked_for_are_all() -> None:
    assert choose("widowx_bridge", (), BOTH, 0) == episodes("widowx_bridge")


@pytest.mark.parametrize(
    ("robot", "tasks", "settings", "count", "sentence"),
    [
        ("google_robot", ("stack_cubes",), BOTH, 0, "tasks = stack_cubes: those of google_robot are pick_coke_can"),
        ("widowx_bridge", (), ("variant_aggregation",), 0, "widowx_bridge has visual_matching only"),
        ("widowx_bridge", (), BOTH, -1, "episodes = -1: expected 0"),
    ],
)
def test_what_was_not_published_is_refused(
    robot: str, tasks: tuple[str, ...], settings: tuple[str, ...], count: int, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        choose(robot, tasks, settings, count)
