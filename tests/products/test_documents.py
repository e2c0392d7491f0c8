"""Documents of a home: an erasure that was killed is finished by the same words, and looking leaves nothing behind."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bessemer.core.digest import digest
from bessemer.core.errors import IntegrityError, NotFound
from bessemer.core.nouns import Document
from bessemer.infer.agents.records import open_records, record_name
from bessemer.lake import curate, open_lake
from bessemer.lake.document import make_document
from bessemer.products import documents
from bessemer.products.home import AGENT_RECORDS, Home


def filled(folder: Path) -> tuple[Home, str]:
    home = Home(folder / "state")
    made = [Document(id=digest(n), source="s", title=n, text=f"the text of {n}", group="g") for n in ("one", "two")]
    lake = open_lake(home.lake_url)
    lake.put_documents("m.documents", made)
    lake.put("m.examples", [{"id": "e", "document_ids": [made[1].id, made[0].id]}, {"id": "f", "document_ids": ["x"]}])
    return home, made[0].id


def test_a_document_goes_from_every_table_that_quotes_it(tmp_path: Path) -> None:
    home, name = filled(tmp_path)
    assert documents.erase_documents(home, [name[:8]]) == {"m.documents": 1, "m.examples": 1}
    assert [row["id"] for row in open_lake(home.lake_url).get("m.examples")] == ["f"]


def test_what_agents_keep_of_a_document_goes_with_it_and_of_a_project_when_asked(tmp_path: Path) -> None:
    home, name = filled(tmp_path)
    folder = home.product("clerk")
    folder.mkdir(parents=True)
    with closing(open_records(f"sqlite:///{folder / AGENT_RECORDS}")) as records:
        for run, quotes in (("quoting", {name}), ("other", {"x"})):
            records.append(record_name("run", "p", "clerk", run), 0, {"text": run}, quotes)
        assert documents.erase_documents(home, [name[:8]])["sessions and runs of clerk"] == 1
        assert records.read(record_name("run", "p", "clerk", "other"))
        assert documents.erase_project(home, "q") == {}
        assert documents.erase_project(home, "p") == {"sessions and runs of clerk": 1}


def test_an_erasure_that_was_killed_is_finished_by_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, name = filled(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(documents, "_erase_from_receipts", killed)
        documents.erase_documents(home, [name[:8]])
    reached: list[object] = []
    monkeypatch.setattr(documents, "_erase_from_receipts", lambda home, ids: reached.append(ids))
    assert documents.erase_documents(home, [name[:8]]) == {}
    assert reached == [{name}]
    with pytest.raises(NotFound, match="no document's id begins with '00000000'"):
        documents.erase_documents(home, ["00000000"])


def test_tables_and_receipts_of_an_earlier_version_are_not_passed_over(tmp_path: Path) -> None:
    home, name = filled(tmp_path)
    open_lake(home.lake_url).put("m.answers", [{"id": "a", "document_id": name}, {"id": "b", "document_id": "x"}])
    (home.receipt("old")).mkdir(parents=True)
    (home.receipt("old") / "receipt.json").write_text("{}")
    with pytest.raises(IntegrityError, match="but in receipts that cannot be read: old"):
        documents.erase_documents(home, [name])
    assert [row["id"] for row in open_lake(home.lake_url).get("m.answers")] == ["b"]


def test_what_was_erased_does_not_stand_in_the_way_of_what_is_listed(tmp_path: Path) -> None:
    home, name = filled(tmp_path)
    home.erase([f"{name[:8]}{'0' * 56}"])
    assert documents.erase_documents(home, [name[:8]])["m.documents"] == 1


def test_documents_with_the_same_text_are_named(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    texts = {
        "a": "the same text, at some length of its own",
        "b": "the same text, at some length of its own",
        "c": "another text that is as long as the other",
    }
    made = [make_document(name, text, title=name, group=name) for name, text in texts.items()]
    open_lake(home.lake_url).put_documents("m.curated", curate(made))
    first, twin, other = made
    assert [line.id for line in documents.same_text(home, [first.id[:9]])] == [twin.id]
    assert [line.id for line in documents.same_text(home, [twin.id])] == [first.id]
    assert documents.same_text(home, [first.id, twin.id]) == []
    assert documents.same_text(home, [other.id]) == []


def test_looking_for_documents_makes_no_home(tmp_path: Path) -> None:
    home = Home(tmp_path / "none", make=False)
    with pytest.raises(NotFound):
        documents.list_documents(home, None, dropped=False, reason=None, limit=1)
    with pytest.raises(NotFound):
        documents.erase_documents(home, ["3f9c"])
    assert documents.compact_lake(home) == {}
    assert list(tmp_path.iterdir()) == []
