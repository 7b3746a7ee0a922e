"""One fault at a time: it is injected into a moving arm's node, cleared, and the arm must move again."""

import signal
import time

from sqap_vla_ros.testing.fault import Fault
from sqap_vla_ros.testing.fault_bench import FaultBench, Reaction

# A node that is killed leaves the arm to its trajectory: the horizon, and a ramp.
_REST_DEADLINE_S = 3.0


def meet(bench: FaultBench, fault: Fault) -> Reaction:
    """One fault, from a moving arm to a moving arm."""
    fault.prepare(bench)
    bench.start_node(**fault.settings)
    begin_s = time.monotonic()
    reaction = bench.meet(
        lambda: fault.inject(bench), fault.lasts_s, fault.causes, lambda: fault.detectable(bench, begin_s)
    )
    seen = len(bench.robot.controller.violations)
    fault.clear(bench)
    try:
        bench.wait_for_motion()
        recovered = True
    except TimeoutError as error:
        print(f"{error}\nThe node is started anew.")
        bench.kill_node()
        recovered = False
    return reaction.then(bench.robot.controller.violations[seen:], recovered)


def end_node(bench: FaultBench, number: signal.Signals) -> Reaction:
    """The node ends by a signal while the arm moves."""
    bench.start_node()
    assert bench.node is not None
    node = bench.node
    reaction = bench.meet(lambda: node.send_signal(number), _REST_DEADLINE_S, (), lambda: None)
    bench.kill_node()
    return reaction
