"""Requests and tokens per minute: taken, refilled, corrected, shared by all workers and kept over restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError, NotFound
from bessemer.serve import Accounts, Worker, open_accounts
from bessemer.serve.accounts.audit import AuditFilter
from bessemer.serve.accounts.budgets import Budgets
from bessemer.serve.accounts.holding import Holding
from bessemer.serve.accounts.rates import Level, RateLimit
from bessemer.serve.accounts.refusing import rate_headers, refuse_rate
from bessemer.serve.accounts.schema import open_database
from bessemer.serve.accounts.standing import Permit
from bessemer.serve.refusals import LONGEST_WAIT_SECONDS, Refusal, Refused


class Desk:
    """One worker that shares the limits of a database; its clocks are given by hand."""

    def __init__(self, accounts: Accounts, url: str, folder: Path, now: list[float]) -> None:
        self.accounts, self.folder, self.now = accounts, folder, now
        self.database = open_database(url, lambda: now[0])
        self.start()

    def start(self) -> None:
        """Begin anew, holding nothing, as another worker."""
        self.worker = Worker(self.folder)
        budgets = Budgets(self.database, lambda: self.now[0])
        self.holding = Holding(self.database, budgets, self.worker, lambda: self.now[0])

    def crash(self) -> None:
        self.worker.close()
        self.start()

    def take(self, limits: tuple[RateLimit, ...], tokens: int, at: float | None = None) -> Permit | Refusal:
        if at is not None:
            self.now[0] = at
        standing = self.holding.stand(limits, (), self.now[0])
        try:
            found = self.holding.admit(standing, "r", tokens, 0)
            return found or self.holding.draw(standing, "r", (tokens, 0))
        except Refused as refused:
            return refused.refusal

    def left(self, limit: RateLimit) -> int:
        """Return how much is left of a limit that has one unit."""
        standing = self.holding.stand((limit,), (), self.now[0])
        (block,) = (*standing.requests, *standing.tokens)
        return block.remaining


def taken(answer: Permit | Refusal) -> bool:
    return isinstance(answer, Permit)


@pytest.fixture
def accounts(database_url):
    made = open_accounts(database_url)
    made.projects.create("docs")
    yield made
    made.close()


@pytest.fixture
def desks(accounts, database_url, tmp_path):
    now = [100.0]
    made = [Desk(accounts, database_url, tmp_path / "workers", now) for _ in range(3)]
    yield made
    for desk in made:
        desk.worker.close()
        desk.database.close()


def test_a_bucket_holds_a_minute_and_is_refilled_all_the_time(desks, accounts) -> None:
    limit = accounts.rates.set("project", "docs", requests=6)
    for left in (5, 4, 3, 2, 1, 0):
        assert taken(desks[0].take((limit,), 0))
        assert desks[0].left(limit) == left
    refusal = desks[0].take((limit,), 0, 105.0)
    assert isinstance(refusal, Refusal)
    assert dict(refusal.headers)["retry-after"] == "5"
    assert taken(desks[0].take((limit,), 0, 110.0))
    assert not taken(desks[0].take((limit,), 0, 110.2))
    for _ in range(6):
        assert taken(desks[0].take((limit,), 0, 1e9))
    assert not taken(desks[0].take((limit,), 0, 1e9))


def test_one_empty_bucket_takes_from_none(desks, accounts) -> None:
    wide = accounts.rates.set("organization", tokens=1000)
    narrow = accounts.rates.set("project", "docs", requests=1)
    assert taken(desks[0].take((wide, narrow), 10))
    assert not taken(desks[0].take((wide, narrow), 10))
    assert desks[0].left(wide) == 990


def test_what_was_guessed_is_corrected_even_into_debt(desks, accounts) -> None:
    limit = accounts.rates.set("project", "docs", tokens=600)
    permit = desks[0].take((limit,), 100)
    desks[0].holding.settle(permit, 0, 40)
    desks[0].now[0] += 1
    desks[0].holding.tend()
    assert taken(desks[1].take((limit,), 570, 101.0)), "what was not needed is there for others, and 1 s has come in"
    permit = desks[0].take((limit,), 0)
    desks[0].holding.settle(permit, 0, 150)
    desks[0].now[0] += 1.5
    desks[0].holding.tend()
    refusal = desks[1].take((limit,), 10)
    assert isinstance(refusal, Refusal)
    assert 13 <= int(dict(refusal.headers)["retry-after"]) <= 16, "150 tokens of debt at 10 a second, after 1.5 s"


def test_workers_share_a_bucket_and_a_restart_keeps_it(desks, accounts, database_url) -> None:
    limit = accounts.rates.set("project", "docs", requests=2)
    assert taken(desks[0].take((limit,), 0))
    assert taken(desks[1].take((limit,), 0))
    assert not taken(desks[2].take((limit,), 0))


def test_what_a_worker_holds_and_does_not_use_comes_back(desks, accounts) -> None:
    """From the worker itself when it is idle; from one that died when its block has lapsed, and never before."""
    limit = accounts.rates.set("project", "docs", requests=600)
    assert taken(desks[0].take((limit,), 0))
    assert desks[0].left(limit) == 599
    others = sum(taken(desks[1].take((limit,), 0)) for _ in range(700))
    assert 500 < others < 599, "the first worker holds a block"
    assert not taken(desks[1].take((limit,), 0))
    mine = sum(taken(desks[0].take((limit,), 0)) for _ in range(700))
    assert others + mine == 599
    desks[0].now[0] += 1000
    assert taken(desks[0].take((limit,), 0)), "a full bucket"
    assert sum(taken(desks[1].take((limit,), 0)) for _ in range(700)) < 599
    desks[0].now[0] += 60
    assert sum(taken(desks[1].take((limit,), 0)) for _ in range(700)) == 600, "what it held has lapsed"


def test_a_limit_is_set_again_under_its_id_and_lifted(accounts) -> None:
    first = accounts.rates.set("project", "docs", "small", requests=5)
    second = accounts.rates.set("project", "docs", "small", tokens=7)
    assert (second.id, second.requests_per_minute, second.tokens_per_minute) == (first.id, None, 7)
    accounts.rates.set("organization", model="small", requests=1)
    assert accounts.rates.list("project", "docs") == (second,)
    assert len(accounts.rates.list()) == 2
    assert accounts.rates.remove(first.id) == second
    with pytest.raises(NotFound):
        accounts.rates.remove(first.id)
    for wrong, error in ((("project", "no"), NotFound), (("organization", "x"), ConfigError)):
        with pytest.raises(error):
            accounts.rates.set(*wrong, requests=1)
    with pytest.raises(ConfigError):
        accounts.rates.set("project", "docs", requests=-1)
    acts = [event.act for event in accounts.audit.list(wanted=AuditFilter(acts=["rate_limit.updated"])).items]
    assert len(acts) == 3


def test_what_a_worker_holds_is_not_refilled_meanwhile(desks, accounts) -> None:
    limit = accounts.rates.set("project", "docs", requests=60)
    assert taken(desks[0].take((limit,), 0))
    desks[0].now[0] += 4
    at_once = sum(taken(desks[number].take((limit,), 0)) for number in (1, 0) for _ in range(70))
    assert at_once == 60, "all that one bucket holds, though four seconds flowed in beside a block"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask"] * 8 + ["tend"] * 2 + ["crash"]), st.integers(0, 2), st.integers(0, 80),
            st.sampled_from([0.0] * 4 + [0.1, 0.5, 2.0, 7.0, 20.0]), st.integers(1, 12),
        ),
        max_size=60,
    )
)  # fmt: skip
def test_all_workers_together_let_in_what_one_bucket_would(desks, accounts, steps) -> None:
    """In no time span more than the bucket holds and what flows in meanwhile, whatever is held, given back or lost."""
    limit = accounts.rates.set("project", "docs", requests=60, tokens=2400)
    with accounts.database.writing() as execute:
        execute("DELETE FROM buckets")
        execute("DELETE FROM shares")
    for desk in desks:
        desk.crash()
    let_in = []
    for act, worker, tokens, pause, times in steps:
        desk = desks[worker]
        desk.now[0] += pause
        if act == "tend":
            desk.holding.tend()
        elif act == "crash":
            desk.crash()
        else:
            let_in += [(desk.now[0], tokens) for _ in range(times) if taken(desk.take((limit,), tokens))]
    for begin, _ in let_in:
        for end, _ in let_in:
            span = [tokens for at, tokens in let_in if begin <= at <= end]
            assert len(span) <= 60 + max(0.0, end - begin) + 1e-6
            assert sum(span) <= 2400 + max(0.0, end - begin) * 40 + 1e-6


def test_a_refusal_says_how_long_to_wait_or_not_to() -> None:
    short = Level("rl", "requests", 3, 1, -0.25)
    refusal = refuse_rate(short, (short, Level("rl", "tokens", 600, 10, 590.0)))
    headers = dict(refusal.headers)
    assert (refusal.status, refusal.code, refusal.type) == (429, "rate_limit_exceeded", "requests")
    assert headers == {
        "retry-after": "5",
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "45s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "590",
        "x-ratelimit-reset-tokens": "1s",
    }
    endless = refuse_rate(Level("rl", "tokens", 10, 11, -1.0), ())
    assert dict(endless.headers) == {"x-should-retry": "false"}
    indebted = refuse_rate(Level("rl", "tokens", 10, 10, -1000.0), ())
    assert dict(indebted.headers) == {"retry-after": str(LONGEST_WAIT_SECONDS)}


def test_the_nearest_limit_is_told() -> None:
    levels = (Level("a", "requests", 100, 1, 50.0), Level("b", "requests", 10, 1, 3.9))
    assert dict(rate_headers(levels))["x-ratelimit-remaining-requests"] == "3"
    assert rate_headers(()) == ()
