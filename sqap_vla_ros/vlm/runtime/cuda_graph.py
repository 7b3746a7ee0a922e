"""CUDA graphs: hundreds of kernels in one launch, over memory that never moves."""

from collections.abc import Callable
from functools import lru_cache

import torch

_WARM_UPS = 3


class Graph:
    """A function over static memory that is recorded once and then replayed.

    Args:
        function: The function; it is run a few times before it is recorded, which compiles its kernels.
        device: A CUDA GPU.
    """

    def __init__(self, function: Callable[[], object], device: torch.device) -> None:
        with torch.cuda.device(device):
            stream = side_stream(torch.cuda.current_device())
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    function()
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                function()

    def replay(self) -> None:
        """Run the recorded function."""
        self._graph.replay()


@lru_cache
def side_stream(gpu: int) -> torch.cuda.Stream:
    """The one second stream of a GPU; there is only one, because cuBLAS keeps memory for every stream that is used."""
    return torch.cuda.Stream(gpu)
