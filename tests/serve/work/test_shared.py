"""Gateways over one Postgres: each tells what the others took in, and each piece of work is done by one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import Conflict, NotFound, Unsupported
from bessemer.infer import EchoConfig, open_engine
from bessemer.products.tuning.wiring import open_tuned
from bessemer.serve import GatewayParts, JobsConfig, Work, app, open_accounts, open_work
from bessemer.serve.refusals import of_engine
from bessemer.serve.work.batches import Batch, Counts, Line
from bessemer.serve.work.datasets import Dataset, DatasetMaker, DatasetResult
from bessemer.serve.work.files import File
from bessemer.serve.work.jobs import Hyperparameters, Job, Trainable
from bessemer.serve.work.records import Records, Wanted
from bessemer.serve.work.uploads import Upload
from tests.serve.conftest import start_in

from .test_batches import chat, ended, lines_of, sent, until

Opener = Callable[..., Work]
UPLOAD: dict[str, Any] = {
    "bytes": 3, "created_at": 0, "expires_at": 5, "filename": "a", "purpose": "user_data", "mime_type": "text/plain"
}  # fmt: skip


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Open what there is in a folder, over a database."""
    with ExitStack() as stack:

        def one(folder: str, database: str = "", clock: Callable[[], float] = time.time) -> Work:
            work = open_work(tmp_path / folder, JobsConfig(), clock, factory="mill", database=database)
            stack.callback(work.close)
            return work

        yield one


def given(work: Work, content: bytes = b"{}\n", purpose: str = "batch", expires_after: int | None = None) -> File:
    with work.files.receiving() as (path, out):
        out.write(content)
        out.flush()
        return work.files.add("shop", path, "lines.jsonl", purpose, expires_after)


def test_two_gateways_tell_the_same_and_share_the_work(tmp_path: Path, database_url: str) -> None:
    database = "" if database_url.startswith("sqlite") else database_url
    with ExitStack() as stack:
        secret, running = "", []
        for name in ("one", "two"):
            work = open_work(tmp_path / "work", JobsConfig(), database=database)
            accounts = open_accounts(database_url)
            for each in (work, accounts):
                stack.callback(each.close)
            engine = open_engine(EchoConfig())
            engine.go_on = type("Never", (), {"set": lambda self: None})()  # type: ignore[attr-defined]
            (tmp_path / name).mkdir()
            parts = GatewayParts(work=work, accounts=accounts, booked=lambda request: None)
            running.append(start_in(tmp_path / name, stack, engine, parts))
            secret = secret or accounts.keys.create("shop")[1]
        one, two = (each.client(secret) for each in running)
        lines = [chat(number) for number in range(20)]
        batch = sent(one, lines)
        assert [each.id for each in two.files.list()] == [batch.input_file_id]
        assert two.files.content(batch.input_file_id).text == one.files.content(batch.input_file_id).text
        other = two.batches.create(
            input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        for client in (one, two):
            assert [each.id for each in client.batches.list()] == [other.id, batch.id]
        for mine in (batch, other):
            done = ended(one, mine)
            assert ended(two, mine) == done
            assert len(lines_of(two, done.output_file_id)) == len(lines)
        one.files.delete(batch.input_file_id)
        assert batch.input_file_id not in [each.id for each in two.files.list()]
    booked = sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("*/entries.jsonl"))
    assert booked == 2 * len(lines), "each line was asked once"


def test_whose_folder_it_is_does_the_work_that_is_left_there(opened: Opener, postgres_url: str) -> None:
    mine, beside, elsewhere = (opened(folder, postgres_url) for folder in ("work", "work", "other"))
    file = given(mine)
    batch = Batch(id="b", endpoint="/v1/embeddings", input_file_id=file.id, created_at=0, expires_at=9)
    mine.batches.create("shop", batch)
    assert [work.files.path(file.id).exists() for work in (mine, beside, elsewhere)] == [True, True, False]
    assert [work.batches.open() != [] for work in (mine, beside, elsewhere)] == [True, True, False]
    assert mine.lock("batches") == beside.lock("batches") != elsewhere.lock("batches")
    assert elsewhere.batches.get("shop", "b") == batch and elsewhere.files.get("shop", file.id) == file


def test_of_two_who_ask_a_line_one_is_heard(opened: Opener, database_url: str) -> None:
    """Where no lock holds a second gateway back: the one that asked before books nothing, as it can stage nothing."""
    database = "" if database_url.startswith("sqlite") else database_url
    one, two = (opened("work", database).batches for _ in range(2))
    body = b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}\n'
    file = given(opened("work", database), body)
    batch = Batch(id="b", endpoint="/v1/embeddings", input_file_id=file.id, created_at=0, expires_at=9)
    one.begin("shop", one.create("shop", batch), 5)
    (mine,), (theirs,) = one.waiting("b", 5, set()), two.waiting("b", 5, set())
    mine = one.attempt(mine)
    with pytest.raises(Conflict):
        two.attempt(theirs)
    (theirs,) = two.waiting("b", 5, set())
    assert theirs.request == mine.request
    theirs = two.attempt(theirs)
    with pytest.raises(Conflict):
        one.stage(mine, "[]")
    two.stage(theirs, "[]")
    two.done(theirs, {"status_code": 200})
    for late in (theirs, mine):
        with pytest.raises(Conflict):
            one.done(late, {"status_code": 400})
    counts = one.get("shop", "b").request_counts
    assert (counts.completed, counts.failed) == (1, 0)


def test_what_is_made_of_bytes_in_another_folder_is_refused_by_name(opened: Opener, postgres_url: str) -> None:
    mine, elsewhere = (opened(folder, postgres_url) for folder in ("work", "other"))
    batch = Batch(id="b", endpoint="/v1/embeddings", input_file_id=given(mine).id, created_at=0, expires_at=9)
    told = given(mine, purpose="fine-tune")
    job = Job(id="j", created_at=0, model="base", training_file=told.id, hyperparameters=Hyperparameters(), seed=1)
    dataset = Dataset(id="d", created_at=0, tables={"people": told.id})
    upload = Upload(
        id="u", bytes=3, created_at=0, expires_at=2**40, filename="a", purpose="user_data", mime_type="text/plain"
    )
    mine.uploads.create("shop", upload)
    with mine.files.receiving() as (path, out):
        out.write(b"abc")
        out.flush()
        part = mine.uploads.add_part("shop", upload.id, path)
    trainable = Trainable(frozenset({"base"}), lambda path: len(path.read_bytes()), lambda path: None, frozenset())  # type: ignore[arg-type, return-value]
    elsewhere.jobs.trainable = trainable
    elsewhere.datasets.maker = DatasetMaker(frozenset, lambda job, given: len(given), lambda *_: {}, lambda *_: 0)
    for ask in (
        lambda: elsewhere.batches.create("shop", batch),
        lambda: elsewhere.jobs.create("shop", job),
        lambda: elsewhere.datasets.create("shop", dataset),
        lambda: elsewhere.uploads.complete("shop", upload.id, [part.id]),
    ):
        with pytest.raises(NotFound, match="in another state folder"):
            ask()
    assert mine.uploads.complete("shop", upload.id, [part.id]).status == "completed"


def test_what_is_deleted_at_another_gateway_leaves_no_bytes(
    opened: Opener, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_SWEEP_SECONDS", 0.02)
    mine, elsewhere = (opened(folder, postgres_url) for folder in ("work", "other"))
    gone, young, stays = (given(mine) for _ in range(3))
    for file in (gone, stays):
        os.utime(mine.files.path(file.id), (0, 0))
    with ExitStack() as stack:
        start_in(tmp_path, stack, parts=GatewayParts(work=mine))
        for file in (gone, young):
            elsewhere.files.delete("shop", file.id)
        until(lambda: not mine.files.path(gone.id).exists())
        assert mine.files.path(stays.id).exists() and mine.files.path(young.id).exists()


def test_a_tuned_model_in_another_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="in another state folder") as caught:
        open_tuned(str(tmp_path / "gone"))
    refusal = of_engine(caught.value)
    assert refusal and refusal.status == 400 and "gone" not in refusal.message


def test_bytes_outlive_a_change_of_the_database(opened: Opener, postgres_url: str) -> None:
    """What is kept in one database are strays to another one."""
    kept = {}
    for database in ("", postgres_url):
        work = opened("work", database)
        file = given(work)
        kept[work.files.path(file.id)] = (database, file)
    for path in kept:
        os.utime(path, (0, 0))
    for path, (database, file) in kept.items():
        assert opened("work", database).files.page("shop", Wanted()).items == (file,) and path.exists()


def test_pages_have_what_others_added_meanwhile_in_its_place(opened: Opener, database_url: str) -> None:
    database = "" if database_url.startswith("sqlite") else database_url
    one, two = opened("work", database), opened("work", database)
    made = [given(work).id for work in (one, two, one, two)]
    first = one.files.page("shop", Wanted(limit=2, newest_first=False))
    rest = two.files.page("shop", Wanted(after=first.items[-1].id, newest_first=False))
    assert [each.id for each in (*first.items, *rest.items)] == made
    assert (first.has_more, rest.has_more) == (True, False)


def test_a_zero_in_what_was_said_is_no_trouble(opened: Opener, database_url: str) -> None:
    """Postgres takes none in a text, and reads no JSON that stands for one."""
    work = opened("work", "" if database_url.startswith("sqlite") else database_url)
    file, zero = given(work, b'{"custom_id": "a"}\n'), "\x00"
    batch = Batch(
        id="b", endpoint="/v1/embeddings", input_file_id=file.id, created_at=0, expires_at=9, metadata={"a": zero}
    )
    work.batches.create("shop", batch)
    with work.records.writing() as execute:
        found = batch.model_copy(update={"status": "in_progress", "request_counts": Counts(total=2)})
        work.records.put(execute, found, "in_progress")
        execute.many(
            "INSERT INTO lines (batch, number, custom_id, start, bytes) VALUES (?, ?, ?, ?, ?)",
            [("b", 1, "a", 0, 1), ("b", 2, "b", 0, 1)],
        )
    for number, status in ((1, 200), (2, 400)):
        line = Line("b", number, "a", b"", 0, "r", "e")
        work.batches.done(line, {"status_code": status, "body": {"text": zero}})
    counts = work.batches.get("shop", "b").request_counts
    assert (counts.completed, counts.failed) == (1, 1)
    assert len(work.batches.page("shop", Wanted(metadata=(("a", zero),))).items) == 1
    assert work.batches.page("shop", Wanted(metadata=(("a", "b"),))).items == ()
    assert work.batches.page("shop", Wanted(metadata=None)).items == ()


@pytest.mark.parametrize("left", ["ALTER TABLE records DROP COLUMN expires_at", "UPDATE records SET expires_at = NULL"])
def test_a_file_of_an_earlier_version_is_brought_up_to_date(opened: Opener, tmp_path: Path, left: str) -> None:
    work = opened("work")
    stays, goes = given(work), given(work, expires_after=3600)
    with work.records.writing() as execute:
        execute(left)
    work.close()
    Records(tmp_path / "work" / "work.sqlite").close()
    later = open_work(tmp_path / "work", JobsConfig(), lambda: goes.created_at + 3601.0)
    assert later.files.page("shop", Wanted()).items == (stays,)
    assert not later.files.path(goes.id).exists()
    later.close()


def pending(work: Work, id: str = "u") -> str:
    """Begin an upload of three bytes and send them; return the part's id."""
    work.uploads.create("shop", Upload(id=id, **UPLOAD))
    with work.files.receiving() as (path, out):
        out.write(b"abc")
        out.flush()
        return work.uploads.add_part("shop", id, path).id


def test_an_upload_that_two_gateways_end_at_once_is_nobody_s_trouble(
    opened: Opener, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = "" if database_url.startswith("sqlite") else database_url
    one, two = (opened("work", database, clock=lambda: now) for _ in range(2))
    now = 1.0
    part = pending(one)
    now, tagged = 9.0, two.records.tagged

    def after_the_other(*args: Any, **more: Any) -> Any:
        found = tagged(*args, **more)
        one.uploads.sweep()
        return found

    monkeypatch.setattr(two.records, "tagged", after_the_other)
    two.uploads.sweep()
    assert two.records.ids("upload part") == set() and not two.files.path(part).exists()
    two.uploads.create("shop", Upload(id="v", **UPLOAD))


@pytest.mark.parametrize("end", ["complete", "cancel", "sweep"])
def test_a_gateway_that_is_killed_while_an_upload_ends_leaves_no_parts(
    opened: Opener, database_url: str, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    now = 1.0
    work = opened("work", "" if database_url.startswith("sqlite") else database_url, clock=lambda: now)
    part, writing, written = pending(work), work.records.writing, 0

    def killed() -> Any:
        nonlocal written
        written += 1
        if written > 1:
            raise KeyboardInterrupt
        return writing()

    now = 9.0 if end == "sweep" else now
    told = {"complete": ("shop", "u", [part]), "cancel": ("shop", "u"), "sweep": ()}[end]
    monkeypatch.setattr(work.records, "writing", killed)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with suppress(KeyboardInterrupt):
        getattr(work.uploads, end)(*told)
    monkeypatch.undo()
    assert work.files.path(part).exists()
    work.files.remove_strays(-1.0)
    assert not work.files.path(part).exists()


def test_what_a_killed_gateway_gave_to_jobs_and_batches_is_let_go_of(opened: Opener, database_url: str) -> None:
    work = opened("work", "" if database_url.startswith("sqlite") else database_url)
    file = given(work)
    for number, status in enumerate(("queued", "paused", "succeeded")):
        job = Job(id=f"j{number}", created_at=0, model="m", training_file="", hyperparameters=Hyperparameters(), seed=1)
        work.jobs.data(job.id, "training").hardlink_to(work.files.path(file.id))
        with work.records.writing() as execute:
            work.records.add(execute, "fine-tuning job", "shop", job, tag=status)
    work.jobs.data("never kept", "validation").hardlink_to(work.files.path(file.id))
    for number in range(2):
        batch = Batch(id=f"b{number}", endpoint="", input_file_id=file.id, created_at=0, expires_at=9)
        work.batches.create("shop", batch)
    with work.records.writing() as execute:
        work.records.put(execute, batch, "completed")
    folder = work.files.folder.parent
    work.sweep()
    assert len(list((folder / "jobs").iterdir())) == 4, "who takes a job has an hour to keep it"
    for store in (work.jobs, work.batches):
        store.sweep(-1.0)
    left = {path.name for name in ("jobs", "batches") for path in (folder / name).iterdir()}
    assert left == {"j0.training.jsonl", "j1.training.jsonl", "b0.jsonl"}


def test_a_page_goes_on_after_what_is_deleted_meanwhile(
    opened: Opener, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = opened("work", "" if database_url.startswith("sqlite") else database_url)
    first, second = given(work), given(work)
    read = work.records.read

    def deleted(*args: Any) -> list[tuple[Any, ...]]:
        rows = read(*args)
        with suppress(NotFound):
            work.files.delete("shop", first.id)
        return rows

    monkeypatch.setattr(work.records, "read", deleted)
    wanted = Wanted(after=first.id, newest_first=False)
    assert work.records.page("file", "shop", File, wanted).items == (second,)


def test_no_row_of_a_dataset_is_there_before_its_job_is(
    opened: Opener, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else who looks then, and cancels, has rows that nobody is charged for; so has whose gateway is killed then."""
    database = "" if database_url.startswith("sqlite") else database_url
    one, two = opened("work", database), opened("work", database)
    for id in ("d", "cancelled"):
        with one.records.writing() as execute:
            one.records.add(execute, "dataset", "shop", Dataset(id=id, created_at=0, status="running"), tag="running")
    (tmp_path / "rows").write_text("a")
    files = {name: (tmp_path / "rows", f"{name}.csv") for name in ("people", "orders")}
    found, seen = one.datasets._in, list[int]()

    def looked(*args: Any) -> Dataset:
        seen.append(len(two.files.page("shop", Wanted()).items))
        return found(*args)

    monkeypatch.setattr(one.datasets, "_in", looked)
    done = one.datasets.succeed("shop", "d", DatasetResult(files, 1, {}, {}))
    assert seen == [0] and done == two.datasets.get("shop", "d") and done.status == "succeeded"
    made = two.files.page("shop", Wanted()).items
    assert {file.id for file in made} == set(done.result_files.values()) and len(made) == 2
    two.datasets.move("shop", "cancelled", "cancelled", ("running",))
    with pytest.raises(Conflict):
        one.datasets.succeed("shop", "cancelled", DatasetResult(files, 1, {}, {}))
    assert {path.name for path in one.files.folder.iterdir()} == {file.id for file in made}
