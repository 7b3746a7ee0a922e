"""Episodes in one process: the same observation and control as in the node."""

import numpy as np
import pytest

from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.simulation.closed_loop import ClosedLoop, Disturbance
from sqap_vla_ros.simulation.episode import EpisodeSettings, Observer, run_policy_episode
from sqap_vla_ros.simulation.libero import LiberoScene

CONFIGURATION = load_configuration("libero_panda")


class Forward:
    """Moves the tool along x, a centimetre per step."""

    metadata = None

    def __init__(self) -> None:
        self.observations: list[Observation] = []

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        self.observations.append(observation)
        actions = np.tile([0.01, 0, 0, 0, 0, 0, 1.0], (16, 1))
        return ActionChunk(
            observation.stamp_ns, actions, 0.05, observation.T_base_tool, observation.instruction, 0, keep_all()
        )

    def reset(self) -> None:
        self.observations.clear()


@pytest.fixture(autouse=True)
def reset(scene: LiberoScene) -> None:
    scene.reset()


def run(scene: LiberoScene, *, observer: Observer | None = None, seed: int = 0, **settings) -> tuple:
    policy = Forward()
    episode = EpisodeSettings(limit_s=1.0, **settings)
    return policy, run_policy_episode(scene, policy, CONFIGURATION, episode, seed=seed, observer=observer)


def test_the_arm_goes_where_the_chunks_say_within_its_limits(scene):
    _, trace = run(scene)
    travelled = trace.tool_poses[-1, :3, 3] - trace.tool_poses[0, :3, 3]
    assert travelled[0] == pytest.approx(0.15, abs=0.04)  # 19 cm, less what it takes to gain speed
    assert np.abs(travelled[1:]).max() < 0.01
    assert trace.violations == 0 and not trace.rejections and not trace.success
    assert len(trace.tool_poses) == len(trace.joint_positions) == len(trace.gripper) == 20


def test_plans_come_at_their_period_and_a_delay_puts_them_off(scene):
    assert len(run(scene)[0].observations) == 5
    scene.reset()
    policy, trace = run(scene, delay_s=0.3)
    stamps = [observation.stamp_ns for observation in policy.observations]
    assert min(np.diff(stamps)) >= 300_000_000
    before = np.linalg.norm(trace.tool_poses[6, :3, 3] - trace.tool_poses[0, :3, 3])
    assert before < 0.002, "no command before the first plan is ready"


def test_the_same_episode_gives_the_same_trace(scene):
    first = run(scene)[1]
    scene.reset()
    np.testing.assert_array_equal(run(scene)[1].joint_positions, first.joint_positions)


def test_watching_changes_nothing_and_shows_every_image(scene):
    first = run(scene)[1]
    scene.reset()
    frames: list[tuple[Observation, ActionChunk | None]] = []
    watched = run(scene, observer=lambda loop, chunk: frames.append((loop.observe(), chunk)))[1]
    np.testing.assert_array_equal(watched.joint_positions, first.joint_positions)
    assert len({observation.stamp_ns for observation, _ in frames}) == 20
    assert sum(chunk is not None for _, chunk in frames) == 5


def test_the_observation_has_the_grip_where_the_simulator_has_it(scene):
    observation = ClosedLoop(scene, CONFIGURATION).observe()
    grip = scene.data.site("gripper0_grip_site").xpos
    in_camera = np.linalg.inv(scene.T_base_camera) @ scene.T_base_tool @ [0.0, 0.0, 0.097, 1.0]
    base = scene.data.body("robot0_base").xpos
    np.testing.assert_allclose((scene.T_base_camera @ in_camera)[:3], grip - base, atol=1e-3)
    in_image = scene.camera.matrix @ in_camera[:3]
    np.testing.assert_allclose(observation.tool_px, in_image[:2] / in_image[2], atol=1e-6)


def test_a_wrong_camera_transform_moves_the_projected_tool_alone(scene):
    right = ClosedLoop(scene, CONFIGURATION).observe()
    wrong = ClosedLoop(scene, CONFIGURATION, Disturbance(tf_offset_m=0.05), seed=3).observe()
    np.testing.assert_array_equal(wrong.image, right.image)
    np.testing.assert_array_equal(wrong.T_base_tool, right.T_base_tool)
    assert np.linalg.norm(wrong.tool_px - right.tool_px) > 3


def test_a_bumped_camera_moves_the_image_alone_and_the_reset_puts_it_back(scene):
    right = ClosedLoop(scene, CONFIGURATION).observe()
    bumped = ClosedLoop(scene, CONFIGURATION, Disturbance(camera_rotation_deg=2, camera_translation_m=0.02)).observe()
    np.testing.assert_allclose(bumped.tool_px, right.tool_px, atol=1e-9)
    assert np.abs(bumped.image.astype(int) - right.image).mean() > 2
    scene.reset()
    np.testing.assert_array_equal(ClosedLoop(scene, CONFIGURATION).observe().image, right.image)


def test_image_noise_has_the_strength_that_was_asked_for(scene):
    right = ClosedLoop(scene, CONFIGURATION).observe().image.astype(float)
    noisy = ClosedLoop(scene, CONFIGURATION, Disturbance(image_noise=10)).observe().image
    middle = (right > 40) & (right < 215)
    assert (noisy - right)[middle].std() == pytest.approx(10, rel=0.05)


def test_dropped_images_are_not_planned_on(scene):
    assert not run(scene, disturbance=Disturbance(drop_frames=1.0))[0].observations
