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
from bessemer.serve.accounts.schemas import Wire
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
        given = self.one("limit") or "20"
        if not given.isdecimal() or len(given) > 4 or not 1 <= int(given) <= _MOST:
            raise Refused(invalid("limit", f"'limit' is a number from 1 to {_MOST}."))
        return int(given)

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
