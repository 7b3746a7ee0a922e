"""The time that token selection takes alone, from queries and keys to the kept indices."""

import math
from functools import partial

import torch

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.policies.cogact.published import LANGUAGE
from sqap_vla_ros.tools.benchmark.measure import Timing, measure
from sqap_vla_ros.vlm.kernels import kernels_run_on
from sqap_vla_ros.vlm.pruning.on_device import DeviceRing, select_sqap_on_device
from sqap_vla_ros.vlm.runtime.cuda_graph import Graph

_VISUAL, _TEXT = 256, 24


def time_selection(repeats: int, device: torch.device) -> Timing:
    """Time SQAP at ratio 0.4 for one observation; on a GPU as a graph of its two kernels."""
    config, grid = SqapConfig(), math.isqrt(_VISUAL)
    shape = (1, LANGUAGE.heads, _VISUAL + _TEXT, LANGUAGE.head_width)
    queries, keys = (torch.randn(shape, device=device).bfloat16() for _ in range(2))
    last = torch.tensor([_VISUAL + _TEXT - 1], device=device)
    centre = torch.tensor([[7, 8]], dtype=torch.int32, device=device)
    ring = DeviceRing(centre, torch.ones(1, dtype=torch.bool, device=device))
    choose = partial(select_sqap_on_device, config, queries, keys, last, ring, grid)
    return measure(Graph(choose, device).replay if kernels_run_on(device) else choose, repeats, device)
