"""Executable `simulated_cell`: a LIBERO task on ROS topics, with its recorder.

With `publish_clock`, the other nodes run on simulated time (`use_sim_time:=true`); a machine that is too slow for real
time then only takes longer. Without it, the cell looks like a real robot, on wall time.
"""

import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rosbags.rosbag2 import WriterError

from sqap_vla_ros.simulation.cell import SimulatedCell
from sqap_vla_ros.simulation.pacing import Pacer
from sqap_vla_ros.simulation.recorder import Recorder, cell_topics

_REPORT_PERIOD_S = 1.0
_HOLD_PERIOD_S = 0.1
_LAST_CALLBACKS = 100  # what was published last is still on its way to the recorder


def main() -> None:
    """Run the cell until its episode ends, or SIGINT or SIGTERM."""
    interrupted = threading.Event()
    # rclpy's own handlers would shut the context down while messages are being published.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    try:
        _run(interrupted)
    except (ValueError, WriterError, InvalidParameterTypeException, InvalidParameterValueException) as error:
        sys.exit(f"simulated_cell: {error}")
    finally:
        rclpy.shutdown()


def _run(interrupted: threading.Event) -> None:
    cell = SimulatedCell()
    executor = SingleThreadedExecutor()
    ended = threading.Event()
    spinning = threading.Thread(target=_spin, args=(executor, ended))
    with ExitStack() as at_the_end:  # in reverse order: no callback may run when the bag and the scene are closed
        at_the_end.callback(cell.scene.close)
        executor.add_node(cell)
        if cell.parameters.bag:
            on_simulated_time = Parameter("use_sim_time", value=cell.parameters.publish_clock)
            topics = cell_topics(cell.configuration.topics)
            recorder = Recorder(Path(cell.parameters.bag), topics, parameter_overrides=[on_simulated_time])
            at_the_end.callback(recorder.close)
            executor.add_node(recorder)
        at_the_end.callback(executor.shutdown)
        spinning.start()
        at_the_end.callback(spinning.join)
        at_the_end.callback(ended.set)
        _hold(cell, interrupted)
        _simulate(cell, interrupted)


def _spin(executor: SingleThreadedExecutor, ended: threading.Event) -> None:
    while not ended.is_set():
        executor.spin_once(timeout_sec=0.1)
    for _ in range(_LAST_CALLBACKS):
        executor.spin_once(timeout_sec=0.0)


def _hold(cell: SimulatedCell, interrupted: threading.Event) -> None:
    """Hold simulated time until a node subscribes to the images, if the parameters ask for it."""
    while cell.parameters.wait_for_subscriber and not cell.is_watched and not interrupted.is_set():
        cell.publish_clock()
        interrupted.wait(_HOLD_PERIOD_S)


def _simulate(cell: SimulatedCell, interrupted: threading.Event) -> None:
    on_wall_time = not cell.parameters.publish_clock
    pacer = Pacer(cell.parameters.real_time_factor, interrupted)
    slip_ns = time.time_ns() - cell.now_ns if on_wall_time else 0
    start_s = reported_s = time.monotonic()
    while not interrupted.is_set() and not cell.is_over:
        cell.advance(slip_ns)
        lost_s = pacer.wait(cell.simulated_s)
        slip_ns = round(lost_s * 1e9) if on_wall_time else 0
        if time.monotonic() - reported_s >= _REPORT_PERIOD_S:
            reported_s = time.monotonic()
            _report(cell, reported_s - start_s)
    _report(cell, time.monotonic() - start_s)


def _report(cell: SimulatedCell, wall_s: float) -> None:
    if cell.parameters.report:
        cell.report(wall_s).write(Path(cell.parameters.report))


if __name__ == "__main__":
    main()
