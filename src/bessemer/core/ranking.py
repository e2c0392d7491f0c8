"""What a recommender is told and asked: events, a wish for a ranking, and the ranking.

Owns those nouns. Knows no model, no store and no clock. A user is what they did: whoever ranks finds the history of
`RankRequest.user` or `.session` in the events that it was told, so an event counts as soon as it is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, Protocol, Self, runtime_checkable

from pydantic import Field, model_validator

from bessemer.core.nouns import Noun, Usage

MOST_ITEMS = 1_000
"""Items that one ranking holds at most."""

Name = Annotated[str, Field(min_length=1, max_length=256)]
Weight = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class Interaction(Noun):
    """Somebody did something with an item.

    Attributes:
        id: unique in its project; the same id again is the same event.
        user: who; may be empty where `session` is not.
        session: the visit that it was part of; may be empty.
        item: with what.
        kind: what was done, such as ``view``, ``cart`` or ``purchase``.
        weight: how much it says that the item is liked; below zero: that it is not.
        time: Unix seconds.
    """

    id: str = ""
    user: Annotated[str, Field(max_length=256)] = ""
    session: Annotated[str, Field(max_length=256)] = ""
    item: Name
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")] = "view"
    weight: Weight = 1.0
    time: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _is_somebody_s(self) -> Self:
        if not (self.user or self.session):
            raise ValueError("an event needs a user or a session")
        return self


class Filter(Noun):
    """What recommended items must have: an attribute with one of some values, or a number within bounds.

    Attributes:
        field: name of an attribute, such as ``category`` or ``price``.
        any_of: values of which it must have one; empty asks for none.
        none_of: values that it must not have.
        at_least: least number, inclusive; None has none.
        at_most: greatest number, inclusive; None has none.
    """

    field: Name
    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not (self.any_of or self.none_of) and self.at_least is None and self.at_most is None:
            raise ValueError("a filter needs any_of, none_of, at_least or at_most")
        return self


class RankRequest(Noun):
    """A wish for the n best items for somebody.

    Attributes:
        project: whose events count; those of another project never do.
        user: whose history counts; empty: none.
        session: the visit whose events count besides; empty: none.
        recent: items that were just looked at, the oldest first, beside what events told.
        candidates: rank these only, whatever was seen; empty: all items but those seen.
        exclude: items that must not be in the ranking.
        filters: what each item must meet.
        context: facts of this moment that rules may ask for, such as ``{"page": "basket"}``.
        n: how many items at most.
        diversity_ratio: 0 ranks by score alone, 1 by difference to the items before it alone.
        explain: whether each item comes with the reason.
        seen: whether items that were already interacted with may be recommended again.
        kept: id under which the ranking will be kept, with what comes of it; empty: it is not, and nothing is tried.
    """

    project: str = ""
    user: Annotated[str, Field(max_length=256)] = ""
    session: Annotated[str, Field(max_length=256)] = ""
    recent: Annotated[tuple[Name, ...], Field(max_length=MOST_ITEMS)] = ()
    candidates: Annotated[tuple[Name, ...], Field(max_length=MOST_ITEMS)] = ()
    exclude: Annotated[tuple[Name, ...], Field(max_length=MOST_ITEMS)] = ()
    filters: Annotated[tuple[Filter, ...], Field(max_length=16)] = ()
    context: dict[str, str] = Field(default_factory=dict)
    n: Annotated[int, Field(ge=1, le=MOST_ITEMS)] = 10
    diversity_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    explain: bool = False
    seen: bool = False
    kept: str = ""


class Reason(Noun):
    """Why an item is recommended.

    Attributes:
        kind: ``because`` of items in the history, ``content`` that is like theirs, or ``popular`` with all.
        items: of the history that speak for it most, the strongest first.
        share_ratio: part of the item's score that these items explain, from 0 to 1; None where a model cannot say.
        sentence: the same in words.
    """

    kind: Literal["because", "content", "popular"]
    items: tuple[str, ...] = ()
    share_ratio: float | None = None
    sentence: str


class Ranked(Noun):
    """One item of a ranking; scores of one model can be compared within one ranking only.

    Attributes:
        item: its name.
        score: the model's.
        reason: why it is there, if that was asked for.
        team: in a list made of two rankings, whose it is: 0 the incumbent's, 1 the challenger's.
        propensity: probability with which it came to this place, where chance had a part in it.
    """

    item: str
    score: float
    reason: Reason | None = None
    team: int | None = None
    propensity: float | None = None


class Ranking(Noun):
    """The answer: items, the best first.

    Attributes:
        items: at most as many as were asked for; fewer where rules leave fewer.
        policy: which model and rules ranked, such as ``ease-3f2a``; the same policy ranks the same way.
        events: how many events of the user and the session counted.
        unknown: candidates that the model does not know; they are not in `items`.
        usage: `units` are the items delivered.
        seconds: the engine's own clock.
        experiment: of which it is a part; empty of none.
        arm: of the experiment: ``incumbent``, ``challenger``, or ``both`` in one list.
        pool: the best items as they would have stood without chance, where that had a part.
    """

    items: tuple[Ranked, ...]
    policy: str = ""
    events: int = 0
    unknown: tuple[str, ...] = ()
    usage: Usage = Usage()
    seconds: float | None = None
    experiment: str = ""
    arm: str = ""
    pool: tuple[str, ...] = ()


@runtime_checkable
class Learning(Protocol):
    """An engine that takes events while it serves (capability ``learn``).

    Attributes:
        told: for each project, the number in the store of events up to which it was trained on them.
    """

    told: Mapping[str, int]

    def learn(self, project: str, events: Sequence[Interaction], /) -> int:
        """Take events of a project, the oldest first; return how many of them are about items that it knows."""
        ...

    def forget(self, project: str, user: str, /) -> None:
        """Forget what a project's user did, and what was learnt from it."""
        ...

    def users(self, project: str, /) -> Iterable[str]:
        """Return the users of a project whose history it has, those that it was trained on among them."""
        ...
