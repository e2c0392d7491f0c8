"""What users say of answers: kept for their project only, in full, until it is deleted, bytes too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import NotFound
from bessemer.serve import FeedbackStore, GatewayParts
from bessemer.serve.feedback import Said
from tests.serve.conftest import start_in

Asker = Callable[..., tuple[int, Any]]


@pytest.fixture
def store(database_url: str) -> Iterator[FeedbackStore]:
    owners = {"chatcmpl-1": "docs", "chatcmpl-2": "docs", "chatcmpl-3": "shop"}
    with closing(FeedbackStore(database_url, owners.get)) as made:
        yield made


@pytest.fixture
def served(tmp_path: Path, store: FeedbackStore):
    with ExitStack() as stack:
        running = start_in(tmp_path, stack, parts=GatewayParts(feedback=store))
        secrets = {project: running.keys.create(project)[1] for project in ("docs", "shop")}

        def ask(method: str, path: str, project: str, body: object = None) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {secrets.get(project, project)}"}
            status, found, _ = running.ask(json.dumps(body) if body else "", path, method, **headers)
            return status, found

        yield ask


def test_what_was_said_comes_back_newest_first_and_in_pages(served: Asker) -> None:
    given = [
        {"target": "chatcmpl-1", "metric": "accepted", "value": True},
        {"target": "chatcmpl-1", "metric": "score", "value": 0.25},
        {"target": "chatcmpl-2", "comment": "too long"},
        {"target": "chatcmpl-2", "demonstration": "A shorter answer."},
    ]
    kept = [served("POST", "/v1/feedback", "docs", body) for body in given]
    assert [status for status, _ in kept] == [200] * 4
    for (_, found), body in zip(kept, given, strict=True):
        assert found["object"] == "feedback" and found["id"].startswith("fb_")
        assert {name: found[name] for name in body} == body
        assert served("GET", f"/v1/feedback/{found['id']}", "docs") == (200, found)
    _, first = served("GET", "/v1/feedback?limit=3", "docs")
    assert [each["id"] for each in first["data"]] == [found["id"] for _, found in kept[:0:-1]]
    assert first["has_more"] is True
    _, second = served("GET", f"/v1/feedback?limit=3&after={first['last_id']}", "docs")
    assert [each["id"] for each in second["data"]] == [kept[0][1]["id"]]
    assert second["has_more"] is False
    _, one = served("GET", "/v1/feedback?target=chatcmpl-1", "docs")
    assert {each["target"] for each in one["data"]} == {"chatcmpl-1"} and len(one["data"]) == 2


def test_a_project_never_sees_or_touches_another_s(served: Asker) -> None:
    _, kept = served("POST", "/v1/feedback", "docs", {"target": "chatcmpl-1", "comment": "mine"})
    path = f"/v1/feedback/{kept['id']}"
    for method, where in (("GET", path), ("DELETE", path), ("GET", f"/v1/feedback?after={kept['id']}")):
        status, found = served(method, where, "shop")
        assert status == 404 and found["error"]["code"] == "feedback_not_found"
    assert served("GET", "/v1/feedback", "shop")[1]["data"] == []
    assert served("GET", "/v1/feedback?target=chatcmpl-1", "shop")[1]["data"] == []
    status, found = served("POST", "/v1/feedback", "shop", {"target": "chatcmpl-1", "comment": "not mine"})
    assert status == 404 and found["error"]["code"] == "answer_not_found"
    assert served("GET", path, "docs")[0] == 200


def test_what_is_deleted_leaves_no_bytes(served: Asker, store: FeedbackStore, tmp_path: Path) -> None:
    words = "words-that-must-not-stay"
    _, kept = served("POST", "/v1/feedback", "docs", {"target": "chatcmpl-1", "comment": words})

    def left() -> bool:
        if store._database.is_postgres:
            return bool(store._database.read("SELECT 1 FROM feedback"))
        return any(words.encode() in path.read_bytes() for path in tmp_path.glob("flow.sqlite*"))

    assert left()
    status, gone = served("DELETE", f"/v1/feedback/{kept['id']}", "docs")
    assert (status, gone) == (200, {"id": kept["id"], "object": "feedback.deleted", "deleted": True})
    assert not left()
    assert served("GET", f"/v1/feedback/{kept['id']}", "docs")[0] == 404
    assert served("DELETE", f"/v1/feedback/{kept['id']}", "docs")[0] == 404


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"target": "chatcmpl-1"}, "one of metric"),
        ({"target": "chatcmpl-1", "comment": "a", "demonstration": "b"}, "one of metric"),
        ({"target": "chatcmpl-1", "metric": "accepted"}, "belong together"),
        ({"target": "chatcmpl-1", "metric": "accepted", "value": "yes"}, "value"),
        ({"target": "chatcmpl-1", "metric": "two words", "value": 1}, "metric"),
        ({"comment": "of what?"}, "target"),
        ({"target": "chatcmpl-1", "coment": "a"}, "comment"),
    ],
)
def test_what_is_unclear_is_refused_and_not_kept(served: Asker, body: dict[str, object], says: str) -> None:
    status, found = served("POST", "/v1/feedback", "docs", body)
    assert status == 400 and says in found["error"]["message"]
    assert served("GET", "/v1/feedback", "docs")[1]["data"] == []


@pytest.mark.parametrize("limit", ["0", "101", "x", "-1", "1" * 5000])
def test_a_page_has_a_sensible_size(served: Asker, limit: str) -> None:
    assert served("GET", f"/v1/feedback?limit={limit}", "docs")[0] == 400


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("GET", "/fb_1"), ("DELETE", "/fb_1")])
def test_without_a_right_key_there_is_nothing(served: Asker, method: str, path: str) -> None:
    status, found = served(method, f"/v1/feedback{path}", "bk-wrong")
    assert status == 401 and found["error"]["code"] == "invalid_api_key"


def test_two_processes_share_what_is_kept(store: FeedbackStore, database_url: str) -> None:
    other = FeedbackStore(database_url, {"chatcmpl-1": "docs"}.get)
    kept = store.add("docs", Said(target="chatcmpl-1", comment="hello"))
    assert other.get("docs", kept.id) == kept
    other.delete("docs", kept.id)
    with pytest.raises(NotFound):
        store.get("docs", kept.id)
