"""The files that OpenVLA-OFT adds to a published directory, one per component: `<kind>--<step>_checkpoint.pt`."""

from pathlib import Path

from sqap_vla_ros.vlm.checkpoint import read_tensors
from sqap_vla_ros.vlm.weights import CheckpointError, Part

HEAD, PROPRIO, NOISY_ACTION, VISION = "action_head", "proprio_projector", "noisy_action_projector", "vision_backbone"
KINDS = (HEAD, PROPRIO, NOISY_ACTION, VISION)
# What distributed training puts in front of each name.
_WRAPPER = "module."


def find_components(directory: Path) -> dict[str, Path]:
    """The component files of a directory, by kind.

    A file belongs to a kind if its name contains it and "checkpoint", as in the reference.

    Raises:
        CheckpointError: There are several files of a kind.
    """
    names = sorted(entry.name for entry in directory.iterdir() if entry.is_file() and "checkpoint" in entry.name)
    found = {kind: [name for name in names if kind in name] for kind in KINDS}
    for kind, files in found.items():
        if len(files) > 1:
            raise CheckpointError(
                f"{directory}: {len(files)} files are a {kind}: {', '.join(files)}; keep the one of the step to run"
            )
    return {kind: directory / files[0] for kind, files in found.items() if files}


def read_component(path: Path) -> Part:
    """Map a component file; names lose the prefix `module.`.

    Raises:
        CheckpointError: The file is truncated, would execute code, or holds more than tensors.
    """
    tensors = read_tensors(path)
    if all(str(name).startswith(_WRAPPER) for name in tensors):
        tensors = {name.removeprefix(_WRAPPER): tensor for name, tensor in tensors.items()}
    try:
        return Part(path.name, tensors, mapped=True)
    except CheckpointError as error:
        raise CheckpointError(f"{path.parent}: {error}") from None
