"""Requests and tokens per minute: taken, refilled, corrected, shared by all workers and kept over restarts."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError, NotFound
from bessemer.serve import Accounts, open_accounts
from bessemer.serve.accounts.rates import Level, RateLimit
from bessemer.serve.accounts.refusing import LONGEST_WAIT_SECONDS, rate_headers, refuse_rate


@pytest.fixture
def accounts(database_url):
    made = open_accounts(database_url)
    made.projects.create("docs")
    yield made
    made.close()


def take(accounts: Accounts, limits: tuple[RateLimit, ...], tokens: int, now: float) -> tuple[Level, ...]:
    with accounts.database.writing() as execute:
        return accounts.rates.take(execute, limits, tokens, now)


def test_a_bucket_holds_a_minute_and_is_refilled_all_the_time(accounts) -> None:
    limit = accounts.rates.set("project", "docs", requests=6)
    for left in (5, 4, 3, 2, 1, 0):
        (level,) = take(accounts, (limit,), 0, 100.0)
        assert level.left == left
    (short,) = take(accounts, (limit,), 0, 105.0)
    assert (short.left, short.wait_seconds) == (-0.5, 5.0)
    (level,) = take(accounts, (limit,), 0, 110.0)
    assert level.left == pytest.approx(0)
    (full,) = accounts.rates.levels((limit,), 1e9)
    assert (full.left, full.reset_seconds) == (6, 0)


def test_one_empty_bucket_takes_from_none(accounts) -> None:
    wide = accounts.rates.set("organization", tokens=1000)
    narrow = accounts.rates.set("project", "docs", requests=1)
    assert all(level.left >= 0 for level in take(accounts, (wide, narrow), 10, 0.0))
    assert any(level.left < 0 for level in take(accounts, (wide, narrow), 10, 0.0))
    assert [level.left for level in accounts.rates.levels((wide,), 0.0)] == [990]


def test_what_was_guessed_is_corrected_even_into_debt(accounts) -> None:
    limit = accounts.rates.set("project", "docs", tokens=600)
    take(accounts, (limit,), 100, 0.0)
    with accounts.database.writing() as execute:
        accounts.rates.correct(execute, (limit,), 100 - 40)
    assert accounts.rates.levels((limit,), 0.0)[0].left == 560
    with accounts.database.writing() as execute:
        accounts.rates.correct(execute, (limit,), -700)
    assert accounts.rates.levels((limit,), 0.0)[0].left == -140
    (short,) = take(accounts, (limit,), 10, 0.0)
    assert short.wait_seconds == pytest.approx(15.0)


def test_workers_share_a_bucket_and_a_restart_keeps_it(accounts, database_url) -> None:
    limit = accounts.rates.set("project", "docs", requests=2)
    other = open_accounts(database_url)
    assert take(accounts, (limit,), 0, 0.0)[0].left == 1
    assert take(other, (limit,), 0, 0.0)[0].left == 0
    other.close()
    again = open_accounts(database_url)
    assert take(again, (limit,), 0, 0.0)[0].left == -1
    again.close()


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
    acts = [event.act for event in accounts.audit.list(acts=["rate_limit.updated"]).items]
    assert len(acts) == 3


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 80)), max_size=30))
def test_no_minute_sees_more_than_two_buckets(accounts, asked) -> None:
    """A token bucket lets through what it holds and what flows in: at most twice its size within any minute."""
    limit = accounts.rates.set("project", "docs", tokens=100)
    with accounts.database.writing() as execute:
        execute("DELETE FROM buckets")
    now, let_in = 0.0, []
    for pause, tokens in asked:
        now += pause
        if all(level.left >= 0 for level in take(accounts, (limit,), tokens, now)):
            let_in.append((now, tokens))
    for begin, _ in let_in:
        assert sum(tokens for at, tokens in let_in if begin <= at < begin + 60) <= 200


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
