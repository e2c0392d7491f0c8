"""Histories as blocks of one length for torch, and the loss over all items or over some.

Owns what both networks' training shares. Needs torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.models.ranking.base import Histories


def last_events(histories: Histories, length: int) -> NDArray[np.int64]:
    """Return the newest liked items of each history, right-aligned, -1 before the first; shape (users, length)."""
    block = np.full((len(histories), length), -1, np.int64)
    for user in range(len(histories)):
        items, weights = histories.of(user)
        items = items[weights > 0][-length:]
        if len(items):
            block[user, -len(items) :] = items
    return block


def softmax_loss(states: Any, wanted: Any, table: Any, negatives: int) -> Any:
    """Return the mean negative log-likelihood of the wanted items, in nats.

    Args:
        states: shape (events, width).
        wanted: numbers of items; shape (events,).
        table: the items' vectors; shape (items, width).
        negatives: how many uniformly drawn items stand for all others; 0 takes all. The drawn ones count for as many
            as they stand for, so that both losses estimate the same.

    Source of the correction: Jean et al. 2015, arXiv:1412.2007, section 3.2.
    """
    import torch
    from torch.nn import functional

    if not negatives or negatives >= len(table) - 1:
        return functional.cross_entropy(states @ table.T, wanted)
    drawn = torch.randint(len(table), (negatives,), device=states.device)
    logits = states @ table[drawn].T + float(np.log((len(table) - 1) / negatives))
    logits = logits.masked_fill(drawn[None, :] == wanted[:, None], float("-inf"))
    right = (states * table[wanted]).sum(-1, keepdim=True)
    return functional.cross_entropy(torch.cat([right, logits], dim=1), torch.zeros_like(wanted))
