"""Of a project's words is kept what it asks for, what its administrator lets it, and no personal data where masked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI

from bessemer.serve import Accounts, AnswerStore, FeedbackStore
from bessemer.serve.privacy import mask_text, masked

from .conftest import Running, administered_in

PRIVATE = {
    "email": ["ada@example.org", "first.last+tag@mail.example.co.uk"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"],
    "card": ["4111 1111 1111 1111", "5500-0055-5555-5559", "378282246310005"],
    "ssn": ["078-05-1120"],
    "phone": ["+44 20 7946 0958", "+1 (212) 555-0100", "(212) 555-0100", "212-555-0100"],
    "ip": ["192.0.2.17", "2001:db8::ff00:42:8329"],
    "key": ["bk-0123456789ab-q83kfjw93jdkwq83kfjw", "sk-proj-abcdefghijklmnop1234"],
}
HARMLESS = [
    "On 2026-11-30 at 12:30:15 we shipped 1,234,567 tokens in 3.2.1 and paid 12.50 EUR.",
    "chatcmpl-5f3a9c1e22b14d6e9f00aa11bb22cc33 took 0.5 s; see RFC 2119, ISO 8601-1:2019.",
    "4111 1111 1111 1112 is no card, DE00 3704 0044 0532 0130 00 no account, 999.0.2.17 no address.",
    "ids 1234567890123 and 00042; a: b; std::vector; 10:30",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PRIVATE.items() for text in texts])
def test_personal_data_with_a_form_is_found(kind: str, text: str) -> None:
    assert mask_text(f"Say {text}, please.") == f"Say [{kind}], please."
    assert mask_text(text) == f"[{kind}]"


@pytest.mark.parametrize("text", HARMLESS)
def test_other_words_stay(text: str) -> None:
    assert mask_text(text) == text


JSON = st.recursive(st.text() | st.integers() | st.none(), lambda one: st.lists(one) | st.dictionaries(st.text(), one))


@settings(max_examples=40)
@given(JSON)
def test_masking_again_changes_nothing_and_keeps_the_shape(value: object) -> None:
    once = masked(value)
    assert masked(once) == once
    assert type(once) is type(value)
    assert len(json.dumps(once).split(",")) <= len(json.dumps(value).split(","))


@dataclass
class Kept:
    running: Running
    accounts: Accounts
    client: OpenAI
    admin: Any
    folder: Path

    def ask(self, text: str, **fields: object):  # type: ignore[no-untyped-def]
        said = [{"role": "user", "content": text}]
        return self.client.chat.completions.create(model="played", messages=said, store=True, **fields)

    def on_disk(self, name: str) -> str:
        with sqlite3.connect(self.folder / name) as database:
            return "\n".join(database.iterdump())


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    with ExitStack() as stack:

        def answers(accounts: Accounts) -> AnswerStore:
            return stack.enter_context(closing(AnswerStore(tmp_path / "answers.sqlite", capture=accounts.capture.of)))

        def feedback(accounts: Accounts) -> FeedbackStore:
            made = FeedbackStore(tmp_path / "feedback.sqlite", lambda id: "shop", capture=accounts.capture.of)
            return stack.enter_context(closing(made))

        desk = administered_in(tmp_path, stack, answers=answers, feedback=feedback)
        client = desk.running.client(desk.accounts.keys.create("shop")[1])
        yield Kept(desk.running, desk.accounts, client, desk.admin, tmp_path)


def test_a_project_that_masks_keeps_the_places_only(kept: Kept) -> None:
    retention = kept.admin.projects.data_retention
    assert retention.retrieve("shop").type == "none"
    told = retention.update("shop", retention_type="none", extra_body={"pii": "mask"})
    assert (told.type, told.model_extra) == ("none", {"pii": "mask"})
    private = " ".join(PRIVATE["email"] + PRIVATE["card"])
    answer = kept.ask(private, metadata={"who": "ada@example.org"})
    assert answer.choices[0].message.content == private, "the answer itself is not touched"
    read = kept.client.chat.completions.retrieve(answer.id)
    assert read.choices[0].message.content == "[email] [email] [card] [card] [card]"
    assert (read.id, read.metadata) == (answer.id, {"who": "[email]"})
    response = kept.client.responses.create(model="played", input=private, store=True)
    assert kept.client.responses.retrieve(response.id).output_text == read.choices[0].message.content
    kept.client.chat.completions.update(answer.id, metadata={"who": "+44 20 7946 0958"})
    said = {"target": "chatcmpl-1", "comment": "call +44 20 7946 0958"}
    assert kept.running.ask(json.dumps(said), "/v1/feedback", Authorization=f"Bearer {kept.client.api_key}")[0] == 200
    disk = kept.on_disk("answers.sqlite") + kept.on_disk("feedback.sqlite")
    assert "[email]" in disk and "[phone]" in disk
    assert not [text for texts in PRIVATE.values() for text in texts if text in disk]


def test_a_project_with_zero_retention_keeps_nothing(kept: Kept) -> None:
    retention = kept.admin.projects.data_retention
    assert retention.update("shop", retention_type="zero_data_retention").type == "zero_data_retention"
    asked = kept.running.engine.requests
    for ask in (
        lambda: kept.ask("words"),
        lambda: kept.client.responses.create(model="played", input="words", store=True),
    ):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            ask()
        assert (refused.value.code, refused.value.param) == ("data_retention_not_permitted", "store")
    assert asked == [], "the engine was not asked"
    key = {"Authorization": f"Bearer {kept.client.api_key}"}
    told = {"target": "chatcmpl-1", "comment": "words"}
    assert kept.running.ask(json.dumps(told), "/v1/feedback", **key)[0] == 403
    told = {"target": "chatcmpl-1", "metric": "accepted", "value": True}
    assert kept.running.ask(json.dumps(told), "/v1/feedback", **key)[0] == 200
    assert "words" not in kept.on_disk("answers.sqlite") + kept.on_disk("feedback.sqlite")
    assert kept.accounts.audit.list(1).items[0].act == "project.updated"
    assert kept.client.chat.completions.create(model="played", messages=[{"role": "user", "content": "hi"}]).id


def test_what_is_no_rule_is_refused(kept: Kept) -> None:
    retention = kept.admin.projects.data_retention
    with pytest.raises(openai.BadRequestError):
        retention.update("shop", retention_type="modified_abuse_monitoring")
    with pytest.raises(openai.NotFoundError):
        retention.update("nobody", retention_type="none")
    assert kept.accounts.capture.of("shop").stores
