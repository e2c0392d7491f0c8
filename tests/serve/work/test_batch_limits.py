"""Budgets hold for batches too; what is told to come again comes again."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from bessemer.core.nouns import Entry, Subject
from bessemer.core.units import Money
from bessemer.infer import EchoConfig, open_engine
from bessemer.serve import Gate, GatewayParts, JobsConfig, Tariff, Worker, open_accounts, open_work
from bessemer.serve.refusals import ENGINE_LIMIT, STOPPING, TOO_SLOW, Refusal, unknown_model
from bessemer.serve.work.answering import _again_after

from ..conftest import start_in
from .test_batches import chat, ended, lines_of, sent

MICROS_PER_TOKEN = 7
"""As the meter of these tests charges."""


def pricing(subject: Subject) -> Tariff:
    assert subject.batch, "the price of batches is what a line may cost"
    return Tariff(MICROS_PER_TOKEN * 10**6, MICROS_PER_TOKEN * 10**6)


def test_a_budget_is_never_exceeded_and_the_rest_is_told(tmp_path: Path) -> None:
    with ExitStack() as stack:
        accounts = open_accounts(tmp_path / "keys.sqlite")
        stack.callback(accounts.close)
        gate = Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda ids: {})
        stack.callback(gate.close)
        work = open_work(tmp_path / "work", JobsConfig())
        stack.callback(work.close)

        def booked(request: str) -> Entry | None:
            return None

        engine = open_engine(EchoConfig())
        engine.go_on = type("Never", (), {"set": lambda self: None})()  # what the harness does at the end
        parts = GatewayParts(work=work, booked=booked, gate=gate, accounts=accounts)
        running = start_in(tmp_path, stack, engine, parts)
        limit = MICROS_PER_TOKEN * 300
        budget = accounts.budgets.set("project", "tests", "total", Money(micros=limit))
        client = running.client()
        done = ended(client, sent(client, [chat(number, max_tokens=5) for number in range(100)]))
        charged = sum(entry.charge.micros for entry in running.meter.entries())
        state = accounts.budgets.spending(budget)
        assert (state.spent_micros, state.reserved_micros) == (charged, 0)
        assert 0 < charged <= limit
        counts = done.request_counts
        assert counts is not None and counts.completed == len(running.meter.entries()) > 0
        refused = lines_of(client, done.error_file_id)
        assert len(refused) == counts.failed == 100 - counts.completed > 0
        assert {line["response"]["body"]["error"]["code"] for line in refused} == {"insufficient_quota"}


@pytest.mark.parametrize(
    ("refusal", "tries", "seconds"),
    [
        (ENGINE_LIMIT, 1, 2.0),
        (ENGINE_LIMIT, 99, 2.0),
        (Refusal(429, "later", headers=(("retry-after", "7"),)), 1, 7.0),
        (Refusal(429, "later", headers=(("retry-after", "100"),)), 1, 60.0),
        (Refusal(429, "never", headers=(("x-should-retry", "false"),)), 1, None),
        (STOPPING, 99, 1.0),
        (TOO_SLOW, 1, 2.0),
        (TOO_SLOW, 3, None),
        (unknown_model("x"), 1, None),
    ],
)
def test_what_a_line_was_told_says_when_it_is_asked_again(refusal: Refusal, tries: int, seconds: float | None) -> None:
    assert _again_after(refusal, tries) == seconds
