"""A gateway before a server of bytes, with the real meter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from bessemer.core.nouns import Entry
from bessemer.infer import UpstreamConfig, open_engine
from bessemer.meter import LocalMeter, MeterConfig, open_ledger, open_meter
from bessemer.serve import Gate, GatewayConfig, GatewayParts, KeyStore, create_app
from bessemer.serve.accounts.database import Database
from bessemer.serve.server import GatewayServer

from ..conftest import serve_in_thread
from .wire import Wire, wire_in_thread


@dataclass
class Before:
    """A gateway that runs before a server."""

    url: str
    secret: str
    wire: Wire
    meter: LocalMeter
    keys: KeyStore
    server: GatewayServer
    folder: Path
    stack: ExitStack

    def client(self, **options: Any) -> openai.OpenAI:
        made = openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.secret, max_retries=0, timeout=20, **options)
        return self.stack.enter_context(made)

    def ask(self, text: str = "tokens=3", **fields: Any) -> Any:
        return self.client().chat.completions.create(
            model="served", messages=[{"role": "user", "content": text}], **fields
        )

    def entries(self) -> list[Entry]:
        ledger = open_ledger(self.folder)
        try:
            return ledger.entries(limit=-1)
        finally:
            ledger.close()


@pytest.fixture(scope="session")
def wire_server() -> Iterator[Wire]:
    with wire_in_thread() as wire:
        yield wire


@pytest.fixture
def before(wire_server: Wire, tmp_path: Path) -> Iterator[Callable[..., Before]]:
    """Start gateways before the server, with fields of the configuration; `upstream` are fields of the engine's."""
    wire_server.requests.clear()
    wire_server.heads.clear()
    wire_server.bodies.clear()
    with ExitStack() as stack:

        def start(
            durability: str = "interval",
            model: str = "theirs",
            upstream: dict[str, Any] | None = None,
            gate: Callable[[Database], Gate] | None = None,
            price_book: str = "",
            **fields: Any,
        ) -> Before:
            keys = KeyStore(tmp_path / "keys.sqlite")
            stack.callback(keys.close)
            _, secret = keys.create("tests")
            config = MeterConfig(durability=durability, price_book=price_book)
            meter = stack.enter_context(open_meter(config, tmp_path / "books"))
            parts = GatewayParts(gate=gate(keys._database)) if gate else GatewayParts()
            if parts.gate:
                stack.callback(parts.gate.close)
            url = f"http://127.0.0.1:{wire_server.port}/v1"
            engine = open_engine(UpstreamConfig(**{"base_url": url, "model": model, **(upstream or {})}))
            wanted = GatewayConfig(port=0, **{"grace_seconds": 0.0, **fields})
            server = GatewayServer(create_app(wanted, {"served": engine}, keys, meter, parts), wanted)
            clients = ExitStack()
            stack.enter_context(serve_in_thread(server))
            stack.enter_context(clients)
            return Before(server.url, secret, wire_server, meter, keys, server, tmp_path / "books", clients)

        yield start
