"""What clients leave to be done, by the default CPU setup: the real trainer, the real engine, OpenAI's own client."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from bessemer.products.receipt import Receipt

from .conftest import Line

SCRIPT = Path(__file__).parents[2] / "examples" / "openai" / "tune_and_batch.py"
WAIT_SECONDS = 900.0
TALK = [{"role": "user", "content": "What is a lantern?"}, {"role": "assistant", "content": "A lamp with a handle."}]


@contextmanager
def up(line: Line, end: int = signal.SIGKILL) -> Iterator[str]:
    """Run `bessemer up`, and send it a signal at the end of the block."""
    with line.up(end) as (_, said):
        yield str(said["url"])


@pytest.fixture(scope="module")
def secret(line: Line, receipt: Receipt) -> str:
    return str(line.json("keys", "create", "--project", "press")["key"])


def client_of(url: str, secret: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0)


@pytest.mark.slow
def test_a_job_goes_on_when_the_gateway_was_killed(line: Line, secret: str) -> None:
    lines = (json.dumps({"messages": TALK}) + "\n").encode() * 12
    with up(line) as url, client_of(url, secret) as client:
        file = client.files.create(file=("talks.jsonl", lines), purpose="fine-tune")
        id = client.fine_tuning.jobs.create(
            model="tools",
            training_file=file.id,
            validation_file=file.id,
            hyperparameters={"n_epochs": 2, "batch_size": 2},
        ).id
        end = time.monotonic() + WAIT_SECONDS
        while len([e for e in client.fine_tuning.jobs.list_events(id, limit=100) if e.type == "metrics"]) < 6:
            assert time.monotonic() < end, client.fine_tuning.jobs.list_events(id)
            time.sleep(0.1)
    end = time.monotonic() + WAIT_SECONDS
    with up(line) as url, client_of(url, secret) as client:
        while (job := client.fine_tuning.jobs.retrieve(id)).status == "running" and time.monotonic() < end:
            time.sleep(0.3)
        events = client.fine_tuning.jobs.list_events(id, limit=100).data
        assert job.status == "succeeded", (job.error, events)
        assert any("goes on at" in event.message for event in events), "not from the beginning"
        assert job.fine_tuned_model is not None and job.fine_tuned_model.startswith("ft:tools:press::")
        curve = client.files.content(job.result_files[0]).text.splitlines()
        assert len(curve) == 1 + 12
        first, last = (float(row.split(",")[1]) for row in (curve[1], curve[-1]))
        assert last < first, "it learnt nothing"
        last, early = client.fine_tuning.jobs.checkpoints.list(id).data
        assert (last.step_number, last.fine_tuned_model_checkpoint) == (12, job.fine_tuned_model)
        assert (early.step_number, early.fine_tuned_model_checkpoint) == (6, f"{job.fine_tuned_model}:ckpt-step-6")
        assert last.metrics.full_valid_loss is not None and early.metrics.full_valid_loss is not None
        assert last.metrics.full_valid_loss < early.metrics.full_valid_loss
        answers = [
            client.chat.completions.create(
                model=each.fine_tuned_model_checkpoint, messages=TALK[:1], temperature=0, max_tokens=8
            )
            for each in (last, early)
        ]
        assert answers[0].choices[0].message.content == "A lamp with a handle."
        assert answers[1].choices[0].message.content, "made when it was asked"
        client.models.delete(job.fine_tuned_model)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=early.fine_tuned_model_checkpoint, messages=TALK[:1])
    usage = [row for row in line.json("usage", "--project", "press") if row["what"] == "requests"]
    assert sum(row["entries"] for row in usage) == 2


@pytest.mark.slow
def test_a_script_written_for_openai_runs_with_another_url_and_key(line: Line, secret: str) -> None:
    admin = str(line.json("keys", "create", "--project", "office", "--admin")["key"])
    keys = {"OPENAI_API_KEY": secret, "OPENAI_ADMIN_KEY": admin}
    with up(line, signal.SIGTERM) as url:
        done = subprocess.run(
            [sys.executable, str(SCRIPT)],
            env={**os.environ, "OPENAI_BASE_URL": f"{url}/v1", **keys},
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "The job has successfully completed" in said
    assert "step,train_loss,valid_loss,learning_rate,padded_tokens,seconds" in said
    answered = [text for text in said if text.split(":")[0] in ("France", "Italy", "Spain", "Japan", "Peru", "Cuba")]
    assert len(answered) == 6
    assert any(text.startswith("ft:") and ", batch True: 6 requests, " in text for text in said), "usage"
    assert any(text.startswith("ft:") and ", output, batch: " in text for text in said), "costs"
    checks = line.json("reconcile", "--books", "--prices", str(line.factory))
    assert [check for check in checks if check["holds"] is False] == [], (
        "None: other factories of this home have prices"
    )
    (meters,) = [check["found"] for check in checks if check["name"] == "meters"]
    assert re.search(r", their engines [1-9][0-9,]* tokens$", meters), "those of the served and of the tuned model"
