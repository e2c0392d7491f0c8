"""The tables of accounts, and how a database that only had keys gets them.

Owns the schema, in SQLite's words; `database` says it in Postgres's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bessemer.serve.accounts.database import Database

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS keys (
        id TEXT PRIMARY KEY, digest BLOB NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL, admin INTEGER NOT NULL,
        created_at REAL NOT NULL, expires_at REAL, revoked_at REAL
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS projects (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at REAL NOT NULL, archived_at REAL
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS service_accounts (
        id TEXT PRIMARY KEY, project TEXT NOT NULL, name TEXT NOT NULL, created_at REAL NOT NULL, deleted_at REAL
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS users (
        id TEXT PRIMARY KEY, email TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL, created_at REAL NOT NULL,
        deleted_at REAL
    ) STRICT""",
    "CREATE UNIQUE INDEX IF NOT EXISTS users_by_email ON users (email) WHERE deleted_at IS NULL",
    """
    CREATE TABLE IF NOT EXISTS members (
        project TEXT NOT NULL, user_id TEXT NOT NULL, role TEXT NOT NULL, added_at REAL NOT NULL,
        PRIMARY KEY (project, user_id)
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS rate_limits (
        id TEXT PRIMARY KEY, scope TEXT NOT NULL, scope_id TEXT NOT NULL, model TEXT NOT NULL,
        requests_per_minute INTEGER, tokens_per_minute INTEGER, UNIQUE (scope, scope_id, model)
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS buckets (
        rate_limit TEXT NOT NULL, unit TEXT NOT NULL, level REAL NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (rate_limit, unit)
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS budgets (
        id TEXT PRIMARY KEY, scope TEXT NOT NULL, scope_id TEXT NOT NULL, period TEXT NOT NULL,
        limit_micros INTEGER NOT NULL, currency TEXT NOT NULL, enforced INTEGER NOT NULL, created_at REAL NOT NULL,
        removed_at REAL
    ) STRICT""",
    "DROP INDEX IF EXISTS budgets_in_force",  # of the first databases: it allows one alert only
    """
    CREATE UNIQUE INDEX IF NOT EXISTS budgets_of_periods ON budgets (scope, scope_id, period)
    WHERE removed_at IS NULL AND period <> 'alert'
    """,
    """
    CREATE TABLE IF NOT EXISTS credits (
        number INTEGER PRIMARY KEY AUTOINCREMENT, budget TEXT NOT NULL, micros INTEGER NOT NULL, note TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS spend (
        budget TEXT NOT NULL, span TEXT NOT NULL, spent_micros INTEGER NOT NULL, reserved_micros INTEGER NOT NULL,
        overrun_micros INTEGER NOT NULL, PRIMARY KEY (budget, span)
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS thresholds (budget TEXT PRIMARY KEY, percents TEXT NOT NULL) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS alerts (
        budget TEXT NOT NULL, span TEXT NOT NULL, percent INTEGER NOT NULL, limit_micros INTEGER NOT NULL,
        spent_micros INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (budget, span, percent, limit_micros)
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS alerts_at ON alerts (at)",
    """
    CREATE TABLE IF NOT EXISTS reservations (
        id TEXT PRIMARY KEY, books TEXT NOT NULL, worker TEXT NOT NULL, micros INTEGER NOT NULL, spans TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS blocks (
        worker TEXT NOT NULL, budget TEXT NOT NULL, span TEXT NOT NULL, micros INTEGER NOT NULL,
        PRIMARY KEY (worker, budget, span)
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS slates (
        worker TEXT PRIMARY KEY, books TEXT NOT NULL, boot TEXT NOT NULL, round INTEGER NOT NULL
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS shares (
        rate_limit TEXT NOT NULL, unit TEXT NOT NULL, worker TEXT NOT NULL, amount INTEGER NOT NULL,
        until REAL NOT NULL, PRIMARY KEY (rate_limit, unit, worker)
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS capture (project TEXT PRIMARY KEY, stores INTEGER NOT NULL, pii TEXT NOT NULL) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, actor TEXT NOT NULL, act TEXT NOT NULL,
        project TEXT NOT NULL, target TEXT NOT NULL, details TEXT NOT NULL
    ) STRICT""",
)
_APPEND_ONLY_SQLITE = tuple(
    f"""
    CREATE TRIGGER IF NOT EXISTS audit_no_{act.lower()} BEFORE {act} ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"""
    for act in ("UPDATE", "DELETE")
)
_APPEND_ONLY_POSTGRES = (
    """
    CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger AS $$
    BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$ LANGUAGE plpgsql""",
    """
    CREATE OR REPLACE TRIGGER audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()""",
)
_NEW_COLUMNS = {"models": "''", "service_account": "''", "user_id": "''"}
"""Columns of `keys` that the first databases do not have -> their default."""


_OLD_KEY = "id, digest, project, name, admin, created_at, expires_at, revoked_at"
_PROJECTS_OF_KEYS = (
    "INSERT INTO projects (id, name, created_at) SELECT project, project, MIN(created_at) FROM keys"
    " WHERE project NOT IN (SELECT id FROM projects) GROUP BY project"
)


def open_database(where: Path | str, clock: Callable[[], float] = time.monotonic) -> Database:
    """Return the database of accounts at a path or a URL; one that only had keys is brought up to date.

    Raises:
        ConfigError: it cannot be made or read.
        IntegrityError: it is no database.
        BackendError: the server cannot be reached.
    """
    database = Database(f"sqlite:///{where.absolute()}" if isinstance(where, Path) else where, _TABLES, clock)
    with database.making() as execute:
        if database.is_postgres:
            execute("LOCK TABLE keys IN ACCESS EXCLUSIVE MODE")
            present = execute("SELECT attname FROM pg_attribute WHERE attrelid = 'keys'::regclass")
        else:
            present = execute("SELECT name FROM pragma_table_info('keys')")
        for column in _NEW_COLUMNS.keys() - {name for (name,) in present}:
            execute(f"ALTER TABLE keys ADD COLUMN {column} TEXT NOT NULL DEFAULT {_NEW_COLUMNS[column]}")
        for statement in _APPEND_ONLY_POSTGRES if database.is_postgres else _APPEND_ONLY_SQLITE:
            execute(statement)
        execute(_PROJECTS_OF_KEYS)
    return database


def adopt(database: Database, path: Path) -> None:
    """Take over the keys of a SQLite file into a Postgres that has no key yet; the file stays as it is."""
    if database.read("SELECT 1 FROM keys LIMIT 1"):
        return
    earlier = open_database(path)
    rows = earlier.read(f"SELECT {_OLD_KEY}, models, service_account FROM keys")
    earlier.close()
    with database.changing() as execute:
        for row in rows:
            execute(
                f"INSERT INTO keys ({_OLD_KEY}, models, service_account) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                *row,
            )
        execute(_PROJECTS_OF_KEYS)
