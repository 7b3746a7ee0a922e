"""Replay of one bag from its beginning to its report, and of many bags at a time.

Each bag is a job with a directory of its own; if one fails, the others continue.
"""

import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqap_vla_ros.bags.robot_bag import RobotBag
from sqap_vla_ros.bags.topics import configured_for, find_topics, first_instruction, other_images
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.files import is_full, write_whole
from sqap_vla_ros.core.policy import Policy
from sqap_vla_ros.core.worker_pool import run_jobs
from sqap_vla_ros.perception.needs import require
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.tools.replay.annotate import write_annotated
from sqap_vla_ros.tools.replay.jobs import ERROR_FILE, PolicyState, ReplayJob, begin_results, file_states, policy_state
from sqap_vla_ros.tools.replay.planner import replay
from sqap_vla_ros.tools.replay.provenance import policy_name, provenance
from sqap_vla_ros.tools.replay.report.page import write_report
from sqap_vla_ros.tools.replay.results import ReplayResults
from sqap_vla_ros.tools.replay.results_reader import Run
from sqap_vla_ros.tools.replay.verdict import Verdict
from sqap_vla_ros.tools.replay.video import OVERLAY, write_overlay

OnProgress = Callable[[str, float, float], None]
"""Called with the name of the step, and the seconds of the bag that are done, of how many."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job.

    Attributes:
        job: The job.
        summary: Content of its summary.json; None if it failed.
        error: Why it failed, in one line; empty if it did not.
    """

    job: ReplayJob
    summary: dict[str, Any] | None
    error: str = ""


def _silent(*_: object) -> None:
    """Ignore progress."""


@lru_cache(maxsize=2)
def _policy(configuration: Configuration, on_note: Callable[[str], None]) -> Policy:
    """Load a policy, once per process: the one to replay, or its baseline."""
    return load_policy(configuration, on_note)


@lru_cache(maxsize=2)
def _files(configuration: Configuration) -> PolicyState:
    """State of the files of a policy, taken once before it is loaded."""
    return policy_state(configuration)


def _load(job: ReplayJob, on_note: Callable[[str], None]) -> tuple[list[Policy], list[PolicyState]]:
    """Load the policy, and the baseline if there is one."""
    files = [_files(configuration) for configuration in job.configurations]
    return [_policy(configuration, on_note) for configuration in job.configurations], files


def replay_bag(
    job: ReplayJob, on_progress: OnProgress = _silent, on_note: Callable[[str], None] = _silent
) -> dict[str, Any]:
    """Replay one bag and write its directory; the mark of completeness is written last.

    Args:
        job: What to replay.
        on_progress: Called with the progress.
        on_note: Called with sentences about the loading of the policy.

    Returns:
        Content of `summary.json`.

    Raises:
        BagError: The bag cannot be replayed at all. A damaged bag is replayed up to the damage.
        ConfigurationError, CheckpointError, TokenizerError: See `load_policy`.
    """
    bag_files = file_states(job.bag)  # taken before the bag is read: it may still be growing
    with RobotBag(job.bag, job.configuration) as bag:
        topics = find_topics(bag, job.configuration, job.image_topic, job.camera_info_topic, job.tf_namespace)
        configuration = configured_for(job.configuration, topics, job.image_topic)
        if not (configuration.instruction or job.as_recorded):
            first_instruction(bag)  # here, because loading the policy takes time
        (policy, *others), policy_files = _load(job, on_note)
        for loaded in (policy, *others):
            require(loaded.metadata.needs, configuration, loaded.metadata.policy)
        baseline = others[0] if others else None

        def show(what: str) -> Callable[[int], None]:
            return lambda at_ns: on_progress(what, (at_ns - bag.start_ns) * 1e-9, bag.duration_s)

        begin_results(job.out)
        settings = {
            "bag": str(job.bag),
            "bag_seconds": bag.duration_s,
            "as_recorded": job.as_recorded,
            "rate_hz": job.rate_hz,
            "measured_delay": job.measured_delay,
            "extrinsic": job.extrinsic.model_dump() if job.extrinsic else None,
            "policy": policy.metadata.policy_id,
            "policy_name": policy_name(policy.metadata),
            "baseline_name": policy_name(baseline.metadata) if baseline else "",
            "weights": policy.metadata.weights,
            "noise_floor_of": ("baseline" if baseline else "policy") if job.noise_floor else "",
            "kept_tokens": policy.metadata.kept_tokens,
            "robot": job.configuration.robot_name,
            "image_topic": topics.image,
            "other_image_topics": other_images(bag, topics.image),
            "bag_lacks": bag.lacks,
            "camera_info_topic": topics.camera_info,
            **provenance(policy.metadata.device),
        }
        with ReplayResults(job.out, settings) as results:
            if bag.poses:
                results.add_note(bag.poses)
            damage = replay(
                bag,
                topics,
                policy,
                baseline,
                configuration,
                results,
                as_recorded=job.as_recorded,
                rate_hz=job.rate_hz,
                measured_delay=job.measured_delay,
                extrinsic=job.extrinsic,
                noise_floor=job.noise_floor,
                on_progress=show("replaying"),
            )
        summary = results.write_summary(damage)
        run = Run(job.out)
        extra = bag, topics, configuration, run
        write_annotated(*extra, extrinsic=job.extrinsic, on_progress=show("annotating"))
        try:
            write_overlay(*extra, extrinsic=job.extrinsic, on_progress=show("filming"))
            write_report(job.out)
        except OSError:  # the video needs the most space, and all else is whole without it
            (job.out / OVERLAY).unlink(missing_ok=True)
            write_report(job.out)
            raise
    job.finish(bag_files, policy_files)
    return summary


def try_replay_bag(job: ReplayJob) -> Outcome:
    """Replay one bag of many; if it fails, its directory holds `error.txt` alone.

    Raises:
        ConfigurationError, CheckpointError, TokenizerError: No bag can be replayed, see `load_policy`.
    """
    _load(job, _silent)
    try:
        return Outcome(job, replay_bag(job))
    except Exception as error:
        if is_full(error):  # the other bags would find no room either
            raise
        begin_results(job.out)
        write_whole(job.out / ERROR_FILE, traceback.format_exc().encode())
        return Outcome(job, None, in_one_line(error))


def replay_bags(jobs: Sequence[ReplayJob], *, workers: int, ray_address: str, resume: bool) -> Iterator[Outcome]:
    """Replay many bags in worker processes, and yield each outcome when it is ready.

    Args:
        jobs: The bags.
        workers: Number of bags at a time.
        ray_address: Address of a Ray cluster; empty: this machine.
        resume: Whether results that exist already are kept.

    Raises:
        ParallelError: See `run_jobs`.
        ConfigurationError, CheckpointError, TokenizerError: See `load_policy`.
    """
    missing = []
    for job in jobs:
        if resume and job.is_done():
            yield Outcome(job, json.loads((job.out / "summary.json").read_text(encoding="utf-8")))
        else:
            missing.append(job)
    yield from run_jobs(try_replay_bag, missing, workers=workers, ray_address=ray_address)


def write_overview(out: Path, outcomes: Sequence[Outcome], verdict: Verdict | None) -> None:
    """Write `summary.json` of many bags: the summary of each, or the error of those that failed, and the verdict."""
    content = {
        "bags": {outcome.job.out.name: outcome.summary for outcome in outcomes if outcome.summary},
        "failed": {outcome.job.out.name: outcome.error for outcome in outcomes if outcome.error},
        "verdict": verdict.as_json() if verdict else None,
    }
    write_whole(out / "summary.json", (json.dumps(content, indent=2) + "\n").encode())
