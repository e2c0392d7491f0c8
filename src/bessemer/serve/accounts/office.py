"""The front door of accounts: one database with all that is administered in it, in somebody's name.

Owns nothing but the door.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bessemer.serve.accounts.alerts import Alerts
from bessemer.serve.accounts.audit import LOCAL, AuditLog
from bessemer.serve.accounts.budgets import Budgets
from bessemer.serve.accounts.capture import Captures
from bessemer.serve.accounts.database import Database
from bessemer.serve.accounts.projects import Projects
from bessemer.serve.accounts.rates import RateLimits
from bessemer.serve.accounts.schema import adopt, open_database
from bessemer.serve.accounts.users import Users
from bessemer.serve.keys import KeyStore


class Accounts:
    """All that is administered.

    Args:
        database: of the accounts.
        clock: gives Unix seconds.
        actor: in whose name the audit log notes what is done here: a key's id, or ``local``.
        currency: of the prices, in which budgets must be; empty takes any.

    Attributes:
        keys, projects, users, rates, budgets: who may ask, and for how much.
        alerts: who is told when spending passes a part of a budget.
        capture: what may be kept of a project's words.
        audit: what was done.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float] = time.time, actor: str = LOCAL, currency: str = ""
    ) -> None:
        self.database, self._clock, self.currency = database, clock, currency
        self.keys = KeyStore(database, clock, actor)
        self.projects = Projects(database, self.keys, clock, actor)
        self.users = Users(database, self.keys, clock, actor)
        self.rates = RateLimits(database, clock, actor)
        self.budgets = Budgets(database, clock, actor, currency)
        self.alerts = Alerts(database, clock, actor)
        self.capture = Captures(database, clock, actor)
        self.audit = AuditLog(database)

    def by(self, actor: str) -> Accounts:
        """Return the same accounts, in another one's name."""
        return Accounts(self.database, self._clock, actor, self.currency)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def open_accounts(
    where: Path | str, clock: Callable[[], float] = time.time, earlier: Path | None = None, currency: str = ""
) -> Accounts:
    """Return the accounts in a database; its tables are made if there are none.

    Args:
        where: path of a SQLite file, or a URL (``sqlite:///path``, ``postgresql://...``).
        clock: gives Unix seconds.
        earlier: a SQLite file of keys that are taken over, if it is there and another database.
        currency: of the prices, in which budgets must be; empty takes any.

    Raises:
        ConfigError: it cannot be made or read.
        IntegrityError: it is no database.
        BackendError: the server cannot be reached.
        MissingDependency: psycopg is not installed.
    """
    database = open_database(where)
    if earlier is not None and database.is_postgres and earlier.exists():
        adopt(database, earlier)
    return Accounts(database, clock, currency=currency)
