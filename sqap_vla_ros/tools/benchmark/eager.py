"""The operations of the published implementation, one launch each: the second reference of the speed-ups.

It also runs what changes no action: the towers' last blocks, the language model's last layer and `lm_head` for all
positions, and in each diffusion step the embeddings of step and condition for both halves of the guidance.
"""

import torch
from torch import Tensor, nn

from sqap_vla_ros.policies.cogact.diffusion import ddim_schedule
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.preprocessing import normalise

_STEPS, _GUIDANCE = 10, 1.5  # of DDIM, and of classifier-free guidance, as published


class EagerReference:
    """Runs a float network as the published implementation does; the weights of `lm_head` are random.

    Args:
        model: A network that is not fused, with the action head in float32.
    """

    def __init__(self, model: CogACT) -> None:
        self._model = model
        self._schedule = ddim_schedule(_STEPS)
        shape = model.language.shape
        self._lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False, device=model.device, dtype=model.dtype)

    @torch.inference_mode()
    def run(self, image: Tensor, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Plan on the device from uint8 (1, 224, 224, 3), ids int64 (1, text) and noise (1, horizon, 7)."""
        model, language = self._model, self._model.language
        pixels = [values.to(model.dtype) for values in normalise(image)]
        features = []
        for tower, values in zip((model.vision.dino, model.vision.siglip), pixels, strict=True):
            patches = tower(values)
            # Stands for the last block, which is as large and whose output is not used.
            tower.blocks[-1](patches, None)
            features.append(patches)
        hidden = language.embed(input_ids, model.projector(torch.cat(features, dim=2)))
        hidden = language.norm(language.run_layers(hidden))
        self._lm_head(hidden)
        return self._denoise(noise, hidden[:, -1:].float())

    def _denoise(self, x: Tensor, z: Tensor) -> Tensor:
        schedule, head = self._schedule, self._model.action_head
        for i in reversed(range(len(schedule.timesteps))):
            t = torch.full((1,), int(schedule.timesteps[i]), device=x.device)
            noise = head.forward_with_guidance(x, t, z, _GUIDANCE)
            scale, scale_noise = schedule.sqrt_recip_alphas_cumprod[i], schedule.sqrt_recipm1_alphas_cumprod[i]
            x0 = float(scale) * x - float(scale_noise) * noise
            predicted = (float(scale) * x - x0) / float(scale_noise)
            before = float(schedule.alphas_cumprod_prev[i])
            x = before**0.5 * x0 + (1 - before) ** 0.5 * predicted
        return x
