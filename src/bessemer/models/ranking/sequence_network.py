"""SASRec's network in torch, for training; `sequence.Sequence` computes the same in numpy.

Owns the layers and the names of their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bessemer.models.ranking.sequence import EPSILON


class SequenceNetwork(nn.Module):
    """A causal transformer whose input and output embeddings are one table.

    Args:
        items: how many there are.
        width: of the states.
        length: events that are read at most.
        layers: how many.
        heads: of each attention.
        dropout_ratio: of embeddings, attention and the inner layers, in training.
    """

    def __init__(self, items: int, width: int, length: int, layers: int, heads: int, dropout_ratio: float) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.randn(items, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.layers = nn.ModuleList(_Layer(width, heads, dropout_ratio) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.dropout = nn.Dropout(dropout_ratio)

    def forward(self, items: Tensor) -> Tensor:
        """Return the states after each event; shape (users, length, width).

        Args:
            items: numbers of items, the newest last, -1 before the first event; shape (users, length).
        """
        there = items >= 0
        x = self.items[items.clamp(min=0)] * self.items.shape[1] ** 0.5
        x = self.dropout(x + self.positions[: items.shape[1]].flip(0)) * there[..., None]
        causal = torch.ones(items.shape[1], items.shape[1], dtype=torch.bool, device=items.device).tril()
        # A place before the first event sees itself: attention over nothing would be no number.
        sees = causal & (there[:, None, :] | torch.eye(items.shape[1], dtype=torch.bool, device=items.device))
        for layer in self.layers:
            x = layer(x, sees[:, None])
        states: Tensor = self.norm(x)
        return states


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, dropout_ratio: float) -> None:
        super().__init__()
        self.heads, self.dropout_ratio = heads, dropout_ratio
        self.before, self.after = nn.LayerNorm(width, eps=EPSILON), nn.LayerNorm(width, eps=EPSILON)
        self.attend, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout_ratio)

    def forward(self, x: Tensor, sees: Tensor) -> Tensor:
        users, length, width = x.shape
        three = self.attend(self.before(x)).view(users, length, 3, self.heads, width // self.heads)
        query, key, value = three.permute(2, 0, 3, 1, 4)
        dropped = self.dropout_ratio if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=sees, dropout_p=dropped)
        x = x + self.dropout(self.mix(mixed.transpose(1, 2).reshape(users, length, width)))
        inner = self.dropout(functional.relu(self.widen(self.after(x))))
        result: Tensor = x + self.dropout(self.narrow(inner))
        return result
