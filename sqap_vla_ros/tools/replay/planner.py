"""A policy plans the ticks of a bag: what would it have done, and does it do again what it did?

There are two ways through the same policy code. By default the bag's images, calibration and transforms pass through
the observation assembly as in the live node, and every camera frame that the node could have planned on is planned on.
*As recorded*, the ticks of a live recording are planned again, with the image, stamp, seed, instruction, tool pose and
ring of the published chunk, so that the same machine gives the same bits.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.observations import Extrinsic, observations
from sqap_vla_ros.bags.reader import Bag, BagDamage, BagError
from sqap_vla_ros.bags.recorded import RecordedTick, committed_actions, recorded_stamps_ns, recorded_ticks
from sqap_vla_ros.bags.topics import BagTopics
from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration, Robot
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import Policy, PolicyMetadata
from sqap_vla_ros.tools.replay.metrics import (
    Difference,
    Motion,
    difference,
    kept_overlap,
    overlap_m,
    planned_jerk,
    planned_motion,
)
from sqap_vla_ros.tools.replay.results import ReplayResults
from sqap_vla_ros.tools.replay.truth import Truth

# So many earlier chunks are kept, of which a later one may continue any.
_OVERLAPPING = 16
# Noise is seeded by the stamp: this bit, which no stamp before the year 2116 has, gives a plan other noise.
_OTHER_NOISE = 1 << 62


class _Planner:
    """Plans tick by tick, and writes each plan and its distance from the truth and from the baseline.

    Attributes:
        recorded_ns: Recording time that the replay has reached, nanoseconds.
        plan_s: Duration of the policy's last plan, seconds.
    """

    def __init__(
        self,
        policy: Policy,
        baseline: Policy | None,
        truth: Truth,
        robot: Robot,
        results: ReplayResults,
        noise_floor: bool,
    ) -> None:
        self._policy = policy
        self._baseline = baseline
        self._noise_floor = noise_floor
        self._truth = truth
        self._robot = robot
        self._results = results
        self._previous: Motion | None = None
        self.recorded_ns = 0
        self.plan_s = 0.0

    def reset(self) -> None:
        """Begin another instruction or episode."""
        self._policy.reset()
        if self._baseline:
            self._baseline.reset()
        self._previous = None

    def plan(
        self,
        observation: Observation,
        recorded_actions: NDArray[np.float64] | None = None,
        committed: CommittedActions | None = None,
    ) -> None:
        """Plan one tick; if the policy or the baseline cannot plan it, it is rejected, as in the node."""
        try:
            chunk = self._policy.plan(observation, committed)
            baseline = self._baseline.plan(observation, committed) if self._baseline else None
            again = self._with_other_noise(observation, committed) if self._noise_floor else None
        except ValueError as error:  # samples that are not finite
            self.plan_s = 0.0
            self._results.add_rejection(observation.stamp_ns, str(error))
            return
        self.plan_s = sum(chunk.timings_s.values())
        motion = planned_motion(chunk, self._robot)
        truth = self._truth.motion(observation.stamp_ns, observation.T_base_tool, self.recorded_ns)
        measured = {
            "path_m": motion.path_m.ravel().tolist(),
            "truth_path_m": truth.path_m.ravel().tolist(),
            "path_rotations_rad": motion.rotations_rad.ravel().tolist(),
            "truth_path_rotations_rad": truth.rotations_rad.ravel().tolist(),
            "path_gripper": motion.gripper.tolist(),
            "truth_gripper": truth.gripper.tolist(),
            **_prefixed("truth_", difference(motion, truth)),
            "jerk_m_s3": planned_jerk(motion),
            "overlap_m": overlap_m(self._previous, motion) if self._previous else None,
        }
        reference = motion
        if baseline:
            reference = other = planned_motion(baseline, self._robot)
            from_truth = difference(other, truth)
            measured |= {
                "baseline_actions": baseline.actions.ravel().tolist(),
                "baseline_path_m": other.path_m.ravel().tolist(),
                "baseline_path_rotations_rad": other.rotations_rad.ravel().tolist(),
                "baseline_path_gripper": other.gripper.tolist(),
                **_prefixed("baseline_", difference(motion, other)),
                "kept_overlap": kept_overlap(chunk.selection, baseline.selection),
                "baseline_truth_mean_displacement_m": from_truth.mean_displacement_m,
                "baseline_truth_final_displacement_m": from_truth.final_displacement_m,
            }
        if again:
            floor = _prefixed("noise_", difference(reference, planned_motion(again, self._robot)))
            del floor["noise_direction_cosine"]
            measured |= floor
        self._results.add_tick(chunk, measured, recorded_actions, baseline)
        self._previous = motion

    def _with_other_noise(self, observation: Observation, committed: CommittedActions | None) -> ActionChunk:
        """The plan of the baseline, or of the policy if there is none, from the same inputs and another seed."""
        policy = self._baseline or self._policy
        return policy.plan(replace(observation, stamp_ns=observation.stamp_ns ^ _OTHER_NOISE), committed)


def _prefixed(prefix: str, values: Difference) -> dict[str, float | None]:
    return {prefix + name: value for name, value in asdict(values).items()}


def replay(
    bag: Bag,
    topics: BagTopics,
    policy: Policy,
    baseline: Policy | None,
    configuration: Configuration,
    results: ReplayResults,
    *,
    as_recorded: bool,
    rate_hz: float = 0.0,
    measured_delay: bool = False,
    extrinsic: Extrinsic | None = None,
    noise_floor: bool = False,
    on_progress: Callable[[int], None],
) -> str:
    """Plan every tick of a bag and write the results.

    Args:
        bag: The recording.
        topics: The topics to read.
        policy: The policy.
        baseline: Policy that plans the same ticks, for comparison; None: no baseline.
        configuration: The robot's settings.
        results: Writer of the ticks.
        as_recorded: Whether the ticks of a live recording are planned again, on their recorded inputs.
        rate_hz: Largest number of planned images per second of the bag; 0: all. Not for `as_recorded`.
        measured_delay: Whether images are lost that arrive during a plan, measured here. Not for `as_recorded`.
        extrinsic: Pose of the camera, if the bag does not have it.
        noise_floor: Whether the baseline, or the policy if there is none, plans each tick once more with other noise.
        on_progress: Called with the recording time of each message, nanoseconds.

    Raises:
        BagError: The bag has no instruction; or `as_recorded` was given, and the bag is no live recording, or one of
            another policy.
        ConfigurationError: The baseline has another horizon or time step than the policy.

    Returns:
        A sentence about the damage at which reading ended; empty if the bag was read to its end.
    """
    steps = policy.metadata
    if baseline:
        _check_same_steps(steps, baseline.metadata)
        results.baseline = baseline.metadata.policy_id
    results.configuration = configuration
    truth = Truth(bag, topics, configuration, steps.horizon, steps.time_step_s)
    planner = _Planner(policy, baseline, truth, configuration, results, noise_floor)

    def on_message(recorded_ns: int) -> None:
        planner.recorded_ns = recorded_ns
        on_progress(recorded_ns)

    if as_recorded and (steps.needs.cameras > 1 or steps.needs.state != "none"):
        raise BagError(
            f"policy {steps.policy} of several cameras or with a state cannot be replayed as recorded: a recording "
            "does not say which further images and which state were planned on; replay it without --as-recorded"
        )
    try:
        if as_recorded:
            _replay_recorded(bag, topics, planner, steps.policy_id, configuration, results, on_message)
        else:
            ticks = observations(
                bag,
                topics,
                configuration,
                rate_hz=rate_hz,
                delay=(lambda: planner.plan_s) if measured_delay else None,
                extrinsic=extrinsic,
                needs=steps.needs,
                on_progress=on_message,
                on_note=results.add_note,
            )
            _replay_observations(ticks, planner, results)
    except BagDamage as error:
        return str(error)
    return ""


def _replay_observations(
    ticks: Iterator[Observation | tuple[int, str]], planner: _Planner, results: ReplayResults
) -> None:
    instruction, newest_ns = None, 0
    for tick in ticks:
        if not isinstance(tick, Observation):
            results.add_rejection(*tick)
            continue
        # Stamps go back only if the clock was set back: then, as in the node, another episode begins.
        if tick.instruction != instruction or tick.stamp_ns < newest_ns:
            planner.reset()
        instruction, newest_ns = tick.instruction, tick.stamp_ns
        planner.plan(tick)


def _replay_recorded(
    bag: Bag,
    topics: BagTopics,
    planner: _Planner,
    policy_id: str,
    configuration: Configuration,
    results: ReplayResults,
    on_message: Callable[[int], None],
) -> None:
    planned = recorded_stamps_ns(bag, topics)
    results.recorded_chunks = planned.total()
    epoch: int | None = None
    before: deque[RecordedTick] = deque(maxlen=_OVERLAPPING)
    for tick in recorded_ticks(bag, topics, planned, on_message):
        if not isinstance(tick, RecordedTick):
            results.add_rejection(*tick)
            continue
        if tick.epoch != epoch:
            planner.reset()
            before.clear()
            epoch = tick.epoch
        if tick.policy_id != policy_id:
            raise BagError(
                f"{bag.path}: was recorded with {tick.policy_id}, this is {policy_id}; "
                "give the policy and the checkpoint of the recording, or replay without --as-recorded"
            )
        if not tick.committed_steps:
            planner.plan(tick.observation, tick.actions)
        elif (
            before
            and before[-1].sequence + 1 == tick.sequence
            and (committed := committed_actions(tick, before, configuration)) is not None
        ):
            planner.plan(tick.observation, tick.actions, committed)
        else:
            results.add_rejection(tick.observation.stamp_ns, "the chunk that this one continues was not recorded")
        before.append(tick)


def _check_same_steps(policy: PolicyMetadata, baseline: PolicyMetadata) -> None:
    ours, theirs = (f"{steps.horizon} steps of {steps.time_step_s:g} s" for steps in (policy, baseline))
    if ours != theirs:
        raise ConfigurationError(
            f"{policy.policy_id} plans {ours}, the baseline {baseline.policy_id} {theirs}: they cannot be compared "
            "step by step; give a baseline with the same horizon and rate"
        )
