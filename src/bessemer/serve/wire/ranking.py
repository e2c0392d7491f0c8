"""``POST /v1/recommendations`` and ``POST /v1/rank``: items for a user or a session, and given items in their order.

Owns the endpoints' schemas; they are our own, as OpenAI's wire has none. Ids, usage and errors look like its others.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from bessemer.core.nouns import Delta, Entry
from bessemer.core.ranking import MOST_ITEMS, Filter, Ranked, Ranking, RankRequest
from bessemer.serve.asking import ServiceTier, Wire
from bessemer.serve.refusals import Refused, invalid, of_validation, unsupported
from bessemer.serve.serving import Answer, Caller, Order
from bessemer.serve.telling import Cost, Energy, Told, ToldUsage

Name = Annotated[str, Field(min_length=1, max_length=256)]
Names = Annotated[list[Name], Field(max_length=MOST_ITEMS)]


class AskedFilter(Wire):
    """What items must have."""

    field: Name
    any_of: Annotated[list[str], Field(max_length=100)] | None = None
    none_of: Annotated[list[str], Field(max_length=100)] | None = None
    at_least: float | None = None
    at_most: float | None = None

    def to_filter(self, number: int) -> Filter:
        """Return the house's own noun."""
        try:
            return Filter(
                field=self.field,
                any_of=tuple(self.any_of or ()),
                none_of=tuple(self.none_of or ()),
                at_least=self.at_least,
                at_most=self.at_most,
            )
        except ValidationError:
            where = f"filters[{number}]"
            raise Refused(invalid(where, f"'{where}' needs any_of, none_of, at_least or at_most.")) from None


class AskedRanking(Wire):
    """The body of ``POST /v1/recommendations``; null is the same as left out."""

    model: str
    user: Annotated[str, Field(max_length=256)] | None = None
    session: Annotated[str, Field(max_length=256)] | None = None
    recent: Names | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ITEMS)] | None = None
    filters: Annotated[list[AskedFilter], Field(max_length=16)] | None = None
    exclude: Names | None = None
    context: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=32)] | None = None
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None
    explain: bool | None = None
    include_seen: bool | None = None
    service_tier: ServiceTier = ""

    def to_request(self, project: str, candidates: list[str] | None = None) -> RankRequest:
        """Return what the engine is asked for a project."""
        return RankRequest(
            project=project,
            user=self.user or "",
            session=self.session or "",
            recent=tuple(self.recent or ()),
            candidates=tuple(candidates or ()),
            exclude=tuple(self.exclude or ()),
            filters=tuple(each.to_filter(number) for number, each in enumerate(self.filters or ())),
            context=self.context or {},
            n=self.n or (len(candidates) if candidates else 10),
            diversity_ratio=self.diversity if self.diversity is not None else (0.0 if candidates else None),
            explain=bool(self.explain),
            seen=bool(self.include_seen),
        )


class AskedRank(AskedRanking):
    """The body of ``POST /v1/rank``: as recommendations, of these items only; all of them, if `n` is left out."""

    candidates: Annotated[list[Name], Field(min_length=1, max_length=MOST_ITEMS)]


class ToldReason(Told):
    """Why an item is there."""

    kind: str
    items: list[str]
    share: float | None
    sentence: str


class ToldItem(Told):
    """An item of a ranking; the first has rank 1."""

    rank: int
    item: str
    score: float
    reason: ToldReason | None = None


class RankingUsage(Told):
    """What a ranking took: `units` are its items."""

    units: int
    energy: Energy | None
    cost: Cost | None


class ToldRanking(Told):
    """A ranking; its `id` is what feedback attaches to."""

    id: str
    object: Literal["ranking"] = "ranking"
    created: int
    model: str
    policy: str
    events: int
    data: list[ToldItem]
    unknown: list[str]
    usage: RankingUsage


A = TypeVar("A", bound=AskedRanking)


async def read_recommendations(body: bytes, caller: Caller) -> Order:
    """Return the order in a body of ``POST /v1/recommendations``.

    Raises:
        Refused: a field is wrong, or the engine ranks nothing.
    """
    asked = _read(AskedRanking, body)
    return _order(asked, caller, asked.to_request(caller.key.project))


async def read_rank(body: bytes, caller: Caller) -> Order:
    """Return the order in a body of ``POST /v1/rank``.

    Raises:
        Refused: a field is wrong, or the engine ranks nothing.
    """
    asked = _read(AskedRank, body)
    return _order(asked, caller, asked.to_request(caller.key.project, asked.candidates))


def _read(kind: type[A], body: bytes) -> A:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise Refused(of_validation(error, kind)) from None


def _order(asked: AskedRanking, caller: Caller, wanted: RankRequest) -> Order:
    engine: Any = caller.engine(asked.model)
    if "rank" not in engine.capabilities:
        message = "The engine of this model ranks nothing; /v1/models says which models have 'rank'."
        raise Refused(unsupported("model", message))
    return Order(asked.model, engine, (wanted,), _RankingTeller(asked.model, caller), False, asked.service_tier)


class _RankingTeller:
    """Tells a ranking; it is never streamed."""

    keeps = False

    def __init__(self, model: str, caller: Caller) -> None:
        self._model, self._id, self._created = model, caller.id("rec_"), caller.created

    def first(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Delta) -> bytes:
        return b""

    def last(self, answers: list[Answer], entry: Entry) -> bytes:
        return b""

    def whole(self, answers: list[Answer], entry: Entry) -> bytes:
        ranking = next(piece for piece in answers[0].pieces if isinstance(piece, Ranking))
        used = ToldUsage.of(entry)
        told = ToldRanking(
            id=self._id,
            created=self._created,
            model=self._model,
            policy=ranking.policy,
            events=ranking.events,
            data=[_told(place, each) for place, each in enumerate(ranking.items, 1)],
            unknown=list(ranking.unknown),
            usage=RankingUsage(units=entry.usage.units, energy=used.energy, cost=used.cost),
        )
        return told.model_dump_json().encode()

    async def keep(self, answers: list[Answer]) -> None:
        """Store nothing: the wire has no such wish here."""


def _told(place: int, ranked: Ranked) -> ToldItem:
    why = ranked.reason
    reason = why and ToldReason(kind=why.kind, items=list(why.items), share=why.share_ratio, sentence=why.sentence)
    return ToldItem(rank=place, item=ranked.item, score=ranked.score, reason=reason or None)
