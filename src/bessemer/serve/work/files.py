"""Files of projects: their bytes in a folder that only its owner can read, their records in the database.

The bytes are on the disk, whole, before the record is there; bytes without a record are swept away later.
Owns the folder. Knows no HTTP.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from bessemer.core.errors import BudgetExceeded, ConfigError, NotFound
from bessemer.serve.accounts.pages import Page
from bessemer.serve.database import Execute
from bessemer.serve.work.config import JobsConfig
from bessemer.serve.work.records import Record, Records, Wanted, new_id

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
"""What clients may say that a file is for. Source: the published OpenAPI description of OpenAI's API, files."""

_LINES = ("batch", "fine-tune")
KIND = "file"


class File(Record):
    """A file as the wire tells it; times are Unix seconds."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None


def _nothing(execute: Execute, file: File) -> None:
    """Write nothing else."""


class FileStore:
    """Files of all projects; for several threads and processes at once.

    Args:
        folder: of the bytes; made if missing.
        records: where it is written down what there is.
        config: how much there may be.
        clock: gives Unix seconds.
    """

    def __init__(
        self, folder: Path, records: Records, config: JobsConfig, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder, self.records, self.config, self._clock = folder / "files", records, config, clock
        self.incoming = folder / "incoming"
        for each in (self.folder, self.incoming):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
            each.chmod(0o700)

    @contextmanager
    def receiving(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Give a new private file to write into; what is still there at the end of the block is removed."""
        path = self.incoming / new_id(f"{os.getpid()}-")
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield path, file
        finally:
            path.unlink(missing_ok=True)

    def add(
        self,
        project: str,
        source: Path,
        filename: str,
        purpose: str,
        expires_after_seconds: int | None = None,
        within: Callable[[Execute, File], None] = _nothing,
    ) -> File:
        """Move bytes that were received into the store, and return the file.

        Args:
            project: whose it will be.
            source: of the bytes.
            filename: as its owner calls it.
            purpose: what it is for; what is not a client's own purpose, results of its jobs, counts against no bound.
            expires_after_seconds: None keeps it.
            within: what else is written in the same transaction.

        Raises:
            ConfigError: it is to be a batch or to be learnt from, and a line of it is no JSON object.
            BudgetExceeded: the project would have more bytes than allowed.
        """
        if purpose in _LINES:
            check_lines(source)
        self.sweep()
        file = self.placed(source, filename, purpose, expires_after_seconds)
        with self.keeping(project, (file,)) as execute:
            within(execute, file)
            if purpose in PURPOSES:
                self.check_room(self.records.held_bytes(execute, project) + file.bytes)
        return file

    def placed(self, source: Path, filename: str, purpose: str, expires_after_seconds: int | None = None) -> File:
        """Move bytes that were received into the store, and return the file that they are, which is not kept yet."""
        now = int(self._clock())
        file = File(
            id=new_id("file-"),
            bytes=source.stat().st_size,
            created_at=now,
            expires_at=now + expires_after_seconds if expires_after_seconds else None,
            filename=filename,
            purpose=purpose,
        )
        self.place(source, file.id)
        return file

    @contextmanager
    def keeping(self, project: str, files: Collection[File]) -> Iterator[Execute]:
        """Keep files that were placed, at the moment of what the block writes; if it raises, none."""
        try:
            with self.records.writing() as execute:
                yield execute
                for file in files:
                    self.records.add(execute, KIND, project, file, tag=file.purpose)
        except BaseException:
            for file in files:
                self.path(file.id).unlink(missing_ok=True)
            raise

    def place(self, source: Path, id: str) -> None:
        """Move bytes to where those of an id are, safely on the disk."""
        with source.open("rb") as file:
            os.fsync(file.fileno())
        source.replace(self.path(id))
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def check_room(self, held_bytes: int) -> None:
        """Return if a project may hold so many bytes.

        Raises:
            BudgetExceeded: it may not.
        """
        if held_bytes > self.config.max_project_bytes:
            told = f"the files of a project may have {self.config.max_project_bytes} bytes together"
            raise BudgetExceeded(told, hint="Delete files that are no longer needed.")

    def get(self, project: str, id: str) -> File:
        """Return a file.

        Raises:
            NotFound: the project has none of that id, or it has expired.
        """
        file = self.records.get(KIND, project, id, File)
        if file.expires_at is not None and file.expires_at <= self._clock():
            raise NotFound(f"the file {id} has expired", hint="Send it again.")
        return file

    def page(self, project: str, wanted: Wanted) -> Page[File]:
        """Return a page of a project's files; `wanted.tag` is the purpose.

        Raises:
            NotFound: `wanted.after` is no file of this project.
        """
        self.sweep()
        return self.records.page(KIND, project, File, wanted)

    def delete(self, project: str, id: str) -> None:
        """Delete a file, its bytes too; jobs and batches that began keep what they need.

        Raises:
            NotFound: the project has none of that id.
        """
        with self.records.writing() as execute:
            self.records.find(execute, KIND, project, id, File)
            self.records.drop(execute, id)
        self.path(id).unlink(missing_ok=True)

    def path(self, id: str) -> Path:
        """Return where the bytes of a file or a part are."""
        return self.folder / id

    def held(self, id: str) -> Path:
        """Return where the bytes of a file or a part are, if they are in this folder.

        Raises:
            NotFound: they are not: gateways over one database may have folders of their own.
        """
        if not (path := self.path(id)).exists():
            told = "the file was deleted, or its bytes are in another state folder than this gateway's"
            raise NotFound(told, hint="Send it to this gateway.")
        return path

    def sweep(self) -> None:
        """Delete files whose time is over."""
        expired = "FROM records WHERE kind = ? AND expires_at <= ?", KIND, self._clock()
        if not self.records.read(f"SELECT 1 {expired[0]} LIMIT 1", *expired[1:]):
            return
        with self.records.writing() as execute:
            rows = execute(f"DELETE {expired[0]} RETURNING id", *expired[1:])
        for (id,) in rows:
            self.path(id).unlink(missing_ok=True)

    def remove_strays(self, older_than_seconds: float = 60) -> None:
        """Remove bytes that no record is of: a killed process left them, or another gateway deleted their file.

        Args:
            older_than_seconds: what was written since may be what a process is at, whose client may pause for less.
        """
        known = self.records.ids(KIND) | self.records.ids("upload part")
        for path in [*self.folder.iterdir(), *self.incoming.iterdir()]:
            if path.name not in known and not _is_younger(path, older_than_seconds):
                path.unlink(missing_ok=True)

    def remove_links(self, folder: Path, unfinished: tuple[str, tuple[str, ...]], older_than_seconds: float) -> None:
        """Remove from a folder the links to files which were given to jobs that are over, or were never kept.

        Args:
            folder: where links are named after their jobs, up to a dot.
            unfinished: kind and tags of the jobs that need theirs.
            older_than_seconds: a younger one may be of a job that is being taken.
        """
        kept = {job.id for _, job in self.records.tagged(*unfinished, Record)}
        for path in folder.iterdir():
            with suppress(FileNotFoundError):  # somebody else let go of it
                if path.name.partition(".")[0] not in kept and time.time() - path.stat().st_ctime > older_than_seconds:
                    path.unlink()


def check_lines(path: Path) -> int:
    """Return how many lines a JSONL file has; empty ones do not count.

    Raises:
        ConfigError: a line is no JSON object, or there is none; the message names the line.
    """
    count = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            count += 1
            said = read_line(line, number)
            if not isinstance(said, dict):
                raise ConfigError(f"line {number} is no JSON object", hint="Each line of JSONL is one object.")
    if not count:
        raise ConfigError("the file has no line", hint="Send JSONL: one JSON object on each line.")
    return count


def read_line(line: bytes, number: int) -> object:
    """Return what a line says.

    Raises:
        ConfigError: it is no JSON; the message names the line.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is not UTF-8 text, or too deeply nested"
        raise ConfigError(f"line {number} is not valid JSON: {reason}", hint="Mend that line.") from None


def _is_younger(path: Path, seconds: float) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime < seconds
    return False
