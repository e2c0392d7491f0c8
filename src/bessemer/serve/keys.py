"""Keys of the gateway: made, shown once, checked, revoked, rotated.

A secret is ``bk-<key id>-<256 random bits>``. The database holds its SHA-256 only. A fast hash is right here: slow
ones protect secrets that can be guessed, and nobody guesses 256 random bits, while every request pays for the hash.

Owns the database of keys. Knows no HTTP. Projects are whatever names keys have.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Noun
from bessemer.serve.database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, digest BLOB NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL, admin INTEGER NOT NULL,
    created_at REAL NOT NULL, expires_at REAL, revoked_at REAL
) STRICT
"""
_COLUMNS = "id, project, name, admin, created_at, expires_at, revoked_at"
_NOBODY = bytes(32)
"""Compared with when there is no such key, so that a wrong id takes as long as a wrong secret."""


class Key(Noun):
    """What is known about a key; never its secret. Times are Unix seconds."""

    id: str
    project: Annotated[str, Field(pattern=r"^\S(.{0,198}\S)?$")]
    name: Annotated[str, Field(max_length=200)] = ""
    admin: bool = False
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None


class KeyRefusal(StrEnum):
    """Why a secret is not accepted. Only who holds a real secret learns more than `UNKNOWN`."""

    UNKNOWN = "unknown"
    REVOKED = "revoked"
    EXPIRED = "expired"


class KeyStore:
    """Keys in a SQLite database that only its owner can read; for several threads and processes at once.

    Args:
        path: the database file; made if missing.
        clock: gives Unix seconds.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._database = Database(path, _SCHEMA, "keys")

    def create(
        self, project: str, admin: bool = False, name: str = "", expires_at: float | None = None
    ) -> tuple[Key, str]:
        """Return a new key and its secret, which is not kept and cannot be shown again.

        Args:
            project: whose usage the key counts to; made by naming it.
            admin: may administer the gateway.
            name: for people.
            expires_at: Unix seconds; None is never.

        Raises:
            ConfigError: the project or the name is empty or too long.
        """
        with self._database.writing() as database:
            return self._insert(database, project, admin, name, expires_at)

    def verify(self, secret: str) -> Key | KeyRefusal:
        """Return the key of a secret, or why it is refused; in constant time for all wrong secrets of one length."""
        id = secret[3:].partition("-")[0]
        with self._database.reading() as database:
            row = database.execute(f"SELECT digest, {_COLUMNS} FROM keys WHERE id = ?", (id,)).fetchone()
        right = hmac.compare_digest(_digest(secret), row[0] if row else _NOBODY)
        if not row or not right:
            return KeyRefusal.UNKNOWN
        key = _key(row[1:])
        if key.revoked_at is not None:
            return KeyRefusal.REVOKED
        if key.expires_at is not None and key.expires_at <= self._clock():
            return KeyRefusal.EXPIRED
        return key

    def revoke(self, key_id: str) -> Key:
        """End a key for good and return it; it stays listed. Again changes nothing.

        Raises:
            NotFound: no key has that id.
        """
        with self._database.writing() as database:
            return self._revoke(database, key_id)

    def rotate(self, key_id: str) -> tuple[Key, str]:
        """Return a new key like an old one, with its secret; the old one ends at the same moment.

        Raises:
            NotFound: no key has that id.
        """
        with self._database.writing() as database:
            old = self._revoke(database, key_id)
            return self._insert(database, old.project, old.admin, old.name, old.expires_at)

    def ensure_development_key(self) -> str | None:
        """Return the secret of a first key, or None if a key was ever made here; one caller of many gets it."""
        with self._database.writing() as database:
            if database.execute("SELECT 1 FROM keys LIMIT 1").fetchone():
                return None
            return self._insert(database, "default", True, "development", None)[1]

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def list(self) -> list[Key]:
        """Return all keys, also those that ended, oldest first."""
        with self._database.reading() as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id").fetchall()
        return [_key(row) for row in rows]

    def _insert(
        self, database: sqlite3.Connection, project: str, admin: bool, name: str, expires_at: float | None
    ) -> tuple[Key, str]:
        try:
            key = Key(
                id=secrets.token_hex(6),
                project=project,
                name=name,
                admin=admin,
                created_at=self._clock(),
                expires_at=expires_at,
            )
        except ValueError as error:
            raise ConfigError(
                "a key needs a project of 1 to 200 characters and a name of 200 at most",
                hint="Name a project without spaces at its ends.",
            ) from error
        secret = f"bk-{key.id}-{secrets.token_urlsafe(32)}"
        database.execute(
            f"INSERT INTO keys (digest, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (_digest(secret), key.id, project, name, int(admin), key.created_at, expires_at),
        )
        return key, secret

    def _revoke(self, database: sqlite3.Connection, key_id: str) -> Key:
        database.execute("UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (self._clock(), key_id))
        row = database.execute(f"SELECT {_COLUMNS} FROM keys WHERE id = ?", (key_id,)).fetchone()
        if not row:
            raise NotFound(f"no key has the id '{key_id}'", hint="`bessemer keys list` shows the ids.")
        return _key(row)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key(row: tuple[str, str, str, int, float, float | None, float | None]) -> Key:
    id, project, name, admin, created_at, expires_at, revoked_at = row
    return Key(
        id=id,
        project=project,
        name=name,
        admin=bool(admin),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
    )
