"""What users say of answers: a metric, a comment, or the answer that they wanted.

Owns the database of feedback. Knows no HTTP and no answer: whose request an id is, it is told.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from bessemer.core.errors import NotFound, Unsupported
from bessemer.serve.database import Database
from bessemer.serve.privacy import CaptureOf, keep_all, masked

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS feedback (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL,
        target TEXT NOT NULL, created REAL NOT NULL, body TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS feedback_of_project ON feedback (project, target, sequence)",
    "PRAGMA secure_delete = ON",
)
_AT_ONCE = 1_000
Owner = Callable[[str], str | None]


class Said(BaseModel):
    """The body of ``POST /v1/feedback``: a metric with its value, or a comment, or a demonstration.

    Attributes:
        target: id of the answer, such as ``chatcmpl-…``.
        item: of a ranking, which one it is about; without it, it is about the whole.
        metric: what is rated, such as ``accepted``.
        value: true, false or a number.
        comment: in the user's words.
        demonstration: the answer that was wanted.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    target: Annotated[str, Field(min_length=1, max_length=100)]
    item: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    metric: Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_.-]{0,63}$")] | None = None
    value: bool | float | None = None
    comment: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    demonstration: Annotated[str, Field(min_length=1, max_length=200_000)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [name for name in ("metric", "comment", "demonstration") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError("feedback", "send one of metric, comment and demonstration")
        if (self.metric is None) != (self.value is None):
            raise PydanticCustomError("feedback", "metric and value belong together")
        if self.item is not None and not self.target.startswith("rec_"):
            raise PydanticCustomError("feedback", "only a ranking ('rec_…') has items")
        return self


class Feedback(Said):
    """What was kept. `created` is in Unix seconds."""

    id: str
    object: Literal["feedback"] = "feedback"
    created: int


class FeedbackPage(BaseModel):
    """A page of feedback, the newest first."""

    object: Literal["list"] = "list"
    data: list[Feedback]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FeedbackStore:
    """Feedback; for several threads and processes at once.

    Args:
        where: path of the database, made if missing, readable by its owner only; or the URL of a Postgres.
        owner: returns the project whose request an answer's id is, None for nobody's.
        clock: gives Unix seconds.
        capture: says what may be kept of a project's words.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
        BackendError: the server cannot be reached.
    """

    def __init__(
        self, where: Path | str, owner: Owner, clock: Callable[[], float] = time.time, capture: CaptureOf = keep_all
    ) -> None:
        self._owner, self._clock, self._capture = owner, clock, capture
        self._database = Database(where, _SCHEMA, "feedback")

    def add(self, project: str, said: Said) -> Feedback:
        """Keep and return what a project says of one of its answers, as far as it lets its words be kept.

        Raises:
            NotFound: the project has no such answer.
            Unsupported: it says it in words, and lets none be kept.
        """
        if self._owner(said.target) != project:
            raise NotFound(f"there is no answer '{said.target}' of this project", hint="Send the id of an answer.")
        capture, words = self._capture(project), said.model_dump()
        if said.metric is None and not capture.stores:
            raise Unsupported(f"of the project '{project}' no words are kept", hint="Send a metric.")
        if capture.pii == "mask":
            words |= {name: masked(words[name]) for name in ("comment", "demonstration")}
        kept = Feedback(id=f"fb_{secrets.token_hex(12)}", created=int(self._clock()), **words)
        row = (kept.id, project, kept.target, kept.created, kept.model_dump_json())
        with self._database.writing() as execute:
            execute("INSERT INTO feedback (id, project, target, created, body) VALUES (?, ?, ?, ?, ?)", *row)
        return kept

    def page(self, project: str, target: str = "", after: str = "", limit: int = 20) -> FeedbackPage:
        """Return a project's feedback, the newest first.

        Args:
            project: whose.
            target: only of this answer; empty is all.
            after: the id that the page before ended with; empty is the first page.
            limit: at most so many.

        Raises:
            NotFound: `after` is no feedback of this project.
        """
        before = 2**62
        if after:
            found = self._database.read("SELECT sequence FROM feedback WHERE project = ? AND id = ?", project, after)
            if not found:
                raise NotFound(f"there is no feedback '{after}'", hint="Begin with the first page.")
            ((before,),) = found
        rows = self._database.read(
            "SELECT body FROM feedback WHERE project = ? AND (? = '' OR target = ?) AND sequence < ?"
            " ORDER BY sequence DESC LIMIT ?",
            project, target, target, before, limit + 1,
        )  # fmt: skip
        data = [Feedback.model_validate_json(body) for (body,) in rows[:limit]]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return FeedbackPage(data=data, first_id=ends[0], last_id=ends[1], has_more=len(rows) > limit)

    def get(self, project: str, id: str) -> Feedback:
        """Return one piece of feedback.

        Raises:
            NotFound: the project has none of that id.
        """
        rows = self._database.read("SELECT body FROM feedback WHERE project = ? AND id = ?", project, id)
        if not rows:
            raise NotFound(f"there is no feedback '{id}'", hint="`GET /v1/feedback` lists it.")
        return Feedback.model_validate_json(rows[0][0])

    def ratings(self, project: str = "") -> Iterator[Feedback]:
        """Yield what was said of rankings in numbers, the first first; of one project, or of all."""
        last = 0
        where = "sequence > ? AND target LIKE 'rec\\_%' ESCAPE '\\' AND (? = '' OR project = ?)"
        asked = f"SELECT sequence, body FROM feedback WHERE {where} ORDER BY sequence LIMIT ?"
        while rows := self._database.read(asked, last, project, project, _AT_ONCE):
            last = rows[-1][0]
            found = (Feedback.model_validate_json(body) for _, body in rows)
            yield from (said for said in found if said.value is not None)

    def delete(self, project: str, id: str) -> None:
        """Forget one piece of feedback, its bytes too.

        Raises:
            NotFound: the project has none of that id.
        """
        with self._database.writing() as execute:
            gone = execute("DELETE FROM feedback WHERE project = ? AND id = ? RETURNING 1", project, id)
        if not gone:
            raise NotFound(f"there is no feedback '{id}'", hint="`GET /v1/feedback` lists it.")
        self._database.overwrite()

    def close(self) -> None:
        """Close the database."""
        self._database.close()
