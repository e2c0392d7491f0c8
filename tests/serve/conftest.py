"""A real gateway on the loopback, in a thread: its engine and its meter do what a test tells them."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from bessemer.core.nouns import (
    Boundary,
    Carbon,
    ChatRequest,
    Completion,
    Delta,
    EnergyClass,
    Entry,
    EntryStatus,
    Measurement,
    Subject,
    TokenLogprob,
    Usage,
)
from bessemer.core.units import Money
from bessemer.serve import Accounts, GatewayConfig, GatewayParts, KeyStore, create_app, open_accounts
from bessemer.serve.server import GatewayServer

HELLO = [{"role": "user", "content": "one two three"}]
WAIT_SECONDS = 20.0


class PlayedEngine:
    """Says the last message word by word, as a test tells it to.

    Attributes:
        hold: the answer waits before the word of that number until `go_on` is set.
        fail_at: raise `error` before the word of that number.
        taken, cancelled: words handed over, answers that were closed early.
    """

    name = "played"

    def __init__(self, capabilities: str = "chat stream stop seed logprobs batch") -> None:
        self.capabilities = frozenset(capabilities.split())
        self.reset()

    def reset(self) -> None:
        """Forget what was asked and told."""
        self.hold: int | None = None
        self.go_on = threading.Event()
        self.holding = threading.Event()
        self.fail_at: int | None = None
        self.error: Exception = RuntimeError("the secret inside")
        self.requests: list[ChatRequest] = []
        self.taken = 0
        self.cancelled = 0
        self.last_reason = "stop"

    async def respond(self, request: ChatRequest, /) -> Completion:
        pieces = [piece async for piece in self.stream(request)]
        return Completion(text="".join(p.text for p in pieces), finish_reason="stop", usage=pieces[-1].usage or Usage())

    async def stream(self, request: ChatRequest, /) -> AsyncIterator[Delta]:
        self.requests.append(request)
        words = request.messages[-1].content.split(" ")
        read = sum(len(message.content.split(" ")) for message in request.messages)
        try:
            for number, word in enumerate(words[: request.sampling.max_output_tokens]):
                if number == self.fail_at:
                    raise self.error
                if number == self.hold:
                    self.holding.set()
                    while not self.go_on.is_set():
                        await asyncio.sleep(0.005)
                self.taken += 1
                token = TokenLogprob(token=word, logprob=-0.5, top=((word, -0.5), ("other", float("-inf"))))
                yield Delta(
                    text=word if number == 0 else f" {word}",
                    usage=Usage(input_tokens=read, output_tokens=number + 1),
                    logprobs=(token,) if request.sampling.top_logprobs is not None else (),
                )
            said = min(len(words), request.sampling.max_output_tokens)
            reason: Any = self.last_reason if said == len(words) else "length"
            yield Delta(finish_reason=reason, usage=Usage(input_tokens=read, output_tokens=said))
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled += 1
            raise

    async def close(self) -> None:
        pass


class DiskMeter:
    """Writes each entry to a file and syncs it; `stop` waits for `open_gate` and can be made to fail."""

    name = "disk"
    capabilities: frozenset[str] = frozenset()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all entries."""
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.stopping = threading.Event()
        self.error: Exception | None = None
        self._spans: dict[str, Subject] = {}
        self.path.write_text("")

    def start(self, subject: Subject, /) -> str:
        with self._lock:
            handle = f"span {len(self._spans)}"
            self._spans[handle] = subject
        return handle

    def stop(self, handle: str, usage: Usage, status: EntryStatus = "ok", /) -> Entry:
        self.stopping.set()
        assert self.open_gate.wait(WAIT_SECONDS)
        if self.error:
            raise self.error
        found = Measurement(
            seconds=0.1,
            joules=1.5,
            joules_low=1.0,
            joules_high=2.0,
            energy_class=EnergyClass.MODELLED,
            boundary=Boundary.HOST,
            source="test",
        )
        carbon = Carbon(grams=0, grams_low=0, grams_high=0, grid="test", grams_per_kilowatt_hour=0, source="test")
        entry = Entry(
            id=self._spans[handle].id,
            subject=self._spans[handle],
            started_at=0,
            status=status,
            usage=usage,
            measurement=found,
            carbon=carbon,
            charge=Money(micros=7 * usage.total_tokens),
        )
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(entry.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return entry

    def entries(self) -> list[Entry]:
        """Read what is on disk."""
        return [Entry.model_validate_json(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    @property
    def started(self) -> int:
        return len(self._spans)


@dataclass
class Running:
    """A gateway that runs, and what it was made of."""

    url: str
    secret: str
    engine: PlayedEngine
    meter: DiskMeter
    keys: KeyStore
    server: GatewayServer
    thread: threading.Thread
    clients: ExitStack = field(default_factory=ExitStack)

    def client(self, secret: str | None = None) -> OpenAI:
        made = OpenAI(
            base_url=f"{self.url}/v1",
            api_key=secret or self.secret,
            max_retries=0,
            timeout=WAIT_SECONDS,
            _strict_response_validation=True,
        )
        return self.clients.enter_context(made)

    def connect(self) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=WAIT_SECONDS)
        self.clients.callback(made.close)
        return made

    def ask(
        self, body: bytes | str, path: str = "/v1/chat/completions", method: str = "POST", **headers: str
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """Return status, JSON and headers of one raw request with the right key."""
        connection = self.connect()
        sent = {"Authorization": f"Bearer {self.secret}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null"), response.headers


@contextmanager
def serve_in_thread(server: GatewayServer) -> Iterator[threading.Thread]:
    """Run a gateway within a block; at its end it must stop."""
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(lambda url: ready.set(),))
    thread.start()
    assert ready.wait(WAIT_SECONDS)
    try:
        yield thread
    finally:
        server.stop()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


def start_in(
    folder: Path, stack: ExitStack, engine: Any = None, parts: GatewayParts | None = None, **config: Any
) -> Running:
    """Start a gateway that ends with the stack."""
    accounts = parts.accounts if parts else None
    keys = accounts.keys if accounts else KeyStore(folder / "keys.sqlite")
    stack.callback(keys.close)
    _, secret = keys.create("tests")
    meter, engine = DiskMeter(folder / "entries.jsonl"), engine or PlayedEngine()
    settings = GatewayConfig(port=0, **{"grace_seconds": 0.0, **config})
    app = create_app(settings, {"played": engine}, keys, meter, parts or GatewayParts(name="the works"))
    server = GatewayServer(app, settings)
    thread = stack.enter_context(serve_in_thread(server))
    running = Running(server.url, secret, engine, meter, keys, server, thread)
    stack.enter_context(running.clients)
    stack.callback(engine.go_on.set)
    return running


@dataclass
class Administered:
    """A gateway with accounts, and who administers it: that part of the official client, and its key."""

    running: Running
    accounts: Accounts
    secret: str
    admin: Any

    def raw(self, method: str, path: str, body: Any = None, secret: str = "") -> tuple[int, Any]:
        """Return status and JSON of one request, with the administrator's key or another."""
        connection = self.running.connect()
        sent = {"Authorization": f"Bearer {secret or self.secret}"}
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def administered_in(
    folder: Path, stack: ExitStack, currency: str = "", **more: Callable[[Accounts], Any]
) -> Administered:
    """Start a gateway with accounts that ends with the stack; each of `more` makes a part of it."""
    accounts = open_accounts(folder / "keys.sqlite", currency=currency)
    stack.callback(accounts.close)
    parts = GatewayParts(accounts=accounts, **{name: make(accounts) for name, make in more.items()})
    running = start_in(folder, stack, parts=parts)
    _, secret = accounts.keys.create("default", admin=True, name="root")
    client = OpenAI(
        base_url=f"{running.url}/v1",
        api_key="none",
        admin_api_key=secret,
        max_retries=0,
        _strict_response_validation=True,
    )
    return Administered(running, accounts, secret, stack.enter_context(client).admin.organization)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start gateways with an engine and with fields of the configuration."""
    with ExitStack() as stack:
        yield lambda engine=None, **config: start_in(tmp_path, stack, engine, **config)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with ExitStack() as stack:
        yield start_in(tmp_path_factory.mktemp("gateway"), stack)


@pytest.fixture
def running(shared: Running) -> Iterator[Running]:
    """Give a gateway with the defaults, as good as new: starting one for each test takes half a second each."""
    shared.engine.reset()
    shared.meter.reset()
    yield shared
    shared.clients.close()


def lax(client: OpenAI) -> OpenAI:
    """Return a client that does not hold answers to its types: for what they are too narrow for, OpenAI's own too."""
    return client.with_options(max_retries=0)


def until(condition: Callable[[], Any]) -> None:
    """Wait for something that another thread does."""
    pause = threading.Event()
    for _ in range(int(WAIT_SECONDS / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen in time")
