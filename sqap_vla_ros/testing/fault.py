"""What a fault is, for the lists of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.testing.fault_actions import Action, nothing
from sqap_vla_ros.testing.fault_bench import FaultBench

Moment = Callable[[FaultBench, float], float | None]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Of the fault.
        inject: Brings it about.
        clear: Undoes it.
        causes: The node's status must report one of these, as its cause or as that of the last rejection; empty: the
            arm goes on, and nothing need be reported.
        detectable: When it could be known, on the monotonic clock, given when it was injected.
        response: What follows, for the table.
        lasts_s: How long it is watched.
        settings: Of the node, in addition to the usual ones.
        prepare: What the robot needs before the node moves it.
        is_tested: Whether the tests bring it about as well, and not the benchmark alone.
    """

    name: str
    inject: Action
    clear: Action
    causes: tuple[Cause, ...]
    detectable: Moment
    response: str = "hold"
    lasts_s: float = 1.2
    settings: dict[str, object] = field(default_factory=dict)
    prepare: Action = nothing
    is_tested: bool = True
