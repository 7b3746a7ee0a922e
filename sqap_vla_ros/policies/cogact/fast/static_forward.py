"""One plan as one function of fixed shapes, from the resized image to the samples: what a CUDA graph can contain.

Whatever changes between plans lies in `Inputs` on the device: image, token ids, noise, where the ring is, which actions
are committed. Nothing on the way asks the host or copies from it. Run on a CPU it is `CogACT.plan`, bit for bit.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.policies.cogact.diffusion import Ddim, Held, last_of
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.attention import attention_rows, rotary_tables
from sqap_vla_ros.vlm.kernels import kernels_run_on
from sqap_vla_ros.vlm.layers import LayerInput
from sqap_vla_ros.vlm.preprocessing import MODEL_IMAGE_PX, normalise
from sqap_vla_ros.vlm.pruning.on_device import select_on_device
from sqap_vla_ros.vlm.runtime.cuda_graph import side_stream


@dataclass(frozen=True)
class StaticPlan:
    """What a static forward answers.

    Attributes:
        raw_samples: float32 (1, horizon, 7), the sampler's output.
        cognition: float32 (1, width), the cognition feature.
        scores: float32 (visual,), attention that the selection was made from; None without one.
        reasons: uint8 (visual,), a `Reason` per visual token; None without a selection.
    """

    raw_samples: NDArray[np.float32]
    cognition: NDArray[np.float32]
    scores: NDArray[np.float32] | None
    reasons: NDArray[np.uint8] | None


class Inputs:
    """The inputs of a plan, views of one piece of memory: a single copy brings them to the device.

    Args:
        text_tokens: Token ids that there is room for.
        chunk: (horizon, action_dim) of the action head.
        device: Where they are needed.

    Attributes:
        device_fields: The fields on the device, by name.
    """

    def __init__(self, text_tokens: int, chunk: tuple[int, int], device: torch.device) -> None:
        # The widest numbers first, so that every field begins where its type may.
        self._layout: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            "input_ids": (torch.int64, (1, text_tokens)),
            "last": (torch.int64, (1,)),
            "noise": (torch.float32, (1, *chunk)),
            "held_actions": (torch.float32, (1, *chunk)),
            "held_weights": (torch.float32, (chunk[0], 1)),
            "ring_centre": (torch.int32, (1, 2)),
            "ring_valid": (torch.bool, (1,)),
            "image": (torch.uint8, (1, MODEL_IMAGE_PX, MODEL_IMAGE_PX, 3)),
        }
        size = sum(math.prod(shape) * dtype.itemsize for dtype, shape in self._layout.values())
        self._host = torch.zeros(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._device = torch.zeros(size, dtype=torch.uint8, device=device)
        self._host_fields, self.device_fields = self._views(self._host), self._views(self._device)

    def _views(self, memory: Tensor) -> dict[str, Tensor]:
        fields, start = {}, 0
        for name, (dtype, shape) in self._layout.items():
            size = math.prod(shape) * dtype.itemsize
            fields[name] = memory[start : start + size].view(dtype).view(shape)
            start += size
        return fields

    @torch.inference_mode()
    def load(
        self,
        image: NDArray[np.uint8],
        input_ids: Tensor,
        noise: Tensor,
        ring_centre: tuple[int, int] | None,
        held: Held | None,
        visual_tokens: int,
    ) -> None:
        """Set all of them; arguments as in `StaticForward.load`.

        Raises:
            ValueError: More token ids than there is room for.
        """
        fields, text = self._host_fields, input_ids.shape[1]
        room = fields["input_ids"].shape[1]
        if text > room:
            raise ValueError(f"{text} token ids, but this forward has room for {room}; make one for longer texts")
        fields["input_ids"].zero_()[:, :text] = input_ids
        fields["last"].fill_(visual_tokens + text - 1)
        fields["noise"].copy_(noise)
        fields["held_actions"].zero_()
        fields["held_weights"].zero_()
        if held is not None:
            fields["held_actions"].copy_(held.actions)
            fields["held_weights"].copy_(held.weights)
        fields["ring_valid"].fill_(ring_centre is not None)
        fields["ring_centre"].copy_(torch.tensor([ring_centre or (0, 0)]))
        fields["image"].copy_(torch.from_numpy(image))
        self._device.copy_(self._host, non_blocking=True)


class StaticForward:
    """A network under one policy, with room for texts up to a length.

    Args:
        model: The network.
        text_tokens: Token ids that there is room for; shorter texts are padded, which costs time and changes nothing.
        pruning: Which visual tokens stay; None: all.
        sampler: Of the action head.
        guidance: Scale of classifier-free guidance.

    Attributes:
        inputs: Where `load` puts what changes between plans.
        stages: The parts of `run` in their order; each reads what the one before left.
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
        self._model, self._pruning, self._sampler, self._guidance = model, pruning, sampler, guidance
        head, language, device = model.action_head.shape, model.language, model.device
        self._chunk = (head.horizon, head.action_dim)
        self._visual, self._count = model.visual_tokens, model.visual_tokens + text_tokens
        self.inputs = Inputs(text_tokens, self._chunk, device)
        self._positions = torch.arange(self._count, device=device)[None]
        self._rotations = rotary_tables(self._positions, language.shape.head_width, model.dtype)
        self._embedded_steps = sampler.embed_steps(model.action_head)
        stages = {"vision": self._see, "projector": self._project, "language": self._read, "action_head": self._act}
        self.stages = {name: torch.inference_mode()(stage) for name, stage in stages.items()}
        self._side_stream = None if device.type != "cuda" else side_stream(device.index or 0)
        if pruning is None:
            self._select = None
        else:
            grid = model.vision.dino.shape.grid
            self._select = partial(
                _select, grid=grid, keep=pruning.keep, top_k=pruning.top_k, radius=pruning.ring_radius
            )

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
            ring_centre: Column and row of the patch with the tool; None: no ring.
            held: Actions that are given already; None: all are free.

        Raises:
            ValueError: More token ids than there is room for.
        """
        self.inputs.load(image, input_ids, noise, ring_centre, held, self._visual)

    def run(self) -> None:
        """Compute everything; `result` then waits for it."""
        for stage in self.stages.values():
            stage()

    def _see(self) -> None:
        pixels = normalise(self.inputs.device_fields["image"])
        self._features = self._fused_features(*(values.to(self._model.dtype) for values in pixels))

    def _project(self) -> None:
        self._visual_embeddings = self._model.projector(self._features)

    def _read(self) -> None:
        embeddings = self._model.language.embed(self.inputs.device_fields["input_ids"], self._visual_embeddings)
        self._cognition, self._selection = self._prefill(embeddings)

    def _act(self) -> None:
        inputs, z = self.inputs.device_fields, self._cognition[:, None].float()
        held = Held(inputs["held_actions"], inputs["held_weights"])
        trajectory = self._sampler.trajectory(
            self._model.action_head, inputs["noise"], z, self._guidance, held, self._embedded_steps
        )
        # One piece of memory, so that a single copy takes all of it to the host.
        self._output = torch.cat([last_of(trajectory).flatten(), z.flatten(), *self._selection])

    def result(self) -> StaticPlan:
        """What the last run computed."""
        output = self._output.cpu().numpy()
        samples = math.prod(self._chunk)
        raw, cognition, rest = np.split(output, [samples, samples + self._model.language.shape.width])
        scores, reasons = (rest[: self._visual], rest[self._visual :].astype(np.uint8)) if len(rest) else (None, None)
        return StaticPlan(raw.reshape(1, *self._chunk), cognition[None], scores, reasons)

    def _fused_features(self, dino_pixels: Tensor, siglip_pixels: Tensor) -> Tensor:
        vision = self._model.vision
        if self._side_stream is None:
            return vision(dino_pixels, siglip_pixels)
        # Each tower alone leaves most of a large GPU idle.
        main = torch.cuda.current_stream()
        self._side_stream.wait_stream(main)
        with torch.cuda.stream(self._side_stream):
            siglip = vision.siglip(siglip_pixels)
        dino = vision.dino(dino_pixels)
        main.wait_stream(self._side_stream)
        return torch.cat((dino, siglip), dim=2)

    def _prefill(self, hidden: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Cognition feature (1, width), and scores and reasons float32 (visual,) of a selection if there is one."""
        language, fields = self._model.language, self.inputs.device_fields
        selection: list[Tensor] = []

        def prune(index: int, inputs: LayerInput) -> LayerInput:
            if self._select is None or self._pruning is None or index != self._pruning.prune_before_layer:
                return inputs
            assert inputs.queries is not None and inputs.keys is not None and inputs.last is not None
            scores, indices, reasons = self._select(inputs.queries, inputs.keys, fields)
            selection[:] = [scores[0], reasons[0].float()]
            text = self._positions[0, 1 + self._visual :]
            stays = torch.cat((self._positions[0, :1], 1 + indices[0], text))
            cos, sin = inputs.rotations
            return replace(
                inputs,
                hidden=inputs.hidden.index_select(1, stays),
                rotations=(cos.index_select(1, stays), sin.index_select(1, stays)),
                last=inputs.last - (self._count - stays.shape[0]),
            )

        hidden = language.run_layers(hidden, rotations=self._rotations, last=fields["last"], before_layer=prune)
        return language.norm(hidden)[:, 0], selection


def _select(
    queries: Tensor, keys: Tensor, inputs: dict[str, Tensor], *, grid: int, keep: int, top_k: int, radius: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores float32 (1, visual), indices int64 (1, keep) and reasons uint8 (1, visual)."""
    settings = {"keep": keep, "top_k": top_k, "radius": radius, "rows": grid, "columns": grid}
    centre, valid, last, visual = inputs["ring_centre"], inputs["ring_valid"], inputs["last"], grid**2
    if kernels_run_on(queries.device):
        from sqap_vla_ros.vlm.kernels.selection import choose_tokens, row_attention

        return choose_tokens(row_attention(queries, keys, last, visual), centre, valid, **settings)
    attention = attention_rows(queries[0].index_select(1, last), keys[0], last)
    scores = attention[:, 1 : 1 + visual]
    return scores, *select_on_device(scores, centre, valid, **settings)
