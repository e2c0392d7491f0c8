"""What is kept of sessions and runs: for how long, how much of it, whose, and how an erasure finds it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.acting import Asker, Remembering
from bessemer.core.errors import Conflict
from bessemer.infer.agents import AgentConfig, AgentEngine, AgentParts, Delivered, callable_tool
from bessemer.infer.agents.config import RetentionConfig
from bessemer.infer.agents.records import ANY, Records, open_records, record_name

DAY = 86_400.0


@callable_tool
def look(id: str) -> Delivered:
    """Look a document up."""
    return Delivered(f"the secret of {id} is violet", quotes=frozenset({id}))


class Desk:
    """Records with a clock that is set by hand."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 0.0
        self.records = self.open()

    def open(self, **retention: Any) -> Records:
        return open_records(f"sqlite:///{self.path}", RetentionConfig(**retention), lambda: self.now)

    def held(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.path.parent.iterdir())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "records.sqlite")
    yield made
    made.records.close()


def agent(model: Any, records: Records, **config: Any) -> AgentEngine:
    return AgentEngine(model, [look], AgentConfig(guard="off", **config), AgentParts(journal=records))


def test_records_end_with_their_time_and_beyond_their_number(desk: Desk) -> None:
    for project in ("shop", "docs"):
        for number in range(4):
            desk.now += 60
            desk.records.append(record_name("run", project, "clerk", f"r{number}"), 0, {"said": f"{project} {number}"})
    desk.records.close()

    def left() -> set[str]:
        return {f"{p} {n}" for p in ("shop", "docs") for n in range(4) if f"{p} {n}".encode() in desk.held()}

    desk.records = desk.open(names_per_project=2)
    assert left() == {"shop 2", "shop 3", "docs 2", "docs 3"}, "one project's many push out none of another's"
    desk.records.append(record_name("run", "shop", "clerk", "r2"), 1, {})
    desk.now += 29 * DAY
    desk.records.append(record_name("run", "shop", "clerk", "r3"), 1, {})
    desk.now += 2 * DAY
    desk.records.add("another", {})  # whoever writes sweeps
    assert left() == {"shop 3"}, "what was written lately stays whole"


async def test_a_session_keeps_no_more_than_is_read(scripted: Any, ask: Any, desk: Desk) -> None:
    made = agent(scripted(*[f"answer {n}" for n in range(5)]), desk.records, remembered_turns=4)
    for number in range(5):
        await made.of(Asker(project="p", session="s")).respond(ask(f"question {number}"))
    assert len(desk.records.read(record_name("session", "p", "agent", "s"))) == 4
    assert [m.content for m in made.engine.asked[4].messages] == [  # type: ignore[attr-defined]
        "question 2", "answer 2", "question 3", "answer 3", "question 4",
    ]  # fmt: skip
    none = agent(scripted("answer"), desk.records, remembered_turns=0)
    await none.of(Asker(project="p", session="t")).respond(ask("question"))
    assert desk.records.read(record_name("session", "p", "agent", "t")) == []


async def test_an_erasure_reaches_what_quotes_a_document_and_what_remembers_it(
    scripted: Any, ask: Any, desk: Desk
) -> None:
    calls = [("look", {"id": "d1"})], "It is violet.", "As I said: violet.", [("look", {"id": "d2"})], "Violet, too."
    made = agent(scripted(*calls, "Hello."), desk.records)
    await made.of(Asker(project="p", session="s")).respond(ask("Look d1 up."))
    later = Asker(project="p", session="s", run="later")
    await made.of(later).respond(ask("And again?"))  # quotes it by memory alone
    await made.of(Asker(project="p", run="other")).respond(ask("Look d2 up."))
    await made.of(Asker(project="q", session="s")).respond(ask("Hi."))
    desk.records.append("old", 0, {"text": "who knows"}, {ANY})
    assert desk.records.erase(["d1"]) == 4 + 3 + 1, "a session, a run, and what may quote anything"
    names = {"other": ("run", "p", "agent", "other"), "q": ("session", "q", "agent", "s")}
    assert all(desk.records.read(record_name(*name)) for name in names.values())
    assert b"And again?" not in desk.held() and b"d2 is violet" in desk.held()
    with pytest.raises(Conflict, match="erased"):
        desk.records.append(record_name("run", "p", "agent", "later"), 3, {})  # it was under way
    desk.records.add("late", {"text": "d1"}, quotes=["d1"])
    assert desk.records.read("late") == [], "an answer that was under way is not remembered"
    assert desk.records.erase_owner("p") == 5 and desk.records.read(record_name(*names["q"]))


async def test_an_answer_that_may_quote_anything_is_not_kept_if_documents_were_erased_meanwhile(
    scripted: Any, ask: Any, desk: Desk
) -> None:
    erasing = list[str]()

    @callable_tool
    def query(sql: str) -> Delivered:
        """Ask the tables."""
        for id in erasing:
            desk.records.erase([id])
        return Delivered("the secret of d1 is violet", quotes=frozenset({ANY}))

    calls = [("query", {"sql": "select"})], "It is violet."
    made = AgentEngine(scripted(*calls * 3), [query], AgentConfig(guard="off"), AgentParts(journal=desk.records))
    session = record_name("session", "p", "agent", "s")
    await made.of(Asker(project="p", session="s")).respond(ask("What is the secret?"))
    assert len(desk.records.read(session)) == 2
    for _ in range(2):  # erased again, too: the words may have come back in between
        erasing[:] = ["d1"]
        await made.of(Asker(project="p", session="s")).respond(ask("And now?"))
        assert desk.records.read(session) == [] and b"violet" not in desk.held()
    again = AgentEngine(scripted(*calls), [query], AgentConfig(guard="off"), AgentParts(journal=desk.records))
    with pytest.raises(Conflict, match="erased"):
        await again.of(Asker(project="p", run="r")).respond(ask("What is the secret?"))
    assert b"violet" not in desk.held()


async def test_an_asker_forgets_their_own(scripted: Any, ask: Any, desk: Desk) -> None:
    made = agent(scripted("A.", "B."), desk.records)
    for project in ("p", "q"):
        await made.of(Asker(project=project, session="s")).respond(ask("Hi."))
    asked = made.of(Asker(project="p", session="s"))
    assert isinstance(asked, Remembering) and asked.forget() == 2 and asked.forget() == 0
    assert desk.records.read(record_name("session", "q", "agent", "s"))
    with made.alone(record_name("run", "p", "agent", "r")), pytest.raises(Conflict):
        made.of(Asker(project="p", run="r")).forget()


def test_records_of_before_there_was_a_retention_go_with_any_erasure(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "records.sqlite") as old:
        old.execute("CREATE TABLE records (name TEXT, number INTEGER, body TEXT, PRIMARY KEY (name, number))")
        old.execute("INSERT INTO records VALUES ('r', 0, '{}')")
    old.close()
    desk = Desk(tmp_path / "records.sqlite")
    assert desk.records.read("r") == [{}] and desk.records.erase(["d9"]) == 1
    desk.records.close()
