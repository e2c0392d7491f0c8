"""The ledger says whose request an answer was, as soon as it is booked."""

from __future__ import annotations

from pathlib import Path

from bessemer.core.nouns import Subject, Usage
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.answered import Answered


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
