"""Checkpoints are made once for all who wait, whatever comes in between; a step stands in for merging and compiling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from bessemer.core.errors import BackendError, Cancelled, Unsupported
from bessemer.core.nouns import Artifact
from bessemer.flow import Flow, Step, open_store
from bessemer.products.driving import open_drivers
from bessemer.products.tuning.driver import JobParts
from bessemer.products.tuning.making import CheckpointMaker
from bessemer.serve.envelope import explained
from bessemer.serve.refusals import STOPPING
from bessemer.serve.work.jobs import Job
from bessemer.serve.work.models import TunedModel
from bessemer.serve.work.tuning import JobStore

from .conftest import Shop
from .stand_in import StandInConfig

WAIT_SECONDS = 60.0


class StandInMaking:
    """Makes any checkpoint by one step."""

    def __init__(self) -> None:
        self.config = StandInConfig(steps=1)

    def checkpoint(self, model: TunedModel) -> Flow:
        run = f"{StandInConfig.__module__}:train"
        return Flow(f"tune-{model.job}:ckpt-step-3", (Step("train", run=run, config=self.config),))

    def places(self, artifacts: Mapping[str, Artifact]) -> dict[str, str]:
        return {"path": artifacts["train"].path, "source": "source"}


class Making:
    def __init__(self, shop: Shop) -> None:
        self.shop, self.line = shop, StandInMaking()
        line: Any = self.line
        self.maker = CheckpointMaker(JobParts(shop.home, shop.work, shop.meter, None), line)
        facts = {"base": "base-model", "path": "", "source": "", "job": shop.job(), "created_at": 0}
        self.model = TunedModel(id="ft:base-model:shop::0:ckpt-step-3", **facts)
        with shop.work.records.writing() as on:
            shop.work.records.add(on, "model", "shop", self.model)

    def runs(self) -> list[tuple[str, str]]:
        with open_store(self.shop.home.database_url) as store:
            return [(run.id, run.status) for run in store.runs()]

    def until(self, *wanted: str) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while tuple(status for _, status in self.runs()) != wanted:
            assert time.monotonic() < end, self.runs()
            time.sleep(0.02)


@pytest.fixture
def making(shop: Shop) -> Iterator[Making]:
    made = Making(shop)
    yield made
    made.maker.close()


def test_what_failed_is_tried_again_and_what_was_made_stays(making: Making) -> None:
    models = making.shop.work.models
    assert models is not None
    making.line.config = StandInConfig(steps=1, fails=True)
    with pytest.raises(BackendError, match="the loss is not a number"):
        making.maker.make("shop", making.model).result(WAIT_SECONDS)
    assert models.get("shop", making.model.id).path == ""
    making.line.config = StandInConfig(steps=2)
    first, second = (making.maker.make("shop", making.model) for _ in range(2))
    made = first.result(WAIT_SECONDS)
    assert second is first and made == models.get("shop", making.model.id)
    assert making.maker.make("shop", making.model).result(0) == made
    making.until("failed", "finished")
    models.delete("shop", making.model.id)
    models.made("shop", made)
    assert models.list("shop") == (), "it was deleted meanwhile, and stays so"


def test_a_checkpoint_whose_adapter_is_in_another_folder_is_refused_by_name(making: Making) -> None:
    elsewhere = making.model.model_copy(update={"adapter": str(making.shop.home.path / "gone")})
    with pytest.raises(Unsupported, match="in another state folder"):
        making.maker.make("shop", elsewhere).result(WAIT_SECONDS)
    assert making.runs() == []


def test_a_gateway_that_closes_ends_nothing_that_another_waits_for(making: Making) -> None:
    making.line.config = StandInConfig(steps=1000, seconds=0.05)
    waiting = making.maker.make("shop", making.model)
    making.until("running")
    with open_store(making.shop.home.database_url) as store:
        store.end(making.runs()[0][0], "cancelled")  # as a gateway does that made it too
    making.until("cancelled", "running")
    making.maker.close()
    with pytest.raises(Cancelled):
        waiting.result(WAIT_SECONDS)
    making.until("cancelled", "cancelled")
    with pytest.raises(Cancelled):
        making.maker.make("shop", making.model)
    refusal = explained(Cancelled("the gateway closes"), "req_1")
    assert refusal is STOPPING, "who waited for it over HTTP is told to come again"


def test_a_job_that_starts_from_what_is_being_made_outlives_a_gateway_that_closes(making: Making) -> None:
    shop, tried = making.shop, 0
    models, job = shop.work.models, making.model.job
    assert models is not None

    def flow(project: str, job: Job, jobs: JobStore) -> Flow:
        nonlocal tried
        tried += 1
        assert models is not None
        models.make(project, making.model).result(WAIT_SECONDS)
        raise AssertionError("it was never made")

    line: Any = making.line
    line.flow, line.base, line.config = flow, shop.home.path, StandInConfig(steps=1000, seconds=0.05)
    factory: Any = SimpleNamespace(home=shop.home, config=SimpleNamespace(name="shop", made={}))
    parts = JobParts(shop.home, shop.work, shop.meter, None)

    async def started(start: Callable[[], None]) -> None:
        start()

    with ExitStack() as stack:
        asyncio.run(started(open_drivers(factory, parts, line, ({}, None), stack)))
        making.until("running")
    assert shop.work.jobs.get("shop", job).status == "running", "the next gateway goes on with it"
    assert tried == 1
