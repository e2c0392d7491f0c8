"""Jobs that make synthetic datasets: what was asked, how far it is, what came of it. Whoever makes them drives them.

    queued -> running -> succeeded | failed          cancelled from either

Owns the jobs, the tables that they were given and their states. Knows no model of tables and no HTTP.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal, cast

from pydantic import Field

from bessemer.core.errors import ConfigError, Conflict, NotFound, Unsupported
from bessemer.core.nouns import Subject, Usage
from bessemer.serve.accounts.pages import Page
from bessemer.serve.database import Execute
from bessemer.serve.work.files import File, FileStore
from bessemer.serve.work.jobs import ENDED, JobError, Purse
from bessemer.serve.work.records import Record, Wanted

KIND = "dataset"
RESULTS = "dataset-results"
MODEL = "synthetic"
"""What rows are booked under that come of a client's own tables."""
TEXTS = "synthetic-texts"
"""What rows are booked under that a model wrote."""
Format = Literal["csv", "jsonl", "parquet"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

_UNTOLD = "ended"


class Dataset(Record):
    """A job as it is kept; the last field is not the wire's. Times are Unix seconds.

    Attributes:
        model: a synthetic dataset of the factory that more rows are wanted of; empty where tables are given.
        tables: table -> the file that it was given in.
        texts: what a served model shall write instead, as in a factory's product; tables are then what it is about.
        rows: of each table without parents; None is as many as there are.
        declaration: what is declared of the tables besides, as in a factory's product.
        result_files: table -> the file with its synthetic rows; ``card`` is the dataset's card.
        accepted_rows: what is billed: rows in the results.
        rejected: reason -> rows that were made and thrown away for it; nobody pays for them.
        figures: what the dataset came to, table -> figure -> value.
    """

    object: Literal["dataset"] = "dataset"
    created_at: int
    finished_at: int | None = None
    status: Status = "queued"
    error: JobError | None = None
    model: str = ""
    tables: dict[str, str] = Field(default_factory=dict)
    rows: int | None = None
    seed: int = 0
    format: Format = "csv"
    declaration: dict[str, Any] = Field(default_factory=dict)
    texts: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    result_files: dict[str, str] = Field(default_factory=dict)
    accepted_rows: int | None = None
    rejected: dict[str, int] = Field(default_factory=dict)
    figures: dict[str, dict[str, float]] = Field(default_factory=dict)
    key_id: str = ""

    def told(self) -> dict[str, Any]:
        """Return what the wire tells."""
        return self.model_dump(mode="json", exclude={"key_id"})


@dataclass(frozen=True, slots=True)
class DatasetResult:
    """What came of a job.

    Attributes:
        files: name -> the file that it is in now, and what it shall be called.
    """

    files: Mapping[str, tuple[Path, str]]
    accepted_rows: int
    rejected: Mapping[str, int]
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class DatasetMaker:
    """What makes datasets, handed in.

    Attributes:
        models: the factory's synthetic datasets that more rows may be wanted of.
        check: returns how many rows a job makes at most, given its tables' files; raises ConfigError or NotFound.
        preview: returns for each table a few rows, as JSON values, and the kind of each column; raises Cancelled when
            nobody waits for them any more.
        book: books a project's accepted rows of a job, once, and returns the charge.
    """

    models: Callable[[], frozenset[str]]
    check: Callable[[Dataset, Mapping[str, Path]], int]
    preview: Callable[[Dataset, Mapping[str, Path], int, Event], Mapping[str, Any]]
    book: Callable[[str, Dataset, int], int]


class DatasetStore:
    """Datasets of all projects; for several threads and processes at once.

    Args:
        folder: keeps the tables that jobs were given, even when the files are deleted.
        files: whence they are given, and where results go.
        clock: gives Unix seconds.

    Attributes:
        folder: of the tables that jobs were given, a folder for each.
        maker: what makes them; None refuses every job.
        purse: what a job may cost is reserved there before it is kept; None limits nothing.
    """

    def __init__(self, folder: Path, files: FileStore, clock: Callable[[], float] = time.time) -> None:
        self.folder, self._files, self.records, self.now = folder / "datasets", files, files.records, clock
        self.maker, self.purse = cast("DatasetMaker | None", None), cast("Purse | None", None)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)

    def given(self, job: str) -> dict[str, Path]:
        """Return where the tables of a job are, by name."""
        return {path.stem: path for path in sorted((self.folder / job).glob("*"))}

    def create(self, project: str, asked: Dataset) -> Dataset:
        """Keep a job, with its tables checked.

        Raises:
            NotFound: the project has no such file, or there is no such dataset to make more rows of.
            ConfigError: the tables cannot be learnt from.
            Unsupported: nothing is made here.
            Refused: a budget has not enough left.
        """
        maker = self._maker(asked)
        try:
            most = maker.check(asked, self._take(project, asked))
            if self.purse:
                self.purse.reserve_job(dataset_subject(project, asked), Usage(units=most))
            with self.records.writing() as execute:
                self.records.add(execute, KIND, project, asked, tag=asked.status)
        except BaseException:
            self.forget(asked.id)
            self.settle(asked, 0)
            raise
        return asked

    def preview(self, project: str, asked: Dataset, rows: int, gone: Event) -> Mapping[str, Any]:
        """Return a few rows that a job would make; nothing is kept or judged. Raises as `create`.

        Rows that a model wrote are charged as a job's are: else whoever looks and never asks would pay for none.

        Args:
            project: whose.
            asked: the job.
            rows: how many.
            gone: set when nobody waits for them any more.
        """
        maker, charge = self._maker(asked), 0
        try:
            given = self._take(project, asked)
            if asked.texts is None:
                return maker.preview(asked, given, rows, gone)
            maker.check(asked, given)
            if self.purse:
                self.purse.reserve_job(dataset_subject(project, asked), Usage(units=rows))
            found = maker.preview(asked, given, rows, gone)
            if accepted := sum(len(each) for each in found["rows"].values()):
                charge = maker.book(project, asked, accepted)
            return found
        finally:
            self.forget(asked.id)
            self.settle(asked, charge)

    def get(self, project: str, id: str) -> Dataset:
        """Return a dataset.

        Raises:
            NotFound: the project has none of that id.
        """
        return self.records.get(KIND, project, id, Dataset)

    def page(self, project: str, wanted: Wanted) -> Page[Dataset]:
        """Return a page of a project's datasets.

        Raises:
            NotFound: `wanted.after` is no dataset of this project.
        """
        return self.records.page(KIND, project, Dataset, wanted)

    def move(self, project: str, id: str, to: Status, begun_from: Sequence[Status]) -> Dataset:
        """Change a job's state and return it.

        Raises:
            NotFound: the project has no such job.
            Conflict: it is in none of the states that this begins from.
        """
        with self.records.writing() as execute:
            job = self._in(execute, project, id, begun_from)
            job = job.model_copy(update={"status": to} | self._ended(to))
            self.records.put(execute, job, _UNTOLD if to in ENDED else to)
        return job

    # --- for whoever makes them ---------------------------------------------------------------------------------------

    def next(self) -> tuple[str, Dataset] | None:
        """Return the oldest job that runs or waits, with its project."""
        for status in ("running", "queued"):
            if found := self.records.tagged(KIND, (status,), Dataset, own=True):
                return found[0]
        return None

    def succeed(self, project: str, id: str, result: DatasetResult) -> Dataset:
        """End a running job well; its files are there at that moment.

        Raises:
            Conflict: the job was cancelled meanwhile.
        """
        made: dict[str, File] = {}
        for name, (source, filename) in result.files.items():
            with self._files.receiving() as (path, out):
                with source.open("rb") as file:
                    shutil.copyfileobj(file, out)
                out.flush()
                made[name] = self._files.placed(path, filename, RESULTS)
        with self._files.keeping(project, made.values()) as execute:
            job = self._in(execute, project, id, ("running",))
            update = {
                "status": "succeeded", "result_files": {name: file.id for name, file in made.items()},
                "accepted_rows": result.accepted_rows, "rejected": dict(result.rejected),
                "figures": {k: dict(v) for k, v in result.figures.items()},
            }  # fmt: skip
            job = job.model_copy(update=update | self._ended("succeeded"))
            self.records.put(execute, job, _UNTOLD)
        self.forget(id)
        return job

    def fail(self, project: str, id: str, error: JobError, result: DatasetResult | None = None) -> Dataset:
        """End a running job that could not be done, or whose gate said no; then `result` has the figures.

        Raises:
            Conflict: the job was cancelled meanwhile.
        """
        with self.records.writing() as execute:
            job = self._in(execute, project, id, ("running",))
            update: dict[str, Any] = {"status": "failed", "error": error}
            if result:
                figures = {table: dict(found) for table, found in result.figures.items()}
                update |= {"rejected": dict(result.rejected), "figures": figures}
            job = job.model_copy(update=update | self._ended("failed"))
            self.records.put(execute, job, _UNTOLD)
        self.forget(id)
        return job

    def untold(self) -> list[tuple[str, Dataset]]:
        """Return the jobs that are over and of which nobody was told yet, with their projects."""
        return self.records.tagged(KIND, (_UNTOLD,), Dataset, own=True)

    def told(self, job: Dataset) -> None:
        """Note that those who want to know were told how a job ended."""
        with self.records.writing() as execute:
            self.records.put(execute, job, job.status)

    def settle(self, job: Dataset, micros: int) -> None:
        """Say what a job that is over was charged; again changes nothing."""
        if self.purse:
            self.purse.settle_job(job.id, micros)

    def forget(self, id: str) -> None:
        """Let go of the tables that a job was given."""
        shutil.rmtree(self.folder / id, ignore_errors=True)

    def sweep(self, older_than_seconds: float) -> None:
        """Let go of tables that were given to a job which is not kept or is over: their gateway was killed meanwhile.

        Args:
            older_than_seconds: a folder's age; a younger one may be of a job that is being taken, or looked at.
        """
        now = time.time()  # the files' own clock
        kept = {job.id for _, job in self.records.tagged(KIND, ("queued", "running"), Dataset)}
        for folder in self.folder.iterdir():
            with suppress(FileNotFoundError):  # somebody else let go of it
                if folder.name not in kept and now - folder.stat().st_mtime > older_than_seconds:
                    self.forget(folder.name)

    def _maker(self, asked: Dataset) -> DatasetMaker:
        if self.maker is None:
            raise Unsupported("this gateway makes no datasets", hint="Run it from a factory: `bessemer up`.")
        if asked.model and asked.texts is not None:
            raise ConfigError("the model that writes is named in 'texts'", hint="'model' is a dataset of the factory.")
        if asked.texts is None and bool(asked.model) == bool(asked.tables):
            raise ConfigError(
                "give 'tables', 'model' or 'texts', one of them", hint="A model is a dataset of the factory."
            )
        if asked.model and asked.model not in (known := self.maker.models()):
            told = ", ".join(sorted(known)) or "none"
            raise NotFound(f"there is no synthetic dataset '{asked.model[:64]}'", hint=f"Known here: {told}.")
        return self.maker

    def _take(self, project: str, asked: Dataset) -> dict[str, Path]:
        """Give a job links of its own to its tables, under their names: deleting a file takes nothing from it."""
        folder = self.folder / asked.id
        folder.mkdir(mode=0o700)
        for table, id in asked.tables.items():
            file = self._files.get(project, id)
            (folder / f"{table}{Path(file.filename).suffix.lower()}").hardlink_to(self._files.held(id))
        return self.given(asked.id)

    def _in(self, execute: Execute, project: str, id: str, states: Sequence[str]) -> Dataset:
        job = self.records.find(execute, KIND, project, id, Dataset)
        if job.status not in states:
            raise Conflict(f"the job is {job.status}", hint=f"Only one that is {' or '.join(states)} can be.")
        return job

    def _ended(self, status: str) -> dict[str, Any]:
        return {"finished_at": int(self.now())} if status in ENDED else {}


def dataset_subject(project: str, job: Dataset) -> Subject:
    """Return what a job's accepted rows are booked under."""
    model = TEXTS if job.texts is not None else job.model or MODEL
    return Subject(kind="request", id=job.id, name="dataset", project=project, key_id=job.key_id, model=model)
