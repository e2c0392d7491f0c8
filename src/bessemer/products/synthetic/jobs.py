"""Dataset jobs of the gateway's clients: what is checked, the flow of a job, and the thread that drives them.

Of several gateways on one home one drives: who holds the lock. A job that was running when its gateway was killed is
run again under the next, from what the flow has kept.

Owns the tie between jobs, the flow and the books. Knows no formula and no HTTP.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from threading import Event
from typing import Any

from bessemer.core.digest import digest_bytes
from bessemer.core.errors import BackendError, BessemerError, ConfigError, Conflict, NotFound
from bessemer.core.events import ignore
from bessemer.core.nouns import Artifact, Subject, Usage
from bessemer.flow import Flow, Runner, Step, open_store
from bessemer.products.home import Home
from bessemer.products.metered import MeteredSink
from bessemer.products.synthetic import job_steps, text_jobs
from bessemer.products.synthetic.job_steps import config_of
from bessemer.products.synthetic.lending import Lending
from bessemer.products.synthetic.text_jobs import check_texts, preview_texts, texts_of
from bessemer.products.tuning.driver import JobParts
from bessemer.products.watching import Shift, booked_once, run_watched, sentence
from bessemer.serve.work.datasets import KIND, Dataset, DatasetMaker, DatasetResult, Status, dataset_subject
from bessemer.serve.work.jobs import JobError

logger = logging.getLogger("bessemer.products")

QUEUE = "datasets"
_UNFINISHED: tuple[Status, ...] = ("running", "queued")
_SWEEP_SECONDS = 600.0
"""Age at which a table that was given to no job is let go of: no check and no preview takes as long."""


def maker(parts: JobParts, names: frozenset[str], lending: Lending) -> DatasetMaker:
    """Return what checks and previews the jobs of a home's gateway.

    Args:
        parts: of the home.
        names: of the factory's synthetic datasets.
        lending: the engines that may write texts.
    """
    home = parts.home

    def models() -> frozenset[str]:
        return names & {each.name for each in home.deployments()}

    def check(job: Dataset, given: Mapping[str, Path]) -> int:
        from bessemer.products.synthetic import quick
        from bessemer.train.tables.keeping import load_model
        from bessemer.train.tables.single import LEAST_ROWS

        if job.texts is not None:
            return check_texts(job, given, lending, parts.work.config)
        if job.model:
            model = load_model(Path(model_path(home, job.model)))
            share = 1.0 if job.rows is None else job.rows / max(1, _rows_of_parents(model))
            return round(sum(one.rows for one in model.tables.values()) * max(share, 1.0) * _SPREAD)
        asked = quick.of_files(given, config_of(job))
        for name, table in asked.tables.items():
            if table.rows < LEAST_ROWS:
                raise ConfigError(f"table '{name}' has {table.rows} rows: too few to learn from")
        total = sum(table.rows for table in asked.tables.values())
        first = min(table.rows for table in asked.tables.values())
        return round(total * max(1.0, (job.rows or 0) / first) * _SPREAD)

    def preview(job: Dataset, given: Mapping[str, Path], rows: int, gone: Event) -> Mapping[str, Any]:
        if job.texts is not None:
            return preview_texts(job, given, rows, lending, gone)
        return job_steps.preview(job, given, rows, model_path(home, job.model) if job.model else "")

    return DatasetMaker(models, check, preview, partial(_book, parts))


_SPREAD = 2
"""How many times the rows that are expected a job may make: children follow their parents' numbers by chance."""


def _rows_of_parents(model: Any) -> int:
    children = {relation.child for relation in model.relations}
    return min(int(one.rows) for name, one in model.tables.items() if name not in children)


def model_path(home: Home, name: str) -> str:
    """Return the folder of the model of a deployed dataset.

    Raises:
        NotFound: it is not deployed.
    """
    found = next((each for each in home.deployments() if each.name == name), None)
    if found is None:
        raise NotFound(f"no synthetic dataset '{name}' is deployed", hint="`bessemer run` makes it.")
    return found.path


def flow_of(job: Dataset, project: str, given: Mapping[str, Path], model: str) -> Flow:
    """Return the flow of a job; what one project's job made is never another's."""
    inputs = {name: digest_bytes(path.read_bytes()) for name, path in given.items()} | {"project": project}
    written = job.texts is not None
    made = {"texts": texts_of(job)} if written else {"product": config_of(job), "model": model}
    config = job_steps.MakeConfig(job=job.id, rows=job.rows, format=job.format, **made)
    code = text_jobs.CODE if written else job_steps.CODE
    step = Step("make", run=f"{job_steps.__name__}:make", config=config, inputs=inputs, code=code, queue=QUEUE)
    return Flow(job.id, (step,))


class DatasetDriver(Shift):
    """Drives dataset jobs until it is closed; one under way is run again by the next driver.

    Args:
        parts: of the home.
        lending: the engines that may write texts.
        pause_seconds: between two looks for something to do.
    """

    def __init__(self, parts: JobParts, lending: Lending, pause_seconds: float = 0.5) -> None:
        super().__init__("datasets", parts.work.lock("datasets"), pause_seconds)
        self._parts, self._lending, self._store = parts, lending, parts.work.datasets
        self._swept_at = float("-inf")

    def turn(self) -> bool:
        """Drive the oldest job to its end; return whether there was one."""
        self._drop()
        self._tell()
        if time.monotonic() - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = time.monotonic()
            self._store.sweep(_SWEEP_SECONDS)
        found = self._store.next()
        if found is None:
            return False
        project, job = found
        if job.texts is not None and self._lending.over:
            return False  # the next gateway's
        if job.status == "queued":
            with suppress(Conflict):
                job = self._store.move(project, job.id, "running", ("queued",))
        if job.status == "running":
            with self._parts.home.results():
                self._drive(project, job)
        self._tell()
        return True

    def _drive(self, project: str, job: Dataset) -> None:
        home, begun = self._parts.home, False
        model = dataset_subject(project, job).model
        whose = Subject(kind="step", id="", project=project, key_id=job.key_id, model=model)
        sink = MeteredSink(ignore, self._parts.meter, whose)
        try:
            model = model_path(home, job.model) if job.model else ""
            flow = flow_of(job, project, self._store.given(job.id), model)
            home.claim_artifacts()
            with open_store(home.database_url) as store:
                resources = {"datasets": str(self._store.folder), "engines": self._lending.name}
                # Texts are written in this process: the engines that write them are here.
                where = "process" if job.texts is None else "inline"
                runner = Runner(store, home.artifacts, where, sink, resources)
                unwanted, begun = partial(self._unwanted, project, job), True
                result = run_watched(runner, runner.submit(flow), unwanted)
        except BessemerError as error:
            if begun and isinstance(error, BackendError):  # a database or a disk: what fails in a step is in the result
                raise  # the turn is taken again
            self._fail(project, job, error.code, sentence(error.message, error.hint))
            return
        except Exception as error:  # a mistake of ours ends this job, not the thread that drives all of them
            logger.exception("the dataset job %s failed", job.id)
            self._fail(project, job, "internal_error", f"The job failed: {type(error).__name__}.")
            return
        if result.status == "finished":
            self._end(project, job, result.artifacts["make"])
        elif result.status == "failed" and not self._lending.over:
            self._fail(project, job, "dataset_failed", sentence(result.error, result.hint))

    def _unwanted(self, project: str, job: Dataset) -> bool:
        """Return whether a job no longer runs, or this driver does not."""
        self._drop()
        return self._stop.is_set() or self._store.get(project, job.id).status != "running"

    def _drop(self) -> None:
        """Cancel the jobs of archived projects."""
        is_archived = cache(self._parts.is_archived)  # one look for all jobs of a project
        for project, job in self._store.records.tagged(KIND, _UNFINISHED, Dataset, own=True):
            with suppress(Conflict, BackendError):  # it is over; or the accounts are looked into the next time
                if is_archived(project):
                    self._store.move(project, job.id, "cancelled", _UNFINISHED)
                    self._store.forget(job.id)

    def _end(self, project: str, job: Dataset, artifact: Artifact) -> None:
        result = result_of(artifact)
        try:
            if artifact.meta["passed"]:
                self._store.succeed(project, job.id, result)
            else:
                failed = "; ".join(artifact.meta["failed"])
                error = JobError(code="gate_failed", message=f"The dataset did not pass its gate: {failed}.")
                self._store.fail(project, job.id, error, result)
        except Conflict:
            return  # cancelled at the last moment: nothing is given out and nothing charged

    def _fail(self, project: str, job: Dataset, code: str, message: str) -> None:
        with suppress(Conflict):
            self._store.fail(project, job.id, JobError(code=code, message=message))

    def _tell(self) -> None:
        for project, job in self._store.untold():
            charge = 0
            if job.status == "succeeded" and job.accepted_rows:
                charge = _book(self._parts, project, job, job.accepted_rows)
            self._store.settle(job, charge)
            if self._parts.webhooks:
                self._parts.webhooks.emit(project, f"dataset.{job.status}", {"id": job.id})
            self._store.told(job)


def _book(parts: JobParts, project: str, job: Dataset, rows: int) -> int:
    """Book accepted rows, once; return the charge."""
    return booked_once((parts.home, parts.meter), dataset_subject(project, job), Usage(units=rows))


def result_of(artifact: Artifact) -> DatasetResult:
    """Return what the step of a job made."""
    folder, meta = Path(artifact.path), artifact.meta
    files = {name: (folder / path, Path(path).name) for name, path in meta["files"].items()}
    return DatasetResult(files, meta["rows"], meta["rejected"], meta["figures"])
