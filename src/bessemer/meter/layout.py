"""Makes the ledger's tables, and makes those of an earlier version of ours again: the journals have all they held.

A table is dropped only where a number tells that it is ours. In a Postgres that several hosts fill, the journals that
were read before stay noted until each was taken in again: until then their usage is missing.

Owns the number of the layout. Knows no entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from sqlite3 import OperationalError

from bessemer.core.errors import ConfigError, Conflict
from bessemer.meter.database import LedgerDatabase

_LAYOUT = 5
"""Number of the tables' layout, kept in the database; changes with ``schema.sql``."""
_TABLES = ("entries", "forms", "sums", "segments")
_TABLES_BEFORE = ("entries", "segments", "hours")
"""Of each layout before 5."""
_OF_OUR_FIRST = {"name", "offset", "seq", "hash"}
"""Columns of ``segments`` when the number was not in a table yet, in SQLite only."""
_OWN = (
    "Give the ledger a database of its own (a SQLite file is made where there is none) or a schema:"
    " postgresql://...?options=-csearch_path%3Dbessemer"
)


def make_tables(database: LedgerDatabase) -> None:
    """Make the tables that are not there, and those of an earlier layout of ours again.

    Raises:
        ConfigError: tables of these names are somebody else's, or were made by a newer version; none is touched.
    """
    with database.writing(unhurried=True):
        found = _found(database)
        if found == _LAYOUT:
            _make_noted(database)
            return
        before = _TABLES_BEFORE if found else ()
        if others := [name for name in _TABLES if name not in before and database.columns(name)]:
            names = ", ".join(others)
            raise ConfigError(f"the ledger's database has tables of somebody else: {names}", hint=_OWN)
        _make_noted(database)
        if database.is_postgres and found:
            told = "INSERT INTO ledger_awaits (journal) SELECT DISTINCT journal FROM segments ON CONFLICT DO NOTHING"
            database.query(told)
        for table in before:
            database.query(f"DROP TABLE IF EXISTS {table}")
        database.make("CREATE TABLE IF NOT EXISTS layout (version INTEGER NOT NULL)")
        database.make((files("bessemer.meter") / "schema.sql").read_text())
        database.query("DELETE FROM layout")
        database.query("INSERT INTO layout (version) VALUES (?)", (_LAYOUT,))
    if found and not database.is_postgres:
        with suppress(OperationalError):  # somebody reads: the file stays large, and its pages are used again
            database.query("VACUUM")  # nearly nothing is left to be copied
            database.query("PRAGMA wal_checkpoint(TRUNCATE)")


def awaited(database: LedgerDatabase) -> tuple[str, ...]:
    """Return the names of the journals whose entries are missing since the tables were made again."""
    return tuple(name for (name,) in database.query("SELECT journal FROM ledger_awaits ORDER BY journal"))


def arrived(database: LedgerDatabase, journal: str) -> None:
    """Note that a journal was taken in to its end."""
    database.query("DELETE FROM ledger_awaits WHERE journal = ?", (journal,))


def anchor(database: LedgerDatabase, journal: str, seq: int, hash: str) -> None:
    """Note how far the register of invoices beside a journal has grown."""
    with database.writing():
        database.query("DELETE FROM ledger_anchors WHERE journal = ?", (journal,))
        database.query("INSERT INTO ledger_anchors (journal, seq, hash) VALUES (?, ?, ?)", (journal, seq, hash))


def told_of(journals: Sequence[str]) -> tuple[str, str]:
    """Return what to say of journals that are awaited, and what to do."""
    return (
        f"the ledger was made again by a newer version and misses what {len(journals)} other hosts booked"
        f" (journals {', '.join(journals)})",
        "Run `bessemer usage` on each of them, in the home whose books/journal/name is that name; of a host that is"
        " gone, in a copy of its home.",
    )


def check_whole(journals: Sequence[str]) -> None:
    """Refuse what needs all entries while journals are awaited.

    Raises:
        Conflict: names them, and says what to do.
    """
    if journals:
        message, hint = told_of(journals)
        raise Conflict(message, hint=hint)


def _make_noted(database: LedgerDatabase) -> None:
    """Make the tables that stay when the others are made again; the first ledgers of this layout have none."""
    database.make("CREATE TABLE IF NOT EXISTS ledger_awaits (journal TEXT NOT NULL PRIMARY KEY) STRICT")
    columns = "journal TEXT NOT NULL PRIMARY KEY, seq INTEGER NOT NULL, hash TEXT NOT NULL"
    database.make(f"CREATE TABLE IF NOT EXISTS ledger_anchors ({columns}) STRICT")


def _found(database: LedgerDatabase) -> int:
    """Return the layout of the tables that are there; 0 if none is ours.

    Raises:
        ConfigError: it is newer than ours, or the number's table is somebody else's.
    """
    columns = database.columns("layout")
    if not columns:
        ours = not database.is_postgres and database.columns("segments") == _OF_OUR_FIRST
        return 2 if ours else 0
    rows = database.query("SELECT * FROM layout LIMIT 2") if columns == {"version"} else []
    if len(rows) != 1 or not isinstance(rows[0][0], int) or rows[0][0] < 1:
        raise ConfigError("the ledger's database has a table of somebody else: layout", hint=_OWN)
    version: int = rows[0][0]
    if version > _LAYOUT:
        raise ConfigError(
            f"the ledger was made by a newer version of Bessemer (layout {version}; this one knows {_LAYOUT})",
            hint=f"Use that version. {_OWN}",
        )
    return version
