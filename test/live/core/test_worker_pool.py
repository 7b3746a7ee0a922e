"""Many jobs in worker processes."""

import multiprocessing
import os
import subprocess
import sys
import time

import pytest
from stub_jobs import die, process_id, refuse_three, square, wait_unless_first

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.core.worker_pool import ParallelError, run_jobs


def test_every_job_gives_its_result_once() -> None:
    assert sorted(run_jobs(square, range(20), workers=2)) == [number * number for number in range(20)]


def test_workers_live_from_job_to_job_and_apart_from_the_caller() -> None:
    workers = set(run_jobs(process_id, range(20), workers=2))
    assert len(workers) <= 2 and os.getpid() not in workers


def test_an_error_of_ours_comes_out_of_a_worker_as_it_is() -> None:
    with pytest.raises(ConfigurationError, match="three is not a number"):
        list(run_jobs(refuse_three, range(5), workers=1))


def test_a_killed_worker_is_told_in_words() -> None:
    with pytest.raises(ParallelError, match="one of 1 worker processes died"):
        list(run_jobs(die, [1], workers=1))


def test_a_cluster_without_ray_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ParallelError, match=r"\[ray\]"):
        list(run_jobs(square, [1], workers=1, ray_address="auto"))


def test_jobs_that_nobody_waits_for_are_given_up() -> None:
    results = run_jobs(wait_unless_first, range(8), workers=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_workers_end_when_their_parent_is_killed() -> None:
    program = (
        "import multiprocessing, os, signal, time\n"
        "from sqap_vla_ros.core.worker_pool import run_jobs\n"
        "if __name__ == '__main__':\n"
        "    results = run_jobs(os.getpgid, [0, 0], workers=1)\n"
        "    print(next(results), flush=True)\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    workers = [int(word) for word in ended.stdout.split()[1:]]
    assert workers
    deadline_s = time.monotonic() + 10
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < deadline_s
        os.sched_yield()


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
