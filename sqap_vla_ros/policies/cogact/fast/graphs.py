"""Plans by CUDA graphs, one graph per length of text."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.core.gpu_failures import recover, warn
from sqap_vla_ros.policies.cogact.diffusion import Ddim, Held
from sqap_vla_ros.policies.cogact.fast.graph_forward import GraphForward, GraphPlan
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.runtime.cuda_graph import Graph

# Texts are padded to a multiple of this, so that one graph serves instructions of similar length.
BUCKET = 8
WITHOUT_GRAPHS = "planning without CUDA graphs from now on, which is slower"


class GraphedPlans:
    """Plans of one policy, with one graph per bucket of text lengths, recorded when it is first needed.

    The first failure of the GPU is logged with advice and ends planning by graphs: from then on `plan` returns None,
    and the caller plans without graphs.

    Args:
        model: The network, on a CUDA GPU.
        pruning: How visual tokens are chosen; None: all stay.
        sampler: Sampler of the action head.
        guidance: Scale of classifier-free guidance.
    """

    def __init__(self, model: CogACT, pruning: SqapConfig | None, sampler: Ddim, guidance: float) -> None:
        self._model, self._pruning, self._sampler, self._guidance = model, pruning, sampler, guidance
        self._recorded: dict[int, tuple[GraphForward, Graph]] = {}
        self._failed = False

    def plan(
        self,
        image: NDArray[np.uint8],
        input_ids: Tensor,
        noise: Tensor,
        ring_centre: tuple[int, int] | None = None,
        held: Held | None = None,
    ) -> GraphPlan | None:
        """Plan from a model image; arguments as in `GraphForward.load`. The result is None where graphs do not run.

        Raises:
            GpuLost: The GPU cannot be used any more.
        """
        if self._failed:
            return None
        try:
            forward, graph = self._graph_for(input_ids.shape[1])
            forward.load(image, input_ids, noise, ring_centre, held)
            graph.replay()
            return forward.result()
        except Exception as error:  # whatever a driver, a compiler or an allocator may say
            self._failed = True
            self._recorded.clear()
            warn(WITHOUT_GRAPHS, error)
        recover(self._model.device)
        return None

    def _graph_for(self, text_tokens: int) -> tuple[GraphForward, Graph]:
        room = -(-text_tokens // BUCKET) * BUCKET
        if room not in self._recorded:
            forward = GraphForward(
                self._model, room, pruning=self._pruning, sampler=self._sampler, guidance=self._guidance
            )
            self._recorded[room] = forward, Graph(forward.run, self._model.device)
        return self._recorded[room]
