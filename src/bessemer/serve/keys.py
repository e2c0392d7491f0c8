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
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bessemer.core.errors import BackendError, ConfigError, IntegrityError, NotFound
from bessemer.core.nouns import Noun

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
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.chmod(0o600)  # SQLite gives its side files the same mode
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as error:
            raise ConfigError(
                f"the keys in {path} cannot be opened: {error}", hint="Check the folder and its permissions."
            ) from error
        weakref.finalize(self, self._database.close)
        with self._guarded():
            self._database.execute("PRAGMA journal_mode = WAL")  # readers never wait for a writer
            self._database.execute(_SCHEMA)

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
        with self._transaction():
            return self._insert(project, admin, name, expires_at)

    def verify(self, secret: str) -> Key | KeyRefusal:
        """Return the key of a secret, or why it is refused; in constant time for all wrong secrets of one length."""
        id = secret[3:].partition("-")[0]
        with self._guarded():
            row = self._database.execute(f"SELECT digest, {_COLUMNS} FROM keys WHERE id = ?", (id,)).fetchone()
        right = hmac.compare_digest(_digest(secret), row[0] if row else _NOBODY)
        if not row or not right:
            return KeyRefusal.UNKNOWN
        key = _key(row[1:])
        if key.revoked_at is not None:
            return KeyRefusal.REVOKED
        if key.expires_at is not None and key.expires_at <= self._clock():
            return KeyRefusal.EXPIRED
        return key

    @property
    def changes(self) -> int:
        """What grows whenever this store changes a key; costs nothing."""
        return self._database.total_changes

    def others(self) -> int:
        """Return what changes whenever another process changes a key; cheaper than asking for a key."""
        with self._guarded():
            return int(self._database.execute("PRAGMA data_version").fetchone()[0])

    def hashed(self, secret: str) -> bytes:
        """Return the hash under which a secret may be kept."""
        return _digest(secret)

    def now(self) -> float:
        """Return the time by which keys expire, in Unix seconds."""
        return self._clock()

    def revoke(self, key_id: str) -> Key:
        """End a key for good and return it; it stays listed. Again changes nothing.

        Raises:
            NotFound: no key has that id.
        """
        with self._transaction():
            return self._revoke(key_id)

    def rotate(self, key_id: str) -> tuple[Key, str]:
        """Return a new key like an old one, with its secret; the old one ends at the same moment.

        Raises:
            NotFound: no key has that id.
        """
        with self._transaction():
            old = self._revoke(key_id)
            return self._insert(old.project, old.admin, old.name, old.expires_at)

    def ensure_development_key(self) -> str | None:
        """Return the secret of a first key, or None if a key was ever made here; one caller of many gets it."""
        with self._transaction():
            if self._database.execute("SELECT 1 FROM keys LIMIT 1").fetchone():
                return None
            return self._insert("default", True, "development", None)[1]

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def list(self) -> list[Key]:
        """Return all keys, also those that ended, oldest first."""
        with self._guarded():
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id").fetchall()
        return [_key(row) for row in rows]

    def _insert(self, project: str, admin: bool, name: str, expires_at: float | None) -> tuple[Key, str]:
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
        self._database.execute(
            f"INSERT INTO keys (digest, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (_digest(secret), key.id, project, name, int(admin), key.created_at, expires_at),
        )
        return key, secret

    def _revoke(self, key_id: str) -> Key:
        self._database.execute(
            "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (self._clock(), key_id)
        )
        row = self._database.execute(f"SELECT {_COLUMNS} FROM keys WHERE id = ?", (key_id,)).fetchone()
        if not row:
            raise NotFound(f"no key has the id '{key_id}'", hint="`bessemer keys list` shows the ids.")
        return _key(row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._guarded():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                raise BackendError(
                    f"the keys in {self._path} cannot be used: {error}", hint="Check the disk and the permissions."
                ) from error
            except sqlite3.DatabaseError as error:
                raise IntegrityError(
                    f"{self._path} is no database of keys: {error}", hint="Restore it from a copy, or move it away."
                ) from error


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
