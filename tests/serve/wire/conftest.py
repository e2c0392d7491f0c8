"""A gateway over the reference engine, with a store: its own answers, its own books, for two projects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from openai import OpenAI

from bessemer.infer import EchoConfig, open_engine
from bessemer.serve import GatewayParts
from bessemer.serve.wire.store import AnswerStore
from tests.serve.conftest import Running, start_in


class Wire:
    """What a test talks to.

    Attributes:
        running: the gateway; its model is called ``played`` and is the echo engine.
        shop, docs: official clients of two projects.
        store: what is kept.
    """

    def __init__(self, running: Running, store: AnswerStore) -> None:
        self.running, self.store = running, store
        self.secrets = {project: running.keys.create(project)[1] for project in ("shop", "docs")}
        self.shop, self.docs = (running.client(secret) for secret in self.secrets.values())

    def booked(self) -> list[tuple[str, str, int, int]]:
        """Return project, status and tokens of what was booked."""
        return [
            (e.subject.project, e.status, e.usage.input_tokens, e.usage.output_tokens)
            for e in self.running.meter.entries()
        ]


@pytest.fixture(scope="module")
def answers_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give where answers are; who tests the store itself has it in each database."""
    return f"sqlite:///{tmp_path_factory.mktemp('answers') / 'answers.sqlite'}"


@pytest.fixture(scope="module")
def shared_wire(tmp_path_factory: pytest.TempPathFactory, answers_url: str) -> Iterator[Wire]:
    folder = tmp_path_factory.mktemp("wire")
    with ExitStack() as stack:
        store = AnswerStore(answers_url, most_per_project=5)
        stack.callback(store.close)
        engine = open_engine(EchoConfig())
        engine.go_on = type("Never", (), {"set": lambda self: None})()  # what the harness does at the end
        yield Wire(start_in(folder, stack, engine, GatewayParts(answers=store)), store)


@pytest.fixture
def wire(shared_wire: Wire) -> Wire:
    shared_wire.running.meter.reset()
    return shared_wire


@pytest.fixture
def client(wire: Wire) -> OpenAI:
    return wire.shop
