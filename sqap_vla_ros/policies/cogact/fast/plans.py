"""Plans from observations by recorded graphs, and recording these graphs."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sqap_vla_ros.core.gpu_failures import warn
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.token_selection import TokenSelection, keep_all
from sqap_vla_ros.perception.patches import ring_centre
from sqap_vla_ros.policies.cogact.diffusion import Ddim, Held
from sqap_vla_ros.policies.cogact.fast.fast_head import make_fast
from sqap_vla_ros.policies.cogact.fast.graphs import WITHOUT_GRAPHS, GraphedPlans
from sqap_vla_ros.policies.cogact.model import CogACT, Prediction
from sqap_vla_ros.vlm.preprocessing import MODEL_IMAGE_PX, model_image_affine, resize
from sqap_vla_ros.vlm.pruning.registry import TokenDropping, runs_on_device
from sqap_vla_ros.vlm.statistics import normalised_actions


class FastPlans:
    """Plans of one policy from observations.

    Args:
        graphs: The graphs of the network.
        grid: Patches along each side of the model image.
    """

    def __init__(self, graphs: GraphedPlans, grid: int) -> None:
        self._graphs, self._grid = graphs, grid

    def plan(
        self, observation: Observation, input_ids: Tensor, noise: Tensor, held: Held | None = None
    ) -> tuple[Prediction, TokenSelection] | None:
        """Plan from an observation.

        Args:
            observation: The observation; its image is resized on the CPU, as without graphs.
            input_ids: int64 (1, text).
            noise: float32 (1, horizon, 7).
            held: Actions that are given already; None: all are free.

        Returns:
            The plan and the tokens that stayed; None where graphs do not run (any more).

        Raises:
            ValueError: The scores or the samples are not finite.
        """
        started = time.perf_counter()
        height, width, _ = observation.image.shape
        centre = ring_centre(observation.tool_px, model_image_affine(width, height), self._grid, self._grid)
        image = resize(observation.image)
        resized = time.perf_counter()
        planned = self._graphs.plan(image, input_ids, noise, centre, held)
        if planned is None:
            return None
        timings_s = {"preprocess": resized - started, "graph": time.perf_counter() - resized}
        raw, scores, selection = planned.raw_samples, None, keep_all(self._grid, self._grid)
        if planned.scores is not None and planned.reasons is not None:
            scores = planned.scores[None]
            if not np.isfinite(scores).all():
                raise ValueError("attention scores are not finite; the weights or their dtype are at fault")
            selection = TokenSelection(np.flatnonzero(planned.reasons), planned.reasons, self._grid, self._grid)
        return Prediction(raw, normalised_actions(raw), planned.cognition, scores, timings_s), selection


def record_fast_plans(
    model: CogACT,
    dropping: TokenDropping | None,
    sampler: Ddim,
    guidance: float,
    input_ids: Tensor,
    on_progress: Callable[[str], None],
) -> FastPlans | None:
    """Fuse a network on a GPU, in place, and record its first graph.

    Args:
        model: The network.
        dropping: How the policy chooses tokens; methods that choose on the host have no graph.
        sampler: Sampler of the action head.
        guidance: Scale of classifier-free guidance.
        input_ids: int64 (1, text), of an instruction of usual length.
        on_progress: Called with a message at each step.

    Returns:
        The plans; None where the policy has no graph, or where the GPU failed, which is logged.
    """
    if not runs_on_device(dropping):
        return None
    try:
        on_progress("fusing the network's layers")
        difference = make_fast(model)
    except Exception as error:  # of a driver, a compiler or an allocator
        warn(WITHOUT_GRAPHS, error)
        return None
    dtype = str(model.action_head.positional_embedding.dtype).removeprefix("torch.")
    on_progress(f"action head in {dtype}: float16 changes its chunks by {difference:.1e}, relative")
    on_progress("compiling the GPU's kernels and recording a graph")
    graphs = GraphedPlans(model, dropping, sampler, guidance)
    shape = model.action_head.shape
    blank = np.zeros((MODEL_IMAGE_PX, MODEL_IMAGE_PX, 3), np.uint8)
    recorded = graphs.plan(blank, input_ids, torch.zeros(1, shape.horizon, shape.action_dim))
    return None if recorded is None else FastPlans(graphs, model.vision.dino.shape.grid)
