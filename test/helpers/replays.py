"""Replays of synthetic bags with policies that are made by hand: rows of `ticks.parquet`, and the summary."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.core.policy import Policy
from sqap_vla_ros.testing.stub_policies import SleepingPolicy
from sqap_vla_ros.tools.replay.planner import replay
from sqap_vla_ros.tools.replay.results import ReplayResults

CONFIGURATION = validate(Configuration, {"frames.base": "base", "frames.tool": "tool"}, "test")
Rows = list[dict[str, Any]]


def replayed(
    bag_path: Path,
    out: Path,
    policy: Policy | None = None,
    baseline: Policy | None = None,
    *,
    noise_floor: bool = False,
) -> tuple[Rows, dict[str, Any]]:
    """Rows and summary of a replay; without a policy, with one that takes no time.

    Raises:
        BagError: The bag is refused as a whole.
    """
    policy = policy or SleepingPolicy(0)
    with Bag(bag_path) as bag:
        topics = find_topics(bag, CONFIGURATION)
        with ReplayResults(out, {"policy": policy.metadata.policy_id}) as results:
            damage = replay(
                bag,
                topics,
                policy,
                baseline,
                CONFIGURATION,
                results,
                as_recorded=False,
                noise_floor=noise_floor,
                on_progress=lambda at_ns: None,
            )
    results.write_summary(damage)
    return pq.read_table(out / "ticks.parquet").to_pylist(), json.loads((out / "summary.json").read_text())
