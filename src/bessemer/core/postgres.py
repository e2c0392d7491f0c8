"""How the rooms speak to a Postgres: how long they wait for it and for each other, and the words that make a table.

Whoever changes tables that hold much already says `UNHURRIED` first, within its transaction.

Owns the rule and the words. Opens nothing by itself: the driver, psycopg, is handed in.
"""

from __future__ import annotations

import re
from typing import Any

_PATIENCE = "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '30s'; SET statement_timeout = '60s'"
"""As long as SQLite waits for others; and whoever is cut off, or stands still, holds nobody up for longer."""
_SILENCE = {
    "connect_timeout": "10",
    "tcp_user_timeout": "30000",
    "keepalives_idle": "10",
    "keepalives_interval": "10",
    "keepalives_count": "2",
}
"""How long a server may be silent, unless its URL says so: seconds to connect, milliseconds to take what is sent, and
seconds until one that has taken a question is asked whether it still is there. Source: libpq."""
UNHURRIED = "SET LOCAL statement_timeout = 0"
"""Lets each statement of a transaction take what it takes; it waits for others no longer than before."""


def connected(driver: Any, url: str) -> Any:
    """Return a new connection that waits for nothing for ever; each statement holds at once, unless one begins more.

    Raises:
        Exception: the driver's own, if the server cannot be reached.
    """
    told = driver.conninfo.conninfo_to_dict(url)
    server = driver.connect(**_SILENCE | told, autocommit=True)
    server.execute(_PATIENCE)
    return server


def made_in_postgres(statement: str, *, bytewise: bool = False) -> str:
    """Return a statement that makes a table or an index, from SQLite's words; what only SQLite knows becomes nothing.

    Args:
        statement: in SQLite's words.
        bytewise: whether text sorts by its bytes, as it does there.

    >>> made_in_postgres("CREATE TABLE a (n INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, digest BLOB) STRICT")
    'CREATE TABLE a (n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at DOUBLE PRECISION, digest BYTEA)'
    >>> made_in_postgres("CREATE TABLE a (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID", bytewise=True)
    'CREATE TABLE a (id TEXT COLLATE "C" PRIMARY KEY)'
    """
    for ours, theirs in (
        (r"INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
        (r"\bINTEGER\b", "BIGINT"),
        (r"\bREAL\b", "DOUBLE PRECISION"),
        (r"\bBLOB\b", "BYTEA"),
        (r"\bTEXT\b", 'TEXT COLLATE "C"' if bytewise else "TEXT"),
        (r"\) STRICT(, WITHOUT ROWID)?$", ")"),
        (r"^PRAGMA.*$", ""),
    ):
        statement = re.sub(ours, theirs, statement.strip())
    return statement
