"""Fitting SASRec: the next item of each history, by the softmax over all items or over some.

Owns the loop. Training ends when the loss on held-out last events no longer falls; the best weights are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bessemer.models.ranking.base import Histories
from bessemer.models.ranking.sequence import Sequence
from bessemer.train.recommend.batches import last_events, softmax_loss
from bessemer.train.recommend.config import SasrecConfig

Told = Callable[[int, int, float], None]
"""Is told (epochs done, epochs at most, held-out loss in nats)."""


def fit_sasrec(
    histories: Histories, items: int, config: SasrecConfig, told: Told = lambda done, most, loss: None
) -> Sequence:
    """Return the fitted network.

    The last event of every tenth history is held out from the fit to tell when to stop.
    """
    import torch

    from bessemer.models.ranking.sequence_network import SequenceNetwork

    torch.manual_seed(config.seed)
    block = torch.from_numpy(last_events(histories, config.length + 1))
    enough = (block >= 0).sum(dim=1) >= 2
    block = block[enough]
    network = SequenceNetwork(items, config.width, config.length, config.layers, config.heads, config.dropout_ratio)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate, betas=(0.9, 0.98), weight_decay=0.0)
    watched = torch.zeros(len(block), dtype=torch.bool)
    watched[::10] = (block[::10] >= 0).sum(dim=1) >= 3
    fit = block.clone()
    fit[watched] = torch.cat([torch.full_like(fit[watched][:, :1], -1), fit[watched][:, :-1]], dim=1)
    best, kept, waited = float("inf"), _copied(network), 0
    for epoch in range(config.epochs):
        _epoch(network, optimiser, fit, config)
        loss = _watched_loss(network, block[watched]) if watched.any() else float(epoch)
        told(epoch + 1, config.epochs, loss)
        if loss < best:
            best, kept, waited = loss, _copied(network), 0
        else:
            waited += 1
            if waited >= config.patience_epochs:
                break
    weights = {name: tensor.numpy() for name, tensor in kept.items()}
    return Sequence(weights, config.heads)


def _epoch(network: Any, optimiser: Any, block: Any, config: SasrecConfig) -> None:
    import torch

    network.train()
    order: Any = torch.randperm(len(block))
    for batch in order.split(config.batch):
        rows = block[batch]
        rows = rows[:, -int((rows >= 0).sum(dim=1).max()) :]
        given, wanted = rows[:, :-1], rows[:, 1:]
        known = given >= 0
        states = network(given)[known]
        loss = softmax_loss(states, wanted[known], network.items, config.negatives)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _watched_loss(network: Any, block: Any) -> float:
    import torch

    network.eval()
    with torch.no_grad():
        losses = [
            softmax_loss(network(rows[:, :-1])[:, -1], rows[:, -1], network.items, 0) * len(rows)
            for rows in block.split(256)
        ]
        return float(sum(losses)) / len(block)


def _copied(network: Any) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
