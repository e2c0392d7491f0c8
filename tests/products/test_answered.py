"""The ledger says whose request an answer was, as soon as it is booked."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from bessemer.core.nouns import Subject, Usage
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.answered import Answered, gateway_parts
from bessemer.products.home import Home
from bessemer.serve import JobsConfig, WebhookStore, open_work


def test_an_answer_belongs_to_who_asked_for_it(tmp_path: Path) -> None:
    answered = Answered(tmp_path / "books")
    assert answered.project_of("chatcmpl-a1") is None
    with open_meter(MeterConfig(sensors="model"), tmp_path / "books") as meter:
        handle = meter.start(Subject(kind="request", id="req_a1", project="docs", model="m"))
        meter.stop(handle, Usage(input_tokens=1, output_tokens=1))
        names = ("chatcmpl-a1", "cmpl-a1", "resp_a1", "msg_a1", "req_a1")
        assert [answered.project_of(name) for name in names] == ["docs"] * 5, "in every wire's words"
    assert [answered.project_of(name) for name in ("chatcmpl-a2", "a1", "", "job_a1")] == [None] * 4
    answered.close()


def test_a_home_in_postgres_has_its_rows_there_and_says_what_is_left_behind(
    tmp_path: Path, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def parts(stack: ExitStack, home: Home) -> WebhookStore:
        work = open_work(home.work, JobsConfig(), database=home.ledger_url)
        found = gateway_parts(home, "mill", time.time, "", work, stack).webhooks
        assert found is not None
        return found

    with ExitStack() as stack, caplog.at_level(logging.WARNING, "bessemer.products"):
        shared = parts(stack, Home(tmp_path / "one", postgres_url))
        shared.create("shop", "n", "https://example.com", ["feedback.created"])
        elsewhere = Home(tmp_path / "two", postgres_url)
        assert len(parts(stack, elsewhere).page("shop")[0]) == 1
        assert not caplog.messages and not list((tmp_path / "one").glob("**/[a-df-z]*.sqlite"))
        parts(stack, Home(tmp_path / "two"))
        assert not caplog.messages
        parts(stack, elsewhere)
        (said,) = caplog.messages
    assert all(name in said for name in ("work.sqlite", "feedback.sqlite", "webhooks.sqlite", "answers.sqlite"))
