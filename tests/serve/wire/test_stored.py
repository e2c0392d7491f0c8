"""Stored chat completions through the official client: only with consent, only for their project, bounded, erasable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from bessemer.serve.wire.store import AnswerStore, Stored, Wanted
from tests.conftest import empty_schema
from tests.serve.conftest import lax


def ask(client, text: str = "hello there", **more):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="played", messages=messages, **{"store": True} | more)


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def answers_url(request: pytest.FixtureRequest, answers_url: str) -> Iterator[str]:
    if request.param == "sqlite":
        yield answers_url
    else:
        with empty_schema(request.getfixturevalue("postgres_server")) as url:
            yield url


def stored_ids(client, **more) -> list[str]:
    return [item.id for item in client.chat.completions.list(**more)]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_kept_read_described_and_deleted(client, wire, stream) -> None:
    made = ask(client, metadata={"case": "7"}, stream=stream)
    id = [*made][-1].id if stream else made.id
    read = client.chat.completions.retrieve(id)
    assert (read.id, read.choices[0].message.content, read.metadata) == (id, "hello there", {"case": "7"})
    assert read.usage.total_tokens == 4
    if not stream:  # it is told as it was, but for what was not yet known of its cost
        asked = made.model_dump(exclude_unset=True) | {"metadata": {"case": "7"}}
        kept = {name: each for name, each in asked["usage"].items() if name not in ("energy", "cost")}
        assert read.model_dump(exclude_unset=True) == asked | {"usage": kept}
    (said,) = lax(client).chat.completions.messages.list(id)
    assert (said.role, said.content) == ("user", "hello there")
    assert client.chat.completions.update(id, metadata={"case": "8"}).metadata == {"case": "8"}
    assert stored_ids(client, metadata={"case": "8"}) == [id]
    assert stored_ids(client, metadata={"case": "7"}) == []
    assert client.chat.completions.delete(id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(id)
    assert wire.booked() == [("shop", "ok", 2, 2)]  # reading costs nothing


@pytest.mark.parametrize(("asked", "told"), [("priority", "priority"), ("flex", "flex"), ("auto", "default")])
def test_the_tier_of_an_answer_is_told_and_kept(client, wire, asked, told) -> None:
    made = ask(client, service_tier=asked)
    assert (made.service_tier, client.chat.completions.retrieve(made.id).service_tier) == (told, told)
    assert {chunk.service_tier for chunk in ask(client, service_tier=asked, stream=True)} == {told}
    response = client.responses.create(model="played", input="x", service_tier=asked, store=True)
    assert (response.service_tier, client.responses.retrieve(response.id).service_tier) == (told, told)
    assert {entry.subject.service_tier for entry in wire.running.meter.entries()} == {told.replace("default", "")}


def test_nothing_is_kept_without_consent(client) -> None:
    for more in ({"store": False}, {"store": None}):
        answer = ask(client, **more)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.retrieve(answer.id)


def test_a_project_never_sees_another_s_answers(wire) -> None:
    id = ask(wire.shop).id
    stranger = wire.docs.chat.completions
    for reach in (
        lambda: stranger.retrieve(id),
        lambda: stranger.update(id, metadata={"mine": "now"}),
        lambda: stranger.delete(id),
        lambda: stranger.messages.list(id),
        lambda: stranger.list(after=id),
    ):
        with pytest.raises(openai.NotFoundError):
            reach()
    assert id not in stored_ids(wire.docs)
    assert wire.shop.chat.completions.retrieve(id).metadata == {}


def test_pages_and_bound(client) -> None:
    """The fixture keeps five for each project."""
    made = [ask(client, f"number {n}").id for n in range(7)]
    assert stored_ids(client) == made[2:]
    assert stored_ids(client, limit=2) == made[2:]  # the client turns the pages itself
    assert stored_ids(client, order="desc") == made[:1:-1]
    assert stored_ids(client, model="other") == []
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.list(limit=1000)


@pytest.mark.parametrize("key", ['a"b', "a.b", "$", "a b", "ä", "[0]"])
def test_any_name_of_metadata_finds(client, key) -> None:
    id = ask(client, metadata={key: "x", "other": "y"}).id
    assert stored_ids(client, metadata={key: "x"}) == [id]
    assert stored_ids(client, metadata={key: "y"}) == []
    client.chat.completions.delete(id)


def test_what_is_deleted_leaves_no_bytes(tmp_path: Path) -> None:
    store, words = AnswerStore(tmp_path / "a.sqlite"), "words-that-must-not-stay"
    kept = Stored(id="x", kind="response", model="m", created=1, body={"text": words}, said=[])
    store.add("shop", kept)
    assert store.page("shop", "response", Wanted()) == ([kept], False)
    assert any(words.encode() in path.read_bytes() for path in tmp_path.iterdir())
    store.delete("shop", "response", "x")
    assert not any(words.encode() in path.read_bytes() for path in tmp_path.iterdir())
    store.close()
