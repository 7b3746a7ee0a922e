"""EfficientVLA (Yang et al., 2025, arXiv 2506.10100): which visual tokens stay, and which layers are dropped."""

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.token_selection import Reason, TokenSelection, selection_of


def relevant_and_diverse(
    text_attention: NDArray[np.floating],
    states: NDArray[np.floating],
    keep: int,
    key_tokens: int,
    relevance_share: float,
    rows: int = 16,
    columns: int = 16,
) -> TokenSelection:
    """Keep a few key tokens, further relevant tokens, and the tokens that differ most from the key tokens.

    Relevance is the sum of the text's attention. The paper scales it to 0…1, which does not change the order.

    Args:
        text_attention: float (text, rows * columns), attention of each text token, mean over heads.
        states: float (rows * columns, width), hidden states, compared by cosine.
        keep: Number of tokens that stay.
        key_tokens: Number of key tokens among them: the most relevant ones.
        relevance_share: Share of the other tokens chosen by relevance, rounded down; ties go to the lower index.
        rows: Rows of the patch grid.
        columns: Columns of the patch grid.
    """
    ranked = np.argsort(-text_attention.sum(axis=0, dtype=np.float64), kind="stable")
    relevant = ranked[: key_tokens + int(relevance_share * (keep - key_tokens))]
    rest = np.sort(ranked[len(relevant) :])
    unit = states.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    likeness = (unit[rest] @ unit[relevant[:key_tokens]].T).max(axis=1)
    diverse = rest[np.argsort(likeness, kind="stable")[: keep - len(relevant)]]
    return selection_of({Reason.ATTENTION: relevant, Reason.OTHER: diverse}, rows, columns)


def least_important(importance: NDArray[np.floating], ratio: float) -> tuple[int, ...]:
    """The layers that are dropped, ascending.

    Args:
        importance: float (layers,), see `policies.cogact.layer_importance`.
        ratio: Share of the layers that is dropped (halves round to even).
    """
    count = round(ratio * len(importance))
    return tuple(sorted(np.argsort(importance, kind="stable")[:count].tolist()))
