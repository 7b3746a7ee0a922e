"""One plan of CogACT as a function with static shapes, for CUDA graphs: from the model image to the samples.

What changes between plans is in `inputs`: image, token ids, noise, where the ring is, which actions are committed.
Nothing on the way asks the host or copies from it. On a CPU it computes what `CogACT.plan` does, bit for bit.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.policies.cogact.diffusion import Ddim, Held, last_of
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.preprocessing import MODEL_IMAGE_PX
from sqap_vla_ros.vlm.runtime.static_inputs import StaticInputs
from sqap_vla_ros.vlm.runtime.static_vlm import StaticVlm


@dataclass(frozen=True)
class GraphPlan:
    """Result of a graph forward.

    Attributes:
        raw_samples: float32 (1, horizon, 7), the sampler's output.
        cognition: float32 (1, width), the cognition feature.
        scores: float32 (visual,), attention that the selection was made from; None without a selection.
        reasons: uint8 (visual,), a `Reason` per visual token; None without a selection.
    """

    raw_samples: NDArray[np.float32]
    cognition: NDArray[np.float32]
    scores: NDArray[np.float32] | None
    reasons: NDArray[np.uint8] | None


class GraphForward:
    """A network under one policy, with room for texts up to a length.

    Args:
        model: The network.
        text_tokens: Token ids that there is room for; shorter texts are padded, which costs time and changes nothing.
        pruning: Settings of a method that chooses tokens on the device; None: all tokens stay.
        sampler: Sampler of the action head.
        guidance: Scale of classifier-free guidance.

    Attributes:
        inputs: The inputs of the next run; `load` sets them.
        stages: The parts of `run`, in order; each reads what the one before left.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: CogACT,
        text_tokens: int,
        *,
        pruning: SqapConfig | None = None,
        sampler: Ddim = Ddim(),  # noqa: B008 - frozen
        guidance: float = 1.5,
    ) -> None:
        self._head, self._sampler, self._guidance = model.action_head, sampler, guidance
        shape = model.action_head.shape
        self._chunk, self._width = (shape.horizon, shape.action_dim), model.language.shape.width
        self._visual, self._text = model.visual_tokens, text_tokens
        self._vlm = StaticVlm(model.vision, model.projector, model.language, text_tokens, pruning)
        self.inputs = StaticInputs(
            {
                "input_ids": (torch.int64, (1, text_tokens)),
                "last": (torch.int64, (1,)),
                "noise": (torch.float32, (1, *self._chunk)),
                "held_actions": (torch.float32, (1, *self._chunk)),
                "held_weights": (torch.float32, (shape.horizon, 1)),
                "ring_centre": (torch.int32, (1, 2)),
                "ring_valid": (torch.bool, (1,)),
                "image": (torch.uint8, (1, MODEL_IMAGE_PX, MODEL_IMAGE_PX, 3)),
            },
            model.device,
        )
        self._embedded_steps = sampler.embed_steps(model.action_head)
        stages = {"vision": self._see, "projector": self._project, "language": self._read, "action_head": self._act}
        self.stages = {name: torch.inference_mode()(stage) for name, stage in stages.items()}

    @torch.inference_mode()
    def load(
        self,
        image: NDArray[np.uint8],
        input_ids: Tensor,
        noise: Tensor,
        ring_centre: tuple[int, int] | None = None,
        held: Held | None = None,
    ) -> None:
        """Set the inputs of the next run.

        Args:
            image: uint8 (224, 224, 3), the model image.
            input_ids: int64 (1, text), BOS first, cognition token last.
            noise: float32 (1, horizon, 7).
            ring_centre: Column and row of the patch with the tool; None: there is no ring.
            held: Actions that are given already; None: all are free.

        Raises:
            ValueError: There are more token ids than there is room for.
        """
        fields, text = self.inputs.host, input_ids.shape[1]
        if text > self._text:
            raise ValueError(f"{text} token ids, but this forward has room for {self._text}; make one for longer texts")
        fields["input_ids"].zero_()[:, :text] = input_ids
        fields["last"].fill_(self._visual + text - 1)
        fields["noise"].copy_(noise)
        fields["held_actions"].zero_()
        fields["held_weights"].zero_()
        if held is not None:
            fields["held_actions"].copy_(held.actions)
            fields["held_weights"].copy_(held.weights)
        fields["ring_valid"].fill_(ring_centre is not None)
        fields["ring_centre"].copy_(torch.tensor([ring_centre or (0, 0)]))
        fields["image"].copy_(torch.from_numpy(image))
        self.inputs.upload()

    def run(self) -> None:
        """Compute everything; `result` then waits for it."""
        for stage in self.stages.values():
            stage()

    def _see(self) -> None:
        self._features = self._vlm.features(self.inputs.device["image"])

    def _project(self) -> None:
        self._visual_embeddings = self._vlm.project(self._features)

    def _read(self) -> None:
        self._cognition, self._selection = self._vlm.prefill(self._visual_embeddings, self.inputs.device)

    def _act(self) -> None:
        fields, z = self.inputs.device, self._cognition[:, None].float()
        held = Held(fields["held_actions"], fields["held_weights"])
        trajectory = self._sampler.trajectory(
            self._head, fields["noise"], z, self._guidance, held, self._embedded_steps
        )
        # One piece of memory, so that a single copy takes all results to the host.
        self._output = torch.cat([last_of(trajectory).flatten(), z.flatten(), *self._selection])

    def result(self) -> GraphPlan:
        """What the last run computed."""
        output = self._output.cpu().numpy()
        samples = math.prod(self._chunk)
        raw, cognition, rest = np.split(output, [samples, samples + self._width])
        scores, reasons = (rest[: self._visual], rest[self._visual :].astype(np.uint8)) if len(rest) else (None, None)
        return GraphPlan(raw.reshape(1, *self._chunk), cognition[None], scores, reasons)
