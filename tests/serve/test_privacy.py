"""What a client writes, what it is told and its key stay out of the logs, whatever happens to its request."""

from __future__ import annotations

import json
import logging

from bessemer.core.errors import BackendError, BudgetExceeded

PROMPT, ANSWER = "pale-otter", "quiet-heron"
CLIENTS = ("openai", "httpx", "httpcore", "httpx2", "httpcore2", "hypothesis")


def ask(running, **fields: object) -> int:
    body = {"model": "played", "messages": [{"role": "user", "content": f"{PROMPT} {ANSWER}"}]} | fields
    connection = running.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Authorization": f"Bearer {running.secret}"})
    response = connection.getresponse()
    response.read()
    return response.status


def test_the_logs_hold_nothing_of_a_client(running, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    asked = [ask(running), ask(running, stream=True), ask(running, **{PROMPT: 1}), ask(running, model=PROMPT)]
    asked.append(ask(running, stop=[PROMPT, ""]))
    for stream in (False, True):
        for at in (0, 1):
            for error in (ValueError(PROMPT), BackendError(PROMPT), BudgetExceeded(PROMPT)):
                running.engine.fail_at, running.engine.error = at, error
                asked.append(ask(running, stream=stream))
    assert {200, 400, 404, 500} == set(asked)
    logged = [record for record in caplog.records if record.name.partition(".")[0] not in CLIENTS]
    assert any(record.name == "bessemer.serve" for record in logged), "failures are logged"
    text = "\n".join(caplog.handler.format(record) for record in logged)
    for private in (PROMPT, ANSWER, running.secret, running.secret.split("-", 2)[2]):
        assert private not in text


def test_the_keys_and_the_books_hold_no_prompt(running) -> None:
    ask(running)
    folder = running.meter.path.parent
    for path in folder.iterdir():
        for private in (PROMPT, ANSWER, running.secret):
            assert private.encode() not in path.read_bytes()
