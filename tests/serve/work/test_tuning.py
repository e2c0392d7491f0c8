"""The endpoints of fine-tuning jobs, by the official client; a test plays whoever trains."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from bessemer.core.nouns import Subject, Usage
from bessemer.core.units import Money
from bessemer.serve.accounts.budgets import Budget, Spending
from bessemer.serve.accounts.refusing import refuse_money
from bessemer.serve.refusals import Refused
from bessemer.serve.work.jobs import JobError, Kept, Result
from bessemer.serve.work.models import TunedModel
from tests.serve.conftest import lax

from .conftest import Office

TALK = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
LINES = (json.dumps(TALK) + "\n").encode() * 10
RESULT = Result("engine-folder", "model-folder", 120, 7, {"step": 7.0, "train_loss": 0.5}, b"step,train_loss\n7,0.5\n")
EPOCHS = tuple(
    Kept(f"adapter-{step}", "base-folder", step, {"step": step, "train_loss": 7 / step, "full_valid_loss": 8 / step})
    for step in (3, 5)
)
WAIT_SECONDS = 60.0
ASK = [{"role": "user", "content": "one two"}]


def a_file(client: openai.OpenAI, lines: bytes = LINES) -> str:
    return client.files.create(file=("talks.jsonl", lines), purpose="fine-tune").id


def a_job(client: openai.OpenAI, **more) -> FineTuningJob:
    return client.fine_tuning.jobs.create(model="base-model", training_file=a_file(client), **more)


def trained(office: Office, id: str, project: str = "shop", kept: tuple[Kept, ...] = ()) -> None:
    office.work.jobs.move(project, id, "running", ("queued",), "started")
    office.work.jobs.succeed(project, id, replace(RESULT, kept=kept))


def with_checkpoints(office: Office) -> tuple[str, str, str]:
    """Return the names of a model and of its two checkpoints, the newest first."""
    job = a_job(office.shop, suffix="tea")
    trained(office, job.id, kept=EPOCHS)
    told = office.shop.fine_tuning.jobs.checkpoints.list(job.id)
    names = [each.fine_tuned_model_checkpoint for each in told]
    return names[0], names[1], names[2]


def test_a_job_is_kept_as_the_wire_has_it(office: Office) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}}
    job = a_job(office.shop, method=method, suffix="tea", seed=3, metadata={"why": "tea"})
    assert (job.status, job.model, job.seed, job.metadata) == ("queued", "base-model", 3, {"why": "tea"})
    assert job.hyperparameters.model_dump() == {"n_epochs": 2, "batch_size": 1, "learning_rate_multiplier": 1.0}
    assert job.method is not None and job.method.type == "supervised"
    assert (job.fine_tuned_model, job.finished_at, job.error, job.result_files) == (None, None, None, [])
    assert office.shop.fine_tuning.jobs.retrieve(job.id) == job
    assert [each.id for each in office.shop.fine_tuning.jobs.list()] == [job.id]
    assert [each.message for each in office.shop.fine_tuning.jobs.list_events(job.id)][-1].endswith(job.id)


def test_jobs_are_listed_by_what_was_said_about_them(office: Office) -> None:
    said: list[dict[str, str] | None] = [{"why": "tea", "grün": 'a"b'}, {"why": "cake"}, {"why": ""}, None]
    tea, cake, empty, none = (a_job(office.shop, **({"metadata": each} if each else {})).id for each in said)
    for wanted, found in (
        ({"why": "tea"}, [tea]),
        ({"why": "tea", "grün": 'a"b'}, [tea]),
        ({"why": "cake", "grün": 'a"b'}, []),
        ({"why": ""}, [empty]),
        ({}, [none, empty, cake, tea]),
    ):
        assert [each.id for each in office.shop.fine_tuning.jobs.list(metadata=wanted, limit=1)] == found, wanted
    assert [each.id for each in office.shop.fine_tuning.jobs.list(extra_query={"metadata": "null"})] == [none]
    with pytest.raises(openai.BadRequestError, match="metadata"):
        office.shop.fine_tuning.jobs.list(extra_query={"metadata": "tea"})


def test_a_database_that_waits_keeps_nobody_waiting_but_who_asks_for_a_tuned_model(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = office.work.models
    assert models is not None
    asked, go_on, get = Event(), Event(), models.get

    def slowly(project: str, name: str) -> TunedModel:
        asked.set()
        go_on.wait(WAIT_SECONDS)
        return get(project, name)

    monkeypatch.setattr(models, "get", slowly)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            office.shop.chat.completions.create, model="ft:nobody", messages=[{"role": "user", "content": "one"}]
        )
        try:
            assert asked.wait(WAIT_SECONDS)
            assert httpx2.get(f"{office.running.url}/healthz", timeout=5).status_code == 200
        finally:
            go_on.set()
        with pytest.raises(openai.NotFoundError):
            waiting.result(WAIT_SECONDS)


def test_a_model_that_was_deleted_while_it_was_looked_up_is_not_remembered(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, job = office.work.models, a_job(office.shop)
    trained(office, job.id)
    name = office.shop.fine_tuning.jobs.retrieve(job.id).fine_tuned_model or ""
    assert models is not None
    get = models.get

    def too_early(project: str, name: str) -> TunedModel:
        found = get(project, name)
        models.delete(project, name)
        return found

    async def looked_up() -> tuple[object, object]:
        with monkeypatch.context() as patched:
            patched.setattr(models, "get", too_early)
            first = await models.engine("shop", name)
        return first, await models.engine("shop", name)

    first, second = asyncio.run(looked_up())
    assert first is not None and second is None


def test_the_model_is_served_the_moment_the_job_succeeds(office: Office) -> None:
    job = a_job(office.shop, suffix="tea")
    trained(office, job.id)
    done = office.shop.fine_tuning.jobs.retrieve(job.id)
    name = f"ft:base-model:shop:tea:{job.id.removeprefix('ftjob-')}"
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == ("succeeded", name, 120)
    assert done.finished_at == int(office.clock.now)
    assert office.shop.files.content(done.result_files[0]).read() == RESULT.curve
    (checkpoint,) = office.shop.fine_tuning.jobs.checkpoints.list(job.id).data
    assert (checkpoint.step_number, checkpoint.fine_tuned_model_checkpoint) == (7, name)
    assert checkpoint.metrics.train_loss == 0.5
    assert [model.id for model in office.shop.models.list()] == ["played", name]
    assert office.shop.models.retrieve(name).id == name
    ask = [{"role": "user", "content": "one two"}]
    answer = office.shop.chat.completions.create(model=name, messages=ask)
    assert answer.choices[0].message.content == "one two"
    counted = httpx2.post(
        f"{str(office.shop.base_url).rstrip('/')}/messages/count_tokens",
        json={"model": name, "messages": ask},
        headers={"x-api-key": office.shop.api_key},
    )
    assert counted.json() == {"input_tokens": answer.usage.prompt_tokens}
    streamed = office.shop.chat.completions.create(model=name, messages=ask, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in streamed) == "one two"
    assert {entry.subject.model for entry in office.running.meter.entries()} == {name}
    assert office.opened == ["engine-folder"], "it is opened once"


def test_the_last_epochs_of_a_job_are_its_checkpoints(office: Office) -> None:
    job = a_job(office.shop, suffix="tea")
    trained(office, job.id, kept=EPOCHS)
    name = office.shop.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    told = list(office.shop.fine_tuning.jobs.checkpoints.list(job.id, limit=2))
    assert [(each.step_number, each.fine_tuned_model_checkpoint) for each in told] == [
        (7, name), (5, f"{name}:ckpt-step-5"), (3, f"{name}:ckpt-step-3"),
    ]  # fmt: skip
    assert {(each.object, each.fine_tuning_job_id) for each in told} == {("fine_tuning.job.checkpoint", job.id)}
    assert (told[2].metrics.step, told[2].metrics.train_loss, told[2].metrics.full_valid_loss) == (3, 7 / 3, 8 / 3)
    assert [each.id for each in office.shop.models.list()] == [
        "played", name, f"{name}:ckpt-step-3", f"{name}:ckpt-step-5",
    ]  # fmt: skip
    assert office.shop.models.retrieve(f"{name}:ckpt-step-3").id == f"{name}:ckpt-step-3"


def test_a_checkpoint_is_made_when_it_is_first_asked_and_once(office: Office) -> None:
    name, late, early = with_checkpoints(office)
    office.shop.chat.completions.create(model=name, messages=ASK)
    assert office.made == [], "nobody asked one"
    with pytest.raises(openai.InternalServerError):
        office.shop.chat.completions.create(model=early, messages=ASK)
    assert office.shop.chat.completions.create(model=early, messages=ASK).choices[0].message.content == "one two"
    office.shop.responses.create(model=early, input="x")
    assert office.made == [early, early], "what failed was tried again, what was made was not"
    assert office.opened == ["engine-folder", "engine of adapter-3"]
    again = office.shop.fine_tuning.jobs.create(model=late, training_file=a_file(office.shop))
    assert again.model == late
    trained(office, again.id)
    assert (office.shop.fine_tuning.jobs.retrieve(again.id).fine_tuned_model or "").startswith("ft:base-model:shop::")
    assert {entry.subject.model for entry in office.running.meter.entries() if entry.status == "ok"} == {name, early}


def test_a_deleted_model_takes_its_checkpoints_with_it(office: Office) -> None:
    name, late, early = with_checkpoints(office)
    other = with_checkpoints(office)
    office.made.append("so that none fails")
    for each in (late, early, *other):
        office.shop.chat.completions.create(model=each, messages=ASK)
    assert office.shop.models.delete(late).deleted
    office.shop.chat.completions.create(model=early, messages=ASK)
    assert office.shop.models.delete(name).deleted
    for each in (name, late, early):
        with pytest.raises(openai.NotFoundError):
            office.shop.chat.completions.create(model=each, messages=ASK)
    assert [each.id for each in office.shop.models.list()] == ["played", other[0], other[2], other[1]]
    office.shop.chat.completions.create(model=other[2], messages=ASK)


def test_a_key_for_a_model_is_for_its_checkpoints_and_one_for_a_checkpoint_for_no_more(office: Office) -> None:
    name, late, early = with_checkpoints(office)
    other = with_checkpoints(office)
    office.made.append("so that none fails")
    keys = office.running.keys
    whole, one = (office.running.client(keys.create("shop", models=[model])[1]) for model in (name, early))
    for client, may in ((whole, [name, late, early]), (one, [early])):
        assert sorted(each.id for each in client.models.list()) == sorted(may)
        for model in may:
            client.chat.completions.create(model=model, messages=ASK)
        for model in {"played", name, late, *other} - set(may):
            with pytest.raises(openai.PermissionDeniedError):
                client.chat.completions.create(model=model, messages=ASK)
            with pytest.raises(openai.NotFoundError):
                client.models.delete(model)


def test_a_tuned_model_can_be_tuned_again_and_deleted(office: Office) -> None:
    job = a_job(office.shop)
    trained(office, job.id)
    name = office.shop.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert name is not None
    again = office.shop.fine_tuning.jobs.create(model=name, training_file=a_file(office.shop), suffix="more")
    trained(office, again.id)
    second = office.shop.fine_tuning.jobs.retrieve(again.id).fine_tuned_model
    assert second == f"ft:base-model:shop:more:{again.id.removeprefix('ftjob-')}"
    assert office.shop.models.delete(name).deleted
    with pytest.raises(openai.NotFoundError):
        office.shop.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.PermissionDeniedError):
        office.shop.models.delete("played")


def test_engines_make_room_for_each_other(office: Office) -> None:
    names = []
    for _ in range(3):
        job = a_job(office.shop)
        trained(office, job.id)
        names.append(office.shop.fine_tuning.jobs.retrieve(job.id).fine_tuned_model)
    for name in [*names, names[2], names[0]]:
        office.shop.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}])
    assert len(office.opened) == 4, "two are kept open: the first made room and was opened again"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}}, "still to come"),
        ({"method": {"type": "reinforcement"}}, "still to come"),
        ({"hyperparameters": {"n_epochs": 0}}, "n_epochs"),
        ({"hyperparameters": {"n_epochs": 999}}, "At most 50 epochs"),
        ({"hyperparameters": {"batch_size": "big"}}, "batch_size"),
        ({"hyperparameters": {"learning_rate_multiplier": -1}}, "learning_rate_multiplier"),
        ({"suffix": "a:b"}, "suffix"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "Integrations"),
    ],
)
def test_what_cannot_be_done_is_refused(office: Office, more: dict, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        a_job(office.shop, **more)
    assert not office.shop.fine_tuning.jobs.list().data
    assert not list((office.folder / "jobs").iterdir())


def test_the_field_that_is_wrong_is_named(office: Office) -> None:
    jobs, right = office.shop.fine_tuning.jobs, a_file(office.shop)
    wrong = a_file(office.shop, LINES + b'{"messages": []}\n')
    for param, asked in (
        ("model", {"model": "gpt-4o"}),
        ("hyperparameters.n_epochs", {"hyperparameters": {"n_epochs": 999}}),
        ("training_file", {"training_file": wrong}),
        ("training_file", {"training_file": "file-none"}),
        ("validation_file", {"validation_file": wrong}),
        ("validation_file", {"validation_file": "file-none"}),
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            jobs.create(**{"model": "base-model", "training_file": right} | asked)
        assert caught.value.param == param
    for page in (jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError) as caught:
            page("ftjob-none")
        assert caught.value.param is None


def test_files_and_models_that_do_not_fit_are_refused(office: Office) -> None:
    jobs, right = office.shop.fine_tuning.jobs, a_file(office.shop)
    wrong = a_file(office.shop, LINES + b'{"messages": []}\n')
    with pytest.raises(openai.BadRequestError, match="Training file: line 11"):
        jobs.create(model="base-model", training_file=wrong)
    with pytest.raises(openai.BadRequestError, match="Validation file: line 11"):
        jobs.create(model="base-model", training_file=right, validation_file=wrong)
    other = office.shop.files.create(file=("x", LINES), purpose="user_data").id
    with pytest.raises(openai.BadRequestError, match="purpose"):
        jobs.create(model="base-model", training_file=other)
    with pytest.raises(openai.NotFoundError, match="base-model"):
        jobs.create(model="gpt", training_file=right)
    with pytest.raises(openai.NotFoundError):
        jobs.create(model="base-model", training_file="file-none")
    assert not list((office.folder / "jobs").iterdir())


def test_a_job_beyond_a_budget_is_refused_as_a_request_is(office: Office) -> None:
    class Spent:
        def reserve_job(self, subject: Subject, most: Usage, /) -> None:
            assert (subject.kind, subject.project) == ("step", "shop")
            assert most.input_tokens >= 3 * len(LINES), "a token stands for a byte at least, in each epoch"
            budget = Budget(id="b", scope="project", scope_id="shop", period="total", limit=Money(), created_at=0)
            raise Refused(refuse_money(Spending(budget=budget, span=""), 1, ()))

        def settle_job(self, id: str, micros: int, /) -> None:
            raise AssertionError("nothing was reserved")

        def release_jobs(self, is_known: Callable[[str], bool], /) -> int:
            return 0

    office.work.jobs.purse = Spent()
    with pytest.raises(openai.RateLimitError) as caught:
        a_job(office.shop, hyperparameters={"n_epochs": 3})
    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert not office.shop.fine_tuning.jobs.list().data
    assert not list((office.folder / "jobs").iterdir())


def test_the_states_of_a_job(office: Office) -> None:
    jobs, store = office.shop.fine_tuning.jobs, office.work.jobs
    job = a_job(office.shop)
    assert lax(office.shop).fine_tuning.jobs.pause(job.id).status == "paused"
    assert store.next() is None
    with pytest.raises(openai.ConflictError):
        jobs.pause(job.id)
    assert jobs.resume(job.id).status == "queued"
    assert store.next() is not None
    store.move("shop", job.id, "running", ("queued",), "started")
    store.estimate("shop", job.id, office.clock.now + 60.4)
    assert jobs.retrieve(job.id).estimated_finish == int(office.clock.now + 60)
    assert jobs.cancel(job.id).status == "cancelled"
    assert jobs.retrieve(job.id).estimated_finish is None
    for late in (jobs.cancel, jobs.pause, jobs.resume):
        with pytest.raises(openai.ConflictError):
            late(job.id)
    assert not list((office.folder / "jobs").iterdir()), "what it was given is let go of"
    failing = a_job(office.shop)
    store.move("shop", failing.id, "running", ("queued",), "started")
    store.fail("shop", failing.id, JobError(code="training_failed", message="The loss is not a number."))
    failed = jobs.retrieve(failing.id)
    assert failed.status == "failed"
    assert failed.error is not None and failed.error.message == "The loss is not a number."
    assert [(p, j.status) for p, j in store.untold()] == [("shop", "cancelled"), ("shop", "failed")]
    for _, each in store.untold():
        store.told(each)
    assert not store.untold()


def test_a_job_keeps_its_file_when_it_is_deleted(office: Office) -> None:
    job = a_job(office.shop)
    office.shop.files.delete(job.training_file)
    assert office.work.jobs.data(job.id, "training").read_bytes() == LINES


def test_a_project_never_sees_anothers_jobs_and_models(office: Office) -> None:
    job = a_job(office.shop)
    trained(office, job.id)
    name = office.shop.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert name is not None
    running = a_job(office.shop)
    docs, jobs = office.docs, office.docs.fine_tuning.jobs
    mine = a_job(docs)
    ask = [{"role": "user", "content": "x"}]
    assert [each.id for each in jobs.list()] == [mine.id]
    assert [each.id for each in docs.models.list()] == ["played"]
    for steal in (
        lambda: jobs.retrieve(job.id),
        lambda: jobs.cancel(running.id),
        lambda: jobs.pause(running.id),
        lambda: jobs.resume(running.id),
        lambda: jobs.list_events(job.id),
        lambda: jobs.checkpoints.list(job.id),
        lambda: jobs.list(after=job.id),
        lambda: jobs.list_events(mine.id, after=office.shop.fine_tuning.jobs.list_events(job.id).data[0].id),
        lambda: jobs.create(model="base-model", training_file=job.training_file),
        lambda: jobs.create(model="base-model", training_file=mine.training_file, validation_file=job.training_file),
        lambda: jobs.create(model=name, training_file=mine.training_file),
        lambda: docs.models.retrieve(name),
        lambda: docs.models.delete(name),
        lambda: docs.chat.completions.create(model=name, messages=ask),
        lambda: docs.completions.create(model=name, prompt="x"),
        lambda: docs.embeddings.create(model=name, input="x"),
        lambda: docs.responses.create(model=name, input="x"),
        lambda: docs.files.content(office.shop.fine_tuning.jobs.retrieve(job.id).result_files[0]),
    ):
        with pytest.raises(openai.NotFoundError):
            steal()
    assert office.shop.fine_tuning.jobs.retrieve(running.id).status == "queued"


def test_what_is_not_served_of_fine_tuning_is_refused_with_what_to_do(office: Office) -> None:
    name, _, early = with_checkpoints(office)
    sharing, graders = office.shop.fine_tuning.checkpoints.permissions, office.shop.fine_tuning.alpha.graders
    grader: Any = {"type": "string_check", "name": "same", "input": "x", "operation": "eq", "reference": "x"}
    asked: list[tuple[Callable[[], object], str]] = [
        (lambda: sharing.create(early, project_ids=["docs"]).data, "key of its own project"),
        (lambda: sharing.retrieve(name), "key of its own project"),
        (lambda: sharing.list(name).data, "key of its own project"),
        (lambda: sharing.delete("cp_1", fine_tuned_model_checkpoint=early), "key of its own project"),
        (lambda: graders.run(grader=grader, model_sample="x"), "Use 'supervised'"),
        (lambda: graders.validate(grader=grader), "Use 'supervised'"),
    ]
    for ask, said in asked:
        warned = pytest.warns(DeprecationWarning) if ask is asked[1][0] else nullcontext()
        with warned, pytest.raises(openai.NotFoundError, match=said) as caught:
            ask()
        assert (caught.value.code, caught.value.type) == ("unsupported_endpoint", "invalid_request_error")


def test_without_a_key_no_job(office: Office) -> None:
    base = "/v1/fine_tuning/jobs"
    paths = [("POST", base), ("GET", base), ("GET", f"{base}/x"), ("DELETE", "/v1/models/x")]
    paths += [("POST", f"{base}/x/{verb}") for verb in ("cancel", "pause", "resume")]
    paths += [("GET", f"{base}/x/{what}") for what in ("events", "checkpoints")]
    paths += [("GET", "/v1/fine_tuning/checkpoints/x/permissions"), ("POST", "/v1/fine_tuning/alpha/graders/run")]
    for method, path in paths:
        assert office.running.ask(b"{}", path, method, Authorization="Bearer wrong")[0] == 401


def test_the_page_shows_what_the_script_does() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "howto" / "fine-tune-and-batch.md").read_text()
    script = (root / "examples" / "openai" / "tune_and_batch.py").read_text()
    script = textwrap.dedent(script.split("as folder:\n")[1].split("\n# What it came to")[0])
    (shown,) = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    assert shown in script


def test_a_full_store_keeps_no_job_from_its_end(office: Office) -> None:
    job = a_job(office.shop)
    room = 3_000_000 - len(LINES)
    while room > 0:
        office.shop.files.create(file=("x", bytes(min(room, 1_000_000))), purpose="user_data")
        room -= 1_000_000
    trained(office, job.id)
    done = office.shop.fine_tuning.jobs.retrieve(job.id)
    assert office.shop.files.content(done.result_files[0]).read() == RESULT.curve
