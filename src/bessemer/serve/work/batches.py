"""Batches: what was asked, how far each line is, and the files that come of it.

    validating -> in_progress -> finalizing -> completed        failed from validating; expired, cancelled by way of
                                                                cancelling, and failed because the input is gone, with
                                                                what was answered by then

A line is waiting, staged (its answer is kept, its entry is being booked) or done. Of a staged line the books decide: if
its request was booked, the staged answer is the answer; if not, the line is asked again under another request id. So
each line is answered and billed once, whenever a process dies.

Owns batches and their lines. Knows no engine, no books and no HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from bessemer.core.errors import ConfigError, Conflict
from bessemer.serve.accounts.pages import Page
from bessemer.serve.ids import batch_request_id, earlier_batch_request_id
from bessemer.serve.work.batch_input import LineError, look
from bessemer.serve.work.batch_totals import BatchUsage, Counts, Totals
from bessemer.serve.work.files import KIND as FILE
from bessemer.serve.work.files import File, FileStore
from bessemer.serve.work.records import Record, Wanted, as_json

KIND = "batch"
WINDOW_SECONDS = 24 * 3600
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
ENDED = ("completed", "failed", "expired", "cancelled")
OPEN = ("validating", "in_progress", "finalizing", "cancelling")
_UNTOLD = "ended"
_UNANSWERED = {"cancelled": "was cancelled", "expired": "was due", "failed": "failed"}
"""How a batch ends that has lines without an answer."""
_WELL = '{"status_code":200%'
"""How a kept response begins that is an answer: Postgres reads no JSON that has a zero in one of its texts."""
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]


class Errors(BaseModel):
    """Why a batch failed."""

    object: Literal["list"] = "list"
    data: list[LineError]


class Batch(Record):
    """A batch as the wire tells it, and whose key it is; times are Unix seconds."""

    object: Literal["batch"] = "batch"
    endpoint: str
    errors: Errors | None = None
    input_file_id: str
    completion_window: str = "24h"
    status: Status = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = Counts()
    model: str | None = None
    usage: BatchUsage | None = None
    metadata: dict[str, str] | None = None
    key_id: str = ""
    output_expires_after_seconds: int | None = None

    def told(self) -> dict[str, Any]:
        """Return what the wire tells."""
        return self.model_dump(mode="json", exclude={"key_id", "output_expires_after_seconds"})


@dataclass(frozen=True, slots=True)
class Line:
    """A line that waits, or whose answer was staged.

    Attributes:
        number: from 1.
        body: the request, JSON.
        attempt: its number; who makes the next one takes the line from whoever made this one.
        request: id of the attempt's request, made of batch, line and attempt.
        earlier: the id that an earlier version made of them; the attempt may have been booked under it.
        staged: what was kept of an answer before it was booked; empty if there is none.
    """

    batch: str
    number: int
    custom_id: str
    body: bytes
    attempt: int
    request: str
    earlier: str
    staged: str = ""


class BatchStore:
    """Batches of all projects; for several threads and processes at once.

    Args:
        folder: keeps what batches were given, even when the files are deleted.
        files: whence they are given it, and where their results go.
        clock: gives Unix seconds.
    """

    def __init__(self, folder: Path, files: FileStore, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._files, self.records, self.now = folder / "batches", files, files.records, clock
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)

    def create(self, project: str, batch: Batch) -> Batch:
        """Keep a batch; its lines are looked at later.

        Raises:
            NotFound: the project has no such file, or its bytes are in another folder.
            ConfigError: the file is not for a batch.
        """
        file = self._files.get(project, batch.input_file_id)
        if file.purpose != "batch":
            raise ConfigError(f"the purpose of the file is {file.purpose}", hint="Send it with the purpose 'batch'.")
        self._input(batch.id).hardlink_to(self._files.held(file.id))
        with self.records.writing() as execute:
            self.records.add(execute, KIND, project, batch, tag=batch.status)
        return batch

    def get(self, project: str, id: str) -> Batch:
        """Return a batch with its counts as they are now.

        Raises:
            NotFound: the project has none of that id.
        """
        return self._counted(self.records.get(KIND, project, id, Batch))

    def page(self, project: str, wanted: Wanted) -> Page[Batch]:
        """Return a page of a project's batches.

        Raises:
            NotFound: `wanted.after` is no batch of this project.
        """
        page = self.records.page(KIND, project, Batch, wanted)
        return Page(tuple(self._counted(batch) for batch in page.items), page.has_more)

    def cancel(self, project: str, id: str) -> Batch:
        """Let no more lines of a batch begin.

        Raises:
            NotFound: the project has no such batch.
            Conflict: it is over.
        """

        def to(batch: Batch) -> tuple[Batch, str]:
            if batch.status not in ("validating", "in_progress", "cancelling"):
                raise Conflict(f"the batch is {batch.status}", hint="Only one that is not over can be cancelled.")
            update = {"status": "cancelling", "cancelling_at": batch.cancelling_at or int(self.now())}
            return batch.model_copy(update=update), "cancelling"

        return self._counted(self.records.change(KIND, project, id, Batch, to))

    # --- for whoever answers ------------------------------------------------------------------------------------------

    def open(self) -> list[tuple[str, Batch]]:
        """Return the batches that are not over, the oldest first, with their projects."""
        return self.records.tagged(KIND, OPEN, Batch, own=True)

    def begin(self, project: str, batch: Batch, most: int) -> Batch:
        """Look at a batch's lines: it is in progress then, or failed with what is wrong.

        Args:
            project: whose it is.
            batch: that is validating.
            most: lines that a batch may have.
        """
        lines, errors = look(self._input(batch.id), batch.endpoint, most)
        now = int(self.now())
        with self.records.writing() as execute:
            found = self.records.find(execute, KIND, project, batch.id, Batch)
            if found.status != "validating":
                return found
            if errors:
                update: dict[str, Any] = {"status": "failed", "failed_at": now, "errors": Errors(data=errors)}
            else:
                update = {"status": "in_progress", "in_progress_at": now, "request_counts": Counts(total=len(lines))}
                execute.many(
                    "INSERT INTO lines (batch, number, custom_id, start, bytes) VALUES (?, ?, ?, ?, ?)",
                    [(batch.id, *line) for line in lines],
                )
            found = found.model_copy(update=update)
            self.records.put(execute, found, _UNTOLD if errors else found.status)
        if errors:
            self._forget(batch.id)
        return found

    def waiting(self, batch: str, most: int, besides: set[int]) -> list[Line]:
        """Return the next lines that wait or are staged, other than those of some numbers."""
        rows = self.records.read(
            "SELECT number, custom_id, start, bytes, attempt, staged FROM lines WHERE batch = ?"
            " AND state IN ('waiting', 'staged') ORDER BY number LIMIT ?",
            batch, most + len(besides),
        )  # fmt: skip
        found: list[Line] = []
        with self._input(batch).open("rb") as file:
            for number, custom_id, start, size, attempt, staged in rows:
                if number in besides or len(found) >= most:
                    continue
                file.seek(start)
                said: Any = json.loads(file.read(size))
                body = json.dumps(said["body"]).encode()  # a lone surrogate stays escaped, for the reader to refuse
                attempted = (batch, number, attempt)
                ids = batch_request_id(*attempted), earlier_batch_request_id(*attempted)
                found.append(Line(batch, number, custom_id, body, attempt, *ids, staged or ""))
        return found

    def stage(self, line: Line, staged: str) -> None:
        """Keep an answer before it is booked.

        Raises:
            Conflict: another gateway asks the line meanwhile, as no lock held it back; so do `attempt` and `done`.
        """
        self._set(line, "state = 'staged', staged = ?", staged)

    def attempt(self, line: Line) -> Line:
        """Return a line with the id of a new request, which no attempt had before; what was staged is dropped."""
        self._set(line, "state = 'waiting', staged = NULL, attempt = attempt + 1")
        attempted = line.batch, line.number, line.attempt + 1
        request, earlier = batch_request_id(*attempted), earlier_batch_request_id(*attempted)
        return replace(line, attempt=attempted[2], request=request, earlier=earlier, staged="")

    def done(self, line: Line, response: dict[str, Any]) -> None:
        """Keep the response to a line for good: its status, request id and body."""
        self._set(line, "state = 'done', staged = NULL, result = ?", as_json(response))

    def flaw(self, batch: Batch) -> LineError | None:
        """Return why a batch can never go on: its input is gone from its folder, as others' are not; None if it can."""
        if not self._folder.is_dir() or self._input(batch.id).exists():
            return None
        message = "What the batch was given is gone: send the file again, and make another batch."
        return LineError(code="input_file_gone", message=message, param="input_file_id")

    def finish(self, project: str, id: str, flaw: LineError | None = None) -> Batch:
        """End a batch: what was answered becomes its files, at the same moment.

        What was not answered is in the file of errors, if time ran out, the batch was cancelled or it has a flaw.
        """
        batch = self.records.get(KIND, project, id, Batch)
        if batch.status in ENDED:
            return batch
        counts, now = self._counted(batch).request_counts, int(self.now())
        status = _ending(batch, counts, flaw)
        counts, totals = counts.model_copy(update={"failed": counts.total - counts.completed}), Totals()
        update: dict[str, Any] = {"status": status, f"{status}_at": now, "request_counts": counts}
        update["finalizing_at"] = now if status == "completed" else batch.finalizing_at
        if flaw and status == "failed":
            update["errors"] = Errors(data=[flaw])
        with self._files.receiving() as (out_path, out), self._files.receiving() as (error_path, errors):
            for line in self._results(id, status):
                failed = line["error"] is not None or line["response"]["status_code"] != 200
                (errors if failed else out).write(as_json(line).encode() + b"\n")
                if not failed:
                    totals.add(line["response"]["body"])
            update |= {"usage": totals.usage, "model": totals.model}
            made: list[File] = []
            for what, path, file in (("output", out_path, out), ("error", error_path, errors)):
                file.flush()
                if path.stat().st_size:
                    named = f"{id}_{what}.jsonl"
                    made.append(self._files.placed(path, named, "batch_output", batch.output_expires_after_seconds))
                    update[f"{what}_file_id"] = made[-1].id
            with self.records.writing() as execute:
                batch = self.records.find(execute, KIND, project, id, Batch)
                if batch.status in ENDED:
                    return batch
                for each in made:
                    self.records.add(execute, FILE, project, each, tag=each.purpose)
                batch = batch.model_copy(update=update)
                self.records.put(execute, batch, _UNTOLD)
                execute("DELETE FROM lines WHERE batch = ?", id)
        self._forget(id)
        return batch

    def sweep(self, older_than_seconds: float) -> None:
        """Let go of the input of batches that are over or were never kept: their gateway was killed meanwhile."""
        self._files.remove_links(self._folder, (KIND, OPEN), older_than_seconds)

    def untold(self) -> list[tuple[str, Batch]]:
        """Return the batches that are over and of which nobody was told yet, with their projects."""
        return self.records.tagged(KIND, (_UNTOLD,), Batch, own=True)

    def told(self, batch: Batch) -> None:
        """Note that those who want to know were told how a batch ended."""
        with self.records.writing() as execute:
            self.records.put(execute, batch, batch.status)

    def _results(self, id: str, ending: Status) -> Iterator[dict[str, Any]]:
        after, columns = 0, "number, custom_id, result"
        told = f"This line was not answered before the batch {_UNANSWERED.get(ending)}."
        asked = f"SELECT {columns} FROM lines WHERE batch = ? AND number > ? ORDER BY number LIMIT 500"
        while rows := self.records.read(asked, id, after):
            for number, custom_id, result in rows:
                after = number
                response = json.loads(result) if result else None
                error = None if result else {"code": f"batch_{ending}", "message": told}
                line_id = f"batch_req_{batch_request_id(id, number, 0)[-24:]}"
                yield {"id": line_id, "custom_id": custom_id, "response": response, "error": error}

    def _set(self, line: Line, what: str, *values: str) -> None:
        with self.records.writing() as execute:
            mine = "batch = ? AND number = ? AND attempt = ? AND state != 'done' RETURNING 1"
            place = line.batch, line.number, line.attempt
            if not execute(f"UPDATE lines SET {what} WHERE {mine}", *values, *place):
                raise Conflict("another gateway asks the line", hint="Its answer counts.")

    def _counted(self, batch: Batch) -> Batch:
        if batch.status in ENDED or not batch.request_counts.total:
            return batch
        ((done, well),) = self.records.read(
            "SELECT count(*), count(*) FILTER (WHERE result LIKE ?) FROM lines WHERE batch = ? AND state = 'done'",
            _WELL,
            batch.id,
        )
        counts = Counts(total=batch.request_counts.total, completed=well, failed=done - well)
        return batch.model_copy(update={"request_counts": counts})

    def _input(self, id: str) -> Path:
        return self._folder / f"{id}.jsonl"

    def _forget(self, id: str) -> None:
        self._input(id).unlink(missing_ok=True)


def _ending(batch: Batch, counts: Counts, flaw: LineError | None) -> Status:
    """Return how a batch ends that is still open, from how many of its lines were answered."""
    if batch.status == "cancelling":
        return "cancelled"
    if counts.total and counts.completed + counts.failed == counts.total:
        return "completed"
    return "failed" if flaw else "expired"
