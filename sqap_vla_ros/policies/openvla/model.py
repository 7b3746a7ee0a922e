"""OpenVLA and OpenVLA-OFT as one network: from images, state and token ids to normalised actions.

Both are two vision towers, a projector and Llama-2. OpenVLA generates one action as seven tokens. OpenVLA-OFT adds
slots behind the prompt, one per number of a chunk of actions, and reads all of them in one run in which every position
sees all others:

    BOS | 256 patches of each view | state | diffusion step | prompt, which ends in 29871 | slots | id 2

The hidden state that belongs to a slot is the one in front of it, as in the prediction of the next token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sqap_vla_ros.policies.openvla.bins import TokenHead, decode_tokens
from sqap_vla_ros.policies.openvla.denoising import Denoising, step_embedding
from sqap_vla_ros.policies.openvla.generation import Generated, generate
from sqap_vla_ros.policies.openvla.heads import ActionMlp, TokenProjector
from sqap_vla_ros.vlm.film import ModulatedBlock
from sqap_vla_ros.vlm.language import LanguageModel
from sqap_vla_ros.vlm.layers import BeforeLayer, full_attention
from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.rotated_norm import RotatedNorm
from sqap_vla_ros.vlm.preprocessing import ImageStatistics, normalise
from sqap_vla_ros.vlm.projector import Projector
from sqap_vla_ros.vlm.vision import VisionBackbone

STOP_ID = 2

Decoding = Literal["regression", "diffusion", "parallel", "autoregressive"]
"""How actions come out: a head predicts them (L1), a head denoises them, or tokens in one run or one after another."""


@dataclass(frozen=True)
class Inputs:
    """One observation, as the network takes it.

    Attributes:
        images: uint8 (views, 224, 224, 3), the first one is the primary view.
        input_ids: int64 (1, text), BOS first, 29871 last; neither slots nor the stop token.
        state: float64 (numbers,), normalised; None where the network takes none.
    """

    images: NDArray[np.uint8]
    input_ids: Tensor
    state: NDArray[np.float64] | None = None


class OpenVla(nn.Module):
    """The network; everything has one dtype.

    Attributes:
        vision: Both towers.
        projector: Patch features to embeddings.
        language: Llama-2; causal in OpenVLA, with full attention in OpenVLA-OFT.
        head: Predicts actions or the noise in them; None: actions are tokens.
        tokens: The language model's output projection; None where there is a head.
        proprio: The robot's state to an embedding; None: the network takes none.
        noisy_action: A noisy number to an embedding, for diffusion.
        image_statistics: By which pixels are normalised.
        decoding: How actions come out.
    """

    def __init__(
        self,
        vision: VisionBackbone,
        projector: Projector,
        language: LanguageModel,
        *,
        decoding: Decoding,
        head: ActionMlp | None = None,
        tokens: TokenHead | None = None,
        proprio: TokenProjector | None = None,
        noisy_action: TokenProjector | None = None,
        image_statistics: ImageStatistics,
    ) -> None:
        super().__init__()
        self.vision, self.projector, self.language = vision, projector, language
        self.head, self.tokens, self.proprio, self.noisy_action = head, tokens, proprio, noisy_action
        self.image_statistics, self.decoding = image_statistics, decoding
        self.eval()

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.language.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the network."""
        return self.language.embed_tokens.weight.dtype

    def visual(self, inputs: Inputs) -> Tensor:
        """Embeddings of all views, (1, views * patches, width), view after view."""
        pixels = normalise(torch.from_numpy(inputs.images).to(self.device), self.image_statistics)
        dino_pixels, siglip_pixels = (values.to(self.dtype) for values in pixels)
        text = None
        if isinstance(self.vision.dino.blocks[0], ModulatedBlock):
            # The stop token counts, the slots do not.
            embedded = self.language.embed_tokens(self._with_stop(inputs.input_ids))
            text = embedded.mean(1).expand(len(inputs.images), -1)
        return self.projector(self.vision(dino_pixels, siglip_pixels, text)).flatten(0, 1)[None]

    def state_token(self, inputs: Inputs) -> list[Tensor]:
        """The embedding (1, 1, width) of the robot's state; none where the network takes none.

        Raises:
            ValueError: The state is missing, or of another length.
        """
        if self.proprio is None:
            return []
        if inputs.state is None or inputs.state.shape != (self.proprio.numbers,):
            found = "none" if inputs.state is None else f"{inputs.state.shape}"
            raise ValueError(f"state: expected {self.proprio.numbers} numbers, found {found}")
        return [self.proprio(torch.from_numpy(inputs.state).to(self.device, self.dtype)[None, None])]

    def sequence(self, input_ids: Tensor, visual: Tensor, extra: Sequence[Tensor], slots: Tensor) -> Tensor:
        """The whole sequence of OpenVLA-OFT, (1, positions, width).

        Args:
            input_ids: int64 (1, text), as in `Inputs`.
            visual: (1, visual, width).
            extra: (1, 1, width) each: state, diffusion step.
            slots: (1, slots, width).
        """
        text = self.language.embed_tokens(self._with_stop(input_ids))
        return torch.cat((text[:, :1], visual, *extra, text[:, 1:-1], slots, text[:, -1:]), dim=1)

    def read(
        self,
        embeddings: Tensor,
        slots: int,
        *,
        visible: Tensor | None = None,
        before_layer: BeforeLayer | None = None,
    ) -> Tensor:
        """Hidden states that belong to the slots, (batch, slots, width).

        Args:
            embeddings: (batch, positions, width), from `sequence`; padded on the right.
            slots: Number of slots.
            visible: bool (batch, positions), which positions others see; None: all. What is behind a sample's last
                visible position is padding.
            before_layer: Called in front of each layer; it may drop positions in front of the prompt's end.
        """
        count = embeddings.shape[1]
        ends = torch.full((len(embeddings),), count, device=self.device)
        if visible is not None:
            ends = count - visible.flip(1).int().argmax(1)
        rows = ends[:, None] - 2 - slots + torch.arange(slots, device=self.device)
        attention = full_attention if visible is None else partial(full_attention, visible=visible)
        hidden = self.language.run_layers(embeddings, last=rows, before_layer=before_layer, attention=attention)
        return self.language.norm(hidden)

    def task_rows(self, slots: int) -> tuple[int, int | None]:
        """Positions, from the end of the sequence, whose hidden states become actions: from, up to."""
        return (-1, None) if self.decoding == "autoregressive" else (-2 - slots, -2)

    def empty_slots(self, count: int) -> Tensor:
        """Slots of a chunk that is not denoised: zeros (1, count, width)."""
        return torch.zeros(1, count, self.language.shape.width, dtype=self.dtype, device=self.device)

    def noisy_slots(self, actions: Tensor) -> Tensor:
        """Slots of noisy actions (1, chunk, action_dim), one per number: (1, chunk * action_dim, width)."""
        assert self.noisy_action is not None
        return self.noisy_action(actions.to(self.dtype).flatten(1)[..., None])

    def step_token(self, step: int) -> Tensor:
        """The embedding (1, 1, width) of a step of the diffusion process."""
        token = step_embedding(step, self.language.shape.width)[None].to(self.device, self.dtype)
        norm = self.language.norm
        return rotate(token, norm.block) if isinstance(norm, RotatedNorm) else token

    def decode(self, hidden: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Token ids int64 (slots,), and normalised actions float64 (slots,), of hidden states (1, slots, width)."""
        assert self.tokens is not None
        ids = self.tokens(hidden[0]).argmax(-1).cpu().numpy()
        return ids, decode_tokens(ids)

    def generate(
        self, inputs: Inputs, visual: Tensor, count: int, before_layer: BeforeLayer | None = None
    ) -> Generated:
        """Generate action tokens one after another; see `generation.generate`."""
        assert self.tokens is not None
        embeddings = self.language.embed(inputs.input_ids.to(self.device), visual)
        return generate(self.language, self.tokens, embeddings, count, before_layer)

    def predict(
        self,
        inputs: Inputs,
        visual: Tensor,
        chunk: int,
        action_dim: int,
        *,
        noise: Tensor | None = None,
        denoising: Denoising = Denoising(),  # noqa: B008 - frozen
        before_layer: BeforeLayer | None = None,
    ) -> NDArray[np.floating]:
        """Predict normalised actions.

        Args:
            inputs: The observation.
            visual: Its views, from `visual`.
            chunk: Number of actions; 1 for tokens that are generated one after another.
            action_dim: Numbers per action.
            noise: float32 (1, chunk, action_dim), for diffusion.
            denoising: Steps of the diffusion.
            before_layer: See `read`.

        Returns:
            (chunk, action_dim): float32 from a head, float64 from tokens.

        Raises:
            ValueError: The state does not fit, generation ended early, or actions are not finite.
        """
        slots = chunk * action_dim
        if self.decoding == "autoregressive":
            ids = self.generate(inputs, visual, slots, before_layer).ids.cpu().numpy()
            return decode_tokens(ids).reshape(chunk, action_dim)
        extra = self.state_token(inputs)
        if self.decoding == "diffusion":
            assert noise is not None and self.head is not None

            def predicted(x: Tensor, step: int) -> Tensor:
                assert self.head is not None
                tokens = [*extra, self.step_token(step)]
                embeddings = self.sequence(inputs.input_ids, visual, tokens, self.noisy_slots(x))
                return self.head(self.read(embeddings, slots, before_layer=before_layer)).float()

            for _, x in denoising.trajectory(predicted, noise.to(self.device)):
                actions = x
            normalised = actions[0].cpu().numpy()
        else:
            embeddings = self.sequence(inputs.input_ids, visual, extra, self.empty_slots(slots))
            hidden = self.read(embeddings, slots, before_layer=before_layer)
            if self.head is None:
                return self.decode(hidden)[1].reshape(chunk, action_dim)
            normalised = self.head(hidden)[0].float().cpu().numpy()
        if not np.isfinite(normalised).all():
            raise ValueError("the head's actions are not finite; the weights or their dtype are at fault")
        return normalised

    def _with_stop(self, input_ids: Tensor) -> Tensor:
        ids = input_ids.to(self.device)
        return torch.cat((ids, ids.new_full((len(ids), 1), STOP_ID)), dim=1)
