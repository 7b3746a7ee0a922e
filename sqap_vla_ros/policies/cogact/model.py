"""CogACT as a whole: from images and token ids to samples of the action head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sqap_vla_ros.policies.cogact.action_head import ActionHead
from sqap_vla_ros.policies.cogact.diffusion import Ddim, Held, Sampler, sample
from sqap_vla_ros.vlm.frame_reuse import FrameReuse
from sqap_vla_ros.vlm.language import LanguageModel, Prefill
from sqap_vla_ros.vlm.lowbit.footprint import memory_bytes, parameter_count
from sqap_vla_ros.vlm.preprocessing import normalise, resize
from sqap_vla_ros.vlm.projector import Projector
from sqap_vla_ros.vlm.pruning.hook import Select
from sqap_vla_ros.vlm.statistics import normalised_actions
from sqap_vla_ros.vlm.stopwatch import Stopwatch
from sqap_vla_ros.vlm.vision import VisionBackbone


@dataclass(frozen=True)
class Prediction:
    """The network's result for a batch of observations.

    Attributes:
        raw_samples: float32 (batch, horizon, 7), the sampler's output.
        normalised: float32 (batch, horizon, 7), clipped to ±1; the gripper is 0 or 1.
        cognition: float32 (batch, width), the cognition feature.
        scores: float32 (batch, visual), attention that the selection was made from; None without one.
        timings_s: Seconds per stage, in the order they ran.
    """

    raw_samples: NDArray[np.float32]
    normalised: NDArray[np.float32]
    cognition: NDArray[np.float32]
    scores: NDArray[np.float32] | None
    timings_s: Mapping[str, float]


class CogACT(nn.Module):
    """The network; the vision-language part has one dtype, the action head is float32.

    Attributes:
        vision: Both towers.
        projector: Patch features to embeddings.
        language: Llama-2; the hidden state of its last position is the cognition feature.
        action_head: The diffusion transformer.
    """

    def __init__(
        self, vision: VisionBackbone, projector: Projector, language: LanguageModel, action_head: ActionHead
    ) -> None:
        super().__init__()
        self.vision = vision
        self.projector = projector
        self.language = language
        self.action_head = action_head
        # In training mode the published head drops conditions at random.
        self.eval()

    @property
    def visual_tokens(self) -> int:
        """Patches of the model image."""
        return self.vision.dino.shape.grid**2

    @property
    def parameter_count(self) -> int:
        """Number of weights, of every dtype."""
        return parameter_count(self)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory of the weights."""
        return memory_bytes(self)

    @torch.inference_mode()
    def plan(
        self,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        input_ids: Tensor,
        noise: Tensor,
        *,
        attention_mask: Tensor | None = None,
        sampler: Sampler = Ddim(),  # noqa: B008 - frozen
        guidance: float = 1.5,
        held: Held | None = None,
        select: Select | None = None,
        prune_before_layer: int = 2,
        reuse: FrameReuse | None = None,
        deploy_crop: bool = False,
    ) -> Prediction:
        """Predict a chunk of normalised actions per observation.

        Args:
            images: uint8 (height, width, 3), RGB camera images; one per sample, or a single one.
            input_ids: int64 (batch, text), BOS first, cognition token last, padded on the right.
            noise: float32 (batch, horizon, 7), initial noise of the sampler.
            attention_mask: bool (batch, text), which ids are not padding; None: all.
            sampler: Sampler of the action head.
            guidance: Scale of classifier-free guidance; 1 or less: none.
            held: Actions that are given already; None: all are free.
            select: Chooses the visual tokens that stay; None: all stay.
            prune_before_layer: Layer of the language model before which the others are dropped.
            reuse: The previous frame, whose unchanged tokens are reused and which this one then replaces; for one
                observation, without selection and padding. None: nothing is reused.
            deploy_crop: See `preprocessing.resize`.

        Raises:
            ValueError: Inputs have the wrong shape or type, options exclude each other, or samples are not finite.
        """
        if reuse is not None and not (select is None and attention_mask is None):
            raise ValueError("frames are reused without a selection of tokens and without padding; give one of them")
        watch = Stopwatch(self.device)
        pictures = [images] if isinstance(images, np.ndarray) else list(images)
        if not len(pictures) == len(input_ids) == len(noise):
            raise ValueError(
                f"{len(pictures)} images, {len(input_ids)} token rows and {len(noise)} noises; expected as many"
            )
        model_images = torch.from_numpy(np.stack([resize(picture, deploy_crop=deploy_crop) for picture in pictures]))
        dino_pixels, siglip_pixels = (pixels.to(self.dtype) for pixels in normalise(model_images.to(self.device)))
        watch.stage("preprocess")
        features = self.vision(dino_pixels, siglip_pixels)
        watch.stage("vision")
        visual = self.projector(features)
        watch.stage("projector")
        if reuse is not None:
            embeddings = self.language.embed(input_ids.to(self.device), visual)
            prefill = reuse.prefill(self.language, embeddings, visual.shape[1], model_images[0].numpy())
        else:
            prefill = self.prefill(
                visual, input_ids, attention_mask, select=select, prune_before_layer=prune_before_layer
            )
        watch.stage("language")
        z = prefill.cognition[:, None].float()
        if held is not None:
            held = Held(held.actions.to(self.device), held.weights.to(self.device))
        samples = sample(sampler, self.action_head, noise.to(self.device), z, guidance, held)
        raw = samples.float().cpu().numpy()
        watch.stage("action_head")
        return Prediction(raw, normalised_actions(raw), z[:, 0].cpu().numpy(), prefill.scores, watch.timings_s)

    def prefill(
        self,
        visual: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        select: Select | None = None,
        prune_before_layer: int = 2,
        all_positions: bool = False,
    ) -> Prefill:
        """Run the language model on projected patches (batch, visual, width) and text.

        The other arguments are those of `plan` and of `LanguageModel.prefill`.
        """
        embeddings = self.language.embed(input_ids.to(self.device), visual)
        lengths = None if attention_mask is None else visual.shape[1] + _text_lengths(attention_mask)
        return self.language.prefill(
            embeddings,
            visual.shape[1],
            lengths,
            select=select,
            prune_before_layer=prune_before_layer,
            all_positions=all_positions,
        )

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.language.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the vision-language part."""
        return self.language.embed_tokens.weight.dtype


def _text_lengths(attention_mask: Tensor) -> Tensor:
    mask = attention_mask.bool()
    if (mask[:, 1:] & ~mask[:, :-1]).any() or not mask[:, 0].all():
        raise ValueError("attention_mask: expected all padding on the right")
    return mask.sum(1)
