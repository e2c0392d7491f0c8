"""A job by the real trainer, merged, compiled and answering: on a tiny base with random weights."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path

from bessemer.core.nouns import ChatRequest, Message, Sampling
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.home import Home
from bessemer.products.llm.config import LlmConfig
from bessemer.products.tuning.driver import JobDriver, JobParts
from bessemer.products.tuning.wiring import trainable, tuning_line
from bessemer.serve import JobsConfig, open_work
from bessemer.serve.work.jobs import Hyperparameters, Job

from ...train.conftest import make_base

WAIT_SECONDS = 240.0
TALK = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "abc"}]


async def test_a_job_by_the_real_trainer_is_served(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    product = LlmConfig(base=str(base))
    with ExitStack() as stack:
        home = Home(tmp_path / "home")
        work = open_work(home.work, JobsConfig(), trainable=trainable(product, None))
        stack.callback(work.close)
        meter = stack.enter_context(open_meter(MeterConfig(), home.books))
        files = work.files
        with files.receiving() as (path, out):
            out.write((json.dumps({"messages": TALK}) + "\n").encode() * 8)
            out.flush()
            file = files.add("shop", path, "talks.jsonl", "fine-tune")
        hyper = Hyperparameters(n_epochs=6, batch_size=4, learning_rate_multiplier=2.0)
        asked = Job(
            id="ftjob-1", created_at=0, model=str(base), seed=0, training_file=file.id, validation_file=file.id,
            hyperparameters=hyper, suffix="tea",
        )  # fmt: skip
        work.jobs.create("shop", asked)
        driver = JobDriver(JobParts(home, work, meter, None), tuning_line(product, None, home, tmp_path, work))
        stack.callback(driver.close)
        driver.start()
        end = time.monotonic() + WAIT_SECONDS
        while (job := work.jobs.get("shop", "ftjob-1")).status in ("queued", "running") and time.monotonic() < end:
            time.sleep(0.1)
        assert job.status == "succeeded", job.error
        rows = files.path(job.result_files[0]).read_text().splitlines()
        assert len(rows) == 1 + 12
        losses = [float(row.split(",")[1]) for row in rows[1:]]
        assert losses[-1] < losses[0] - 0.1
        assert job.trained_tokens is not None and job.trained_tokens % 48 == 0, "no padding: all lines are alike"
        assert work.models is not None
        engine = work.models.engine("shop", str(job.fine_tuned_model))
        assert engine is not None
        request = ChatRequest(messages=(Message(role="user", content="Tea?"),), sampling=Sampling(max_output_tokens=8))
        answer = await engine.respond(request)
        assert (answer.finish_reason in ("stop", "length"), answer.usage.input_tokens > 4) == (True, True)
        await work.models.close()
