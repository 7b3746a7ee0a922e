"""A new chunk that goes on from the running one (real-time chunking, Black et al. 2025, arXiv 2506.07339).

While a policy plans, the arm goes on with the chunk before. Those of its actions that will be past when the new chunk
takes over are fixed in the new one, and the later ones guide it, so that it chooses among the ways on that fit.
Published for flow matching; here the clean actions that each step of the diffusion sampler sees are pulled.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from sqap_vla_ros.core.action_chunk import CommittedActions
from sqap_vla_ros.policies.cogact.diffusion import Held
from sqap_vla_ros.vlm.statistics import ActionStatistics, normalise


def held_actions(committed: CommittedActions, statistics: ActionStatistics, horizon: int) -> Held:
    """Committed actions as the sampler takes them: normalised, with a weight per step, as one batch.

    Args:
        committed: What the running chunk has planned.
        statistics: Of the actions.
        horizon: Actions of a chunk.

    Raises:
        ValueError: More actions are committed than a chunk has.
    """
    overlap = len(committed.actions)
    if overlap > horizon:
        raise ValueError(f"{overlap} actions are committed, but a chunk has {horizon}")
    actions = np.zeros((1, horizon, committed.actions.shape[1]), np.float32)
    actions[0, :overlap] = normalise(committed.actions, statistics)
    weights = soft_weights(committed.steps, overlap, horizon).astype(np.float32)
    return Held(torch.from_numpy(actions), torch.from_numpy(weights[:, None]))


def soft_weights(fixed: int, overlap: int, horizon: int) -> NDArray[np.float64]:
    """How much each step of a chunk is held: 1 while fixed, falling to 0 where the old chunk ends (equation 5).

    Args:
        fixed: Steps that can no longer be changed.
        overlap: Steps that the old chunk covers.
        horizon: Steps of a chunk.

    Returns:
        float64 (horizon,).
    """
    left = np.clip((overlap - np.arange(horizon)) / (overlap - fixed + 1), 0, 1)
    return np.where(np.arange(horizon) < fixed, 1.0, left * np.expm1(left) / np.expm1(1))
