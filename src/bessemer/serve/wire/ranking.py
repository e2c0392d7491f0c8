"""``POST /v1/recommendations`` and ``POST /v1/rank``: items for a user or a session, and given items in their order.

Owns the endpoints' schemas; they are our own, as OpenAI's wire has none. Ids, usage and errors look like its others.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool

from bessemer.core.nouns import Delta, Entry
from bessemer.core.ranking import MOST_ITEMS, Filter, Ranked, Ranking, RankRequest
from bessemer.serve.asking import ServiceTier, Wire
from bessemer.serve.rankings import RankingStore
from bessemer.serve.refusals import Refused, invalid, of_validation, unsupported
from bessemer.serve.serving import Answer, Caller, Order, Read
from bessemer.serve.telling import Cost, Energy, Told, ToldUsage

Name = Annotated[str, Field(min_length=1, max_length=256)]
_PREFIX = "rec_"
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

    def to_request(self, project: str, kept: str, candidates: list[str] | None = None) -> RankRequest:
        """Return what the engine is asked for a project.

        Args:
            project: whose events count.
            kept: see `RankRequest`.
            candidates: likewise.
        """
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
            kept=kept,
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


def recommendations_reader(rankings: RankingStore | None) -> Read:
    """Return what reads a body of ``POST /v1/recommendations`` into an order; it raises Refused.

    Args:
        rankings: keeps what is shown where something is tried; None: nothing is.
    """

    async def read(body: bytes, caller: Caller) -> Order:
        return await _order(_read(AskedRanking, body), caller, rankings)

    return read


def rank_reader(rankings: RankingStore | None) -> Read:
    """Return what reads a body of ``POST /v1/rank`` into an order; see `recommendations_reader`."""

    async def read(body: bytes, caller: Caller) -> Order:
        asked = _read(AskedRank, body)
        return await _order(asked, caller, rankings, asked.candidates)

    return read


def _read(kind: type[A], body: bytes) -> A:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise Refused(of_validation(error, kind)) from None


async def _order(
    asked: AskedRanking, caller: Caller, rankings: RankingStore | None, candidates: list[str] | None = None
) -> Order:
    engine: Any = await caller.engine(asked.model)
    if "rank" not in engine.capabilities:
        message = "The engine of this model ranks nothing; /v1/models says which models have 'rank'."
        raise Refused(unsupported("model", message))
    project = caller.key.project
    tried = "tries" in engine.capabilities and bool(asked.user or asked.session)
    store = rankings if tried and rankings and await run_in_threadpool(rankings.permits, project) else None
    wanted = asked.to_request(project, caller.id(_PREFIX) if store else "", candidates)
    return Order(
        asked.model, engine, (wanted,), _RankingTeller(wanted, store, asked.model, caller), False, asked.service_tier
    )


class _RankingTeller:
    """Tells a ranking; it is never streamed. What was tried in it is kept before it is told."""

    def __init__(self, wanted: RankRequest, store: RankingStore | None, model: str, caller: Caller) -> None:
        self._wanted, self._store, self.keeps = wanted, store, store is not None
        self._model, self._id, self._created = model, caller.id(_PREFIX), caller.created

    def first(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Delta) -> bytes:
        return b""

    def last(self, answers: list[Answer], entry: Entry) -> bytes:
        return b""

    def whole(self, answers: list[Answer], entry: Entry) -> bytes:
        ranking = _ranking(answers)
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
        """Keep what was shown, if something was tried."""
        ranking = _ranking(answers)
        if self._store and (ranking.experiment or ranking.pool):
            await run_in_threadpool(self._store.add, self._wanted, ranking, self._model)


def _ranking(answers: list[Answer]) -> Ranking:
    return next(piece for piece in answers[0].pieces if isinstance(piece, Ranking))


def _told(place: int, ranked: Ranked) -> ToldItem:
    why = ranked.reason
    reason = why and ToldReason(kind=why.kind, items=list(why.items), share=why.share_ratio, sentence=why.sentence)
    return ToldItem(rank=place, item=ranked.item, score=ranked.score, reason=reason or None)
