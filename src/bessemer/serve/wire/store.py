"""Answers that clients asked to have stored: for their project only, until it deletes them or newer ones push them out.

Owns the database of answers. Knows no HTTP.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bessemer.core.errors import NotFound, Unsupported
from bessemer.serve.database import Database
from bessemer.serve.privacy import CaptureOf, keep_all, masked

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, kind TEXT NOT NULL,
    model TEXT NOT NULL, metadata TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS answers_of_project ON answers (project, kind, sequence);
PRAGMA secure_delete = ON;
"""
Kind = Literal["chat.completion", "response"]


class Stored(BaseModel):
    """An answer as it is kept.

    Attributes:
        id: of the answer.
        kind: which wire object it is.
        model: the name that was asked for.
        created: Unix seconds.
        metadata: the client's own words about it.
        body: the wire object.
        said: the messages or items that were asked with.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    kind: Kind
    model: str
    created: int
    metadata: dict[str, str] = {}
    body: dict[str, Any]
    said: list[dict[str, Any]]


class AnswerStore:
    """Answers in a SQLite database that only its owner can read; for several threads and processes at once.

    Args:
        path: of the database; made if missing.
        most_per_project: of each kind; beyond it the oldest are forgotten.
        capture: says what may be kept of a project's words.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
    """

    def __init__(self, path: Path, most_per_project: int = 10_000, capture: CaptureOf = keep_all) -> None:
        self._most, self._capture = most_per_project, capture
        self._database = Database(path, _SCHEMA, "stored answers")

    def add(self, project: str, stored: Stored) -> None:
        """Keep an answer of a project, as far as it lets its words be kept.

        Raises:
            Unsupported: it lets nothing be kept.
        """
        self.permit(project)
        if self._capture(project).pii == "mask":
            changed = {name: masked(getattr(stored, name)) for name in ("body", "said", "metadata")}
            stored = stored.model_copy(update=changed)
        row = (stored.id, project, stored.kind, stored.model, json.dumps(stored.metadata), stored.model_dump_json())
        with self._database.writing() as database:
            database.execute(
                "INSERT INTO answers (id, project, kind, model, metadata, body) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            database.execute(
                "DELETE FROM answers WHERE sequence IN (SELECT sequence FROM answers WHERE project = ? AND kind = ?"
                " ORDER BY sequence DESC LIMIT -1 OFFSET ?)",
                (project, stored.kind, self._most),
            )

    def permit(self, project: str) -> None:
        """Do nothing, if answers of a project may be kept.

        Raises:
            Unsupported: they may not.
        """
        if not self._capture(project).stores:
            raise Unsupported(f"of the project '{project}' nothing is kept", hint="Leave 'store' out.")

    def permit_whole(self, project: str) -> None:
        """Do nothing, if a project's words may be kept as they are, as an agent's sessions and runs need them.

        Raises:
            Unsupported: they may not, or only masked.
        """
        kept = self._capture(project)
        if not kept.stores or kept.pii == "mask":
            told = f"of the project '{project}' no words are kept as they are"
            raise Unsupported(told, hint="Leave 'session' and 'run' out of the metadata.")

    def get(self, project: str, kind: Kind, id: str) -> Stored:
        """Return one answer.

        Raises:
            NotFound: the project has none of that kind and id.
        """
        with self._database.reading() as database:
            row = database.execute(
                "SELECT body FROM answers WHERE project = ? AND kind = ? AND id = ?", (project, kind, id)
            ).fetchone()
        if not row:
            raise _unknown(id)
        return Stored.model_validate_json(row[0])

    def describe(self, project: str, kind: Kind, id: str, metadata: dict[str, str]) -> Stored:
        """Replace what the client says about an answer, and return the answer.

        Raises:
            NotFound: the project has none of that kind and id.
        """
        was = self.get(project, kind, id)
        metadata = masked(metadata) if self._capture(project).pii == "mask" else metadata
        now = was.model_copy(update={"metadata": metadata, "body": was.body | {"metadata": metadata}})
        with self._database.writing() as database:
            changed = database.execute(
                "UPDATE answers SET metadata = ?, body = ? WHERE project = ? AND kind = ? AND id = ?",
                (json.dumps(metadata), now.model_dump_json(), project, kind, id),
            ).rowcount
        if not changed:
            raise _unknown(id)
        return now

    def delete(self, project: str, kind: Kind, id: str) -> None:
        """Forget one answer, its bytes too.

        Raises:
            NotFound: the project has none of that kind and id.
        """
        with self._database.writing() as database:
            gone = database.execute(
                "DELETE FROM answers WHERE project = ? AND kind = ? AND id = ?", (project, kind, id)
            ).rowcount
        if not gone:
            raise _unknown(id)
        with self._database.reading() as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log of writes has the words, too

    def page(self, project: str, kind: Kind, wanted: Wanted) -> tuple[list[Stored], bool]:
        """Return a page of a project's answers, and whether there are more.

        Raises:
            NotFound: `wanted.after` is no answer of this project.
        """
        order, edge = ("DESC", "<") if wanted.newest_first else ("ASC", ">")
        found = list(wanted.metadata.items())
        conditions = "".join(
            " AND EXISTS (SELECT 1 FROM json_each(answers.metadata) WHERE key = ? AND value = ?)" for _ in found
        )
        values = [value for pair in found for value in pair]
        with self._database.reading() as database:
            start = 2**62 if wanted.newest_first else 0
            if wanted.after:
                row = database.execute(
                    "SELECT sequence FROM answers WHERE project = ? AND kind = ? AND id = ?",
                    (project, kind, wanted.after),
                ).fetchone()
                if not row:
                    raise _unknown(wanted.after)
                start = row[0]
            rows = database.execute(
                f"SELECT body FROM answers WHERE project = ? AND kind = ? AND (? = '' OR model = ?)"
                f" AND sequence {edge} ?{conditions} ORDER BY sequence {order} LIMIT ?",
                (project, kind, wanted.model, wanted.model, start, *values, wanted.limit + 1),
            ).fetchall()
        return [Stored.model_validate_json(body) for (body,) in rows[: wanted.limit]], len(rows) > wanted.limit

    def close(self) -> None:
        """Close the database."""
        self._database.close()


class Wanted(BaseModel):
    """Which answers a page has; `after` is the id that the page before ended with, empty is the first page."""

    model_config = ConfigDict(frozen=True)

    model: str = ""
    metadata: dict[str, str] = {}
    after: str = ""
    limit: int = 20
    newest_first: bool = False


def _unknown(id: str) -> NotFound:
    return NotFound(f"there is no stored answer '{id}'", hint="Only answers asked with `store: true` are kept.")
