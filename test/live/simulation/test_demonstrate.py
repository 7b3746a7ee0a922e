"""Experts that are recorded, through the same control as a policy."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sqap_vla_ros.bags.demonstrations import Demonstration
from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.run_directory import RunDirectoryError
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.perception.conventions import integrate, label
from sqap_vla_ros.simulation.demonstrate import all_jobs, missing_jobs, record, reserve_demonstrations
from sqap_vla_ros.simulation.disturbed_experts import Bursts
from sqap_vla_ros.simulation.libero import LiberoScene
from sqap_vla_ros.simulation.loaded_scene import scene_of
from sqap_vla_ros.simulation.tasks import TASKS, chosen_tasks
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint

ROBOT = "libero_panda"
UNDISTURBED = Bursts(rate=0.0, start=0.0)


@pytest.fixture(scope="module")
def demonstration(scene: LiberoScene) -> Demonstration:
    """An undisturbed one."""
    recorded = record(scene, TASKS["pick_can"], load_configuration(ROBOT), 0, UNDISTURBED)
    assert recorded is not None, "the expert failed"
    return recorded


def test_the_expert_solves_its_task_undisturbed(demonstration):
    assert demonstration.intended.all()
    assert set(demonstration.phase.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", [name for name in TASKS if name != "pick_can"])
def test_each_expert_solves_its_task(name):
    task = TASKS[name]
    assert record(scene_of(task), task, load_configuration(ROBOT), 3, UNDISTURBED) is not None


def test_the_labels_add_up_to_the_recorded_path(demonstration):
    configuration = load_configuration(ROBOT)
    poses = demonstration.T_base_tool.astype(np.float64)
    actions = label(poses, demonstration.gripper.astype(np.float64), configuration.action, configuration.frames)
    path = integrate(actions, poses[0], configuration.action, configuration.frames)
    np.testing.assert_allclose(path, poses[1:], atol=2e-5)


def test_the_gripper_closes_once_and_opens_once(demonstration):
    assert demonstration.gripper[0] == 1
    assert np.diff(demonstration.gripper).nonzero()[0].size == 2


def test_what_is_recorded_keeps_the_limits_of_a_policy(demonstration):
    limits = load_configuration(ROBOT).limits
    steps = np.linalg.norm(np.diff(demonstration.T_base_tool[:, :3, 3], axis=0), axis=1)
    assert steps.max() < limits.step


def test_the_labels_of_a_frame_are_its_own_state(demonstration):
    shown = demonstration.T_base_tool[demonstration.frame_steps]
    np.testing.assert_allclose(demonstration.points_m[:, 0], shown[:, :3, 3], atol=1e-6)
    assert cv2.imdecode(np.frombuffer(demonstration.images[0], np.uint8), cv2.IMREAD_COLOR).shape == (224, 224, 3)


def test_a_disturbed_expert_recovers_and_the_disturbance_is_marked(scene):
    recorded = record(scene, TASKS["pick_can"], load_configuration(ROBOT), 1, Bursts(rate=0.0, start=1.0))
    assert recorded is not None
    assert not recorded.intended[0]
    assert recorded.intended[-40:].all()


class Aside:
    """A policy that drifts to one side, and lets the gripper be."""

    metadata = None

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        actions = np.tile([0, 0.001, 0.0005, 0, 0, 0, 0.5], (16, 1))
        return ActionChunk(
            observation.stamp_ns, actions, 0.05, observation.T_base_tool, observation.instruction, 0, keep_all()
        )

    def reset(self) -> None:
        """Nothing to forget."""


def test_a_policy_drives_in_turns_and_the_expert_goes_on_from_there(scene):
    recorded = record(scene, TASKS["pick_can"], load_configuration(ROBOT), 2, policy=Aside())
    assert recorded is not None
    turns = np.flatnonzero(np.diff(recorded.intended.astype(int)))
    assert len(turns) >= 2
    assert recorded.intended[-12:].all()


def test_the_same_seed_gives_the_same_demonstration(scene, demonstration):
    again = record(scene, TASKS["pick_can"], load_configuration(ROBOT), 0, UNDISTURBED)
    assert again.images == demonstration.images
    np.testing.assert_array_equal(again.T_base_tool, demonstration.T_base_tool)


def test_a_demonstration_survives_writing_and_reading(tmp_path: Path, demonstration):
    path = tmp_path / "pick_can" / "000000.safetensors"
    demonstration.write(path)
    read = Demonstration.read(path)
    for name, value in vars(demonstration).items():
        np.testing.assert_array_equal(getattr(read, name), value)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_is_there_or_failed_is_not_recorded_again(tmp_path: Path, demonstration):
    tasks = chosen_tasks(("pick_can", "move_near"))
    replace(demonstration, seed=1).write(tmp_path / "pick_can" / "000001.safetensors")
    jobs = all_jobs(tmp_path, tasks, 2, ROBOT)
    jobs[2].failed.parent.mkdir()
    jobs[2].failed.touch()
    missing = [(job.task.name, job.seed) for job in missing_jobs(jobs)]
    assert missing == [("pick_can", 0), ("move_near", 1)]


def test_an_unknown_task_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no task 'juggle'; there are: pick_can, move_near"):
        chosen_tasks(("juggle",))


def test_a_directory_keeps_with_what_it_was_recorded(tmp_path):
    reserve_demonstrations(tmp_path, ROBOT, "")
    reserve_demonstrations(tmp_path, ROBOT, "")
    policy = write_random_checkpoint(tmp_path / "policy", "tiny")
    with pytest.raises(RunDirectoryError, match=r"another policy \(.*choose another directory"):
        reserve_demonstrations(tmp_path, ROBOT, str(policy))
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="cannot be used"):
        reserve_demonstrations(tmp_path / "file", ROBOT, "")
