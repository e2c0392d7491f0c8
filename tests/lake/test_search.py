"""Full-text search: any text is a question, names are found as names, dropped documents never."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError, NotFound
from bessemer.lake import open_lake
from bessemer.lake.document import make_document
from bessemer.lake.tables import LanceLake
from bessemer.lake.terms import names, terms

TEXTS = {
    "json.dumps": "json.dumps(obj, *, indent=None)\n\nSerialize obj to a JSON formatted str.",
    "json.dump": "json.dump(obj, fp)\n\nSerialize obj as a JSON formatted stream to fp.",
    "json": "json\n\nJSON encoder and decoder. Use json.dumps or json.loads: json.dumps(x), json.dumps(y).",
    "os.path.join": "os.path.join(a, *p)\n\nJoin two or more pathname components.",
    "str.join": "str.join(iterable, /)\n\nConcatenate any number of strings.",
    "any": "any(iterable, /)\n\nReturn True if bool(x) is True for any x in the iterable.",
    "typing": "typing\n\nThe typing module: support for type hints.",
    "type": "type(object)\n\nReturn the type of an object.",
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> LanceLake:
    found = open_lake(str(tmp_path_factory.mktemp("lake")))
    documents = [make_document("s", text, title=title, group="g") for title, text in TEXTS.items()]
    documents.append(make_document("s", "zebra json.dumps", title="json.dumps.old", group="g", dropped="stub"))
    found.put_documents("docs", documents, tag="v")
    return found


@pytest.mark.parametrize("title", TEXTS)
def test_a_question_that_names_a_thing_finds_it_first(lake: LanceLake, title: str) -> None:
    for question in (f"What does {title} do?", f"How is `{title}` called?", TEXTS[title].partition("\n")[0]):
        assert lake.search("docs", question, 1)[0]["title"] == title


def test_a_question_in_words(lake: LanceLake) -> None:
    assert lake.search_documents("docs", "how do I concatenate strings?", 1)[0].title == "str.join"
    assert lake.search_documents("docs", "pathname component", 1, version="v")[0].title == "os.path.join"


@pytest.mark.parametrize(
    "query",
    [
        "json.dumps(obj, *, indent=None)",
        '"',
        "a AND (b OR",
        "-x +y ~2 ^3",
        "field:value",
        "\\",
        "'; DROP",
        "*",
        "the",
        "\0",
        "ä" * 5_000,
    ],
)
def test_punctuation_is_no_syntax(lake: LanceLake, query: str) -> None:
    assert isinstance(lake.search("docs", query), list)


@settings(max_examples=40, deadline=None)
@given(query=st.text(max_size=40))
def test_any_text_is_a_question(lake: LanceLake, query: str) -> None:
    assert len(lake.search("docs", query, 3)) <= 3


def test_scores_fall_and_rows_are_whole(lake: LanceLake) -> None:
    rows = lake.search("docs", "serialize json", 5)
    assert [row["_score"] for row in rows] == sorted((row["_score"] for row in rows), reverse=True)
    assert {"id", "title", "text", "meta", "_score"} <= set(rows[0])
    assert not any(name.startswith("search_") for name in rows[0])


def test_dropped_documents_are_not_found(lake: LanceLake) -> None:
    assert lake.search("docs", "zebra") == []
    assert [d.dropped for d in lake.get_documents("docs", where="dropped != ''")] == ["stub"]


def test_a_condition_and_a_column(lake: LanceLake) -> None:
    assert [r["title"] for r in lake.search("docs", "join", 5, where="title LIKE 'str%'")] == ["str.join"]
    assert lake.search("docs", "typing", 1, "title")[0]["title"] == "typing"
    with pytest.raises(NotFound, match="'nope'"):
        lake.search("docs", "x", column="nope")
    with pytest.raises(ConfigError):
        lake.search("docs", "x", where="nope = 1")


def test_plain_rows_are_searched_without_an_index_and_with_one(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("notes", [{"note": "bees hum"}, {"note": "birds sing"}])
    assert [r["note"] for r in lake.search("notes", "sing", column="note")] == ["birds sing"]
    version = lake.index("notes", "note")
    assert lake.history("notes")[-1].version == version
    assert [r["note"] for r in lake.search("notes", "singing", column="note")] == ["birds sing"]  # stemmed
    with pytest.raises(NotFound):
        lake.index("notes", "nope")


def test_appended_documents_are_found(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put_documents("docs", [make_document("s", "bees hum", title="a", group="g")])
    lake.put_documents("docs", [make_document("s", "whales sing", title="b", group="g")], mode="append")
    assert [d.title for d in lake.search_documents("docs", "whale")] == ["b"]
    lake.compact("docs")
    assert [d.title for d in lake.search_documents("docs", "whale")] == ["b"]


@given(st.text())
def test_terms_hold_every_name(text: str) -> None:
    assert set(names(text).split()) <= set(terms(text).split())
