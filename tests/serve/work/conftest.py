"""A gateway over the reference engine that takes files, jobs and batches, for two projects."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from openai import OpenAI

from bessemer.core.errors import BackendError
from bessemer.core.nouns import Entry
from bessemer.infer import EchoConfig, open_engine
from bessemer.infer.echo import EchoEngine
from bessemer.infer.engines import LanguageEngine
from bessemer.products.tuning.wiring import count_talks
from bessemer.serve import (
    Accounts,
    AnswerStore,
    GatewayParts,
    JobsConfig,
    WebhookStore,
    Work,
    open_accounts,
    open_work,
)
from bessemer.serve.traffic import Visit
from bessemer.serve.work.jobs import Trainable
from bessemer.serve.work.models import TunedModel
from tests.serve.conftest import Running, start_in

SMALL = JobsConfig(max_file_bytes=1_000_000, max_project_bytes=3_000_000, max_batch_requests=100)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Office:
    """What a test talks to: official clients of two projects, the stores, and their clock."""

    running: Running
    work: Work
    folder: Path
    clock: Clock
    shop: OpenAI
    docs: OpenAI
    opened: list[str]
    webhooks: WebhookStore
    accounts: Accounts
    made: list[str] = field(default_factory=list)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Have a request under way within a block."""
        traffic = self.running.server.app.state.traffic
        visit = Visit()
        assert traffic.enter(visit)
        try:
            yield
        finally:
            traffic.leave(visit)

    def make(self, project: str, model: TunedModel) -> Future[TunedModel]:
        """Make a checkpoint, as whoever trains would; the first time fails."""
        self.made.append(model.id)
        future = Future[TunedModel]()
        if len(self.made) == 1:
            future.set_exception(BackendError("no memory is left", hint=""))
            return future
        made = model.model_copy(update={"path": f"engine of {model.adapter}", "source": f"model of {model.adapter}"})
        assert self.work.models is not None
        self.work.models.made(project, made)
        future.set_result(made)
        return future

    def slow(self) -> None:
        """Let the engine pause before each word."""
        self.running.engine._config = EchoConfig(token_seconds=0.02)  # type: ignore[attr-defined]


@pytest.fixture
def office(tmp_path: Path, database_url: str) -> Iterator[Office]:
    with ExitStack() as stack:
        clock = Clock()
        opened: list[str] = []

        def open_model(path: str) -> LanguageEngine:
            opened.append(path)
            return open_engine(EchoConfig())

        allowed = Trainable(frozenset({"base-model"}), count_talks, open_model, EchoEngine.capabilities)
        work = open_work(tmp_path / "work", SMALL, clock, allowed, database=database_url)
        stack.callback(work.close)
        engine = open_engine(EchoConfig())
        engine.go_on = type("Never", (), {"set": lambda self: None})()  # what the harness does at the end
        webhooks = WebhookStore(database_url)
        stack.callback(webhooks.close)

        def booked(request: str) -> Entry | None:
            text = (tmp_path / "entries.jsonl").read_text() if (tmp_path / "entries.jsonl").exists() else ""
            entries = [Entry.model_validate_json(line) for line in text.splitlines()]
            return next((entry for entry in entries if entry.subject.id == request), None)

        answers = AnswerStore(database_url)
        stack.callback(answers.close)
        accounts = open_accounts(database_url)
        stack.callback(accounts.close)
        parts = GatewayParts(
            work=work, booked=booked, webhooks=webhooks, clock=clock, answers=answers, accounts=accounts
        )
        running = start_in(tmp_path, stack, engine, parts)
        shop, docs = (running.client(running.keys.create(project)[1]) for project in ("shop", "docs"))
        found = Office(running, work, work.files.folder.parent, clock, shop, docs, opened, webhooks, accounts)
        assert work.models is not None
        work.models.make = found.make
        yield found
