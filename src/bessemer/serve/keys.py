"""Keys of the gateway: made, shown once, checked, revoked, rotated.

A secret is ``bk-<key id>-<256 random bits>``. The database holds its SHA-256 only. A fast hash is right here: slow
ones protect secrets that can be guessed, and nobody guesses 256 random bits, while every request pays for the hash.

What was verified is remembered until an administrator changes something: at once in this process, within
`STALE_SECONDS` when it was another one.

Owns keys. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bessemer.core.errors import ConfigError, Conflict, NotFound
from bessemer.core.model_names import names_of
from bessemer.core.nouns import Noun
from bessemer.serve.accounts.audit import LOCAL, Scribe
from bessemer.serve.accounts.database import Database, Execute
from bessemer.serve.accounts.pages import Page
from bessemer.serve.accounts.schema import open_database

_COLUMNS = "id, project, name, admin, created_at, expires_at, revoked_at, models, service_account, user_id"
_LIKE = {"name", "admin", "expires_at", "models", "service_account", "user_id"}
_REMEMBERED_AT_MOST = 20_000
_NOBODY = bytes(32)
"""Compared with when there is no such key, so that a wrong id takes as long as a wrong secret."""


class Key(Noun):
    """What is known about a key; never its secret. Times are Unix seconds.

    Attributes:
        models: the only models that it may ask, and of an agent the only tools (`tools_of`); empty is all of them.
        service_account: id of the service account whose key it is, or empty.
        user_id: of the person whose key it is, or empty.
    """

    id: str
    project: Annotated[str, Field(pattern=r"^\S(.{0,198}\S)?$")]
    name: Annotated[str, Field(max_length=200)] = ""
    admin: bool = False
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    models: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    service_account: str = ""
    user_id: str = ""

    def may_ask(self, model: str) -> bool:
        """Whether the key is for this model too, by one of its names (see `names_of`)."""
        return not self.models or any(name in self.models for name in names_of(model))

    def tools_of(self, model: str) -> tuple[str, ...] | None:
        """Return the only tools of an agent that the key may have used: those named beside it as ``agent/tool``.

        None leaves all. A key for ``clerk`` alone may use all that the clerk can do; one for ``clerk`` and
        ``clerk/search`` no more than to search.
        """
        named = tuple(name.removeprefix(f"{model}/") for name in self.models if name.startswith(f"{model}/"))
        return named or None


class KeyRefusal(StrEnum):
    """Why a secret is not accepted. Only who holds a real secret learns more than `UNKNOWN`."""

    UNKNOWN = "unknown"
    REVOKED = "revoked"
    EXPIRED = "expired"
    ARCHIVED = "archived"


class KeyStore:
    """Keys in the database of accounts; for several threads and processes at once.

    Args:
        where: the database file, its URL, or the open database; a file is made if missing.
        clock: gives Unix seconds.
        actor: in whose name the audit log notes what is done here.

    Attributes:
        version: returns a number that moves with every change of a key or a project, by whatever process.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
    """

    def __init__(
        self, where: Path | str | Database, clock: Callable[[], float] = time.time, actor: str = LOCAL
    ) -> None:
        self._database = where if isinstance(where, Database) else open_database(where)
        self.url, self.version = self._database.url, self._database.version
        self._clock = clock
        self._scribe = Scribe(actor, clock)
        self._known: dict[str, tuple[bytes, Key, bool]] = {}
        self._known_at = -1

    def create(
        self,
        project: str,
        admin: bool = False,
        name: str = "",
        expires_at: float | None = None,
        models: Sequence[str] = (),
        user_id: str = "",
    ) -> tuple[Key, str]:
        """Return a new key and its secret, which is not kept and cannot be shown again.

        Args:
            project: id of the one whose usage the key counts to; made if there is none.
            admin: may administer the gateway.
            name: for people.
            expires_at: Unix seconds; None is never.
            models: the only ones that it may ask; none is all.
            user_id: of the person whose key it is; nobody's unless given.

        Raises:
            ConfigError: the project or the name is empty or too long.
            Conflict: the project is archived.
        """
        with self._database.changing() as execute:
            like = {"admin": admin, "name": name, "expires_at": expires_at, "models": tuple(models)}
            return self.add(execute, project, **like, user_id=user_id)

    def now(self) -> float:
        """Return the time by which keys expire, in Unix seconds."""
        return self._clock()

    def verify(self, secret: str) -> Key | KeyRefusal:
        """Return the key of a secret, or why it is refused; in constant time for all wrong secrets of one length."""
        version, digest = self._database.version(), _digest(secret)
        if version != self._known_at:
            self._known, self._known_at = {}, version
        id = secret[3:].partition("-")[0]
        known = self._known.get(id) or self._look_up(id, self._known)
        if not hmac.compare_digest(digest, known[0] if known else _NOBODY) or known is None:
            return KeyRefusal.UNKNOWN
        return self._standing(known)

    def standing(self, key_id: str) -> Key | KeyRefusal:
        """Return the key of an id, or why it would be refused now, for work that goes on after its request.

        Raises:
            NotFound: no key has that id.
        """
        known = self._look_up(key_id, {})
        if known is None:
            raise NotFound(f"no key has the id '{key_id}'", hint="`bessemer keys list` shows the ids.")
        return self._standing(known)

    def _standing(self, known: tuple[bytes, Key, bool]) -> Key | KeyRefusal:
        _, key, archived = known
        if key.revoked_at is not None:
            return KeyRefusal.REVOKED
        if key.expires_at is not None and key.expires_at <= self._clock():
            return KeyRefusal.EXPIRED
        return KeyRefusal.ARCHIVED if archived else key

    def prolong(self, key_id: str, expires_at: float) -> Key:
        """Let a key end at another time, in Unix seconds, and return it.

        Raises:
            NotFound: no key has that id.
            Conflict: the key has ended.
        """
        with self._database.changing() as execute:
            key = _found(execute, key_id)
            if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= self._clock()):
                raise Conflict(f"the key '{key_id}' has ended", hint="Make a new one with `bessemer keys create`.")
            execute("UPDATE keys SET expires_at = ? WHERE id = ?", expires_at, key_id)
            self._scribe.note(execute, "api_key.updated", key_id, key.project, expires_at=expires_at)
        return key.model_copy(update={"expires_at": expires_at})

    def revoke(self, key_id: str) -> Key:
        """End a key for good and return it; it stays listed. Again changes nothing.

        Raises:
            NotFound: no key has that id.
        """
        with self._database.changing() as execute:
            return self.end(execute, key_id)

    def rotate(self, key_id: str) -> tuple[Key, str]:
        """Return a new key like an old one, with its secret; the old one ends at the same moment.

        Limits and budgets of the old key, with what was spent, are the new one's.

        Raises:
            NotFound: no key has that id.
            Conflict: the key had ended already.
        """
        with self._database.changing() as execute:
            ended = _found(execute, key_id)
            expired = ended.expires_at is not None and ended.expires_at <= self._clock()
            if ended.revoked_at is not None or expired:  # one like an expired one would have expired, too
                how = "has expired" if expired else "was revoked"
                raise Conflict(f"the key '{key_id}' {how}", hint="Make a new one with `bessemer keys create`.")
            old = self.end(execute, key_id)
            like = old.model_dump(include=_LIKE)
            key, secret = self.add(execute, old.project, **like)
            for table in ("rate_limits", "budgets"):
                execute(f"UPDATE {table} SET scope_id = ? WHERE scope = 'key' AND scope_id = ?", key.id, old.id)
            return key, secret

    def ensure_development_key(self) -> str | None:
        """Return the secret of a first key, or None if a key was ever made here; one caller of many gets it."""
        if self._database.read("SELECT 1 FROM keys LIMIT 1"):
            return None
        with self._database.changing() as execute:
            if self._database.is_postgres:
                execute("LOCK TABLE keys IN SHARE ROW EXCLUSIVE MODE")  # SQLite has one writer anyway
            if execute("SELECT 1 FROM keys LIMIT 1"):
                return None
            return self.add(execute, "default", admin=True, name="development")[1]

    def get(self, key_id: str) -> Key:
        """Return a key.

        Raises:
            NotFound: no key has that id.
        """
        return _found(self._database.read, key_id)

    def list(self) -> list[Key]:
        """Return all keys, also those that ended, oldest first."""
        rows = self._database.read(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id")
        return [_key(row) for row in rows]

    def page(
        self,
        limit: int = 20,
        after: str = "",
        project: str | None = None,
        admin: bool | None = None,
        newest_first: bool = False,
    ) -> Page[Key]:
        """Return a page of the keys that have not ended, oldest first unless wanted otherwise.

        Args:
            limit: keys on a page.
            after: id of the last key of the page before.
            project: only of this project.
            admin: only administrators' keys, or only others.
            newest_first: in the other order.

        Raises:
            NotFound: there never was a key `after`.
        """

        def shown(key: Key) -> bool:
            return key.revoked_at is None and project in (None, key.project) and admin in (None, key.admin)

        keys = self.list()[::-1] if newest_first else self.list()
        return Page.following(keys, after, limit, lambda key: key.id, shown)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def add(self, execute: Execute, project: str, **like: Any) -> tuple[Key, str]:
        """Make a key within somebody's transaction; see `create`."""
        try:
            key = Key(id=secrets.token_hex(6), project=project, created_at=self._clock(), **like)
        except ValueError as error:
            raise ConfigError(
                "a key needs a project of 1 to 200 characters, a name of 200 at most, and models that have names",
                hint="Name a project without spaces at its ends.",
            ) from error
        archived = execute("SELECT archived_at FROM projects WHERE id = ?", project)
        if not archived:
            execute("INSERT INTO projects (id, name, created_at) VALUES (?, ?, ?)", project, project, key.created_at)
            self._scribe.note(execute, "project.created", project, project, name=project)
        elif archived[0][0] is not None:
            raise Conflict(f"the project '{project}' is archived", hint="Name another project.")
        secret = f"bk-{key.id}-{secrets.token_urlsafe(32)}"
        execute(
            f"INSERT INTO keys (digest, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?)",
            _digest(secret), key.id, project, key.name, int(key.admin), key.created_at, key.expires_at,
            json.dumps(key.models) if key.models else "", key.service_account, key.user_id,
        )  # fmt: skip
        shown = key.model_dump(include=_LIKE)
        self._scribe.note(execute, "api_key.created", key.id, project, **shown)
        return key, secret

    def end(self, execute: Execute, key_id: str) -> Key:
        """Revoke a key within somebody's transaction; see `revoke`."""
        key = _found(execute, key_id)
        if key.revoked_at is not None:
            return key
        execute("UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", self._clock(), key_id)
        self._scribe.note(execute, "api_key.deleted", key_id, key.project)
        return _found(execute, key_id)

    def _look_up(self, id: str, known: dict[str, tuple[bytes, Key, bool]]) -> tuple[bytes, Key, bool] | None:
        if "\x00" in id or not id.isascii():
            return None  # neither database takes every text, and no id has these
        rows = self._database.read(
            f"SELECT digest, {_COLUMNS}, (SELECT archived_at FROM projects WHERE projects.id = keys.project)"
            " FROM keys WHERE id = ?",
            id,
        )
        if not rows:
            return None
        if len(known) >= _REMEMBERED_AT_MOST:
            known.clear()
        digest, *columns, archived_at = rows[0]
        found = known[id] = (bytes(digest), _key(columns), archived_at is not None)
        return found


def _found(execute: Execute, key_id: str) -> Key:
    rows = execute(f"SELECT {_COLUMNS} FROM keys WHERE id = ?", key_id)
    if not rows:
        raise NotFound(f"no key has the id '{key_id}'", hint="`bessemer keys list` shows the ids.")
    return _key(rows[0])


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key(row: Sequence[Any]) -> Key:
    fields = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return Key(**{**fields, "models": tuple(json.loads(fields["models"] or "[]"))})
