"""What a reader wants to know of a result: which policy, in words; when, on which machine, by which version."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqap_vla_ros.core.policy import PolicyMetadata


def policy_name(metadata: PolicyMetadata) -> str:
    """A policy as a person names it: its file, its checkpoint, its weights."""
    return " · ".join(filter(None, (metadata.policy, Path(metadata.checkpoint).name, metadata.weights)))


def provenance(device: str) -> dict[str, str]:
    """When, with what and where a replay ran, for `summary.json`.

    Args:
        device: Device that the policy ran on, as "cpu".
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("sqap_vla_ros"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "device": device,
    }


def name_in(summary: Mapping[str, Any], which: str = "policy") -> str:
    """Name of the policy or of the baseline in a `summary.json`; the id, where an older version wrote it."""
    return str(summary.get(f"{which}_name") or summary.get(which, ""))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
