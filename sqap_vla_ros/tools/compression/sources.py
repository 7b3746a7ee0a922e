"""What `sqap-vla compress` is given: a checkpoint of any family, and for an OpenVLA how it was trained."""

from pathlib import Path
from typing import Any

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.policies.openvla.checkpoint import open_openvla
from sqap_vla_ros.policies.openvla.store import read_openvla_manifest
from sqap_vla_ros.tools.compression.openvla_family import OpenVlaFamily
from sqap_vla_ros.vlm.checkpoint import Checkpoint, find_checkpoint, open_checkpoint
from sqap_vla_ros.vlm.checkpoint_kind import Kind, is_openvla, recognise
from sqap_vla_ros.vlm.lowbit.store import StoredManifest


def open_source(source: str, policy: str = "", statistics_key: str = "") -> Checkpoint | OpenVlaFamily:
    """Find a checkpoint to compress.

    Args:
        source: See `vlm.checkpoint.open_checkpoint`.
        policy: Policy file of an OpenVLA, whose directory does not say how it was trained.
        statistics_key: Data set of its actions and state; empty: the only one.

    Raises:
        CheckpointError: There is no checkpoint, or it is none that can be compressed.
        ConfigurationError: It is an OpenVLA, and the policy file is missing or is for CogACT.
    """
    path = find_checkpoint(source)
    if recognise(path).kind not in (Kind.OPENVLA, Kind.OPENVLA_OFT) or not (path / "config.json").is_file():
        return open_checkpoint(source)
    trained = read_policy(policy).openvla if policy else None
    if trained is None:
        raise ConfigurationError(
            f"{path} is an OpenVLA; say with --policy how it was trained (openvla-oft-libero, openvla-oft-aloha, …)"
        )
    return OpenVlaFamily(open_openvla(path), trained, statistics_key)


def read_any_manifest(directory: Path) -> StoredManifest[Any]:
    """Read the JSON of a compressed checkpoint of any family; errors as of `vlm.lowbit.store.read_manifest_as`."""
    return read_openvla_manifest(directory) if is_openvla(directory) else read_manifest(directory)
