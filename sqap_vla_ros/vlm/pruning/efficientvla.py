"""EfficientVLA's choices (Yang et al., 2025, arXiv 2506.10100): visual tokens, and the layers that go."""

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
    """Keep a few key tokens, others that are relevant too, and others that differ most from the key tokens.

    Relevance is the sum of the text's attention. The paper scales it to 0…1, which changes no order.

    Args:
        text_attention: float (text, rows * columns), attention of each text token, mean over heads.
        states: float (rows * columns, width), hidden states, compared by cosine.
        keep: Tokens that stay.
        key_tokens: How many of them are key tokens, the most relevant ones.
        relevance_share: Share of the others chosen by relevance, rounded down. Equals go to the lower index.
        rows: Of the patch grid.
        columns: Of the patch grid.
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
    """The layers that go, ascending.

    Args:
        importance: float (layers,), see `cogact.layer_importance`.
        ratio: Share of the layers that goes (halves round to even).
    """
    count = round(ratio * len(importance))
    return tuple(sorted(np.argsort(importance, kind="stable")[:count].tolist()))
