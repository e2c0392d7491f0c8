"""Jobs by the real trainer, merged, compiled and answering: on a tiny base with random weights."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bessemer.core.errors import NotFound
from bessemer.core.nouns import ChatRequest, Entry, Message, Sampling
from bessemer.flow import open_store
from bessemer.meter import MeterConfig, open_ledger, open_meter
from bessemer.products.home import Home
from bessemer.products.llm.config import LlmConfig
from bessemer.products.pruning import prune
from bessemer.products.tuning.driver import JobDriver, JobParts
from bessemer.products.tuning.line import CHECKPOINT_STEPS
from bessemer.products.tuning.making import CheckpointMaker
from bessemer.products.tuning.wiring import trainable, tuning_line
from bessemer.serve import JobsConfig, Work, open_work
from bessemer.serve.work.jobs import Hyperparameters, Job, JobEvent
from bessemer.serve.work.records import Wanted

from ...train.conftest import make_base

WAIT_SECONDS = 600.0
TALK = [{"role": "user", "content": "Tea? " * 20}, {"role": "assistant", "content": "abc"}]
EPOCHS, EPOCH_STEPS = 10, 20
STEPS = EPOCHS * EPOCH_STEPS
JOB = "ftjob-1"
TEA = ChatRequest(messages=(Message(role="user", content="Tea?"),), sampling=Sampling(max_output_tokens=8))


@dataclass
class Workshop:
    """A home with the real trainer."""

    base: Path
    home: Home
    work: Work

    def job(self, id: str = JOB, seed: int = 0) -> None:
        """Have a job made of conversations that are all alike, two to a step."""
        files = self.work.files
        with files.receiving() as (path, out):
            out.write((json.dumps({"messages": TALK}) + "\n").encode() * 2 * EPOCH_STEPS)
            out.flush()
            file = files.add("shop", path, "talks.jsonl", "fine-tune").id
        hyper = Hyperparameters(n_epochs=EPOCHS, batch_size=2, learning_rate_multiplier=0.05)
        asked = Job(
            id=id, created_at=0, model=str(self.base), seed=seed, training_file=file, key_id="key",
            validation_file=file, hyperparameters=hyper, suffix="tea",
        )  # fmt: skip
        self.work.jobs.create("shop", asked)

    def get(self, id: str = JOB) -> Job:
        return self.work.jobs.get("shop", id)

    def until(self, there: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while not there():
            assert time.monotonic() < end, self.get()
            time.sleep(0.05)

    def events(self, id: str = JOB) -> list[JobEvent]:
        wanted = Wanted(limit=1000, parent=id, newest_first=False)
        return list(self.work.jobs.events("shop", id, wanted).items)

    def steps(self, id: str = JOB) -> list[int]:
        return [event.data["step"] for event in self.events(id) if event.type == "metrics"]

    def losses(self) -> list[float]:
        rows = self.work.files.path(self.get().result_files[0]).read_text().splitlines()
        return [float(row.split(",")[1]) for row in rows[1:]]

    def trained(self) -> list[Entry]:
        """Return what the books have of training, the newest first."""
        with closing(open_ledger(self.home.books)) as ledger:
            return [each for each in ledger.entries(kind="step", limit=-1) if each.subject.name == "train"]

    async def answer(self, model: str) -> str:
        assert self.work.models is not None
        engine = await self.work.models.engine("shop", model)
        assert engine is not None
        said = await engine.respond(TEA)
        assert (said.finish_reason in ("stop", "length"), said.usage.input_tokens > 4) == (True, True)
        return str(said.text)

    def runs(self) -> list[tuple[str, str]]:
        with open_store(self.home.database_url) as store:
            return [(run.flow, run.status) for run in store.runs()]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    tmp_path = tmp_path_factory.mktemp("workshop")
    base = make_base(tmp_path / "base")
    product = LlmConfig(base=str(base))
    with ExitStack() as stack:
        home = Home(tmp_path / "home")
        work = open_work(home.work, JobsConfig(), trainable=trainable(product, None))
        stack.callback(work.close)
        meter = stack.enter_context(open_meter(MeterConfig(), home.books))
        parts, line = JobParts(home, work, meter, None), tuning_line(product, None, home, tmp_path, work)
        maker, driver = CheckpointMaker(parts, line), JobDriver(parts, line)
        assert work.models is not None
        work.models.make = maker.make
        stack.callback(driver.close)
        stack.callback(maker.close)
        driver.start()
        yield Workshop(base, home, work)


def test_paused_while_it_trains_a_job_goes_on_at_its_checkpoint(workshop: Workshop) -> None:
    jobs = workshop.work.jobs
    workshop.job()
    workshop.until(lambda: len(workshop.steps()) >= 12)
    jobs.move("shop", JOB, "paused", ("running",), "paused")
    workshop.until(lambda: workshop.runs() == [(f"tune-{JOB}", "cancelled")])
    workshop.until(lambda: not list((workshop.home.artifacts / "attempts").iterdir()))
    before = workshop.steps()
    assert before == list(range(1, len(before) + 1)) and len(before) < STEPS
    jobs.move("shop", JOB, "queued", ("paused",), "resumed")
    workshop.until(lambda: workshop.get().status not in ("queued", "running") and not jobs.untold())
    job = workshop.get()
    assert job.status == "succeeded", job.error
    after = workshop.steps()[len(before) :]
    begun = after[0] - 1
    assert after == list(range(begun + 1, STEPS + 1))
    assert 0 < begun <= len(before) and begun % CHECKPOINT_STEPS == 0, "not from the start"
    assert len(before) - begun <= CHECKPOINT_STEPS, "at the last one"
    per_step = workshop_tokens(workshop) // STEPS
    (said,) = [event.message for event in workshop.events() if "goes on at" in event.message]
    assert said == f"The job goes on at {begun * per_step} of {STEPS * per_step} tokens"
    with open_store(workshop.home.database_url) as store:
        first, second = store.runs()
        keys = [{step.name: (step.key, step.state) for step in store.steps(run.id)} for run in (first, second)]
    assert keys[0]["train"] == (keys[1]["train"][0], "waiting") and keys[1]["train"][1] == "done"
    assert len(workshop.losses()) == STEPS
    assert workshop.losses()[-1] < workshop.losses()[0] - 0.1
    with closing(open_ledger(workshop.home.books)) as ledger:
        assert ledger.entry(f"step:{JOB}").usage.input_tokens == job.trained_tokens == STEPS * per_step
    assert sorted(each.status for each in workshop.trained()) == ["cancelled", "ok"]


def workshop_tokens(workshop: Workshop) -> int:
    """Return the tokens of all steps, as the curve has them: without padding, as all lines are alike."""
    rows = workshop.work.files.path(workshop.get().result_files[0]).read_text().splitlines()
    return int(rows[-1].split(",")[4])


async def test_its_last_epochs_are_checkpoints_that_answer(workshop: Workshop) -> None:
    models, jobs, losses = workshop.work.models, workshop.work.jobs, workshop.losses()
    assert models is not None
    name = str(workshop.get().fine_tuned_model)
    told = jobs.checkpoints("shop", JOB, Wanted(parent=JOB)).items
    early = [f"{name}:ckpt-step-{step}" for step in (STEPS - EPOCH_STEPS, STEPS - 2 * EPOCH_STEPS)]
    assert [(each.fine_tuned_model_checkpoint, each.step_number) for each in told] == [
        (name, STEPS), (early[0], STEPS - EPOCH_STEPS), (early[1], STEPS - 2 * EPOCH_STEPS),
    ]  # fmt: skip
    assert len({each.metrics["full_valid_loss"] for each in told}) == 3, "each was measured at its own moment"
    for each in told:
        last = losses[: each.step_number][-(each.step_number // 10) :]
        assert each.metrics["step"] == each.step_number
        assert each.metrics["train_loss"] == pytest.approx(sum(last) / len(last))
    assert {models.get("shop", each).path for each in early} == {""}, "nobody asked"
    runs = workshop.runs()
    final = await workshop.answer(name)
    assert workshop.runs() == runs
    await asyncio.gather(*[workshop.answer(early[1]) for _ in range(3)])
    assert workshop.runs() == [*runs, (f"tune-{JOB}:ckpt-step-{STEPS - 2 * EPOCH_STEPS}", "finished")]
    made = [models.get("shop", each) for each in (early[1], name)]
    weights = [(Path(each.source) / "model.safetensors").read_bytes() for each in made]
    assert weights[0] != weights[1]
    assert models.get("shop", early[0]).path == ""
    assert await workshop.answer(name) == final
    await models.close()
    with closing(open_ledger(workshop.home.books)) as ledger:
        ledger.sync()
        took = [e.subject for e in ledger.entries(kind="step", limit=-1) if e.subject.model == early[1]]
    assert sorted((each.name, each.project, each.key_id) for each in took) == [
        ("compile", "shop", "key"), ("merge", "shop", "key"),
    ]  # fmt: skip


def test_what_was_made_of_a_checkpoint_stays_as_long_as_it(workshop: Workshop) -> None:
    models, name = workshop.work.models, str(workshop.get().fine_tuned_model)
    assert models is not None
    assert prune(workshop.home).results == {}
    models.delete("shop", f"{name}:ckpt-step-{STEPS - 2 * EPOCH_STEPS}")
    assert prune(workshop.home).results == {"compile": 1, "merge": 1}
    models.delete("shop", name)
    assert models.list("shop") == ()
    assert prune(workshop.home).results == {"base": 1, "compile": 1, "merge": 1, "train": 1}


def trainers() -> list[int]:
    """Return the processes that steps run in, by id."""
    found = list[int]()
    for each in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has ended
            if "bessemer.flow.child" in " ".join(each.cmdline()):
                found.append(each.pid)
    return found


def test_cancelled_while_it_trains_a_job_costs_no_token_and_makes_room_for_the_next(workshop: Workshop) -> None:
    first, second = "ftjob-2", "ftjob-3"
    jobs, runs, before = workshop.work.jobs, len(workshop.runs()), len(workshop.trained())
    assert workshop.work.models is not None and trainers() == []
    workshop.job(first)
    workshop.job(second, seed=1)
    workshop.until(lambda: len(workshop.steps(first)) >= 2)
    assert workshop.get(second).status == "queued" and len(trainers()) == 1
    jobs.move("shop", first, "cancelled", ("running",), "The job was cancelled")
    workshop.until(lambda: workshop.steps(second) != [])
    assert [name for name, status in workshop.runs()[runs:] if status == "cancelled"] == [f"tune-{first}"]
    told = workshop.steps(first)
    assert len(told) < STEPS and workshop.steps(second)[0] == 1
    assert workshop.get(first).status == "cancelled" and first not in [job.id for _, job in jobs.untold()]
    assert workshop.get(first).trained_tokens is None and workshop.work.models.list("shop") == ()
    assert jobs.checkpoints("shop", first, Wanted(parent=first)).items == ()
    jobs.move("shop", second, "cancelled", ("running",), "The job was cancelled")
    workshop.until(lambda: len(workshop.trained()) == before + 2 and not jobs.untold())
    workshop.until(lambda: not trainers() and not list((workshop.home.artifacts / "attempts").iterdir()))
    assert workshop.steps(first) == told, "nobody trained on"
    for each in workshop.trained()[:2]:
        assert (each.status, each.charge.micros, each.measurement.joules > 0) == ("cancelled", 0, True)
    with closing(open_ledger(workshop.home.books)) as ledger:
        for id in (first, second):
            with pytest.raises(NotFound):
                ledger.entry(f"step:{id}")
