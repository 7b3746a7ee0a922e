"""Replaying a bag: what would the policy have done, and does it do again what it did?

Two ways through the same policy code. Ordinarily the bag's images, calibration and transforms go through the
observation assembly as they would live, and every camera frame that the node could have planned on is planned on.
*As recorded*, the ticks of a live recording are planned again: same image, stamp, seed, instruction, tool pose and ring
as the published chunk says, so that the same machine gives the same bits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.config import Configuration
from sqap_vla_ros.control.blending import continuation
from sqap_vla_ros.geometry.transforms import transform_from_message
from sqap_vla_ros.images import ImageError, decode
from sqap_vla_ros.observation import Observation
from sqap_vla_ros.observation_assembly import ObservationAssembler, Refused
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.pruning.selection import keep_all
from sqap_vla_ros.replay.bag import TRANSFORM_TYPE, Bag, BagDamage, BagError, BagTopics
from sqap_vla_ros.replay.results import ReplayResults
from sqap_vla_ros.stamps import stamp_ns


@dataclass(frozen=True)
class RecordedTick:
    """A tick of a live recording.

    Attributes:
        observation: What was planned on.
        actions: float64 (horizon, 7), what was published.
        policy_id: Policy and checkpoint that published it.
        epoch: Changes where the policy forgot what it had carried along.
        sequence: Counts the published chunks.
        time_step_s: Time between two actions.
        committed_steps: How many of them were held fixed.
    """

    observation: Observation
    actions: NDArray[np.float64]
    policy_id: str
    epoch: int
    sequence: int
    time_step_s: float
    committed_steps: int


def observations(
    bag: Bag, topics: BagTopics, configuration: Configuration, on_progress: Callable[[int], None]
) -> Iterator[Observation | tuple[int, str]]:
    """What the node would have planned on: an observation, or (stamp_ns, reason) for a refused image."""
    assembler = ObservationAssembler(configuration)
    assembler.set_instruction(configuration.instruction or bag.first_instruction(topics))
    for topic, recorded_ns, message in bag.messages(topics):
        on_progress(recorded_ns)
        if topic == topics.image:
            try:
                assembler.offer(message, recorded_ns)
            except ImageError as error:
                yield stamp_ns(message), str(error)
        elif topic == topics.camera_info:
            assembler.set_camera_info(message)
        elif topic == topics.instruction and not configuration.instruction:
            assembler.set_instruction(message.data)
        elif bag.topic_types[topic] == TRANSFORM_TYPE:
            assembler.add_transforms(message, static=topic.endswith("tf_static"))
        outcome = assembler.poll(recorded_ns)
        if isinstance(outcome, Refused):
            yield outcome.stamp_ns, outcome.reason
        elif isinstance(outcome, Observation):
            yield outcome


def recorded_stamps_ns(bag: Bag, topics: BagTopics) -> frozenset[int]:
    """Stamps of the chunks that were published in a live recording.

    Raises:
        BagError: The bag holds no chunks and masks.
    """
    if not (topics.chunk and topics.token_mask):
        raise BagError(f"{bag.path}: no ActionChunk and TokenMask topics in it: replay without --as-recorded")
    chunks_alone = BagTopics(image="", camera_info="", instruction="", chunk=topics.chunk, token_mask="")
    return frozenset(stamp_ns(chunk) for _, _, chunk in bag.messages(chunks_alone))


def recorded_ticks(
    bag: Bag, topics: BagTopics, planned: frozenset[int], on_progress: Callable[[int], None]
) -> Iterator[RecordedTick]:
    """The ticks of a live recording that has image, chunk and token mask of them; `planned` are the chunks' stamps."""
    parts: dict[int, dict[str, Any]] = {}
    for topic, recorded_ns, message in bag.messages(topics):
        on_progress(recorded_ns)
        if topic not in (topics.image, topics.chunk, topics.token_mask) or stamp_ns(message) not in planned:
            continue
        at_ns = stamp_ns(message)
        tick = parts.setdefault(at_ns, {})
        tick[topic] = message
        if len(tick) == 3:
            yield _recorded_tick(at_ns, tick[topics.image], tick[topics.chunk], tick[topics.token_mask])
            # Older ticks that still lack a part will not get it: the recording lost an image, or began in between.
            parts = {other_ns: rest for other_ns, rest in parts.items() if other_ns > at_ns}


def _recorded_tick(at_ns: int, image: Any, chunk: Any, mask: Any) -> RecordedTick:
    observation = Observation(
        stamp_ns=at_ns,
        image=decode(image),
        instruction=chunk.instruction,
        T_base_tool=transform_from_message(chunk.tool_pose),
        tool_px=np.array([mask.tool_u, mask.tool_v]) if mask.tool_valid else None,
        no_ring_reason=mask.tool_reason,
    )
    actions = np.asarray(chunk.data, np.float64).reshape(chunk.horizon, -1)
    return RecordedTick(
        observation, actions, chunk.policy_id, chunk.epoch, chunk.sequence, chunk.time_step, chunk.committed_steps
    )


def _committed(tick: RecordedTick, before: RecordedTick, configuration: Configuration) -> CommittedActions | None:
    """What a recorded tick was planned on from: the chunk before, if that became a command."""
    observed, seen = before.observation, tick.observation
    running = ActionChunk(
        stamp_ns=observed.stamp_ns,
        actions=before.actions,
        time_step_s=before.time_step_s,
        T_base_tool=observed.T_base_tool,
        instruction=observed.instruction,
        seed=observed.stamp_ns,
        selection=keep_all(),
    )
    going_on = continuation(running, seen.stamp_ns, seen.T_base_tool, 0.0, configuration.action, configuration.frames)
    return going_on and CommittedActions(going_on.actions, tick.committed_steps)


def replay(
    bag: Bag,
    topics: BagTopics,
    policy: Policy,
    configuration: Configuration,
    results: ReplayResults,
    *,
    as_recorded: bool,
    on_progress: Callable[[int], None],
) -> str:
    """Plan every tick of a bag and write the results.

    Raises:
        BagError: The bag has no instruction; or `as_recorded`, and it is no live recording, or one of another policy.

    Returns:
        In words, where a damaged bag had to be given up; empty when it was read to its end.
    """
    try:
        if as_recorded:
            planned = recorded_stamps_ns(bag, topics)
            results.recorded_chunks = len(planned)
            epoch: int | None = None
            before: RecordedTick | None = None
            for tick in recorded_ticks(bag, topics, planned, on_progress):
                if tick.epoch != epoch:
                    policy.reset()
                    epoch = tick.epoch
                if tick.policy_id != policy.metadata.policy_id:
                    raise BagError(
                        f"{bag.path}: was recorded with {tick.policy_id}, this is {policy.metadata.policy_id}; "
                        "give the policy and the checkpoint of the recording, or replay without --as-recorded"
                    )
                if not tick.committed_steps:
                    results.add_chunk(policy.plan(tick.observation), tick.actions)
                elif before is not None and before.sequence + 1 == tick.sequence:  # else what it went on from is lost
                    committed = _committed(tick, before, configuration)
                    results.add_chunk(policy.plan(tick.observation, committed), tick.actions)
                before = tick
        else:
            instruction = None
            for outcome in observations(bag, topics, configuration, on_progress):
                if isinstance(outcome, Observation):
                    if outcome.instruction != instruction:
                        policy.reset()
                        instruction = outcome.instruction
                    results.add_chunk(policy.plan(outcome))
                else:
                    results.add_refusal(*outcome)
    except BagDamage as error:
        return str(error)
    return ""
