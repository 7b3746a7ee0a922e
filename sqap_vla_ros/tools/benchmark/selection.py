"""The time that token selection takes alone, from queries and keys to the kept indices."""

import torch

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.policies.cogact.published import LANGUAGE
from sqap_vla_ros.tools.benchmark.measure import Timing, measure
from sqap_vla_ros.vlm.attention import attention_rows
from sqap_vla_ros.vlm.kernels import kernels_run_on
from sqap_vla_ros.vlm.pruning.on_device import select_on_device
from sqap_vla_ros.vlm.runtime.cuda_graph import Graph

_VISUAL, _TEXT = 256, 24


def time_selection(repeats: int, device: torch.device) -> Timing:
    """Time SQAP at ratio 0.4 for one observation; on a GPU as a graph of its two kernels."""
    config = SqapConfig()
    settings = {"keep": config.keep, "top_k": config.top_k, "radius": config.ring_radius}
    shape = (1, LANGUAGE.heads, _VISUAL + _TEXT, LANGUAGE.head_width)
    queries, keys = (torch.randn(shape, device=device).bfloat16() for _ in range(2))
    last = torch.tensor([_VISUAL + _TEXT - 1], device=device)
    centre = torch.tensor([[7, 8]], dtype=torch.int32, device=device)
    valid = torch.ones(1, dtype=torch.bool, device=device)
    if kernels_run_on(device):
        from sqap_vla_ros.vlm.kernels.selection import choose_tokens, row_attention

        def choose() -> object:
            return choose_tokens(row_attention(queries, keys, last, _VISUAL), centre, valid, **settings)

        return measure(Graph(choose, device).replay, repeats, device)

    def choose_in_torch() -> object:
        scores = attention_rows(queries[0].index_select(1, last), keys[0], last)[:, 1 : 1 + _VISUAL]
        return select_on_device(scores, centre, valid, **settings)

    return measure(choose_in_torch, repeats, device)
