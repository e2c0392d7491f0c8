"""What may be kept of each project's words, as its administrator says; everything that a client asks for unless told.

Owns the table ``capture``. What the rules mean is `privacy`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bessemer.core.errors import NotFound
from bessemer.serve.accounts.audit import LOCAL, Scribe
from bessemer.serve.accounts.database import Database
from bessemer.serve.privacy import Capture


class Captures:
    """The rules of all projects.

    Args:
        database: of the accounts.
        clock: gives Unix seconds.
        actor: in whose name the audit log notes what is done here.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time, actor: str = LOCAL) -> None:
        self._database, self._scribe = database, Scribe(actor, clock)

    def of(self, project: str) -> Capture:
        """Return what may be kept of a project's words."""
        rows = self._database.read("SELECT stores, pii FROM capture WHERE project = ?", project)
        return Capture(stores=bool(rows[0][0]), pii=rows[0][1]) if rows else Capture()

    def set(self, project: str, capture: Capture) -> Capture:
        """Say what may be kept of a project's words from now on, and return it.

        Raises:
            NotFound: there is no such project.
        """
        with self._database.changing() as execute:
            if not execute("SELECT 1 FROM projects WHERE id = ?", project):
                raise NotFound(f"there is no project '{project}'", hint="`bessemer projects list` shows the ids.")
            execute(
                "INSERT INTO capture (project, stores, pii) VALUES (?, ?, ?) ON CONFLICT (project)"
                " DO UPDATE SET stores = excluded.stores, pii = excluded.pii",
                project, int(capture.stores), capture.pii,
            )  # fmt: skip
            self._scribe.note(execute, "project.updated", project, project, **capture.model_dump())
        return capture
