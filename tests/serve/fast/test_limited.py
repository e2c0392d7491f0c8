"""Requests under limits and budgets go the short way too: let in from memory, settled to what was booked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from bessemer.core.units import Money
from bessemer.serve import Accounts, Budget, Gate, Spending, Tariff, Worker
from bessemer.serve.accounts.database import Database
from bessemer.serve.accounts.drawing import Draw
from bessemer.serve.accounts.standing import Standing

from ..conftest import until
from .conftest import Before

MICROS_PER_TOKEN = 7
PRICES = """
version = "seven"
currency = "USD"
[default]
input = 7_000_000
output = 7_000_000
"""


@dataclass
class Limited:
    """A gateway before a server, its accounts, and what was drawn for requests that took the long way."""

    before: Before
    gate: Gate
    accounts: Accounts
    long: list[tuple[int, int]] = field(default_factory=list)

    @property
    def charged(self) -> int:
        return sum(entry.charge.micros for entry in self.before.entries())

    def settled(self, budget: Budget) -> Spending:
        """Return where a budget stands when the database was told all."""
        self.gate._holding.let_go()
        return self.accounts.budgets.spending(budget)


@pytest.fixture
def limited(before: Callable[..., Before], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Limited]:
    made: list[Gate] = []
    (tmp_path / "prices.toml").write_text(PRICES)

    def gate(database: Database) -> Gate:
        tariff = Tariff(MICROS_PER_TOKEN * 10**6, MICROS_PER_TOKEN * 10**6)
        made.append(Gate(database, lambda subject: tariff, Worker(tmp_path / "workers"), lambda ids: {}))
        return made[0]

    running = before(gate=gate, price_book=str(tmp_path / "prices.toml"))
    found = Limited(running, made[0], Accounts(running.keys._database))
    of = Draw.of

    def drawn(standing: Standing, need: tuple[int, int], at: float) -> Draw:
        found.long.append(need)
        return of(standing, need, at)

    monkeypatch.setattr(Draw, "of", drawn)
    yield found


def test_most_requests_are_let_in_from_memory_and_all_are_settled(limited: Limited) -> None:
    budget = limited.accounts.budgets.set("project", "tests", "month", Money(micros=10**7))
    limited.accounts.rates.set("project", "tests", requests=6000, tokens=600_000)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: limited.before.ask(stream=bool(number % 2), max_tokens=5), range(60)))
    entries = limited.before.entries()
    assert len(entries) == 60 and len(limited.long) < 20
    state = limited.settled(budget)
    assert (state.spent_micros, state.reserved_micros, state.overrun_micros) == (limited.charged, 0, 0)
    assert limited.charged == sum(MICROS_PER_TOKEN * entry.usage.total_tokens for entry in entries) > 0


def test_headers_say_what_is_left_on_both_ways(limited: Limited) -> None:
    limited.accounts.rates.set("project", "tests", requests=100, tokens=100_000)
    create = limited.before.client().chat.completions.with_raw_response.create
    messages = [{"role": "user", "content": "tokens=3"}]
    left = []
    for number in range(4):
        answer = create(model="served", messages=messages, max_tokens=5, stream=number == 3)  # type: ignore[call-overload]
        assert answer.headers["x-ratelimit-limit-requests"] == "100"
        assert 99_000 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 100_000
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
        left.append(int(answer.headers["x-ratelimit-remaining-requests"]))
    assert left == [99, 98, 97, 96]
    assert len(limited.long) == 1, "the first draws, the others take from its block"


def test_a_spent_budget_is_refused_in_openai_s_words_and_never_exceeded(limited: Limited) -> None:
    limit = MICROS_PER_TOKEN * 400
    budget = limited.accounts.budgets.set("project", "tests", "total", Money(micros=limit))
    with pytest.raises(openai.RateLimitError) as caught:
        for _ in range(200):
            limited.before.ask(max_tokens=5)
    for _ in range(3):
        error = caught.value
        assert (error.status_code, error.code, error.type) == (429, "insufficient_quota", "insufficient_quota")
        assert error.response.headers["x-should-retry"] == "false"
        long = len(limited.long)
        with pytest.raises(openai.RateLimitError) as caught:
            limited.before.ask(max_tokens=5)
        assert len(limited.long) == long, "it is refused from memory"
    assert 0 < limited.charged <= limit
    assert limited.settled(budget).spent_micros == limited.charged


def test_a_rate_limit_is_exact_and_says_when_to_come_again(limited: Limited) -> None:
    limited.accounts.rates.set("project", "tests", requests=20)
    said: list[int] = []

    def ask(_: int) -> bool:
        try:
            limited.before.ask(max_tokens=5)
        except openai.RateLimitError as error:
            assert error.code == "rate_limit_exceeded"
            said.append(int(error.response.headers["retry-after"]))
            return False
        return True

    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        answered = sum(threads.map(ask, range(60)))
    meanwhile = (time.monotonic() - began) / 3
    assert 20 <= answered <= 21 + meanwhile, "a minute's worth, and what came in meanwhile, one in 3 s"
    assert all(0 < seconds < 120 for seconds in said)


def test_what_is_wrong_with_a_request_reserves_nothing(limited: Limited) -> None:
    budget = limited.accounts.budgets.set("project", "tests", "total", Money(micros=10**7))
    limited.before.ask(max_tokens=5)
    spent = limited.settled(budget).spent_micros
    for wrong in ({"max_tokens": 0}, {"max_tokens": 10**9}, {"max_tokens": 3, "max_completion_tokens": 4}):
        with pytest.raises(openai.BadRequestError):
            limited.before.ask(**wrong)
    state = limited.settled(budget)
    assert (state.spent_micros, state.reserved_micros) == (spent, 0)


def test_who_leaves_pays_for_what_came_and_the_rest_is_free_again(limited: Limited) -> None:
    budget = limited.accounts.budgets.set("project", "tests", "total", Money(micros=10**7))
    limited.before.ask(max_tokens=5)
    with limited.before.ask("tokens=500 pause=0.01", stream=True, max_tokens=500) as stream:
        next(iter(stream))
    until(lambda: len(limited.before.entries()) == 2)
    until(lambda: limited.settled(budget).reserved_micros == 0)
    assert limited.settled(budget).spent_micros == limited.charged
