"""What a network is to the planner: how many layers of what width, and what of it each token touches.

Owns the counting of parameters and of floating-point operations. Knows no accelerator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from bessemer.twin.catalogue import Row, number, table, unknown


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder-only transformer, dense or with experts.

    Attributes:
        name: as in the catalogue, such as ``Llama-3.1-70B``.
        parameters: all weights.
        active_parameters: weights that each token passes; all of them in a dense model.
        layers: transformer blocks.
        hidden: width.
        heads: query heads.
        kv_heads: key-value heads; fewer than `heads` with grouped queries.
        head: width of a head.
        ffn: inner width of the feed-forward block, or of one expert.
        vocabulary: rows of the embedding.
        experts: how many there are in a layer; 0 in a dense model.
        experts_active: how many each token passes, shared ones included.
        kv_bytes_ratio: cache of keys and values, as a share of `2 * kv_heads * head` numbers a layer (latent attention
            and windows keep less).
        expert_width: width in which experts work; 0: `hidden`.
        attention_ratio: share of the layers that attend to all tokens (the others have a window or a state).
        state_ratio: share of the layers that keep a state instead of attending (Mamba, linear attention).
        attended_tokens: most tokens that one attends to, chosen by an index of all before it; 0: all.
        has_sinks: whether each head may attend to a learned nothing, which early fused kernels could not.
        ffn_matrices: of a feed-forward block: 3 with a gate, else 2.
        native_precision: of the experts' weights as they were published; empty: in 16 bits, to be narrowed at will.
        source: where the numbers are from.
    """

    name: str
    parameters: float
    active_parameters: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int
    ffn: int
    vocabulary: int
    experts: int = 0
    experts_active: int = 0
    kv_bytes_ratio: float = 1.0
    expert_width: int = 0
    attention_ratio: float = 1.0
    state_ratio: float = 0.0
    has_sinks: bool = False
    attended_tokens: int = 0
    ffn_matrices: int = 3
    native_precision: str = ""
    source: str = ""

    @property
    def is_mixture(self) -> bool:
        """Whether tokens pass only some of the weights."""
        return self.experts > 0

    def kv_bytes_per_token(self, bytes_per_number: float = 2.0) -> float:
        """Return the bytes of keys and values that one token leaves in the cache."""
        return 2 * self.layers * self.kv_heads * self.head * bytes_per_number * self.kv_bytes_ratio

    def forward_flop_per_token(self, context: float) -> float:
        """Return the floating-point operations of one token's forward pass, with `context` tokens to attend to.

        Source: two operations a weight and token, and 4 * layers * heads * head for each token attended to (query-key
        products and the weighted sum); Kaplan et al. 2020, arXiv:2001.08361, table 1.
        """
        return 2 * self.active_parameters + 4 * self.layers * self.attention_ratio * self.heads * self.head * context

    def training_flop_per_token(self, sequence: int) -> float:
        """Return the operations of one token's training step, without recomputation; causal: half the square counts.

        Source: backward is twice forward; Narayanan et al. 2021, arXiv:2104.04473, equation 3, halved for causality.
        """
        return 3 * self.forward_flop_per_token(sequence / 2)


@cache
def shapes() -> dict[str, Shape]:
    """Return all networks of the catalogue, by name."""
    return {row["name"]: _read(row) for row in table("shapes")}


def shape(name: str) -> Shape:
    """Return a network of the catalogue, by name or alias.

    Raises:
        NotFound: the catalogue has none of that name.
    """
    aliases = {alias.casefold(): row["name"] for row in table("shapes") for alias in row["aliases"].split("|") if alias}
    known = shapes()
    same = {each.casefold(): each for each in known} | aliases
    found = known.get(name) or known.get(same.get(name.casefold(), ""))
    if found is None:
        raise unknown("model", name, known)
    return found


def _read(row: Row) -> Shape:
    def whole(column: str) -> int:
        return int(number(row, column) or 0)

    parameters = float(row["parameters_b"]) * 1e9
    return Shape(
        name=row["name"],
        parameters=parameters,
        active_parameters=(number(row, "active_parameters_b") or 0) * 1e9 or parameters,
        layers=whole("layers"),
        hidden=whole("hidden"),
        heads=whole("heads"),
        kv_heads=whole("kv_heads"),
        head=whole("head"),
        ffn=whole("ffn"),
        vocabulary=whole("vocabulary"),
        experts=whole("experts"),
        experts_active=whole("experts_active"),
        kv_bytes_ratio=number(row, "kv_bytes_ratio") or 1.0,
        expert_width=whole("expert_width"),
        attention_ratio=number(row, "attention_ratio") or 1.0,
        state_ratio=number(row, "state_ratio") or 0.0,
        has_sinks=bool(whole("has_sinks")),
        attended_tokens=whole("attended_tokens"),
        ffn_matrices=whole("ffn_matrices") or 3,
        native_precision=row["native_precision"],
        source=row["source"],
    )
