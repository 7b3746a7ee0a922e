"""Episodes in SIMPLER's environments, run as its own evaluator does, with a line in a file for each.

An environment is built for each episode: what it draws at random depends on everything before, and the published
figures were taken with fresh ones. Its clock is its own control step, without delays or topics, so that SIMPLER has a
loop of its own.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.reasons import ReasonCounter
from sqap_vla_ros.core.run_directory import Record, RunDirectory, reserve
from sqap_vla_ros.simulation.simpler.episode import ROBOTS, Episode, Variant
from sqap_vla_ros.simulation.simpler.policy import SimplerPolicy
from sqap_vla_ros.simulation.simpler.tool import tool_in_image

EPISODES_FILE = "episodes.jsonl"


class SimplerError(RuntimeError):
    """SIMPLER cannot run here; the message says what to do."""


class Environment(Protocol):
    """The part of SIMPLER's environments that is used (gymnasium's interface)."""

    @property
    def unwrapped(self) -> Any:
        """The scene itself, with the robot's tool (`tcp`) and `get_language_instruction`."""

    def reset(self, *, options: dict[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Begin an episode; returns observation and information."""

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[Mapping[str, Any], SupportsFloat, bool, bool, Mapping[str, Any]]:
        """Take a step; returns observation, reward, whether the task is done, whether time is up, and information."""

    def close(self) -> None:
        """Free the scene."""


@dataclass(frozen=True)
class EpisodeResult:
    """The result of an episode.

    Attributes:
        policy: Id of the policy.
        weights: "float", or the recipe that compressed them.
        task: Column of the table.
        setting: Setting of the variant.
        environment: Gymnasium id.
        episode: Name of the episode.
        success: Whether the task was done when time was up.
        steps: Control steps.
        seconds_per_plan: Mean wall time of a plan (s).
        without_ring: Number of plans without a ring, by reason.
    """

    policy: str
    weights: str
    task: str
    setting: str
    environment: str
    episode: str
    success: bool
    steps: int
    seconds_per_plan: float
    without_ring: Mapping[str, int]


def require_simpler() -> None:
    """Import SIMPLER.

    Raises:
        SimplerError: It is not installed.
    """
    try:
        import simpler_env.utils.env.env_builder  # noqa: F401
    except ImportError as error:
        raise SimplerError(
            f"SIMPLER cannot be imported ({error}); clone https://github.com/simpler-env/SimplerEnv with "
            "--recurse-submodules and install its ManiSkill2_real2sim and then itself with `pip install -e` into "
            "this environment (Python 3.11, numpy below 2, an NVIDIA GPU)"
        ) from None


def build_environment(variant: Variant, robot: str) -> Environment:
    """Load a scene.

    Args:
        variant: The scene.
        robot: A key of `ROBOTS`.
    """
    from mani_skill2_real2sim import ASSET_DIR
    from simpler_env.utils.env.env_builder import build_maniskill2_env, get_robot_control_mode

    rates = ROBOTS[robot]
    return build_maniskill2_env(
        variant.environment,
        **variant.options,
        obs_mode="rgbd",
        robot=variant.model,
        sim_freq=rates.simulation_hz,
        control_freq=rates.control_hz,
        control_mode=get_robot_control_mode(variant.model, "cogact"),
        max_episode_steps=variant.max_steps,
        scene_name=variant.scene,
        camera_cfgs={"add_segmentation": True},
        rgb_overlay_path=str(ASSET_DIR / "real_inpainting" / variant.overlay) if variant.overlay else None,
    )


@dataclass(frozen=True)
class Outcome:
    """The outcome of `run_episode`; see `EpisodeResult`."""

    success: bool
    steps: int
    seconds_per_plan: float
    without_ring: Mapping[str, int]


def run_episode(environment: Environment, policy: SimplerPolicy, episode: Episode, camera: str) -> Outcome:
    """Run an episode to the end of its time.

    Success is what the environment says after the last step: a can that was lifted and fell counts as a failure.

    Args:
        environment: The environment of the episode's variant.
        policy: The policy with the robot's set-up.
        episode: The episode.
        camera: Name of the camera whose image the policy sees.
    """
    observation, _ = environment.reset(options=episode.reset_options)
    scene = environment.unwrapped
    policy.reset(scene.get_language_instruction(), episode.number)
    without_ring = ReasonCounter()
    planning_s, steps, done, time_is_up = 0.0, 0, False, False
    while not time_is_up:
        tool = tool_in_image(observation, scene.tcp.pose, camera)
        if tool.no_ring_reason:
            without_ring.add(tool.no_ring_reason)
        began_s = time.perf_counter()
        # The instruction may change on the way: first open the drawer, then place the apple.
        _, action = policy.step(observation["image"][camera]["rgb"], scene.get_language_instruction(), tool=tool)
        planning_s += time.perf_counter() - began_s
        # CogACT never ends an episode, so `terminate_episode` need not be looked at.
        observation, _, done, time_is_up, _ = environment.step(
            np.concatenate([action["world_vector"], action["rot_axangle"], action["gripper"]])
        )
        steps += 1
    return Outcome(bool(done), steps, planning_s / steps, without_ring.most_common())


def reserve_results(out: Path, policy_id: str, about: Mapping[str, Any]) -> RunDirectory:
    """Reserve a directory for a policy's episodes; several policies may share it.

    Args:
        out: The directory.
        policy_id: Name of the policy and digits of its weights' hash.
        about: All else that decides its actions, as JSON knows it.

    Raises:
        RunDirectoryError: The id stands for another policy in that directory.
    """
    identity = {"policies": {policy_id: about}}
    return reserve(out, identity, file="policies.json", growing=("policies",), results=(EPISODES_FILE,))


def evaluate(
    episodes: Iterable[Episode],
    policy: SimplerPolicy,
    names: tuple[str, str],
    robot: str,
    record: Record,
    build: Callable[[Variant, str], Environment] = build_environment,
) -> Iterator[EpisodeResult]:
    """Run the episodes that are not in the record yet, and add their results to it.

    Args:
        episodes: The episodes to run.
        policy: The policy with the robot's set-up.
        names: Id of the policy, and name of its weights.
        robot: A key of `ROBOTS`.
        record: The results so far, which may be of other policies too.
        build: Loads a scene.

    Yields:
        All results: first those that are in the record, then the others as they come.
    """
    policy_id, weights = names
    before = {result.episode: result for result in read_results(record) if result.policy == policy_id}
    wanted = list(episodes)
    yield from (before[episode.name] for episode in wanted if episode.name in before)
    for episode in wanted:
        if episode.name in before:
            continue
        variant = episode.variant
        environment = build(variant, robot)
        try:
            outcome = run_episode(environment, policy, episode, ROBOTS[robot].camera)
        finally:
            environment.close()
        result = EpisodeResult(
            policy=policy_id,
            weights=weights,
            task=variant.task,
            setting=variant.setting,
            environment=variant.environment,
            episode=episode.name,
            **asdict(outcome),
        )
        record.append(asdict(result))
        yield result


def read_results(record: Record) -> list[EpisodeResult]:
    """The results in a record.

    Raises:
        RunDirectoryError: A line is not a result.
    """
    return record.read(lambda entry: EpisodeResult(**entry))
