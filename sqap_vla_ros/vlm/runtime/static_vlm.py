"""The vision-language forward with static shapes, for CUDA graphs: from the model image to the last hidden state.

Nothing on the way asks the host or copies from it. On a CPU it computes what `LanguageModel.prefill` does, bit for bit.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.language import LanguageModel
from sqap_vla_ros.vlm.layers import LayerInput
from sqap_vla_ros.vlm.preprocessing import normalise
from sqap_vla_ros.vlm.projector import Projector
from sqap_vla_ros.vlm.pruning.on_device import DeviceRing
from sqap_vla_ros.vlm.pruning.registry import SELECTORS
from sqap_vla_ros.vlm.runtime.cuda_graph import side_stream
from sqap_vla_ros.vlm.vision import VisionBackbone


class StaticVlm:
    """Vision towers, projector and language model with room for texts up to a length.

    Args:
        vision: The vision towers.
        projector: The projector.
        language: The language model.
        text_tokens: Token ids that there is room for.
        pruning: Settings of a method that chooses tokens on the device; None: all tokens stay.
    """

    def __init__(
        self,
        vision: VisionBackbone,
        projector: Projector,
        language: LanguageModel,
        text_tokens: int,
        pruning: SqapConfig | None,
    ) -> None:
        self._vision, self._projector, self._language, self._pruning = vision, projector, language, pruning
        weight = language.embed_tokens.weight
        self._dtype, device = weight.dtype, weight.device
        self._grid = vision.dino.shape.grid
        self._count = self._grid**2 + text_tokens
        self._positions = torch.arange(self._count, device=device)[None]
        self._rotations = rotary_tables(self._positions, language.shape.head_width, self._dtype)
        self._side_stream = None if device.type != "cuda" else side_stream(device.index or 0)
        self._select = None if pruning is None else SELECTORS[pruning.method].on_device

    def features(self, image: Tensor) -> Tensor:
        """Fused patch features (1, patches, channels) of the model image, uint8 (1, 224, 224, 3)."""
        dino_pixels, siglip_pixels = (values.to(self._dtype) for values in normalise(image))
        if self._side_stream is None:
            return self._vision(dino_pixels, siglip_pixels)
        # One tower alone leaves most of a large GPU idle.
        main = torch.cuda.current_stream()
        self._side_stream.wait_stream(main)
        with torch.cuda.stream(self._side_stream):
            siglip = self._vision.siglip(siglip_pixels)
        dino = self._vision.dino(dino_pixels)
        main.wait_stream(self._side_stream)
        return torch.cat((dino, siglip), dim=2)

    def project(self, features: Tensor) -> Tensor:
        """Visual embeddings (1, patches, width) of the fused features."""
        return self._projector(features)

    def prefill(self, visual: Tensor, fields: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run the language model.

        Args:
            visual: (1, patches, width), the visual embeddings.
            fields: `input_ids` int64 (1, text); `last` int64 (1,), the last position; `ring_centre` int32 (1, 2) and
                `ring_valid` bool (1,), as in `DeviceRing`.

        Returns:
            The final norm's output at the last position (1, width), and scores and reasons, float32 (visual,) each, if
            tokens are chosen.
        """
        pruning = self._pruning
        selection: list[Tensor] = []

        def prune(index: int, inputs: LayerInput) -> LayerInput:
            if self._select is None or pruning is None or index != pruning.prune_before_layer:
                return inputs
            assert inputs.queries is not None and inputs.keys is not None and inputs.last is not None
            ring = DeviceRing(fields["ring_centre"], fields["ring_valid"])
            chosen = self._select(pruning, inputs.queries, inputs.keys, inputs.last, ring, self._grid)
            selection[:] = [chosen.scores[0], chosen.reasons[0].float()]
            text = self._positions[0, 1 + self._grid**2 :]
            stays = torch.cat((self._positions[0, :1], 1 + chosen.indices[0], text))
            cos, sin = inputs.rotations
            return replace(
                inputs,
                hidden=inputs.hidden.index_select(1, stays),
                rotations=(cos.index_select(1, stays), sin.index_select(1, stays)),
                last=inputs.last - (self._count - stays.shape[0]),
            )

        embeddings = self._language.embed(fields["input_ids"], visual)
        hidden = self._language.run_layers(
            embeddings, rotations=self._rotations, last=fields["last"], before_layer=prune
        )
        return self._language.norm(hidden)[:, 0], selection
