"""Jobs and episodes for worker processes, which find them by name: no simulator, outcomes known by construction."""

import os
import signal
import threading

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.tools.evaluation.episodes import EpisodeJob, EpisodeResult


def square(number: int) -> int:
    """An honest job."""
    return number * number


def refuse_three(number: int) -> int:
    """Fails with one of the package's own errors."""
    if number == 3:
        raise ConfigurationError("three is not a number")
    return number


def die(number: int) -> int:
    """A worker that is killed, as for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def process_id(number: int) -> int:
    """Who does it."""
    return os.getpid()


def outcome_of(job: EpisodeJob) -> EpisodeResult:
    """Succeeds in even episodes, under the first policy in all."""
    return result_of(job.task.name, str(job.variant), job.number, job.variant.policy == "fp16" or job.number % 2 == 0)


def result_of(task: str, variant: str, episode: int, success: bool, disturbance: str = "") -> EpisodeResult:
    """A result with plain figures."""
    return EpisodeResult(
        task=task,
        variant=variant,
        policy_id=f"{variant}@0123456789ab",
        disturbance=disturbance,
        episode=episode,
        success=success,
        seconds=10.0 if success else 20.0,
        plans=50,
        refusals={} if success else {"out of reach": 5},
        violations=0,
        jerk_rad_s3=100.0,
        path_m=1.5,
        planning_p50_s=0.03,
    )


def wait_unless_first(number: int) -> int:
    """Only the first job ever ends."""
    if number:
        threading.Event().wait()
    return number
