"""Ticks of a live recording, with the inputs that they were planned on: image, instruction, tool pose and ring."""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.reader import Bag, BagDamage, BagError
from sqap_vla_ros.bags.topics import BagTopics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.blending import continuation
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.perception.images import decode
from sqap_vla_ros.perception.transforms import transform_from_message

# Tolerance for actions that were converted to float32 and back [m, rad].
_SAME = 1e-5


@dataclass(frozen=True)
class RecordedTick:
    """A tick of a live recording.

    Attributes:
        observation: The inputs of the plan.
        actions: float64 (horizon, 7), the published actions.
        policy_id: Policy and checkpoint that published them.
        epoch: Number of the instruction or episode; the policy was reset where it changes.
        sequence: Number of the published chunk.
        time_step_s: Time between two actions.
        committed_steps: Number of leading actions that were committed before.
    """

    observation: Observation
    actions: NDArray[np.float64]
    policy_id: str
    epoch: int
    sequence: int
    time_step_s: float
    committed_steps: int


def recorded_stamps_ns(bag: Bag, topics: BagTopics) -> Counter[int]:
    """Count the chunks that were published in a live recording, up to its damage, by stamp.

    Raises:
        BagError: The bag holds no chunks and masks.
    """
    if not (topics.chunk and topics.token_mask):
        raise BagError(f"{bag.path}: no ActionChunk and TokenMask topics in it: replay without --as-recorded")
    stamps_ns = Counter[int]()
    with suppress(BagDamage):  # reported when the ticks are read
        for _, _, chunk in bag.messages({topics.chunk}):
            stamps_ns[stamp_ns(chunk)] += 1
    return stamps_ns


def recorded_ticks(
    bag: Bag, topics: BagTopics, planned: Container[int], on_progress: Callable[[int], None]
) -> Iterator[RecordedTick | tuple[int, str]]:
    """Yield the ticks of a live recording whose image, chunk and token mask were recorded.

    Args:
        bag: The recording.
        topics: Its topics.
        planned: Stamps of the published chunks.
        on_progress: Called with the recording time of each message, nanoseconds.

    Yields:
        A tick, or (stamp_ns, reason) for one whose messages cannot be used.
    """
    parts: dict[int, dict[str, Any]] = {}
    for topic, recorded_ns, message in bag.messages(topics.names):
        on_progress(recorded_ns)
        if topic not in (topics.image, topics.chunk, topics.token_mask) or stamp_ns(message) not in planned:
            continue
        at_ns = stamp_ns(message)
        tick = parts.setdefault(at_ns, {})
        tick[topic] = message
        if len(tick) == 3:
            try:
                yield _recorded_tick(at_ns, tick[topics.image], tick[topics.chunk], tick[topics.token_mask])
            except ValueError as error:
                yield at_ns, f"the recorded tick cannot be planned again: {error}"
            # Older ticks that still lack a part will not get it: the recording lost a message, or began in between.
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


def committed_actions(
    tick: RecordedTick, before: Sequence[RecordedTick], configuration: Configuration
) -> CommittedActions | None:
    """Find the committed actions of a tick (real-time chunking): the rest of the chunk that was being followed.

    This is not always the last published chunk, since its command may have been rejected. But the first actions of the
    tick are those of the followed chunk (except where the statistics clip them), so the chunk that shares most is it.

    Args:
        tick: A tick with `committed_steps`.
        before: The ticks before it, oldest first; of several that fit equally well, the last is taken.
        configuration: Action convention and frames of the recording.
    """
    held = tick.actions[: tick.committed_steps, :6]  # the gripper's value is rounded
    found, most = None, -1
    for earlier in reversed(before):
        rest = _rest(earlier, tick, configuration)
        if rest is None:
            continue
        same = int(np.count_nonzero(np.abs(rest.actions[: len(held), :6] - held) < _SAME))
        if same > most:
            found, most = rest, same
        if most == held.size:
            break
    return found


def _rest(before: RecordedTick, tick: RecordedTick, configuration: Configuration) -> CommittedActions | None:
    """The rest of a chunk at a later tick; None if it covers less than the committed steps."""
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
    if going_on is None or len(going_on.actions) < tick.committed_steps:
        return None
    return CommittedActions(going_on.actions, tick.committed_steps)
