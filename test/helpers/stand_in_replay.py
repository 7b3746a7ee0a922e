"""A policy for worker processes, which find it by name: takes no time and plans nothing clever."""

from collections.abc import Callable

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.testing.stub_policies import SleepingPolicy
from sqap_vla_ros.tools.replay import many
from sqap_vla_ros.tools.replay.jobs import ReplayJob
from sqap_vla_ros.tools.replay.many import Outcome, try_replay_bag


def at_once(configuration: Configuration, on_note: Callable[[str], None]) -> SleepingPolicy:
    """In place of `many.load_policy`."""
    return SleepingPolicy(0)


def try_at_once(job: ReplayJob) -> Outcome:
    """`try_replay_bag` with that policy, in a process that was started afresh."""
    many.load_policy = at_once
    return try_replay_bag(job)
