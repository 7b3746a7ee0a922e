"""Export of a trained network as a run directory in the published layout."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.published import layouts
from sqap_vla_ros.tools.training.network import HORIZON, Size, network_shapes
from sqap_vla_ros.vlm.checkpoint import BASE_VLM
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE, ActionStatistics
from sqap_vla_ros.vlm.vision import vision_source
from sqap_vla_ros.vlm.weights import Layout, Source

# Rows of Llama-2's embedding table as published, padding included.
VOCABULARY = 32064
_EMBEDDINGS = "llm.model.embed_tokens.weight"


def export_parts(network: CogACT, size: Size, vocabulary: Tensor) -> dict[str, Tensor]:
    """The tensors of a network under their published names, with the part in front: the inverse of loading.

    Tensors that the layout requires but no result depends on (each tower's last block, rows of the embedding table that
    no instruction uses) are zero.

    Args:
        network: The trained network.
        size: Its sizes.
        vocabulary: int64 (rows,), the token id of each row of its embedding table.
    """
    published = layouts(network_shapes(size, VOCABULARY))
    parts: dict[str, tuple[nn.Module, Callable[[str], Source]]] = {
        "vision_backbone": (network.vision, vision_source),
        "projector": (network.projector, Source),
        "llm_backbone": (network.language, lambda name: Source(f"llm.model.{name}")),
        "action_model": (network.action_head, lambda name: Source(f"net.{name}")),
    }
    tensors: dict[str, Tensor] = {}
    for part, (module, sources) in parts.items():
        exported = _unload(module, sources, published[part], vocabulary)
        tensors |= {f"{part}.{name}": tensor for name, tensor in exported.items()}
    return tensors


def _unload(
    module: nn.Module, sources: Callable[[str], Source], layout: Layout, vocabulary: Tensor
) -> dict[str, Tensor]:
    tensors = {name: torch.zeros(shape) for name, shape in layout.required.items()}
    for name, parameter in module.named_parameters():
        source, values = sources(name), parameter.detach().cpu()
        place = tensors[source.name]
        if source.name == _EMBEDDINGS:
            place[vocabulary] = values
        else:
            (place if source.third is None else place.chunk(3)[source.third]).copy_(values)
    return tensors


def write_run(
    directory: Path,
    network: CogACT,
    size_name: str,
    size: Size,
    vocabulary: Tensor,
    statistics: ActionStatistics,
    training: Mapping[str, Any],
) -> None:
    """Write weights (float16), configuration and statistics; each file is there as a whole or not at all.

    Args:
        directory: The run directory; the tokenizer is there already.
        network: The trained network.
        size_name: Name of its sizes.
        size: Its sizes.
        vocabulary: As in `export_parts`.
        statistics: Normalisation of the actions.
        training: What config.json tells about the training.
    """
    weights = directory / "checkpoints" / f"cogact-{size_name}.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    # float16 has 11 bits of precision, of which bfloat16 would leave 8; trained weights are far from its limits.
    tensors = {name: tensor.half() for name, tensor in export_parts(network, size, vocabulary).items()}
    write_whole(weights, save(tensors, {"format": "pt"}))
    config = {
        "run_id": f"cogact-{size_name}",
        "vla": {"base_vlm": BASE_VLM},
        "action_model_type": size_name,
        "future_action_window_size": HORIZON - 1,
        "past_action_window_size": 0,
        "action_dim": 7,
        "architecture": asdict(size.heads),
        "training": dict(training),
    }
    write_json(directory / "config.json", config)
    action = {name: getattr(statistics, name).tolist() for name in ("q01", "q99", "mask")}
    write_json(directory / STATISTICS_FILE, {statistics.key: {"action": action}})


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file exists as a whole or not at all."""
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
