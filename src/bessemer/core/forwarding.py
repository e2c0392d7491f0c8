"""What rooms hand to each other when requests go through as bytes, thousands a second: slots and integers, no copies.

`Forward` says where an engine's requests can be sent as they are; `Spent` is a request that is over, before it is an
entry. Owns the shapes; who works with them is in `bessemer.core.batching`. Knows no wire and no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bessemer.core.nouns import EntryStatus


@dataclass(frozen=True, slots=True)
class Forward:
    """A server that speaks OpenAI's chat completions, which an engine is content to have asked directly.

    Attributes:
        base_url: up to and including the version, such as ``http://127.0.0.1:8080/v1``.
        model: the name that the server knows the model by.
        api_key: sent as a bearer token; empty sends none.
        timeout_seconds: longest silence between two pieces of an answer.
        connect_timeout_seconds: longest wait for a connection.
        max_streams: open connections; more requests wait.
        limit_field: what the server calls the limit on output.
    """

    base_url: str
    model: str
    api_key: str = ""
    timeout_seconds: float = 120.0
    connect_timeout_seconds: float = 5.0
    max_streams: int = 512
    limit_field: str = "max_tokens"

    def __repr__(self) -> str:
        """Return what may be shown: not the key."""
        return f"Forward({self.base_url!r}, {self.model!r})"


@dataclass(slots=True, eq=False)
class Terms:
    """What many entries have in common: how their joules are known and what their prices are; one object for all."""

    energy_class: str
    boundary: str
    source: str
    currency: str
    price_version: str


class Spent:
    """A metered request, from its beginning to its entry.

    Not a dataclass: the constructor of one stays interpreted where all else of a request is compiled.

    Attributes:
        id: of the request.
        usage: input, output and cached tokens.
        mark: the meter's own, set by `bessemer.core.batching.BatchMeter.begin`.
        kept: the meter's own, set by `bessemer.core.batching.BatchMeter.keep`.
        terms: of the entry, once it is booked, like all that follows.
        microjoules: value, lower and upper bound.
        grams: of CO2-equivalent.
        charge_micros: what the customer is charged, in `terms.currency`.
    """

    mark: Any = None
    kept: Any = None
    terms: Terms | None = None
    microjoules: tuple[int, int, int] = (0, 0, 0)
    grams: float = 0.0
    charge_micros: int = 0

    def __init__(
        self,
        id: str,
        project: str,
        key_id: str,
        model: str,
        usage: tuple[int, int, int] = (0, 0, 0),
        status: EntryStatus = "error",
    ) -> None:
        self.id, self.project, self.key_id, self.model = id, project, key_id, model
        self.usage, self.status = usage, status
