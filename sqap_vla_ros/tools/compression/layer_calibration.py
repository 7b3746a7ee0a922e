"""The calibration frames on their way through the language model, one decoder layer at a time.

Each layer is calibrated on the outputs of the layers before it, which are quantised already.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import SmoothingBy
from sqap_vla_ros.tools.compression.gptq import InputStatistics
from sqap_vla_ros.tools.compression.observed_layer import ObservedLayer, leaders
from sqap_vla_ros.tools.compression.rounding import SeenInputs
from sqap_vla_ros.vlm.attention import Rotations
from sqap_vla_ros.vlm.language import LanguageShape, attention_of
from sqap_vla_ros.vlm.layers import DecoderLayer, run_layers
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer, magnitude

# Inputs per frame on which the clip of activations is chosen.
_SAMPLES_PER_FRAME = 32


class LayerCalibration:
    """Hidden states of all frames in front of the next layer.

    Args:
        embeddings: float32 (1, positions, width) of each frame, in the basis of the residual stream.
        shape: Sizes of the language model.
        rotations: Rotary tables of all frames' positions; None: those of Llama-2.
    """

    def __init__(self, embeddings: Sequence[Tensor], shape: LanguageShape, rotations: Rotations | None = None) -> None:
        self._hidden = list(embeddings)
        self._shape = shape
        self._rotations = rotations
        self._dtype = _fast_dtype(self._hidden[0].device)

    def input_magnitudes(self, prepared: PreparedLayer, by: SmoothingBy) -> dict[str, Tensor]:
        """Return the magnitude of each input channel, float32 (columns,), before rotation, by linear layer.

        Args:
            prepared: The prepared layer.
            by: The largest magnitude over all tokens, or the root mean square.
        """
        found: dict[str, list[Tensor]] = {}

        def observe(name: str, values: Tensor, rotated: Tensor) -> None:
            found.setdefault(name, []).append(magnitude(values, by))

        self._run(ObservedLayer(prepared, observe, self._dtype, self._shape.epsilon))
        return {name: magnitude(torch.stack(found[leader]), by) for name, leader in leaders(prepared).items()}

    def inputs(self, prepared: PreparedLayer) -> dict[str, SeenInputs]:
        """Return statistics and samples of each linear layer's inputs, after their rotation."""
        statistics: dict[str, InputStatistics] = {}
        samples: dict[str, list[Tensor]] = {}

        def observe(name: str, values: Tensor, rotated: Tensor) -> None:
            if name not in statistics:
                statistics[name] = InputStatistics(rotated.shape[1], rotated.device)
                samples[name] = []
            statistics[name].add(rotated)
            stride = max(1, len(rotated) // _SAMPLES_PER_FRAME)
            samples[name].append(rotated[::stride].clone())

        self._run(ObservedLayer(prepared, observe, self._dtype, self._shape.epsilon))
        seen = {name: SeenInputs(found, torch.cat(samples[name])) for name, found in statistics.items()}
        return {name: seen[leader] for name, leader in leaders(prepared).items()}

    def advance(self, layer: DecoderLayer) -> None:
        """Run the frames through a finished layer."""
        self._hidden = self._run(layer)

    def _run(self, layer: DecoderLayer) -> list[Tensor]:
        width, rotations, attention = self._shape.head_width, self._rotations, attention_of(self._shape)
        return [run_layers([layer], hidden, width, rotations=rotations, attention=attention) for hidden in self._hidden]


def _fast_dtype(device: torch.device) -> torch.dtype:
    """Return the number format of the fastest products; bfloat16 is far more exact than the rounded inputs."""
    # torch has no public name for these.
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32
