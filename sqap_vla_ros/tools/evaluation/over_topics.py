"""An episode over ROS topics and in real time: the simulated cell and the policy node as processes of their own.

This is slower than in one process, and on a busy machine messages are late: it shows what the topics cost. The node
plans as often as it can, and what happened is read from the recording.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.jerk import mean_jerk
from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.perception.transforms import transform_from_message
from sqap_vla_ros.simulation.demo import Demo, last_status
from sqap_vla_ros.tools.evaluation.episodes import STATE_PERIOD_S, EpisodeJob, EpisodeResult, path_length


def play_over_topics(job: EpisodeJob) -> EpisodeResult:
    """Play an episode with processes that are started for it and ended afterwards.

    Raises:
        DemoError: A process died, or no command reached the arm.
    """
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(
            suite=job.task.suite,
            task=job.task.index,
            initial_state=job.initial_state,
            seed=job.scene_seed,
            seconds=job.task.limit_s,
            policy=job.configuration.policy,
            checkpoint=job.configuration.checkpoint,
            out=Path(folder),
        )
        report = demo.play(Console(quiet=True))
        status, refusals = last_status(demo.bag)
        if not job.weights_sha256.startswith(status.policy_id.rpartition("@")[2]):
            raise ConfigurationError(
                f"{job.configuration.checkpoint}: changed since the evaluation began; evaluate a copy that nobody "
                "writes to"
            )
        joint_positions, tool_poses, planning_s = _trace(demo.bag, job.configuration)
    return EpisodeResult(
        task=job.task.name,
        variant=str(job.variant),
        policy_id=status.policy_id,
        disturbance=str(job.condition),
        episode=job.number,
        success=report["success"],
        seconds=report["simulated_s"],
        plans=report["chunks"],
        refusals=refusals.most_common(),
        violations=report["violations"],
        jerk_rad_s3=mean_jerk(joint_positions, STATE_PERIOD_S),
        path_m=path_length(tool_poses),
        planning_p50_s=float(np.median(planning_s)) if planning_s else 0.0,
    )


def _trace(bag: Path, configuration: Configuration) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float]]:
    """From a recording: joint positions float64 (N, joints) and tool poses float64 (N, 4, 4) at 20 Hz; plan times."""
    frames, joint_topic = configuration.frames, configuration.topics.joint_states
    joints: dict[int, list[float]] = {}
    poses: dict[int, NDArray[np.float64]] = {}
    planning_s: list[float] = []
    with Bag(bag) as recording:
        for topic, _, message in recording.messages({"/tf", joint_topic, "/sqap_vla/chunk"}):
            if topic == "/tf":
                for transform in message.transforms:
                    if (transform.header.frame_id, transform.child_frame_id) == (frames.base, frames.tool):
                        poses[stamp_ns(transform)] = transform_from_message(transform.transform)
            elif topic == joint_topic:
                position = dict(zip(message.name, message.position, strict=True))
                joints[stamp_ns(message)] = [position[name] for name in configuration.command.joints]
            else:
                planning_s.append(message.inference_time)
    return _each_period(joints), _each_period(poses), planning_s


def _each_period(states: dict[int, Any]) -> NDArray[np.float64]:
    """The first state at or after each multiple of the states' period, by stamp (ns)."""
    stamps = np.array(sorted(states))
    grid = np.arange(stamps[0], stamps[-1] + 1, round(STATE_PERIOD_S * 1e9))
    return np.array([states[stamp] for stamp in stamps[np.searchsorted(stamps, grid)]])
