"""A project never sees another's data: every route of the gateway has a case here, and a route without one fails.

Two projects make the same things through the API. Then a stranger tries the first one's ids wherever an id can stand:
in paths, queries and bodies. It must be told to the byte what it is told of ids that never were.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from starlette.routing import Route

from bessemer.infer import EchoConfig, open_engine
from bessemer.infer.echo import EchoEngine
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.answered import gateway_parts
from bessemer.products.billing import HomeBilling
from bessemer.products.booked import open_usage
from bessemer.products.home import Home
from bessemer.products.invoices import InvoiceBook
from bessemer.products.limiting import open_gate
from bessemer.products.llm.config import LlmConfig
from bessemer.products.recommender.experiments import with_rankings
from bessemer.products.tuning.wiring import count_talks
from bessemer.serve import GatewayConfig, GatewayParts, JobsConfig, Work, create_app, open_accounts, open_work
from bessemer.serve.accounts.usage_wire import NOT_HERE
from bessemer.serve.bounding import Bounded
from bessemer.serve.server import GatewayServer
from bessemer.serve.serving import Endpoint
from bessemer.serve.wire.messages import AnthropicDoor
from bessemer.serve.work.datasets import DatasetMaker
from bessemer.serve.work.jobs import Kept, Result, Trainable
from tests.serve.conftest import serve_in_thread, until

WORD = "pale-otter"
"""Stands in everything that the project 'shop' writes, and in nothing of the others."""
TALK = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
NOVEMBER, DECEMBER = 1_793_000_000.0, 1_796_500_000.0
BOOK = """
[[books]]
version = "v1"
default = {input = 1_000_000, output = 1_000_000}
[books.customers.shop.default]
input = 700_000
output = 700_000
"""
Json = dict[str, Any]
Things = dict[str, str]


@dataclass(frozen=True)
class Ask:
    """One request: how, where, with what; a text is sent as a form."""

    method: str
    path: str
    body: Json | str | None = None


Try = Callable[[Things, Things], Ask]
"""Makes a request of the asker's own things and of somebody's that it names."""


@dataclass(frozen=True)
class Case:
    """What a route is, and how a stranger could come by another's thing there.

    Attributes:
        kind: ``open`` needs no key, ``admin`` takes administrators' only, ``project`` shows the key's own.
        lists: the thing that it shows to whom it belongs.
        tries: requests that name another's thing.
        status: what strangers get.
        besides: what they get for the try of a number, where it is something else.
    """

    kind: str = "project"
    lists: str = ""
    tries: tuple[Try, ...] = ()
    status: int = 404
    besides: tuple[tuple[int, int], ...] = ()

    def refused(self, number: int) -> int:
        """Return the status that the try of a number gets."""
        return dict(self.besides).get(number, self.status)


def named(method: str, path: str, body: Json | str | None = None, *more: Try) -> Case:
    """Return the case of a path that has a thing's id in it, as ``<file>``."""
    name = re.findall("<(.*)>", path)[0]
    return Case(tries=(lambda mine, theirs: Ask(method, path.replace(f"<{name}>", theirs[name]), body), *more))


def form(**said: str) -> str:
    parts = (f'--edge\r\nContent-Disposition: form-data; name="{k}"; filename="f"\r\n\r\n{v}' for k, v in said.items())
    return "\r\n".join(parts) + "\r\n--edge--\r\n"


def after(path: str, name: str) -> Try:
    return lambda mine, theirs: Ask("GET", f"{path}?after={theirs[name]}")


def asking(path: str, **body: Any) -> Case:
    """Return the case of a path that asks a model: another's is unknown, and its checkpoints are."""

    def of(name: str) -> Try:
        return lambda mine, theirs: Ask("POST", path, {"model": theirs[name], **body})

    return Case(tries=(of("model"), of("early")))


HELLO = [{"role": "user", "content": "one two"}]
CHAT, ANSWERS, JOBS, HOOKS = "/v1/chat/completions", "/v1/responses", "/v1/fine_tuning/jobs", "/v1/webhook_endpoints"
DATASETS = "/v1/datasets"
ADMIN = Case("admin")
KINDS = ("api_keys", "service_accounts", "users")
ORGANIZATION, PROJECT = "/v1/organization", "/v1/organization/projects/{project}"

CASES: dict[str, Case] = {
    **{f"GET {path}": Case("open") for path in ("/", "/healthz", "/readyz")},
    "GET /metrics": ADMIN,
    "GET /v1/models": Case(lists="model"),
    "GET /v1/models/{id:path}": named(
        "GET", "/v1/models/<model>", None, lambda mine, theirs: Ask("GET", f"/v1/models/{theirs['early']}")
    ),
    "DELETE /v1/models/{id:path}": named(
        "DELETE", "/v1/models/<early>", None, lambda mine, theirs: Ask("DELETE", f"/v1/models/{theirs['model']}")
    ),
    # What asks a model
    "POST /v1/chat/completions": asking(CHAT, messages=HELLO),
    "POST /v1/completions": asking("/v1/completions", prompt="x"),
    "POST /v1/rank": asking("/v1/rank", candidates=["x"]),
    "POST /v1/recommendations": asking("/v1/recommendations", user="x"),
    "POST /v1/embeddings": asking("/v1/embeddings", input="x"),
    "POST /v1/messages": asking("/v1/messages", messages=HELLO, max_tokens=9),
    "POST /v1/messages/count_tokens": asking("/v1/messages/count_tokens", messages=HELLO),
    "POST /v1/responses": Case(
        tries=(
            lambda mine, theirs: Ask("POST", ANSWERS, {"model": theirs["model"], "input": "x"}),
            lambda mine, theirs: Ask(
                "POST", ANSWERS, {"model": "echo", "input": "x", "previous_response_id": theirs["response"]}
            ),
        ),
        besides=((1, 400),),  # as OpenAI's
    ),
    # Stored answers
    "GET /v1/chat/completions": Case(lists="chat", tries=(after(CHAT, "chat"),)),
    "GET /v1/chat/completions/{id}": named("GET", f"{CHAT}/<chat>"),
    "POST /v1/chat/completions/{id}": named("POST", f"{CHAT}/<chat>", {"metadata": {"mine": "yes"}}),
    "DELETE /v1/chat/completions/{id}": named("DELETE", f"{CHAT}/<chat>"),
    "GET /v1/chat/completions/{id}/messages": named("GET", f"{CHAT}/<chat>/messages"),
    "GET /v1/responses/{id}": named("GET", f"{ANSWERS}/<response>"),
    "DELETE /v1/responses/{id}": named("DELETE", f"{ANSWERS}/<response>"),
    "GET /v1/responses/{id}/input_items": named("GET", f"{ANSWERS}/<response>/input_items"),
    "POST /v1/responses/{id}/cancel": named("POST", f"{ANSWERS}/<response>/cancel"),
    # Feedback
    "GET /v1/feedback": Case(lists="feedback", tries=(after("/v1/feedback", "feedback"),)),
    "POST /v1/feedback": Case(
        tries=tuple(
            lambda mine, theirs, what=what: Ask("POST", "/v1/feedback", {"target": theirs[what], "comment": "x"})
            for what in ("chat", "response", "message", "text")
        )
    ),
    "GET /v1/feedback/{id}": named("GET", "/v1/feedback/<feedback>"),
    "DELETE /v1/feedback/{id}": named("DELETE", "/v1/feedback/<feedback>"),
    # Events
    "POST /v1/events": Case(),
    "GET /v1/events": Case(lists="told", tries=(after("/v1/events", "told"),)),
    "DELETE /v1/events/{user:path}": named("DELETE", "/v1/events/<user>"),
    # Experiments are the factory's; whose users they tell of is tried in `tests/serve/wire/test_experiments.py`
    "GET /v1/experiments": Case(),
    "GET /v1/experiments/{name}": Case(),
    # What an agent keeps; whose it is, is tried with one in `tests/serve/test_agents.py`
    "DELETE /v1/agents/{model}/sessions/{name:path}": Case(),
    "DELETE /v1/agents/{model}/runs/{name:path}": Case(),
    # Webhooks
    "GET /v1/webhook_event_types": Case(),
    "POST /v1/webhook_endpoints": Case(),
    "GET /v1/webhook_endpoints": Case(lists="hook", tries=(after(HOOKS, "hook"),)),
    "GET /v1/webhook_endpoints/{id}": named("GET", f"{HOOKS}/<hook>"),
    "POST /v1/webhook_endpoints/{id}": named("POST", f"{HOOKS}/<hook>", {"name": "mine"}),
    "DELETE /v1/webhook_endpoints/{id}": named("DELETE", f"{HOOKS}/<hook>"),
    "POST /v1/webhook_endpoints/{id}/rotate_secret": named("POST", f"{HOOKS}/<hook>/rotate_secret", {}),
    "POST /v1/webhook_endpoints/{id}/test": named("POST", f"{HOOKS}/<hook>/test", {"event_type": "feedback.created"}),
    # Files and uploads
    "POST /v1/files": Case(),
    "GET /v1/files": Case(lists="file", tries=(after("/v1/files", "file"),)),
    "GET /v1/files/{id}": named("GET", "/v1/files/<file>"),
    "DELETE /v1/files/{id}": named("DELETE", "/v1/files/<file>"),
    "GET /v1/files/{id}/content": named("GET", "/v1/files/<file>/content"),
    "POST /v1/uploads": Case(),
    "POST /v1/uploads/{id}/parts": named("POST", "/v1/uploads/<upload>/parts", form(data="x")),
    "POST /v1/uploads/{id}/complete": Case(
        tries=(
            lambda mine, theirs: Ask(
                "POST", f"/v1/uploads/{mine['upload']}/complete", {"part_ids": [mine["part"], theirs["part"]]}
            ),
            lambda mine, theirs: Ask("POST", f"/v1/uploads/{theirs['upload']}/complete", {"part_ids": [mine["part"]]}),
        )
    ),
    "POST /v1/uploads/{id}/cancel": named("POST", "/v1/uploads/<upload>/cancel"),
    # Batches
    "POST /v1/batches": Case(
        tries=(
            lambda mine, theirs: Ask(
                "POST",
                "/v1/batches",
                {"input_file_id": theirs["lines"], "endpoint": CHAT, "completion_window": "24h"},
            ),
        )
    ),
    "GET /v1/batches": Case(lists="batch", tries=(after("/v1/batches", "batch"),)),
    "GET /v1/batches/{id}": named("GET", "/v1/batches/<batch>"),
    "POST /v1/batches/{id}/cancel": named("POST", "/v1/batches/<batch>/cancel"),
    # Fine-tuning
    "POST /v1/fine_tuning/jobs": Case(
        tries=(
            lambda mine, theirs: Ask("POST", JOBS, {"model": "base", "training_file": theirs["file"]}),
            lambda mine, theirs: Ask("POST", JOBS, {"model": theirs["model"], "training_file": mine["file"]}),
            lambda mine, theirs: Ask(
                "POST", JOBS, {"model": "base", "training_file": mine["file"], "validation_file": theirs["file"]}
            ),
        )
    ),
    "GET /v1/fine_tuning/jobs": Case(lists="job", tries=(after(JOBS, "job"),)),
    "GET /v1/fine_tuning/jobs/{id}": named("GET", f"{JOBS}/<job>"),
    "POST /v1/fine_tuning/jobs/{id}/pause": named("POST", f"{JOBS}/<queued>/pause"),
    "POST /v1/fine_tuning/jobs/{id}/resume": named("POST", f"{JOBS}/<queued>/resume"),
    "POST /v1/fine_tuning/jobs/{id}/cancel": named("POST", f"{JOBS}/<queued>/cancel"),
    "GET /v1/fine_tuning/jobs/{id}/events": named(
        "GET",
        f"{JOBS}/<job>/events",
        None,
        lambda mine, theirs: Ask("GET", f"{JOBS}/{mine['job']}/events?after={theirs['event']}"),
    ),
    "GET /v1/fine_tuning/jobs/{id}/checkpoints": named(
        "GET",
        f"{JOBS}/<job>/checkpoints",
        None,
        lambda mine, theirs: Ask("GET", f"{JOBS}/{mine['job']}/checkpoints?after={theirs['checkpoint']}"),
    ),
    **{f"{method} /v1/fine_tuning/{path}/{{asked:path}}": Case() for method in ("GET", "POST", "DELETE")
       for path in ("checkpoints", "alpha/graders")},  # refused, whatever is asked
    # Datasets
    "POST /v1/datasets": Case(tries=(lambda mine, theirs: Ask("POST", DATASETS, {"tables": {"t": theirs["file"]}}),)),
    "POST /v1/datasets/preview": Case(
        tries=(lambda mine, theirs: Ask("POST", f"{DATASETS}/preview", {"tables": {"t": theirs["file"]}}),)
    ),
    "GET /v1/datasets": Case(lists="dataset", tries=(after(DATASETS, "dataset"),)),
    "GET /v1/datasets/{id}": named("GET", f"{DATASETS}/<dataset>"),
    "POST /v1/datasets/{id}/cancel": named("POST", f"{DATASETS}/<dataset>/cancel"),
    # Bills
    "GET /v1/energy": Case(lists="project"),
    "GET /v1/prices": Case(lists="project"),
    "GET /v1/invoices": Case(lists="invoice"),
    "GET /v1/invoices/{id}": named("GET", "/v1/invoices/<invoice>"),
    # Administration
    **{f"{method} {ORGANIZATION}/projects": ADMIN for method in ("GET", "POST")},
    **{f"{method} {PROJECT}": ADMIN for method in ("GET", "POST")},
    f"POST {PROJECT}/archive": ADMIN,
    **{f"{method} {PROJECT}/data_retention": ADMIN for method in ("GET", "POST")},
    **{f"{method} {PROJECT}/{what}": ADMIN for what in KINDS for method in ("GET", "POST")},
    **{f"{method} {PROJECT}/{what}/{{id}}": ADMIN for what in KINDS for method in ("GET", "POST", "DELETE")},
    f"POST {PROJECT}/service_accounts/{{id}}/api_keys": ADMIN,
    **{f"{method} {ORGANIZATION}/users": ADMIN for method in ("GET", "POST")},
    **{f"{method} {ORGANIZATION}/users/{{id}}": ADMIN for method in ("GET", "POST", "DELETE")},
    f"GET {PROJECT}/rate_limits": ADMIN,
    f"POST {PROJECT}/rate_limits/{{id}}": ADMIN,
    **{f"{method} {ORGANIZATION}/spend_limit": ADMIN for method in ("GET", "POST", "DELETE")},
    **{f"{method} {PROJECT}/spend_limit": ADMIN for method in ("GET", "POST", "DELETE")},
    **{f"{method} {PROJECT}/spend_alerts": ADMIN for method in ("GET", "POST")},
    **{f"{method} {PROJECT}/spend_alerts/{{id}}": ADMIN for method in ("GET", "POST", "DELETE")},
    **{f"{method} {ORGANIZATION}/spend_alerts": ADMIN for method in ("GET", "POST")},
    **{f"{method} {ORGANIZATION}/spend_alerts/{{id}}": ADMIN for method in ("GET", "POST", "DELETE")},
    f"GET {ORGANIZATION}/audit_logs": ADMIN,
    **{f"{method} {ORGANIZATION}/admin_api_keys": ADMIN for method in ("GET", "POST")},
    **{f"{method} {ORGANIZATION}/admin_api_keys/{{id}}": ADMIN for method in ("GET", "DELETE")},
    **{f"GET {ORGANIZATION}/usage/{kind}": ADMIN for kind in ("completions", "embeddings", *NOT_HERE)},
    f"GET {ORGANIZATION}/costs": ADMIN,
}  # fmt: skip
TRIES = [(route, number) for route, case in CASES.items() for number in range(len(case.tries))]
"""Those that end or delete something come last."""


class Clock:
    """A clock that a test sets."""

    now = NOVEMBER

    def __call__(self) -> float:
        return self.now


@dataclass
class Told:
    """An answer: its status, its headers but those that tell of the moment, its body."""

    status: int
    headers: Json
    text: str


@dataclass
class House:
    """A gateway with all of its parts, and projects with the same things in each."""

    url: str
    app: Any
    parts: GatewayParts
    work: Work
    clock: Clock
    issue: Callable[[str], str]
    accounts: Any
    stack: ExitStack
    secrets: dict[str, str] = field(default_factory=dict)
    things: dict[str, Things] = field(default_factory=dict)

    def ask(self, project: str, what: Ask) -> Told:
        """Return what a project is told; the empty one has no key."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=20)
        headers = {"Authorization": f"Bearer {self.secrets[project]}"} if project else {}
        body: str | None = what.body if isinstance(what.body, str) else json.dumps(what.body) if what.body else None
        if isinstance(what.body, str):
            headers["Content-Type"] = "multipart/form-data; boundary=edge"
        connection.request(what.method, what.path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        momentary = ("date", "x-request-id", "openai-processing-ms")
        kept = {name.lower(): value for name, value in response.getheaders() if name.lower() not in momentary}
        return Told(response.status, kept, text)

    def join(self, project: str, word: str, admin: bool = False) -> None:
        """Let a project make one of everything."""
        self.secrets[project] = self.accounts.keys.create(project, admin=admin)[1]
        client = OpenAI(base_url=f"{self.url}/v1", api_key=self.secrets[project], max_retries=0, timeout=20)
        self.stack.enter_context(client)
        talk = [{"role": "user", "content": f"{word} speaks"}]
        self.clock.now = NOVEMBER
        client.chat.completions.create(model="echo", messages=talk)
        self.clock.now = DECEMBER
        things = {"project": project, "invoice": self.issue(project)}
        things["chat"] = client.chat.completions.create(
            model="echo", messages=talk, store=True, metadata={"w": word}
        ).id
        things["response"] = client.responses.create(model="echo", input=word, store=True, metadata={"w": word}).id
        things["text"] = client.completions.create(model="echo", prompt=word).id
        message = self.ask(project, Ask("POST", "/v1/messages", {"model": "echo", "max_tokens": 9, "messages": talk}))
        things["message"] = json.loads(message.text)["id"]
        said = {"target": things["chat"], "comment": word}
        things["feedback"] = json.loads(self.ask(project, Ask("POST", "/v1/feedback", said)).text)["id"]
        seen = {"id": f"ev-{word}", "user": f"user-{word}", "item": word}
        self.ask(project, Ask("POST", "/v1/events", {"events": [seen]}))
        things |= {"told": seen["id"], "user": seen["user"]}
        made = client.webhooks._client.post(
            "/webhook_endpoints",
            body={"name": word, "url": f"http://127.0.0.1:9/{word}", "event_types": ["batch.completed"]},
            cast_to=object,
        )
        things["hook"] = made["id"]  # type: ignore[index]
        self.things[project] = things | self._works(client, word) | self._trains(client, project, word)

    def _works(self, client: OpenAI, word: str) -> Things:
        line = {"custom_id": word, "method": "POST", "url": CHAT,
                "body": {"model": "echo", "messages": [{"role": "user", "content": word}]}}  # fmt: skip
        lines = client.files.create(file=(f"{word}.jsonl", json.dumps(line).encode()), purpose="batch").id
        batch = client.batches.create(input_file_id=lines, endpoint=CHAT, completion_window="24h", metadata={"w": word})
        until(lambda: client.batches.retrieve(batch.id).status == "completed")
        upload = client.uploads.create(bytes=40, filename=word, mime_type="text/plain", purpose="user_data").id
        part = client.uploads.parts.create(upload, data=("p", word.encode())).id
        return {"lines": lines, "batch": batch.id, "upload": upload, "part": part}

    def _trains(self, client: OpenAI, project: str, word: str) -> Things:
        talk = json.dumps(TALK | {"messages": [{"role": "user", "content": word}, TALK["messages"][1]]}) + "\n"
        file = client.files.create(file=(f"{word}.jsonl", talk.encode() * 10), purpose="fine-tune").id
        job = client.fine_tuning.jobs.create(model="base", training_file=file, suffix=word)
        self.work.jobs.move(project, job.id, "running", ("queued",), "started")
        kept = Kept("adapter", "base", 1, {"step": 1.0})
        self.work.jobs.succeed(project, job.id, Result("folder", "model", 9, 2, {"step": 2.0}, b"step\n2\n", (kept,)))
        model = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
        assert model
        queued = client.fine_tuning.jobs.create(model=model, training_file=file).id
        event = client.fine_tuning.jobs.list_events(job.id).data[-1].id
        checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[0].id
        wanted = Ask("POST", DATASETS, {"tables": {"t": file}, "metadata": {"w": word}})
        dataset = json.loads(self.ask(project, wanted).text)["id"]
        found = {"file": file, "job": job.id, "model": model, "queued": queued, "dataset": dataset}
        return found | {"event": event, "checkpoint": checkpoint, "early": f"{model}:ckpt-step-1"}

    def whole(self, project: str) -> dict[str, str]:
        """Return everything that a project is shown of its own, by path."""
        asked = [Ask("GET", route.partition(" ")[2]) for route, case in CASES.items() if case.lists]
        mine = self.things[project]
        asked += [one for one in (CASES[r].tries[n](mine, mine) for r, n in TRIES) if one.method == "GET"]
        told = {one.path: self.ask(project, one) for one in asked}
        assert {each.status for each in told.values()} == {200}
        return {path: each.text for path, each in told.items()}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("house")
    with ExitStack() as stack:
        home, clock = Home(folder / "home"), Clock()
        (folder / "prices.toml").write_text(BOOK)
        meter = stack.enter_context(open_meter(MeterConfig(price_book=str(folder / "prices.toml")), home.books, clock))
        allowed = Trainable(
            frozenset({"base"}), count_talks, lambda path: open_engine(EchoConfig()), EchoEngine.capabilities
        )
        work = open_work(home.work, JobsConfig(), clock, allowed)
        work.datasets.maker = DatasetMaker(
            frozenset, lambda job, given: 1, lambda job, given, rows: {"rows": {}}, lambda project, job, rows: 0
        )
        parts = with_rankings(gateway_parts(home, "the house", clock, "", work, stack), home, 90.0, stack)
        accounts = open_accounts(home.accounts, clock)
        stack.callback(accounts.close)
        gate = open_gate(accounts, home, meter.price_history, LlmConfig(), clock)
        work.jobs.purse = gate
        stack.callback(gate.close)
        usage = stack.enter_context(open_usage(home, meter.price_history))
        billing = HomeBilling(home, meter.price_history, usage, clock)
        parts = replace(parts, accounts=accounts, gate=gate, usage=usage, billing=billing)
        settings = GatewayConfig(port=0, grace_seconds=0.0, private_webhooks=True)
        app = create_app(settings, {"echo": open_engine(EchoConfig())}, accounts.keys, meter, parts)
        server = GatewayServer(app, settings)
        stack.enter_context(serve_in_thread(server))
        book = InvoiceBook(home, usage, "the house", clock)
        made = House(
            server.url, app, parts, work, clock, lambda who: book.issue(who, "2026-10").number, accounts, stack
        )
        for project, word, admin in (("shop", WORD, False), ("docs", "dull-crow", False), ("root", "shy-newt", True)):
            made.join(project, word, admin)
        yield made


def ghosts(things: Things) -> Things:
    """Return ids of the same form that never were."""

    def ghost(id: str) -> str:
        return id[:-1] + ("1" if id[-1] != "1" else "2") if id[-1].isalnum() else id

    return {name: ghost(id) for name, id in things.items()}


def blurred(told: Told, things: Things) -> Told:
    """Return an answer without the ids that were asked for."""
    for id in sorted(things.values(), key=len, reverse=True):
        told = replace(told, text=told.text.replace(id, "ID"))
    return told


def test_every_route_has_a_case(house: House) -> None:
    assert all(getattr(house.parts, each.name) is not None for each in fields(house.parts)), "all parts, all routes"
    there = set()
    for route in house.app.routes:
        assert isinstance(route, Route), "a mounted application has routes that are not walked here"
        there |= {f"{method} {route.path}" for method in (route.methods or ()) if method != "HEAD"}
        counted = isinstance(route.endpoint, Endpoint | AnthropicDoor) or isinstance(route.app, Bounded)
        assert counted or route.path in ("/", "/healthz", "/readyz", "/metrics"), f"{route.path} is not bounded"
    assert there == set(CASES)


@pytest.mark.parametrize("stranger", ["docs", "root"])
@pytest.mark.parametrize(("route", "number"), TRIES)
def test_another_projects_thing_is_as_unknown_as_one_that_never_was(
    house: House, route: str, number: int, stranger: str
) -> None:
    case, mine, theirs = CASES[route], house.things[stranger], house.things["shop"]
    never = ghosts(theirs)
    told = house.ask(stranger, case.tries[number](mine, theirs))
    untrue = house.ask(stranger, case.tries[number](mine, never))
    assert blurred(told, theirs) == blurred(untrue, never)
    assert told.status == case.refused(number)
    assert json.loads(told.text)["error"]["message"]
    owned = case.tries[number](theirs, theirs)
    assert owned.path.startswith(re.split(r"\{", route.partition(" ")[2])[0]), "the case is of its route"


@pytest.mark.parametrize("route", [route for route, case in CASES.items() if case.lists])
def test_a_list_has_nothing_of_another_project(house: House, route: str) -> None:
    where, what = Ask("GET", route.partition(" ")[2]), CASES[route].lists
    shop = house.things["shop"]
    own = house.ask("shop", where)
    assert own.status == 200
    assert shop[what] in own.text, "there is something that could be shown"
    for stranger in ("docs", "root"):
        told = house.ask(stranger, where)
        assert told.status == 200
        assert not [name for name, id in shop.items() if id in told.text or WORD in told.text]


def test_feedback_and_stored_answers_are_not_found_by_what_they_are_about(house: House) -> None:
    shop = house.things["shop"]
    for path in (f"/v1/feedback?target={shop['chat']}", f"{CHAT}?metadata[w]={WORD}"):
        assert len(json.loads(house.ask("shop", Ask("GET", path)).text)["data"]) == 1
        assert json.loads(house.ask("docs", Ask("GET", path)).text)["data"] == []


def test_a_line_of_a_batch_comes_no_further_than_a_request(house: House) -> None:
    shop, never = house.things["shop"], ghosts(house.things["shop"])
    body = {"input": "x", "model": "echo"}
    bodies = [
        body | more
        for them in (shop, never)
        for more in ({"model": them["model"]}, {"previous_response_id": them["response"]})
    ]
    lines = [{"custom_id": str(n), "method": "POST", "url": ANSWERS, "body": each} for n, each in enumerate(bodies)]
    with OpenAI(base_url=f"{house.url}/v1", api_key=house.secrets["docs"], max_retries=0) as client:
        written = "\n".join(json.dumps(line) for line in lines).encode()
        file = client.files.create(file=("lines.jsonl", written), purpose="batch").id
        batch = client.batches.create(input_file_id=file, endpoint=ANSWERS, completion_window="24h")
        until(lambda: client.batches.retrieve(batch.id).status == "completed")
        done = client.batches.retrieve(batch.id)
        assert done.output_file_id is None
        assert done.error_file_id
        errors = client.files.content(done.error_file_id).text.replace(never["model"], shop["model"])
        told = {line["custom_id"]: line["response"] for line in map(json.loads, errors.splitlines())}
        client.files.delete(done.error_file_id)
    assert [told[str(number)]["status_code"] for number in range(4)] == [404, 400, 404, 400]
    assert (told["0"]["body"], told["1"]["body"]) == (told["2"]["body"], told["3"]["body"])


@pytest.mark.parametrize("route", CASES)
def test_no_key_and_a_key_that_is_not_for_it_come_no_further(house: House, route: str) -> None:
    method, _, path = route.partition(" ")
    path = path.replace("{project}", "shop").replace("{id:path}", "x").replace("{id}", "x")
    told = {who: house.ask(who, Ask(method, path, {"name": "x"} if method == "POST" else None)) for who in ("", "docs")}
    if CASES[route].kind == "open":
        assert told[""].status == 200
        assert not [name for name, id in house.things["shop"].items() if name != "project" and id in told[""].text]
        return
    assert told[""].status == 401
    assert (told["docs"].status == 403) == (CASES[route].kind == "admin")
    if CASES[route].kind == "admin":
        assert json.loads(told["docs"].text)["error"]["code"] == "insufficient_permissions"


def test_what_strangers_tried_changed_nothing_and_its_owner_can_do_it_all(house: House) -> None:
    before, shop = house.whole("shop"), house.things["shop"]
    waiting, acts = len(house.work.jobs.untold()), len(house.accounts.audit.list(10_000).items)
    for stranger in ("docs", "root"):
        for route, number in TRIES:
            told = house.ask(stranger, CASES[route].tries[number](house.things[stranger], shop))
            assert told.status == CASES[route].refused(number)
    assert house.whole("shop") == before
    assert (len(house.work.jobs.untold()), len(house.accounts.audit.list(10_000).items)) == (waiting, acts)
    last = ("DELETE", "POST /v1/uploads")
    for route, number in sorted(TRIES, key=lambda each: each[0].startswith(last)):
        told = house.ask("shop", CASES[route].tries[number](shop, shop))
        no = CASES[route].refused(number)
        assert told.status != no, f"{route}: a stranger's {no} would say nothing, were it everybody's"
