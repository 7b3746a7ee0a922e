"""From a published OpenVLA or OpenVLA-OFT directory to its network."""

from collections.abc import Mapping

import torch

from sqap_vla_ros.policies.openvla.adapted import split_towers
from sqap_vla_ros.policies.openvla.bins import load_token_head
from sqap_vla_ros.policies.openvla.checkpoint import (
    LANGUAGE,
    PROJECTOR,
    OpenVlaCheckpoint,
    read_modulated_towers,
    read_parts,
)
from sqap_vla_ros.policies.openvla.components import HEAD, NOISY_ACTION, PROPRIO, VISION, read_component
from sqap_vla_ros.policies.openvla.heads import head_predicts, load_action_mlp, load_token_projector
from sqap_vla_ros.policies.openvla.model import Decoding, OpenVla
from sqap_vla_ros.vlm.film import modulate
from sqap_vla_ros.vlm.language import load_language
from sqap_vla_ros.vlm.projector import load_projector
from sqap_vla_ros.vlm.vision import load_vision
from sqap_vla_ros.vlm.weights import CheckpointError, check_architecture


def find_decoding(checkpoint: OpenVlaCheckpoint, told: Decoding | None = None) -> Decoding:
    """How actions come out of a checkpoint.

    A file of a head says so; without one, tokens come out in one run or one after another, which no file says.

    Args:
        checkpoint: The checkpoint.
        told: What the policy's configuration says; None: nothing.

    Raises:
        CheckpointError: The files contradict each other or `told`, or nothing says it.
    """
    found, files = _decoding_of_files(checkpoint), checkpoint.components
    if found is None and told not in ("parallel", "autoregressive"):
        raise CheckpointError(
            f"{checkpoint.directory}: has no {HEAD} file, so its actions are tokens, and no file says whether in one "
            "run (OpenVLA-OFT) or one after another (OpenVLA); set openvla.decoding to parallel or autoregressive"
            + (f", not {told}" if told else "")
        )
    if found is not None and told not in (None, found):
        raise CheckpointError(
            f"{checkpoint.directory}: {files[HEAD].name} is a head for {found}, but openvla.decoding = {told}; "
            "change the setting, or give another checkpoint"
        )
    decoding = found or told
    assert decoding is not None
    if (decoding == "diffusion") != (NOISY_ACTION in files):
        raise CheckpointError(
            f"{checkpoint.directory}: a diffusion head and a {NOISY_ACTION} file belong together, and one is missing"
        )
    if decoding == "autoregressive" and files:
        names = ", ".join(file.name for file in files.values())
        raise CheckpointError(
            f"{checkpoint.directory}: openvla.decoding = autoregressive is plain OpenVLA, which has no {names}; set it "
            "to parallel"
        )
    return decoding


def _decoding_of_files(checkpoint: OpenVlaCheckpoint) -> Decoding | None:
    if HEAD not in checkpoint.components:
        return None
    part = read_component(checkpoint.components[HEAD])
    try:
        return "regression" if head_predicts(part) == "actions" else "diffusion"
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.directory}: {error}") from None


def load_openvla(
    checkpoint: OpenVlaCheckpoint,
    *,
    decoding: Decoding | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    architecture: Mapping[str, int] | None = None,
) -> OpenVla:
    """Build the network; files are mapped, and each tensor is copied once, to its device and dtype.

    Args:
        checkpoint: From `checkpoint.open_openvla`.
        decoding: See `find_decoding`.
        dtype: Dtype of the whole network.
        device: Where it is built.
        architecture: Numbers of attention heads for sizes other than the published ones.

    Raises:
        CheckpointError: The weights are damaged, would execute code, or are not those of the network.
    """
    decoding = find_decoding(checkpoint, decoding)
    heads = {**checkpoint.architecture, **(architecture or {})}
    check_architecture(heads)
    components = {kind: read_component(path) for kind, path in checkpoint.components.items() if kind != VISION}
    parts = read_parts(checkpoint)
    try:
        language = load_language(
            parts[LANGUAGE], heads, dtype, device, epsilon=checkpoint.epsilon, causal=decoding == "autoregressive"
        )
        width = language.shape.width
        if VISION in checkpoint.components:
            towers, modulation = split_towers(read_modulated_towers(checkpoint.components[VISION]))
            vision = load_vision(towers, heads, dtype, device)
            modulate(vision, modulation, width, dtype, device)
        else:
            vision = load_vision(parts[VISION], heads, dtype, device)
        proprio, noisy = (
            load_token_projector(components[kind], width, dtype, device) if kind in components else None
            for kind in (PROPRIO, NOISY_ACTION)
        )
        return OpenVla(
            vision,
            load_projector(parts[PROJECTOR], dtype, device),
            language,
            decoding=decoding,
            head=load_action_mlp(components[HEAD], width, dtype, device) if HEAD in components else None,
            tokens=None if HEAD in components else load_token_head(parts[LANGUAGE], dtype, device),
            proprio=proprio,
            noisy_action=noisy,
            image_statistics=checkpoint.image_statistics,
        )
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.directory}: {error}") from None
