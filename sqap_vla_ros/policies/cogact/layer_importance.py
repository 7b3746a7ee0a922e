"""Importance of each layer of the language model: how much it turns the residual stream (EfficientVLA, 2506.10100)."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.layers import LayerInput
from sqap_vla_ros.vlm.preprocessing import MODEL_IMAGE_PX, normalise, resize

_DRAWN_FRAMES = 4
_BRIGHTNESS, _CONTRAST, _COLOUR = 128.0, 48.0, 0.3


@torch.inference_mode()
def layer_importance(model: CogACT, frames: Iterable[tuple[NDArray[np.uint8], Tensor]]) -> NDArray[np.float64]:
    """Measure the importance of each layer: 1 − mean cosine between the residual streams in front of and behind it.

    Args:
        model: The network, with float or quantised layers.
        frames: Images, uint8 (height, width, 3), RGB, and token ids, int64 (1, text).

    Returns:
        float64 (layers,), from 0 for a layer that changes no direction to 2; mean over positions and frames.
    """
    language = model.language
    totals, positions_seen = torch.zeros(len(language.layers), dtype=torch.float64), 0
    for image, input_ids in frames:
        model_image = torch.from_numpy(resize(image)[None]).to(model.device)
        visual = model.projector(model.vision(*(pixels.to(model.dtype) for pixels in normalise(model_image))))
        hidden = language.embed(input_ids.to(model.device), visual)
        streams: list[Tensor] = []

        def note(index: int, inputs: LayerInput, streams: list[Tensor] = streams) -> LayerInput:
            streams.append(inputs.hidden)
            return inputs

        streams.append(language.run_layers(hidden, before_layer=note))
        for index, (before, after) in enumerate(pairwise(streams)):
            totals[index] += functional.cosine_similarity(before.float(), after.float(), dim=-1).double().sum().cpu()
        positions_seen += hidden.shape[1]
    if not positions_seen:
        raise ValueError("no frames to measure the importance of layers on; give at least one")
    return (1.0 - totals / positions_seen).numpy()


def drawn_frames(input_ids: Tensor) -> list[tuple[NDArray[np.uint8], Tensor]]:
    """Synthetic frames for use without camera images: noise with the spectrum of photographs, the same everywhere.

    Amplitudes fall with spatial frequency as 1/f (Field 1987), and colours vary less than brightness.
    """
    frequencies = np.hypot(np.fft.fftfreq(MODEL_IMAGE_PX)[:, None], np.fft.rfftfreq(MODEL_IMAGE_PX))
    amplitudes = 1.0 / np.maximum(frequencies, 1.0 / MODEL_IMAGE_PX)
    amplitudes[0, 0] = 0.0
    frames = []
    for seed in range(_DRAWN_FRAMES):
        white = np.random.Generator(np.random.Philox(key=seed)).standard_normal((4, MODEL_IMAGE_PX, MODEL_IMAGE_PX))
        noise = np.fft.irfft2(np.fft.rfft2(white) * amplitudes, s=white.shape[1:])
        noise /= noise.std(axis=(1, 2), keepdims=True)
        channels = _BRIGHTNESS + _CONTRAST * (noise[0] + _COLOUR * noise[1:])
        frames.append((np.moveaxis(channels, 0, -1).round().clip(0, 255).astype(np.uint8), input_ids))
    return frames
