"""Walks the table of docs/explanation/safety-transitions.md row by row, and compares its causes with the code's."""

import pytest
from further_events import FURTHER_EVENTS, TwoCameraLoop
from paths import ROOT
from safety_events import EVENTS, STATES, running
from sqap_vla.msg import PolicyStatus

from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.core.rejection import Cause

PAGE = ROOT / "docs/explanation/safety-transitions.md"


def table(heading: str) -> list[tuple[str, ...]]:
    """The rows of the first table under a heading."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


@pytest.mark.parametrize("row", table("Transitions"), ids=lambda row: f"{row[0]}: {row[1]}")
def test_each_row_of_the_table_is_what_happens(row: tuple[str, ...]) -> None:
    before, event, after, cause, response = row
    bench = STATES[before]()
    if event in FURTHER_EVENTS:
        bench = running(TwoCameraLoop)
    elif "`restart_policy` is set" in event:
        bench = running(restart_policy=True)
    assert bench.state.name.lower() == before
    was_held, sent = bench.is_held, len(bench.output.commands)
    EVENTS[event](bench)
    assert bench.state.name.lower() == after
    if cause != "-":
        assert bench.cause == cause
    elif after != "running":
        pytest.fail("only a running arm has no cause")
    ramps = [command for command in bench.output.commands[sent:] if command.stops]
    assert bool(ramps) == (response in ("hold", "stop"))
    stays_stopped = before == "stopped" and "~/resume" not in event
    is_stopped = after == "stopped" or "~/stop" in event or response == "stop" or stays_stopped
    assert (bench.supervisor.gate.stopped is not None) == is_stopped
    if response == "drop":
        assert len(bench.output.commands) == sent and not was_held
    if after in ("waiting", "stopped", "fault", "inactive"):  # and it stays at rest
        bench.pass_time(0.2) if after == "stopped" else bench.supervisor.watch()
        assert bench.is_held or not bench.output.commands


def test_the_table_names_each_event_and_each_state_but_unconfigured() -> None:
    rows = table("Transitions")
    assert {row[1] for row in rows} == set(EVENTS)
    assert {row[0] for row in rows} | {row[2] for row in rows} == {
        state.name.lower() for state in MotionState if state is not MotionState.UNCONFIGURED
    }


def test_the_page_explains_each_cause_as_the_code_does() -> None:
    assert table("Causes") == [(f"`{cause}`", cause.meaning) for cause in Cause]


def test_the_message_has_each_state_and_each_cause() -> None:
    constants = {
        name: getattr(PolicyStatus, name) for name in dir(type(PolicyStatus)) if name.isupper() and name[0] != "_"
    }
    states = {name: value for name, value in constants.items() if not name.startswith("CAUSE_")}
    causes = {name: value for name, value in constants.items() if name.startswith("CAUSE_")}
    assert states == {state.name: state.value for state in MotionState}
    assert causes == {f"CAUSE_{cause.name}": cause.value for cause in Cause}
