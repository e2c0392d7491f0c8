"""A home whose jobs are driven by steps that stand in for training."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from bessemer.core.nouns import Artifact
from bessemer.flow import Flow, Step
from bessemer.infer import EchoConfig, open_engine
from bessemer.infer.echo import EchoEngine
from bessemer.meter import LocalMeter, MeterConfig, open_meter
from bessemer.products.home import Home
from bessemer.products.limiting import open_gate
from bessemer.products.llm.config import LlmConfig
from bessemer.products.tuning.driver import JobDriver, JobParts
from bessemer.products.tuning.wiring import count_talks
from bessemer.serve import Gate, JobsConfig, WebhookStore, Work, open_accounts, open_work
from bessemer.serve.work.jobs import Hyperparameters, Job, Result, Trainable
from bessemer.serve.work.tuning import JobStore

from .stand_in import StandInConfig

TALK = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
LINES = (json.dumps(TALK) + "\n").encode() * 4
PRICES = """
version = "t-1"
currency = "EUR"
[default]
input = 1
output = 1
training = {training}
"""


@dataclass
class StandInLine:
    """A line of one step, or of those that a real one has."""

    base: Path
    config: StandInConfig
    whole: bool = False

    def flow(self, project: str, job: Job, jobs: JobStore) -> Flow:
        run = f"{StandInConfig.__module__}:train"
        inputs = {"training": jobs.data(job.id, "training").read_text(), "project": project, "job": job.id}
        before = ("base",) if self.whole else ()
        train = Step("train", run=run, config=self.config, inputs=inputs, needs=before)
        if not self.whole:
            return Flow(f"tune-{job.id}", (train,))
        other = f"{StandInConfig.__module__}:nap"
        merge, compile = Step("merge", run=other, needs=("train",)), Step("compile", run=other, needs=("merge",))
        return Flow(f"tune-{job.id}", (Step("base", run=other), train, merge, compile))

    def result(self, artifacts: Mapping[str, Artifact]) -> Result:
        made = artifacts["train"]
        steps = made.meta["steps"]
        return Result(f"{made.path}/engine", made.path, made.meta["tokens"], steps, {"step": steps}, b"step\n")


class Shop:
    """A home with its stores, and drivers that come and go."""

    def __init__(self, folder: Path, stack: ExitStack, factory: str = "shop", training: int = 2_000_000) -> None:
        prices = folder / f"{factory}.toml"
        prices.write_text(PRICES.format(training=training))
        self.home = Home(folder / "home")
        allowed = Trainable(
            frozenset({"base-model"}), count_talks, lambda path: open_engine(EchoConfig()), EchoEngine.capabilities
        )
        self.work: Work = open_work(self.home.work, JobsConfig(), trainable=allowed, factory=factory)
        self.webhooks = WebhookStore(self.home.webhooks)
        config = MeterConfig(price_book=str(prices))
        self.meter: LocalMeter = stack.enter_context(open_meter(config, self.home.books))
        self.drivers: list[JobDriver] = []
        self.later = 0.0
        self.accounts = open_accounts(self.home.accounts)
        stack.callback(self.accounts.close)
        self.gate: Gate = open_gate(self.accounts, self.home, self.meter.price_history, LlmConfig(), self.clock)
        stack.callback(self.gate.close)
        self.work.jobs.purse = self.gate
        stack.callback(self.work.close)
        stack.callback(self.webhooks.close)
        stack.callback(lambda: [driver.close() for driver in self.drivers])

    def clock(self) -> float:
        """Return the time of the gate."""
        return time.time() + self.later

    def drive(self, config: StandInConfig, *, whole: bool = False) -> JobDriver:
        parts = JobParts(
            self.home, self.work, self.meter, self.webhooks, is_archived=self.accounts.projects.is_archived
        )
        driver = JobDriver(parts, StandInLine(self.home.path, config, whole), pause_seconds=0.05)
        self.drivers.append(driver)
        driver.start()
        return driver

    def job(self, project: str = "shop", suffix: str = "") -> str:
        files = self.work.files
        with files.receiving() as (path, out):
            out.write(LINES)
            out.flush()
            file = files.add(project, path, "talks.jsonl", "fine-tune")
        job = Job(
            id=f"ftjob-{len(self.work.records.ids('fine-tuning job'))}", created_at=0, model="base-model", seed=0,
            training_file=file.id, hyperparameters=Hyperparameters(), suffix=suffix, key_id="key",
        )  # fmt: skip
        return self.work.jobs.create(project, job).id


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        yield Shop(tmp_path, stack)
