"""How long does a plan take, and how much memory does the policy need? Measured on the images, or by its files."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import Policy
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.tools.doctor.findings import Finding, Level
from sqap_vla_ros.vlm.checkpoint import Checkpoint
from sqap_vla_ros.vlm.runtime.device import choose_device
from sqap_vla_ros.vlm.tokenizer import TokenizerError
from sqap_vla_ros.vlm.weights import CheckpointError

_MEMORY_MARGIN = 1.2


def check_policies(
    policies: Sequence[str],
    configuration: Configuration,
    checkpoint: Checkpoint,
    observations: Sequence[Observation],
    image_age_s: float,
    on_progress: Callable[[str], None],
) -> list[Finding]:
    """Check latency and memory of each policy.

    Args:
        policies: Names of policy files; the first is the one that the set-up runs, the others are for comparison.
        configuration: Checkpoint, device, and the largest age of an image.
        checkpoint: The checkpoint; it is loaded only if it fits into memory.
        observations: Observations to plan on; without any, only the files are examined.
        image_age_s: Age of an image on arrival.
        on_progress: Called with a sentence about the step that begins.
    """
    needed, free = _needed_bytes(checkpoint, choose_device(configuration.device)), _free_bytes(configuration)
    size = f"{needed / 2**30:.1f} GiB by the size of its weights"
    if needed * _MEMORY_MARGIN > free:
        what = f"needs about {size}, {free / 2**30:.1f} GiB are free"
        advice = "compress it (sqap-vla compress), or free memory"
        return [Finding(Level.PROBLEM, "memory", what, advice)]
    if not observations:
        return [Finding(Level.WARNING, "policy", f"needs {size}; no image to measure its speed on", "see images")]
    findings = []
    for number, name in enumerate(policies):
        of_set_up = number == 0
        try:
            policy = load_policy(configuration.model_copy(update={"policy": name}), on_progress)
        except (ConfigurationError, CheckpointError, TokenizerError) as error:
            # A policy for comparison that cannot be loaded is no defect of the set-up.
            level, advice = (Level.PROBLEM, "correct this first") if of_set_up else (Level.OK, "")
            findings.append(Finding(level, f"policy {name}", str(error), advice))
            continue
        on_progress(f"planning with {policy.metadata.policy_id}")
        try:
            seconds = _plan_seconds(policy, observations)
        except ValueError as error:  # samples that are not finite
            level = Level.PROBLEM if of_set_up else Level.WARNING
            findings.append(Finding(level, f"policy {name}", str(error), "give another --checkpoint or policy"))
            continue
        findings.append(_judge(name, policy, seconds, image_age_s, configuration, of_set_up))
        del policy  # before the next one is loaded
    return findings


def _plan_seconds(policy: Policy, observations: Sequence[Observation]) -> float:
    """Median time of a plan, without the first one."""
    seconds = []
    for observation in (observations[0], *observations):
        start_s = time.perf_counter()
        policy.plan(observation)
        seconds.append(time.perf_counter() - start_s)
    return float(np.median(seconds[1:]))


def _judge(
    name: str, policy: Policy, seconds: float, image_age_s: float, configuration: Configuration, of_set_up: bool
) -> Finding:
    """Compare the time of a plan with the largest age of an image, and with the time that a chunk covers."""
    metadata = policy.metadata
    covered_s = metadata.horizon * metadata.time_step_s
    limit_s = configuration.freshness.image
    what = (
        f"{metadata.policy_id}, weights {metadata.weights}: a plan takes {seconds * 1e3:.0f} ms on {metadata.device} "
        f"(measured) and covers {covered_s * 1e3:.0f} ms; {metadata.memory_bytes / 2**30:.2f} GiB of weights"
    )
    if seconds + max(image_age_s, 0.0) > limit_s:
        what += f"; an image is then older than freshness.image = {limit_s:g} s: nothing is commanded"
        level = Level.PROBLEM if of_set_up else Level.WARNING
        return Finding(level, f"policy {name}", what, "use a GPU, a compressed checkpoint, or more pruning")
    if seconds > covered_s / 2:
        what += "; the arm waits between chunks"
        return Finding(Level.WARNING, f"policy {name}", what, "use a GPU, a compressed checkpoint, or more pruning")
    return Finding(Level.OK, f"policy {name}", what)


def _needed_bytes(checkpoint: Checkpoint, device: str) -> int:
    """Memory of the weights, an upper estimate: published files are float32, and a GPU halves them."""
    if checkpoint.is_compressed:
        # What is not compressed is float32 on a CPU and bfloat16 on disk.
        return read_manifest(checkpoint.directory).nbytes * (2 if device == "cpu" else 1)
    size = checkpoint.weights.stat().st_size
    return size if device == "cpu" else size // 2


def _free_bytes(configuration: Configuration) -> int:
    """Free memory of the device that the policy is to run on."""
    if choose_device(configuration.device) == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(0)[0])
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
