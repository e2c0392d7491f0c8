"""Fitting two towers: a history's query and its next item's vector are drawn together, other items of the step apart.

Owns the loop. The items of a step are each other's negatives; a popular item is among them more often, which is taken
off its logit (Yi et al. 2019). A share of the items is shown by content alone, so that content learns to place them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bessemer.models.ranking.base import Floats, Histories
from bessemer.models.ranking.towers import Towers
from bessemer.train.recommend.batches import last_events
from bessemer.train.recommend.config import TowersConfig

_LENGTH = 50
"""Newest events of a history that a query is made of, in training."""


def fit_two_tower(histories: Histories, content: Floats, config: TowersConfig) -> Towers:
    """Return the fitted towers; `content` has a row of features for each item, shape (items, features)."""
    import torch

    torch.manual_seed(config.seed)
    network = _network(len(content), content.shape[1], config)
    features = torch.from_numpy(np.ascontiguousarray(content))
    optimiser = torch.optim.Adam(network.parameters(), lr=config.rate)
    counts = np.bincount(histories.items[histories.weights > 0], minlength=len(content))
    often = torch.log(torch.from_numpy(np.maximum(counts, 1) / max(counts.sum(), 1)).float())
    pairs = _pairs(histories)
    random = np.random.default_rng(config.seed)
    for _ in range(config.epochs):
        order = random.permutation(len(pairs))
        for at in range(0, len(order) - 1, config.batch):
            rows = torch.from_numpy(pairs[order[at : at + config.batch]])
            loss = _loss(network, features, often, rows, config)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        known = torch.from_numpy(counts > 0)
        vectors = network.items(features, torch.arange(len(content)), known)
    names = {"widen": network.widen, "narrow": network.narrow, "user": network.user}
    weights = {
        f"{name}.{part}": getattr(layer, part).detach().numpy().copy()
        for name, layer in names.items()
        for part in ("weight", "bias")
    }
    return Towers(vectors.numpy(), weights, config.half_life)


def _pairs(histories: Histories) -> Any:
    """Return, for each event but a user's first, the events before it and itself; shape (pairs, length + 1)."""
    found = []
    for user in range(len(histories)):
        items, weights = histories.of(user)
        liked = items[weights > 0]
        ends = range(2, len(liked) + 1)
        found.append(last_events(Histories.of_lists([liked[:end][-_LENGTH - 1 :] for end in ends]), _LENGTH + 1))
    return np.concatenate(found)


def _network(items: int, features: int, config: TowersConfig) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Parameter(torch.zeros(items, config.width))
            nn.init.normal_(self.own, std=0.1 / config.width**0.5)
            self.widen, self.narrow = nn.Linear(features, config.inner), nn.Linear(config.inner, config.width)
            self.user = nn.Linear(config.width, config.width)

        def items(self, content: Any, numbers: Any, own: Any) -> Any:
            made = self.narrow(functional.relu(self.widen(content)))
            return functional.normalize(made + self.own[numbers] * own[:, None], dim=-1)

        def query(self, mean: Any) -> Any:
            return functional.normalize(mean + self.user(mean), dim=-1)

    return Network()


def _loss(network: Any, features: Any, often: Any, rows: Any, config: TowersConfig) -> Any:
    import torch
    from torch.nn import functional

    numbers, places = torch.unique(rows.clamp(min=0), return_inverse=True)
    own = (torch.rand(len(numbers)) >= config.cold_ratio).float()
    vectors = network.items(features[numbers], numbers, own)
    before, wanted = rows[:, :-1], rows[:, -1]
    ages = torch.arange(before.shape[1] - 1, -1, -1, dtype=torch.float32)
    shares = torch.exp2(-ages / config.half_life) * (before >= 0)
    shares = shares / shares.sum(dim=1, keepdim=True)
    mean = torch.einsum("bl,bld->bd", shares, vectors[places[:, :-1]])
    targets = vectors[places[:, -1]]
    logits = network.query(mean) @ targets.T / config.temperature - often[wanted][None, :]
    same = (wanted[:, None] == wanted[None, :]) & ~torch.eye(len(wanted), dtype=torch.bool)
    return functional.cross_entropy(logits.masked_fill(same, float("-inf")), torch.arange(len(wanted)))
