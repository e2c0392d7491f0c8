"""Fine-tune a model, ask what came of it, and have it answer a batch: a script written for OpenAI's API.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=bk-… OPENAI_ADMIN_KEY=bk-… python tune_and_batch.py

Only the base URL and the keys are Bessemer's; needs the package `openai`.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI()
say = sys.stdout.write
BASE = client.models.list().data[0].id
CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Peru": "Lima", "Cuba": "Havana"}


def write_lines(path: Path, lines: list[dict]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


with tempfile.TemporaryDirectory() as folder:
    # What the model is to learn: conversations, one on each line.
    talks = [
        {
            "messages": [
                {"role": "user", "content": f"Name the capital of {country}."},
                {"role": "assistant", "content": f"{capital}, if you please."},
            ]
        }
        for country, capital in CAPITALS.items()
    ]
    path = write_lines(Path(folder) / "talks.jsonl", talks)
    training = client.files.create(file=path, purpose="fine-tune")

    # The job: two epochs over six examples, by an optimiser step for each two.
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=training.id,
        suffix="capitals",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 2}}},
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data):
        say(f"{event.message}\n")
    if job.fine_tuned_model is None:
        raise SystemExit(f"the job {job.status}: {job.error}")
    say(f"{job.trained_tokens} tokens were trained on\n")
    say(client.files.content(job.result_files[0]).text)

    # The model is served at once, to this project alone.
    answer = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=[{"role": "user", "content": "Name the capital of France."}],
        temperature=0,
        max_tokens=12,
    )
    say(f"{answer.choices[0].message.content}\n")

    # A batch: the same question of many countries, answered when nobody waits for anything else.
    lines = [
        {
            "custom_id": country,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": job.fine_tuned_model,
                "messages": [{"role": "user", "content": f"Name the capital of {country}."}],
                "temperature": 0,
                "max_tokens": 12,
            },
        }
        for country in CAPITALS
    ]
    asked = client.files.create(file=write_lines(Path(folder) / "asked.jsonl", lines), purpose="batch")
    batch = client.batches.create(
        input_file_id=asked.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"why": "example"}
    )
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    if batch.output_file_id is None:
        raise SystemExit(f"the batch {batch.status}: {batch.errors}")
    for line in map(json.loads, client.files.content(batch.output_file_id).text.splitlines()):
        said = line["response"]["body"]["choices"][0]["message"]["content"]
        say(f"{line['custom_id']}: {said!r}\n")

# What it came to: an administrator's key (OPENAI_ADMIN_KEY) asks for usage and costs, as at OpenAI.
if os.environ.get("OPENAI_ADMIN_KEY"):
    since, usage = int(time.time()) - 86_400, client.admin.organization.usage
    for bucket in usage.completions(start_time=since, bucket_width="1d", group_by=["model", "batch"]).data:
        for used in bucket.results:
            say(f"{used.model}, batch {used.batch}: {used.num_model_requests} requests, {used.output_tokens} tokens\n")
    for bucket in usage.costs(start_time=since, group_by=["line_item"]).data:
        for cost in bucket.results:
            say(f"{cost.line_item}: {cost.amount.value:.6f} {cost.amount.currency}\n")
