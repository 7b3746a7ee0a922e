"""A new chunk that continues the running one (real-time chunking, Black et al. 2025, arXiv 2506.07339).

While a policy plans, the arm follows the running chunk. Its actions that will be past when the new chunk takes over are
fixed in the new one, and the later ones guide it, so that the new chunk fits the motion. The method was published for
flow matching; here it is applied to the clean actions that each step of the diffusion sampler predicts.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from sqap_vla_ros.core.action_chunk import CommittedActions
from sqap_vla_ros.policies.cogact.diffusion import Held
from sqap_vla_ros.vlm.statistics import ActionStatistics, normalise


def held_actions(committed: CommittedActions, statistics: ActionStatistics, horizon: int) -> Held:
    """Convert committed actions for the sampler: normalised, with a weight per step, as a batch of one.

    Args:
        committed: The actions that the running chunk has planned.
        statistics: Statistics of the actions.
        horizon: Number of actions of a chunk.

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
    """Weight of the old chunk at each step: 1 while fixed, falling to 0 where the old chunk ends (equation 5).

    Args:
        fixed: Number of steps that can no longer be changed.
        overlap: Number of steps that the old chunk covers.
        horizon: Number of steps of a chunk.

    Returns:
        float64 (horizon,).
    """
    left = np.clip((overlap - np.arange(horizon)) / (overlap - fixed + 1), 0, 1)
    return np.where(np.arange(horizon) < fixed, 1.0, left * np.expm1(left) / np.expm1(1))
