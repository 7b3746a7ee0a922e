"""Many independent jobs, on the cores of this machine or on a Ray cluster.

Workers are processes, not threads, and started afresh: a forked one would share graphics contexts and thread pools.
They live as long as there are jobs, so that what a job's function caches (a scene, a policy) is there for the next one.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any, TypeVar

from sqap_vla_ros.core.errors import in_one_line

Job = TypeVar("Job")
Result = TypeVar("Result")


class ParallelError(RuntimeError):
    """The jobs cannot be continued; the message says why and what to do."""


def run_jobs(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, ray_address: str = ""
) -> Iterator[Result]:
    """Run a function on every job; jobs start in their order, and results come as they are ready.

    Args:
        function: A function of a module, since it is sent by name.
        jobs: Its arguments.
        workers: Number of processes on this machine, or of jobs at a time on the cluster.
        ray_address: Address of a Ray cluster ("auto": the running one), whose machines see the same files; empty: none.

    Raises:
        ParallelError: A process died, there are no workers, or Ray is not installed or has no cluster there.
        Exception: An error that a job raised; the other jobs are given up.
    """
    if workers < 1:
        raise ParallelError(f"{workers} workers cannot do anything; give 1 or more")
    if ray_address:
        yield from _on_cluster(function, jobs, workers, ray_address)
        return
    spawn = multiprocessing.get_context("spawn")
    held_by_workers, held_here = spawn.Pipe(duplex=False)
    with held_by_workers, held_here, ProcessPoolExecutor(workers, spawn, _end_with, (held_by_workers,)) as pool:
        try:
            for future in as_completed([pool.submit(function, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool:
            raise ParallelError(
                f"one of {workers} worker processes died, perhaps for want of memory; use fewer workers"
            ) from None
        except BaseException:  # nobody waits for the other results any more, as after Ctrl-C
            held_here.close()
            raise


def _end_with(parent: Connection) -> None:
    """Let this process end silently on Ctrl-C, and when the pipe is closed or its other process ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def wait_for_its_end() -> None:
        parent.poll(None)
        os._exit(1)

    threading.Thread(target=wait_for_its_end, daemon=True).start()


def when_worker_ends(call: Callable[[], None]) -> None:
    """Call a function before this process ends, if it is a worker, while threads and libraries still work."""
    if multiprocessing.parent_process() is not None:
        Finalize(None, call, exitpriority=0)


def _in_directory(directory: str, function: Callable[[Job], Result], job: Job) -> Result:
    """Call a function in the directory that the paths of its job are relative to: workers start anywhere."""
    os.chdir(directory)
    return function(job)


def _on_cluster(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, address: str) -> Iterator[Result]:
    try:
        import ray
    except ImportError:
        raise ParallelError("jobs on a cluster need Ray; install the optional extra [ray]") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except Exception as error:  # whatever its several layers make of an address where nobody answers
            raise ParallelError(f"no Ray cluster at '{address}': {in_one_line(error)}") from None
    # No retries: a job that kills its machine would go on to kill the others.
    remote: Any = ray.remote(max_retries=0)(_in_directory)
    waiting = iter(jobs)
    here = os.getcwd()
    running = [remote.remote(here, function, job) for job in islice(waiting, workers)]
    try:
        while running:
            [ready], running = ray.wait(running, num_returns=1)
            running += [remote.remote(here, function, job) for job in islice(waiting, 1)]
            try:
                result = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise ParallelError(f"a job on the cluster {address} was lost: {error}") from None
            yield result
    finally:
        for job in running:
            ray.cancel(job)
