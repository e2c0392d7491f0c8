"""Rate limits: requests and tokens per minute, of the organization, a project or a key, for all models or for one.

A limit is a token bucket: it holds one minute's worth, is refilled all the time, and may run into debt when an answer
took more tokens than were guessed. The buckets are rows of the database, so that they outlive a restart and all
workers share them, who draw from them in blocks (`leases`).

Owns the limits, and what a bucket's level means. Knows no HTTP.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Noun
from bessemer.serve.accounts.audit import LOCAL, Scribe
from bessemer.serve.accounts.database import Database, Execute

Scope = Literal["organization", "project", "key"]
Unit = Literal["requests", "tokens"]
_COLUMNS = "id, scope, scope_id, model, requests_per_minute, tokens_per_minute"


class RateLimit(Noun):
    """How much may be asked in a minute; None is without limit.

    Attributes:
        scope: what shares the limit.
        scope_id: of the project or key; empty for the organization.
        model: only requests to this one count, and to what was fine-tuned from it; empty is all.
    """

    id: str
    scope: Scope
    scope_id: str = ""
    model: Annotated[str, Field(max_length=200)] = ""
    requests_per_minute: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=0, lt=2**53)] | None = None

    def units(self) -> tuple[tuple[Unit, int], ...]:
        """Return what is limited, with how many a minute."""
        both: tuple[tuple[Unit, int | None], ...] = (
            ("requests", self.requests_per_minute),
            ("tokens", self.tokens_per_minute),
        )
        return tuple((unit, limit) for unit, limit in both if limit is not None)


@dataclass(frozen=True, slots=True)
class Level:
    """How full a bucket is after a request took what it needs, or would be if it could.

    Attributes:
        limit: a minute's worth, which is what the bucket holds.
        needed: what the request takes.
        left: what is left; below zero it did not get it.
    """

    rate_limit: str
    unit: Unit
    limit: int
    needed: int
    left: float

    @property
    def wait_seconds(self) -> float:
        """Seconds until there will be enough; 0 if there is, infinite if there never will be."""
        if self.left >= 0:
            return 0.0
        return -self.left * 60 / self.limit if self.needed <= self.limit else float("inf")

    @property
    def reset_seconds(self) -> float:
        """Seconds until the bucket is full again."""
        return max(0.0, self.limit - self.left) * 60 / self.limit if self.limit else 0.0


class RateLimits:
    """All rate limits.

    Args:
        database: of the accounts.
        clock: gives Unix seconds.
        actor: in whose name the audit log notes what is done here.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time, actor: str = LOCAL) -> None:
        self._database = database
        self._scribe = Scribe(actor, clock)

    def set(
        self, scope: Scope, scope_id: str = "", model: str = "", requests: int | None = None, tokens: int | None = None
    ) -> RateLimit:
        """Set the limit of a scope and model, in place of the earlier one.

        Args:
            scope: what shares it.
            scope_id: of the project or key; empty for the organization.
            model: only requests to this one; empty is all.
            requests: per minute; None is without limit.
            tokens: per minute, input and output together; None is without limit.

        Raises:
            ConfigError: a number is negative.
            NotFound: there is no such project or key.
        """
        with self._database.changing() as execute:
            check_scope(execute, scope, scope_id)
            sql = "SELECT id FROM rate_limits WHERE scope = ? AND scope_id = ? AND model = ?"
            earlier = execute(sql, scope, scope_id, model)
            id = earlier[0][0] if earlier else f"rl_{secrets.token_hex(6)}"
            try:
                limit = RateLimit(
                    id=id,
                    scope=scope,
                    scope_id=scope_id,
                    model=model,
                    requests_per_minute=requests,
                    tokens_per_minute=tokens,
                )
            except ValueError as error:
                raise ConfigError("a limit is a whole number of at least 0", hint="Remove it to lift it.") from error
            execute("DELETE FROM rate_limits WHERE id = ?", id)
            execute(f"INSERT INTO rate_limits ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", *limit.model_dump().values())
            self._scribe.note(execute, "rate_limit.updated", id, _project(limit), **limit.model_dump(exclude={"id"}))
        return limit

    def remove(self, id: str) -> RateLimit:
        """Lift a limit and return what it was.

        Raises:
            NotFound: there is none with that id.
        """
        with self._database.changing() as execute:
            limit = next((limit for limit in _all(execute) if limit.id == id), None)
            if limit is None:
                raise NotFound(f"there is no rate limit '{id}'", hint="`bessemer limits show` lists them.")
            execute("DELETE FROM rate_limits WHERE id = ?", id)
            for table in ("buckets", "shares"):
                execute(f"DELETE FROM {table} WHERE rate_limit = ?", id)
            self._scribe.note(execute, "rate_limit.deleted", id, _project(limit), **limit.model_dump(exclude={"id"}))
        return limit

    def list(self, scope: Scope | None = None, scope_id: str | None = None) -> tuple[RateLimit, ...]:
        """Return the limits, of one scope if it is given."""
        found = _all(self._database.read)
        return tuple(each for each in found if scope in (None, each.scope) and scope_id in (None, each.scope_id))


def check_scope(execute: Execute, scope: Scope, scope_id: str) -> None:
    """Raise NotFound unless there is what a scope names; ConfigError if it names too much or too little."""
    if (scope == "organization") != (not scope_id):
        raise ConfigError(f"a limit of the {scope} has {'no' if scope == 'organization' else 'an'} id", hint="")
    table = {"project": "projects", "key": "keys"}.get(scope)
    if table and not execute(f"SELECT 1 FROM {table} WHERE id = ?", scope_id):
        raise NotFound(f"there is no {scope} '{scope_id}'", hint=f"`bessemer {table} list` shows them.")


def _all(execute: Execute) -> tuple[RateLimit, ...]:
    rows = execute(f"SELECT {_COLUMNS} FROM rate_limits ORDER BY scope, scope_id, model")
    return tuple(RateLimit(**dict(zip(_COLUMNS.split(", "), row, strict=True))) for row in rows)


def _project(limit: RateLimit) -> str:
    return limit.scope_id if limit.scope == "project" else ""
