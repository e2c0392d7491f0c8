"""Batches, by the official client, over the reference engine."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from bessemer.core.nouns import Delta, Subject, Usage
from bessemer.serve import JobsConfig, Work, open_work
from bessemer.serve.serving import Answer
from bessemer.serve.work import troubles
from bessemer.serve.work.batches import Batch as KeptBatch
from bessemer.serve.work.datasets import Dataset

from .conftest import Office

WAIT_SECONDS = 30.0


def chat(number: int, text: str = "", **more: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": text or f"word {number}"}]
    body = {"model": "played", "messages": said, **more}
    return {"custom_id": f"id-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def sent(client: openai.OpenAI, lines: list[Any], endpoint: str = "/v1/chat/completions", **more: Any) -> Batch:
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("batch.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more  # type: ignore[arg-type]
    )  # fmt: skip


def ended(client: openai.OpenAI, batch: Batch, status: str = "completed") -> Batch:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        found = client.batches.retrieve(batch.id)
        if found.status in ("completed", "failed", "expired", "cancelled"):
            assert found.status == status, found.errors
            return found
        time.sleep(0.02)
    raise AssertionError(f"the batch is {found}")


def lines_of(client: openai.OpenAI, file: str | None) -> list[dict[str, Any]]:
    assert file is not None
    return [json.loads(line) for line in client.files.content(file).text.splitlines()]


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_each_line_is_answered_and_billed_once_as_a_batch(office: Office) -> None:
    batch = sent(office.shop, [chat(number) for number in range(20)], metadata={"why": "test"})
    assert (batch.status, batch.endpoint, batch.metadata) == ("validating", "/v1/chat/completions", {"why": "test"})
    assert batch.expires_at == batch.created_at + 24 * 3600
    done = ended(office.shop, batch)
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 20, "completed": 20, "failed": 0}
    assert done.error_file_id is None
    assert done.completed_at == int(office.clock.now)
    lines = lines_of(office.shop, done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"id-{number}" for number in range(20)]
    for number, line in enumerate(lines):
        assert (line["error"], line["response"]["status_code"]) == (None, 200)
        body = line["response"]["body"]
        assert body["choices"][0]["message"]["content"] == f"word {number}"
        assert body["usage"]["energy"]["joules"] == 1.5
    booked = office.running.meter.entries()
    assert sorted(entry.subject.id for entry in booked) == sorted(line["response"]["request_id"] for line in lines)
    assert {(e.subject.batch, e.subject.project, e.status) for e in booked} == {(True, "shop", "ok")}
    file = office.shop.files.retrieve(done.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert [each.id for each in office.shop.batches.list()] == [batch.id]
    assert not list((office.folder / "batches").iterdir())


@pytest.mark.parametrize(
    ("endpoint", "body", "read"),
    [
        ("/v1/completions", {"prompt": "one two"}, lambda said: said["choices"][0]["text"] == "one two"),
        ("/v1/embeddings", {"input": ["a", "b"], "dimensions": 8}, lambda said: len(said["data"][1]["embedding"]) == 8),
        (
            "/v1/responses",
            {"input": "one two", "store": True},
            lambda said: [each["content"][0]["text"] for each in said["output"]] == ["one two"],
        ),
    ],
)
def test_all_endpoints(office: Office, endpoint: str, body: dict, read: Callable[[Any], bool]) -> None:
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": "played", **body}}
    done = ended(office.shop, sent(office.shop, [line], endpoint))
    (answer,) = lines_of(office.shop, done.output_file_id)
    assert read(answer["response"]["body"]), answer
    (entry,) = office.running.meter.entries()
    assert done.usage is not None and done.model == "played"
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (
        entry.usage.input_tokens,
        entry.usage.output_tokens,
        entry.usage.total_tokens,
    )


def test_lines_that_are_refused_go_into_the_errors(office: Office) -> None:
    wrong = [chat(1, model="none"), chat(2, temperature=9), chat(3, n=99)]
    wrong[0]["body"]["model"] = "none"
    done = ended(office.shop, sent(office.shop, [chat(0), *wrong]))
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 4, "completed": 1, "failed": 3}
    assert [line["custom_id"] for line in lines_of(office.shop, done.output_file_id)] == ["id-0"]
    errors = lines_of(office.shop, done.error_file_id)
    assert [(line["custom_id"], line["response"]["status_code"]) for line in errors] == [
        ("id-1", 404), ("id-2", 400), ("id-3", 400)
    ]  # fmt: skip
    assert errors[0]["response"]["body"]["error"]["code"] == "model_not_found"
    assert len(office.running.meter.entries()) == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ({**chat(1), "custom_id": "id-0"}, "duplicate_custom_id"),
        ({**chat(1), "custom_id": ""}, "missing_required_parameter"),
        ({**chat(1), "custom_id": "a\x00b"}, "missing_required_parameter"),
        ({**chat(1), "custom_id": "a\ud800b"}, "missing_required_parameter"),
        ({**chat(1), "method": "GET"}, "invalid_method"),
        ({**chat(1), "url": "/v1/completions"}, "mismatched_endpoint"),
        ({**chat(1), "body": "x"}, "missing_required_parameter"),
        (chat(1, stream=True), "invalid_request"),
    ],
)
def test_an_input_that_is_no_batch_fails_with_its_line(office: Office, line: dict, code: str) -> None:
    hook = office.webhooks.create("shop", "mine", "https://example.com", ["batch.failed"])
    batch = ended(office.shop, sent(office.shop, [chat(0), line]), "failed")
    assert batch.errors is not None and batch.errors.data is not None
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, 2)]
    assert batch.output_file_id is None
    assert not office.running.meter.path.exists() or not office.running.meter.entries()
    until(lambda: [told.endpoint for told in office.webhooks.claim(10)] == [hook.id] or None)


def test_a_surrogate_in_a_line_is_refused_alone(office: Office) -> None:
    done = ended(office.shop, sent(office.shop, [chat(0), chat(1, "a\ud800b")]))
    assert [line["custom_id"] for line in lines_of(office.shop, done.output_file_id)] == ["id-0"]
    (error,) = lines_of(office.shop, done.error_file_id)
    assert (error["custom_id"], error["response"]["status_code"]) == ("id-1", 400)


def test_a_batch_that_cannot_be_looked_at_stops_no_other_and_is_told_of_once(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batches = type(office.work.batches)
    begin, stuck, tries = batches.begin, list[str](), list[float]()

    def begun(self: Any, project: str, batch: KeptBatch, most: int) -> KeptBatch:
        stuck[:] = stuck or [batch.id]
        if batch.id in stuck:
            tries.append(time.monotonic())
            raise OSError("the disk is in the way")
        return begin(self, project, batch, most)

    monkeypatch.setattr(batches, "begin", begun)
    monkeypatch.setattr(troubles, "_FIRST_SECONDS", 0.1)
    first = sent(office.shop, [chat(0)])
    until(lambda: stuck)
    for number in range(3):
        ended(office.shop, sent(office.shop, [chat(number)]))
    until(lambda: len(tries) > 3)
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses[1] >= 0.2 and pauses[2] >= 0.4, "ever longer"
    assert [record.message.splitlines()[0] for record in caplog.records] == [f"the batch {first.id} waits: OSError"]
    assert office.shop.batches.retrieve(first.id).status == "validating"
    monkeypatch.setattr(batches, "begin", begin)
    ended(office.shop, first)


def test_a_batch_whose_input_is_gone_fails_at_once(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batches = type(office.work.batches)
    create = batches.create

    def created(self: Any, project: str, batch: KeptBatch) -> KeptBatch:
        made = create(self, project, batch)
        (office.folder / "batches" / f"{batch.id}.jsonl").unlink()
        return made

    monkeypatch.setattr(batches, "create", created)
    hook = office.webhooks.create("shop", "mine", "https://example.com", ["batch.failed"])
    batch = ended(office.shop, sent(office.shop, [chat(0)]), "failed")
    assert batch.errors is not None and batch.errors.data is not None
    assert [(error.code, error.param) for error in batch.errors.data] == [("input_file_gone", "input_file_id")]
    assert batch.failed_at == int(office.clock.now)
    assert batch.request_counts is not None and batch.request_counts.total == 0
    until(lambda: [told.endpoint for told in office.webhooks.claim(10)] == [hook.id] or None)
    until(lambda: caplog.records)
    assert [record.message for record in caplog.records] == [f"the batch {batch.id} failed: input_file_gone"]


def test_a_batch_whose_input_is_lost_midway_keeps_what_was_answered(office: Office) -> None:
    office.slow()
    batch = sent(office.shop, [chat(number, "one two three four five") for number in range(40)])
    until(lambda: (office.shop.batches.retrieve(batch.id).request_counts or batch).completed >= 3)  # type: ignore[union-attr]
    (office.folder / "batches" / f"{batch.id}.jsonl").unlink()
    done = ended(office.shop, batch, "failed")
    assert done.errors is not None and done.request_counts is not None
    well = done.request_counts.completed
    assert 3 <= well == len(lines_of(office.shop, done.output_file_id)) == len(office.running.meter.entries())
    rest = lines_of(office.shop, done.error_file_id)
    assert {line["error"]["code"] for line in rest} == {"batch_failed"} and len(rest) == 40 - well


def test_the_batches_of_an_archived_project_are_cancelled(office: Office) -> None:
    batches = office.work.batches
    with office.busy():
        mine, other = (sent(client, [chat(0), chat(1)]) for client in (office.shop, office.docs))
        until(lambda: batches.get("shop", mine.id).status == "in_progress")
        office.accounts.projects.archive("shop")
        until(lambda: batches.get("shop", mine.id).status == "cancelled")
    assert batches.get("shop", mine.id).request_counts.failed == 2
    ended(office.docs, other)


def test_too_many_lines(office: Office) -> None:
    batch = ended(office.shop, sent(office.shop, [chat(number) for number in range(101)]), "failed")
    assert batch.errors is not None and batch.errors.data is not None
    assert batch.errors.data[0].message == "A batch has at most 100 lines."


def test_what_is_no_order_for_a_batch_is_refused(office: Office) -> None:
    file = office.shop.files.create(file=("x.jsonl", b"{}\n"), purpose="fine-tune")
    ask = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    for change in ({}, {"endpoint": "/v1/models"}, {"completion_window": "1h"}, {"metadata": {"k": "v" * 999}}):
        with pytest.raises(openai.BadRequestError):
            office.shop.batches.create(**{**ask, **change})  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError):
        office.shop.batches.create(**{**ask, "input_file_id": "file-none"})  # type: ignore[arg-type]


def test_nobody_waits_for_a_batch(office: Office) -> None:
    with office.busy():
        batch = sent(office.shop, [chat(number) for number in range(3)])
        until(lambda: office.shop.batches.retrieve(batch.id).status == "in_progress")
        time.sleep(0.4)
        counts = office.shop.batches.retrieve(batch.id).request_counts
        assert counts is not None and counts.completed == 0, "no line begins while somebody is answered"
    ended(office.shop, batch)


def test_cancelled_it_keeps_what_was_answered(office: Office) -> None:
    office.slow()
    batch = sent(office.shop, [chat(number, "one two three four five") for number in range(40)])
    until(lambda: (office.shop.batches.retrieve(batch.id).request_counts or batch).completed >= 3)  # type: ignore[union-attr]
    assert office.shop.batches.cancel(batch.id).status == "cancelling"
    done = ended(office.shop, batch, "cancelled")
    counts = done.request_counts
    assert counts is not None
    assert 3 <= counts.completed < 40
    assert len(lines_of(office.shop, done.output_file_id)) == counts.completed == len(office.running.meter.entries())
    rest = lines_of(office.shop, done.error_file_id)
    assert {line["error"]["code"] for line in rest} == {"batch_cancelled"}
    assert len(rest) == 40 - counts.completed == counts.failed
    assert done.usage is not None
    assert (done.usage.output_tokens, done.model) == (5 * counts.completed, "played")
    with pytest.raises(openai.ConflictError):
        office.shop.batches.cancel(batch.id)


def test_after_24_hours_it_expires(office: Office) -> None:
    with office.busy():
        batch = sent(office.shop, [chat(0), chat(1)])
        until(lambda: office.shop.batches.retrieve(batch.id).status == "in_progress")
        office.clock.now += 24 * 3600
        done = ended(office.shop, batch, "expired")
    assert done.output_file_id is None
    assert done.request_counts is not None and done.request_counts.failed == 2
    assert {line["error"]["code"] for line in lines_of(office.shop, done.error_file_id)} == {"batch_expired"}


def test_a_key_that_was_revoked_is_answered_no_more(office: Office) -> None:
    with office.busy():
        batch = sent(office.shop, [chat(0)])
        (key,) = [key for key in office.running.keys.list() if key.project == "shop"]
        made, secret = office.running.keys.create("shop")
        office.running.keys.revoke(key.id)
    client = office.running.client(secret)
    done = ended(client, batch)
    (line,) = lines_of(client, done.error_file_id)
    assert (line["response"]["status_code"], made.project) == (401, "shop")
    assert not office.running.meter.path.exists() or not office.running.meter.entries()


def test_a_project_never_sees_anothers_batches(office: Office) -> None:
    batch = ended(office.shop, sent(office.shop, [chat(0)]))
    docs = office.docs
    mine = sent(docs, [chat(0)])
    assert [each.id for each in docs.batches.list()] == [mine.id]
    for steal in (
        lambda: docs.batches.retrieve(batch.id),
        lambda: docs.batches.cancel(batch.id),
        lambda: docs.batches.list(after=batch.id),
        lambda: docs.files.content(batch.output_file_id or ""),
        lambda: docs.batches.create(
            input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
        ),
    ):
        with pytest.raises(openai.NotFoundError):
            steal()
    for method, path in (
        ("POST", "/v1/batches"), ("GET", "/v1/batches"), ("GET", "/v1/batches/x"), ("POST", "/v1/batches/x/cancel")
    ):  # fmt: skip
        assert office.running.ask(b"{}", path, method, Authorization="Bearer wrong")[0] == 401


def test_a_project_asks_its_own_tuned_model_and_no_other(office: Office) -> None:
    from .test_tuning import a_job, trained

    job = a_job(office.shop)
    trained(office, job.id)
    name = office.shop.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    line = chat(0)
    line["body"]["model"] = name
    assert ended(office.shop, sent(office.shop, [line])).output_file_id
    stolen = ended(office.docs, sent(office.docs, [line]))
    (refused,) = lines_of(office.docs, stolen.error_file_id)
    assert refused["response"]["status_code"] == 404


@pytest.mark.parametrize("booked", ["now", "by an earlier version", ""])
def test_the_books_decide_of_an_answer_whose_process_died_before_it_was_told(office: Office, booked: str) -> None:
    from bessemer.serve.work.answering import _dumped

    with office.busy():
        batch = sent(office.shop, [chat(0)])
        until(lambda: office.shop.batches.retrieve(batch.id).status == "in_progress")
        store = office.work.batches
        (line,) = store.waiting(batch.id, 5, set())
        line = store.attempt(line)
        usage = Usage(input_tokens=2, output_tokens=2)
        answer = Answer([Delta(text="kept before"), Delta(finish_reason="stop", usage=usage)], "stop", usage)
        store.stage(line, _dumped([answer]))
        request = line.request
        if booked == "by an earlier version":
            ((attempt,),) = store.records.read("SELECT attempt FROM lines")
            request = "req_" + hashlib.sha256(f"{batch.id}/1/{attempt}".encode()).hexdigest()[:32]
            assert request != line.request
        if booked:
            handle = office.running.meter.start(Subject(kind="request", id=request, project="shop", batch=True))
            office.running.meter.stop(handle, usage, "ok")
    done = ended(office.shop, batch)
    (told,) = lines_of(office.shop, done.output_file_id)
    (entry,) = office.running.meter.entries()
    assert told["response"]["request_id"] == entry.subject.id
    text = told["response"]["body"]["choices"][0]["message"]["content"]
    assert text == ("kept before" if booked else "word 0")
    assert (entry.subject.id == request) is bool(booked), "an attempt that nobody booked has its id no more"
    assert told["response"]["body"]["usage"]["total_tokens"] == 4


def test_what_one_factory_took_in_another_leaves_to_it(tmp_path: Path, database_url: str) -> None:
    database = "" if database_url.startswith("sqlite") else database_url
    with ExitStack() as stack:

        def opened(factory: str) -> Work:
            work = open_work(tmp_path / "work", JobsConfig(), factory=factory, database=database)
            stack.callback(work.close)
            return work

        mine, other = opened("mine"), opened("other")
        files = mine.files
        with files.receiving() as (path, out):
            out.write(b"{}")
            out.flush()
            file = files.add("shop", path, "lines.jsonl", "batch")
        batch = KeptBatch(id="b", endpoint="/v1/embeddings", input_file_id=file.id, created_at=0, expires_at=9)
        mine.batches.create("shop", batch)
        with mine.records.writing() as execute:
            mine.records.add(execute, "dataset", "shop", Dataset(id="d", created_at=0), tag="queued")
        assert [work.batches.open() != [] for work in (mine, other)] == [True, False]
        assert [work.datasets.next() is not None for work in (mine, other)] == [True, False]
        assert other.batches.get("shop", "b") == batch, "every gateway tells how far it is"
        assert mine.lock("batches") != other.lock("batches")
        if database:
            return
        with mine.records.writing() as execute:  # as it was kept before
            execute("ALTER TABLE records DROP COLUMN factory")
        assert [work.datasets.next() is not None for work in (opened("other"), opened("mine"))] == [True, False]
