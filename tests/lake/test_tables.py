"""Tables: write, read back, versions, tags, near names, and rows that do not fit."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError, Conflict, NotFound, Unsupported
from bessemer.core.nouns import Document
from bessemer.core.protocols import Lake
from bessemer.lake import open_lake
from bessemer.lake.document import make_document


def doc(text: str, **fields: str) -> Document:
    return make_document(fields.pop("source", "a.txt"), text, title=fields.pop("title", "A"), group="g", **fields)  # type: ignore[arg-type]


def test_it_is_a_lake(tmp_path: Path) -> None:
    assert isinstance(open_lake(str(tmp_path)), Lake)


def test_versions_and_time_travel(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path / "lake"))
    first = lake.put("numbers", [{"n": 1}, {"n": 2}], tag="start")
    second = lake.put("numbers", [{"n": 3}], mode="append")
    third = lake.put("numbers", [{"n": 9, "why": "new column"}])
    assert first < second < third
    assert lake.get("numbers") == [{"n": 9, "why": "new column"}]
    assert lake.get("numbers", version=second) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert lake.get("numbers", version="start", where="n > 1") == [{"n": 2}]
    history = lake.history("numbers")
    assert [(v.version, v.rows, v.tags) for v in history] == [(first, 2, ("start",)), (second, 3, ()), (third, 1, ())]
    assert history[0].at <= history[1].at <= history[2].at
    assert lake.list() == ["numbers"]


def test_time_of_a_version_is_unix_time(tmp_path: Path) -> None:
    import time

    lake = open_lake(str(tmp_path))
    before = time.time()
    lake.put("t", [{"n": 1}])
    assert before - 2 <= lake.history("t")[0].at <= time.time() + 2


def test_a_tag_is_written_once(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    documents = [doc("one text about bees"), doc("another text about bees")]
    first = lake.put_documents("docs", documents, tag="step-1")
    again = lake.put_documents("docs", [doc("quite another content")], tag="step-1")
    assert again == first
    assert list(lake.get_documents("docs")) == documents
    assert [(v.version, v.tags) for v in lake.history("docs")] == [(first, ("step-1",))]
    appended = lake.put("rows", [{"n": 1}], mode="append", tag="a")
    assert lake.put("rows", [{"n": 1}], mode="append", tag="a") == appended
    assert lake.get("rows") == [{"n": 1}]


def test_an_old_tag_is_found_again_after_newer_versions(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    first = lake.put("t", [{"n": 1}], tag="a")
    lake.put("t", [{"n": 2}], tag="b")
    assert lake.put("t", [{"n": 1}], tag="a") == first
    assert lake.get("t") == [{"n": 2}]
    assert len(lake.history("t")) == 2


def test_tag_by_hand(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    first = lake.put("t", [{"n": 1}])
    second = lake.put("t", [{"n": 2}])
    assert lake.tag("t", "good", version=first) == first
    assert lake.tag("t", "good", version=first) == first
    assert lake.open("t", version="good").version == first
    with pytest.raises(Conflict):
        lake.tag("t", "good", version=second)


def test_unknown_names_name_near_ones(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    with pytest.raises(NotFound, match="no table 'curated'") as empty:
        lake.get("curated")
    assert "empty" in empty.value.hint
    version = lake.put("pydocs.curated", [{"n": 1}], tag="nightly")
    with pytest.raises(NotFound) as table:
        lake.get("pydocs.curate")
    assert "pydocs.curated" in table.value.hint
    with pytest.raises(NotFound) as number:
        lake.get("pydocs.curated", version=99)
    assert str(version) in number.value.hint
    with pytest.raises(NotFound) as tag:
        lake.get("pydocs.curated", version="nightli")
    assert "nightly" in tag.value.hint


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        open_lake(str(tmp_path)).put(name, [{"n": 1}])
    assert list(tmp_path.iterdir()) == []


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    with pytest.raises(ConfigError, match="no rows"):
        lake.put("t", [])
    with pytest.raises(ConfigError, match="'n'"):
        lake.put("t", [{"n": 1}, {"n": "one"}])
    lake.put("t", [{"n": 1}])
    with pytest.raises(ConfigError, match="'m'"):
        lake.put("t", [{"m": 1}], mode="append")
    with pytest.raises(ConfigError):
        lake.get("t", where="nope = 1")
    with pytest.raises(ConfigError):
        lake.get("t", where="n === 1")
    assert lake.get("t") == [{"n": 1}]


def test_a_missing_value_and_a_late_one(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"a": None, "b": [1, 2]}, {"a": None}])
    assert lake.get("t") == [{"a": None, "b": [1, 2]}, {"a": None, "b": None}]
    lake.put("t", [{"a": "text"}], mode="append")
    assert lake.get("t")[-1] == {"a": "text", "b": None}


def test_an_error_of_the_rows_reaches_the_caller_as_it_is(tmp_path: Path) -> None:
    def rows() -> "object":
        yield {"n": 1}
        raise ValueError("mine")

    lake = open_lake(str(tmp_path))
    with pytest.raises(ValueError, match="mine"):
        lake.put("t", rows())  # type: ignore[arg-type]
    assert lake.list() == []


def test_no_documents_make_an_empty_table(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put_documents("docs", [], tag="none")
    assert list(lake.get_documents("docs", version="none")) == []
    assert lake.search("docs", "anything") == []
    lake.put_documents("docs", [doc("the first one")], mode="append")
    assert [d.text for d in lake.get_documents("docs")] == ["the first one"]


def test_memory_is_refused_because_it_forgets() -> None:
    with pytest.raises(Unsupported):
        open_lake("memory://lake")


def test_an_object_store_url_goes_through_lance(tmp_path: Path) -> None:
    lake = open_lake(f"file-object-store://{tmp_path}", {"allow_http": "true"})
    version = lake.put_documents("docs", [doc("bees hum", title="Bees")], tag="one")
    assert lake.put_documents("docs", [doc("bees hum", title="Bees")], tag="one") == version
    assert lake.list() == ["docs"]
    assert [d.title for d in lake.search_documents("docs", "bee")] == ["Bees"]
    assert "exactly-once-tags" not in lake.capabilities


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts, texts, st.dictionaries(texts, texts, max_size=3)), max_size=8))
def test_documents_come_back_as_they_went_in(tmp_path: Path, parts: list[tuple[str, str, dict[str, str]]]) -> None:
    lake = open_lake(str(tmp_path / "lake"))
    documents = [make_document("s", text, title=title, group="g", meta=meta) for text, title, meta in parts]
    lake.put_documents("docs", documents)
    assert list(lake.get_documents("docs")) == documents


def test_lance_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lake = open_lake(str(tmp_path))
    for mode in ("overwrite", "append", "overwrite"):
        lake.put_documents("docs", [doc("a text about bees")], mode=mode)  # type: ignore[arg-type]
    lake.search("docs", "bees")
    lake.compact("docs", retain_versions=1)
    lake.erase([doc("a text about bees").id])
    assert capfd.readouterr() == ("", "")
