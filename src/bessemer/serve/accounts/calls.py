"""One request of administration: in whose name, on which path, with what; and what acts have in common.

Owns the shape. Knows no act.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from bessemer.serve.accounts.office import Accounts
from bessemer.serve.accounts.pages import Page
from bessemer.serve.accounts.schemas import Wire, told_page
from bessemer.serve.refusals import Refused, invalid, of_validation

A = TypeVar("A", bound=BaseModel)

_MOST = 100


@dataclass(frozen=True, slots=True)
class Call:
    """One request of an administrator: in whose name, with what."""

    accounts: Accounts
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: bytes

    @property
    def project(self) -> str:
        """The id in the path."""
        return self.path["project"]

    def one(self, name: str) -> str:
        """Return a parameter of the query; the last one counts, none is empty."""
        return self.query.get(name, ("",))[-1]

    @property
    def limit(self) -> int:
        """How many are wanted on a page."""
        return self._limited(20)

    def _limited(self, usual: int) -> int:
        given = self.one("limit") or str(usual)
        if not given.isdecimal() or len(given) > 4 or not 1 <= int(given) <= _MOST:
            raise Refused(invalid("limit", f"'limit' is a number from 1 to {_MOST}."))
        return int(given)

    @property
    def newest_first(self) -> bool:
        """Whether the order is wanted that is not usual here."""
        order = self.one("order") or "asc"
        if order not in ("asc", "desc"):
            raise Refused(invalid("order", "'order' is asc or desc."))
        return order == "desc"

    def paged(self, found: Sequence[Wire], usual: int = 20) -> Wire:
        """Return the page that is wanted of a whole list: after one of its items, right before another, or between.

        Raises:
            Refused: these are not in it.
        """
        ids, limit = [each["id"] for each in found], self._limited(usual)
        edges = {name: self.one(name) for name in ("after", "before")}
        for name, id in edges.items():
            if id and id not in ids:
                raise Refused(invalid(name, f"'{name}' is the id of nothing in this list."))
        begin = ids.index(edges["after"]) + 1 if edges["after"] else 0
        end = ids.index(edges["before"]) if edges["before"] else len(ids)
        if edges["before"] and not edges["after"]:
            return told_page(Page(tuple(found[max(0, end - limit) : end]), end > limit), dict)
        return told_page(Page.of(found[begin:end], limit), dict)

    def asked(self, model: type[A]) -> A:
        """Return what the body says.

        Raises:
            Refused: it says something else.
        """
        try:
            return model.model_validate_json(self.body or b"{}")
        except ValidationError as error:
            raise Refused(of_validation(error, model)) from None


Act = Callable[[Call], Wire]
"""Does one thing and tells what came of it."""


def deleted(told: Wire) -> Wire:
    """Return what is told of a thing that is gone."""
    return {"id": told["id"], "object": f"{told['object']}.deleted", "deleted": True}


def ends(seconds: int | None) -> float | None:
    """Return when something ends that lasts so long from now on, in Unix seconds; None is never."""
    return None if seconds is None else time.time() + seconds
