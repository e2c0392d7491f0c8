"""Every answer is booked once, before its last byte leaves, however it ends."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from bessemer.core.errors import BackendError

from .conftest import HELLO, WAIT_SECONDS, PlayedEngine, Running, until


def test_the_entry_says_whose_it_is(running) -> None:
    raw = running.client().chat.completions.with_raw_response.create(model="played", messages=HELLO)
    (entry,) = running.meter.entries()
    key = running.keys.verify(running.secret)
    assert entry.subject.kind == "request"
    assert entry.subject.id == raw.headers["x-request-id"]
    assert (entry.subject.project, entry.subject.key_id, entry.subject.model) == ("tests", key.id, "played")
    assert (entry.usage.input_tokens, entry.usage.output_tokens, entry.status) == (3, 3, "ok")
    assert raw.parse().id.removeprefix("chatcmpl-") == entry.subject.id.removeprefix("req_")


@pytest.mark.parametrize("stream", [False, True])
def test_no_last_byte_before_the_entry_is_on_disk(running, stream) -> None:
    """The meter holds back: the client waits. It writes: the client gets the end, and the entry is there by then."""
    running.meter.open_gate.clear()
    got: list[str] = []
    found_at_the_end: list[int] = []

    def ask() -> None:
        answer = running.client().chat.completions.create(model="played", messages=HELLO, stream=stream)
        for chunk in answer if stream else ():
            got.append(chunk.choices[0].finish_reason or chunk.choices[0].delta.content)
        found_at_the_end.append(len(running.meter.entries()))

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        assert running.meter.stopping.wait(WAIT_SECONDS)
        assert not threading.Event().wait(0.2)  # time enough for a last byte that does not wait
        assert not asked.done()
        assert "stop" not in got
        assert running.meter.entries() == []
        running.meter.open_gate.set()
        asked.result(WAIT_SECONDS)
    assert found_at_the_end == [1]
    assert "".join(got) == ("one two threestop" if stream else "")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_booked_does_not_leave_whole(running, stream) -> None:
    running.meter.error = BackendError("the disk is full")
    create = running.client().chat.completions.create
    with pytest.raises(openai.APIError, match="failed"):
        list(create(model="played", messages=HELLO, stream=stream))


@pytest.mark.parametrize("stream", [False, True])
def test_a_disk_that_refuses_once_loses_no_entry(running, monkeypatch, stream) -> None:
    """The client learns that something failed; what its answer took is booked all the same, once."""
    refusals, stop = [BackendError("the disk is full")], running.meter.stop

    def refuse_once(*args: object) -> object:
        if refusals:
            raise refusals.pop()
        return stop(*args)

    monkeypatch.setattr(running.meter, "stop", refuse_once)
    with pytest.raises(openai.APIError, match="failed"):
        list(running.client().chat.completions.create(model="played", messages=HELLO, stream=stream))
    (entry,) = running.meter.entries()
    assert (entry.status, entry.usage.output_tokens) == ("error", 3)


def test_the_event_loop_goes_on_while_the_meter_waits_for_the_disk(running) -> None:
    running.meter.open_gate.clear()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(running.client().chat.completions.create, model="played", messages=HELLO)
        assert running.meter.stopping.wait(WAIT_SECONDS)
        assert running.client().models.list().data
        running.meter.open_gate.set()
        asked.result(WAIT_SECONDS)


def test_a_stream_that_its_client_leaves_is_cancelled_and_booked(running) -> None:
    running.engine.hold = 2
    stream = running.client().chat.completions.create(model="played", messages=HELLO, stream=True)
    said = [next(stream).choices[0].delta.content for _ in range(2)]
    assert running.engine.holding.wait(WAIT_SECONDS)
    stream.close()
    until(running.meter.entries)
    (entry,) = running.meter.entries()
    assert (entry.status, entry.usage.input_tokens, entry.usage.output_tokens) == ("cancelled", 3, 2)
    assert running.engine.cancelled == 1
    assert "".join(said).startswith("one")


class KeptEngine(PlayedEngine):
    """Holds on to its streams, as one does that schedules them: only who closes them ends them."""

    def reset(self) -> None:
        super().reset()
        self.kept: list[object] = []

    def stream(self, request):
        self.kept.append(super().stream(request))
        return self.kept[-1]


@pytest.mark.parametrize("late", [False, True])
def test_the_engine_is_told_before_the_books(start, monkeypatch, late) -> None:
    """A client leaves while its next piece is made, or (late) while a piece that it does not read is being sent."""
    running = start(KeptEngine(), request_timeout_seconds=0.5 if late else 300.0, max_output_tokens=100_000)
    told: list[int] = []
    stop = running.meter.stop
    monkeypatch.setattr(running.meter, "stop", lambda *given: (told.append(running.engine.cancelled), stop(*given))[1])
    if late:
        _ask_and_never_read(running, words=6000)
    else:
        running.engine.hold = 1
        stream = running.client().chat.completions.create(model="played", messages=HELLO, stream=True)
        assert running.engine.holding.wait(WAIT_SECONDS)
        stream.close()
    until(running.meter.entries)
    assert told == [1]


def test_a_whole_answer_whose_client_leaves_is_cancelled_and_booked(running) -> None:
    running.engine.hold = 1
    with pytest.raises(openai.APITimeoutError):
        running.client().with_options(timeout=0.3).chat.completions.create(model="played", messages=HELLO)
    until(running.meter.entries)
    (entry,) = running.meter.entries()
    assert (entry.status, entry.usage.output_tokens, running.engine.cancelled) == ("cancelled", 1, 1)


def test_an_answer_that_takes_too_long(start) -> None:
    running = start(request_timeout_seconds=0.2)
    running.engine.hold = 1
    with pytest.raises(openai.InternalServerError) as caught:
        running.client().chat.completions.create(model="played", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (504, "timeout")
    stream = running.client().chat.completions.create(model="played", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="longer than") as streamed:
        list(stream)
    assert streamed.value.code == "timeout"
    whole, streamed_entry = running.meter.entries()
    assert (whole.status, streamed_entry.status) == ("error", "cancelled"), "of the stream the client has the pieces"


def test_a_client_that_reads_slowly_holds_back_its_own_answer(start) -> None:
    """The engine is asked for no more than the sockets' buffers hold, and the answer ends when its time is up."""
    running = start(request_timeout_seconds=1.0, max_output_tokens=100_000)
    words = 6000
    _ask_and_never_read(running, words)
    until(running.meter.entries)
    (entry,) = running.meter.entries()
    assert entry.status == "cancelled"
    assert 0 < running.engine.taken < words
    assert entry.usage.output_tokens == running.engine.taken


def _ask_and_never_read(running: Running, words: int) -> None:
    connection = running.connect()
    message = {"role": "user", "content": " ".join(["x" * 1000] * words)}
    body = json.dumps({"model": "played", "stream": True, "max_tokens": words, "messages": [message]})
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {running.secret}"})


def test_a_meter_that_follows_is_told_of_the_tokens_while_they_are_made(running) -> None:
    """So that joules are charged by work as it is done, and not by how long a request was open."""
    followed = []
    running.meter.follow = lambda handle, progress: followed.append(progress)
    seen = []
    for chunk in running.client().chat.completions.create(model="played", messages=HELLO, stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
            seen.append(followed[0]().output_tokens)
    assert len(followed) == 1
    assert (followed[0]().input_tokens, followed[0]().output_tokens) == (3, 3)
    assert seen == sorted(seen) and seen[0] >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_billed_does_not_depend_on_what_is_logged(running, stream) -> None:
    """Neither with all logging off nor with all of it on, and not with a handler that fails either."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left on device")

    root, failing = logging.getLogger("bessemer"), logging.StreamHandler(Full())
    before, raising = root.level, logging.raiseExceptions
    booked = []
    for level, off in ((logging.DEBUG, logging.NOTSET), (logging.CRITICAL + 1, logging.CRITICAL)):
        root.addHandler(failing)
        root.setLevel(level)
        logging.disable(off)
        logging.raiseExceptions = False
        try:
            for text, fails in (("one two three", None), ("four five", 1)):
                running.engine.fail_at = fails
                messages = [{"role": "user", "content": text}]
                with contextlib.suppress(openai.APIError, OSError):
                    answer = running.client().chat.completions.create(model="played", messages=messages, stream=stream)
                    list(answer if stream else ())
        finally:
            logging.disable(logging.NOTSET)
            logging.raiseExceptions = raising
            root.setLevel(before)
            root.removeHandler(failing)
        until(lambda: len(running.meter.entries()) == 2)
        told = ((e.status, e.usage.output_tokens, e.charge.micros) for e in running.meter.entries())
        booked.append(sorted(told))
        running.meter.reset()
    assert booked[0] == booked[1]
    assert {status for status, *_ in booked[0]} == {"ok", "broken" if stream else "error"}
