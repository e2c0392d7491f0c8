"""No body makes the gateway fail: every answer is 200 or 400 or 404, and every error has its four fields."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.serve.asking import Asked

from .conftest import HELLO

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"])}, optional={"text": VALUES})
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "developer", "assistant", "tool"]) | VALUES},
        optional={"content": st.text(max_size=50) | st.lists(PARTS, max_size=3) | VALUES, "name": VALUES},
    ),
    max_size=3,
)
FIELDS = st.dictionaries(st.sampled_from(sorted(set(Asked.model_fields) - {"model", "messages"})), VALUES, max_size=4)
BODIES = st.builds(
    lambda fields, messages, more: {"model": "played", "messages": messages} | fields | more,
    FIELDS,
    MESSAGES | VALUES | st.just(HELLO),
    st.dictionaries(st.text(max_size=10), VALUES, max_size=1),
)


@pytest.fixture
def tell(running):
    connection = running.connect()

    def send(body: bytes) -> None:
        headers = {"Authorization": f"Bearer {running.secret}"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        answer = response.read()
        assert response.status in (200, 400, 404), answer
        if response.status != 200:
            assert json.loads(answer)["error"].keys() == {"message", "type", "param", "code"}
        elif response.headers["content-type"].startswith("text/event-stream"):
            assert answer.endswith(b"data: [DONE]\n\n")
        else:
            assert json.loads(answer)["choices"][0]["message"]["role"] == "assistant"

    return send


relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@relaxed
@given(BODIES)
def test_bodies_that_are_nearly_right(tell, body) -> None:
    tell(json.dumps(body).encode())


@relaxed
@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_bodies_that_are_anything(tell, body) -> None:
    tell(body)


@relaxed
@given(FIELDS, st.text(max_size=100))
def test_single_fields_of_any_value(tell, fields, text) -> None:
    tell(json.dumps({"model": "played", "messages": [{"role": "user", "content": text}]} | fields).encode())
