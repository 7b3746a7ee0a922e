"""Where the episodes of a recording begin and end: goals of `~/execute`, or changes of the instruction.

Times are recording times. An episode of a goal begins with the goal and ends with its result. Without goals, a text on
the instruction topic begins one, another text ends it, and so does an empty one. A recording without such a topic is
divided where its recorded chunks say that another instruction or episode began.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from sqap_vla_ros.bags.reader import Bag, BagDamage, BagError
from sqap_vla_ros.bags.topics import BagTopics

GOAL_TYPE = "action_msgs/msg/GoalStatusArray"
_GOAL_TOPIC = "/execute/_action/status"
_UNDER_WAY = (1, 2, 3)  # action_msgs/GoalStatus: ACCEPTED, EXECUTING, CANCELING; all above have ended
_FOREVER = 1 << 62


@dataclass(frozen=True)
class Span:
    """The time of one episode.

    Attributes:
        start_ns: Recording time of its beginning.
        end_ns: Recording time of its end.
        instruction: What was to be done; empty: the recording does not say.
    """

    start_ns: int
    end_ns: int
    instruction: str


def find_spans(bag: Bag, topics: BagTopics, instruction: str = "") -> list[Span]:
    """The episodes of a recording, in order.

    Args:
        bag: The recording.
        topics: Its topics.
        instruction: Text that takes the place of the recorded ones.

    Raises:
        BagError: Nothing says what was to be done.
    """
    goals = [name for name, kind in bag.topic_types.items() if kind == GOAL_TYPE and name.endswith(_GOAL_TOPIC)]
    events = list(_events(bag, topics, goals))
    spans = _of_goals(events) or _of_texts(events, "text") or _of_texts(events, "chunk")
    if instruction:
        spans = [replace(span, instruction=instruction) for span in spans or [Span(bag.start_ns, _FOREVER, "")]]
    spans = [span for span in spans if span.instruction]
    if not spans:
        raise BagError(f"{bag.path}: holds no instruction; give one with --instruction")
    return spans


@dataclass(frozen=True)
class _Event:
    """What a message says: "goal" and its identity and state, "text", or "chunk" and its epoch."""

    at_ns: int
    kind: str
    text: str = ""
    identity: object = None
    under_way: bool = False


def _events(bag: Bag, topics: BagTopics, goals: list[str]) -> Iterator[_Event]:
    with suppress(BagDamage):  # reported when the observations are read
        for topic, at_ns, message in bag.messages({topics.instruction, topics.chunk, *goals}):
            if topic == topics.instruction:
                yield _Event(at_ns, "text", message.data.strip())
            elif topic == topics.chunk:
                yield _Event(at_ns, "chunk", message.instruction.strip(), message.epoch)
            else:
                for status in message.status_list:
                    identity = bytes(status.goal_info.goal_id.uuid)
                    yield _Event(at_ns, "goal", "", identity, status.status in _UNDER_WAY)


def _of_goals(events: list[_Event]) -> list[Span]:
    open_goals: dict[object, int] = {}
    spans = []
    for event in events:
        if event.kind != "goal":
            continue
        if event.under_way:
            open_goals.setdefault(event.identity, event.at_ns)
        elif (start_ns := open_goals.pop(event.identity, None)) is not None:
            spans.append(Span(start_ns, event.at_ns, ""))
    spans += [Span(start_ns, _FOREVER, "") for start_ns in open_goals.values()]
    spans.sort(key=lambda span: span.start_ns)
    # A newer goal ends the one before, whose result may come later.
    following = [*(span.start_ns for span in spans), _FOREVER][1:]
    spans = [replace(span, end_ns=min(span.end_ns, end)) for span, end in zip(spans, following, strict=False)]
    return [replace(span, instruction=_text_of(span, events)) for span in spans]


def _text_of(span: Span, events: list[_Event]) -> str:
    """What a goal asked for: the chunks that were planned for it say so; or the instruction topic's last text."""
    planned = [e.text for e in events if e.kind == "chunk" and span.start_ns <= e.at_ns < span.end_ns and e.text]
    if planned:
        return planned[-1]  # the first may still be of the goal before
    said = [e.text for e in events if e.kind == "text" and e.at_ns < span.end_ns and e.text]
    return said[-1] if said else ""


def _of_texts(events: list[_Event], kind: str) -> list[Span]:
    spans: list[Span] = []
    before: tuple[str, object] | None = None
    for event in events:
        if event.kind != kind or (event.text, event.identity) == before:
            continue
        before = event.text, event.identity
        if spans and spans[-1].end_ns == _FOREVER:
            spans[-1] = replace(spans[-1], end_ns=event.at_ns)
        if event.text:
            spans.append(Span(event.at_ns, _FOREVER, event.text))
    return spans
