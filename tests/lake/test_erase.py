"""Erasure removes the bytes: every file on disk is searched for what was erased."""

from pathlib import Path

import pyarrow as pa
import pytest
from lance.dataset import DatasetOptimizer, LanceDataset, Tags
from lance.fragment import write_fragments

from bessemer.lake import erasure, open_lake
from bessemer.lake.document import make_document
from bessemer.lake.erasure import Erased
from bessemer.lake.tables import LanceLake

CANARY = "zqxcanary7731jw"


def files_with(root: Path, needle: str) -> list[str]:
    return [
        str(p.relative_to(root)) for p in sorted(root.rglob("*")) if p.is_file() and needle.encode() in p.read_bytes()
    ]


def fill(lake: LanceLake) -> str:
    """Return the id of a document whose text, title and terms hold the canary, in two versions of one table."""
    secret = make_document("s", f"My secret is {CANARY}.", title=f"{CANARY}.title", group="g")
    others = [make_document("s", f"document number {n} about bees", title=f"d{n}", group="g") for n in range(50)]
    lake.put_documents("docs", [*others[:10], secret], tag="old")
    lake.put_documents("docs", [*others, secret], tag="now")
    lake.put_documents("docs", [secret.model_copy(update={"id": "twin"})], mode="append", tag="newest")
    return secret.id


def test_no_byte_of_an_erased_row_is_left(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    secret = fill(lake)
    before = files_with(tmp_path, CANARY)
    assert any("/data/" in name for name in before), "the canary must be visible to this test"
    indices = {p.name for p in tmp_path.glob("docs.lance/_indices/*")}
    data = {p.name for p in tmp_path.glob("docs.lance/data/*")}
    assert indices and data
    assert files_with(tmp_path, secret)
    (done,) = lake.erase([secret, "twin"])
    assert isinstance(done, Erased)
    assert (done.table, done.rows, done.lost_tags) == ("docs", 2, ("now", "old"))
    assert done.freed_bytes > 0
    assert files_with(tmp_path, CANARY) == []
    assert files_with(tmp_path, secret) == []
    assert files_with(tmp_path, "twin") == []
    # Lance compresses the terms of an index and long texts: that no old file is left says more than the search.
    assert not indices & {p.name for p in tmp_path.glob("docs.lance/_indices/*")}
    assert not data & {p.name for p in tmp_path.glob("docs.lance/data/*")}


def test_what_was_not_erased_stays(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    secret = fill(lake)
    others = [d for d in lake.get_documents("docs") if d.id not in (secret, "twin")]
    lake.erase([secret, "twin"])
    assert list(lake.get_documents("docs", version="newest")) == others
    assert [(v.rows, v.tags) for v in lake.history("docs")] == [(50, ("newest",))]
    assert lake.search_documents("docs", "document number 7", 1)[0].title == "d7"
    assert lake.search("docs", CANARY) == []


def test_all_rows_can_be_erased_and_their_ids_with_them(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("people", [{"id": CANARY, "age": 3}])
    lake.erase([CANARY])
    assert files_with(tmp_path, CANARY) == []
    assert lake.get("people") == []


def test_only_an_old_version_held_the_row(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"id": CANARY}, {"id": "b"}], tag="with")
    lake.put("t", [{"id": "b"}])
    (done,) = lake.erase([CANARY])
    assert (done.rows, done.lost_tags) == (0, ("with",))
    assert files_with(tmp_path, CANARY) == []
    assert lake.get("t") == [{"id": "b"}]


def test_other_tables_by_column_and_those_without_it(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("examples", [{"document_id": CANARY, "n": 1}, {"document_id": "b", "n": 2}])
    lake.put("counts", [{"n": 1}], tag="kept")
    assert [done.table for done in lake.erase([CANARY], column="document_id")] == ["examples"]
    assert lake.get("examples") == [{"document_id": "b", "n": 2}]
    assert lake.history("counts")[0].tags == ("kept",)
    assert files_with(tmp_path, CANARY) == []


def test_by_any_value_of_a_list(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    rows = [{"document_ids": ["a", CANARY], "n": 1}, {"document_ids": ["b", "it's"], "n": 2}]
    lake.put("examples", [*rows, {"document_ids": ["b"], "n": 3}], tag="kept")
    assert files_with(tmp_path, CANARY), "this test would find nothing to erase"
    (done,) = lake.erase([CANARY, "it's"], column="document_ids")
    assert (done.rows, done.lost_tags) == (2, ())
    assert lake.get("examples", version="kept") == [{"document_ids": ["b"], "n": 3}]
    assert files_with(tmp_path, CANARY) == []


def test_a_column_that_is_gone_in_the_latest_version(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"id": CANARY}])
    lake.put("t", [{"n": 1}])
    assert len(lake.erase([CANARY])) == 1
    assert files_with(tmp_path, CANARY) == []
    assert lake.get("t") == [{"n": 1}]


def test_ids_that_look_like_sql_and_numbers(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"id": "it's"}, {"id": "') OR ('1' = '1"}, {"id": "c"}])
    lake.erase(["it's", "') OR ('1' = '1"])
    assert lake.get("t") == [{"id": "c"}]
    lake.put("n", [{"id": 1}, {"id": 2}])
    lake.erase(["2"])
    assert lake.get("n") == [{"id": 1}]


def test_one_row_of_many_in_one_file(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", ({"id": f"row{n}", "text": CANARY if n == 2_500 else "bee"} for n in range(5_000)))
    assert files_with(tmp_path, CANARY)
    (done,) = lake.erase(["row2500"])
    assert done.rows == 1
    assert files_with(tmp_path, CANARY) == []
    assert len(lake.get("t")) == 4_999


def test_unknown_ids_touch_nothing(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    fill(lake)
    before = lake.history("docs")
    assert lake.erase(["nobody"]) == []
    assert lake.erase([]) == []
    assert lake.history("docs") == before


def test_what_a_dead_writer_left_is_erased_too(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"id": "a"}])

    for table, mode in (("t", "append"), ("unborn", "create")):
        write_fragments(pa.table({"id": [CANARY]}), f"{tmp_path}/{table}.lance", mode=mode)  # and no commit
    assert len(files_with(tmp_path, CANARY)) == 2
    assert lake.list() == ["t"]
    lake.erase([CANARY])
    assert files_with(tmp_path, CANARY) == []
    assert lake.get("t") == [{"id": "a"}]


@pytest.mark.parametrize("version", [None, "now"])
def test_erasing_twice_is_erasing_once(tmp_path: Path, version: str | None) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"id": "a"}, {"id": "b"}], tag="now")
    lake.erase(["a"])
    assert lake.erase(["a"]) == []
    assert lake.get("t", version=version) == [{"id": "b"}]


STAGES = (
    (LanceDataset, "delete"),
    (LanceDataset, "drop_index"),
    (DatasetOptimizer, "compact_files"),
    (erasure, "index_columns"),
    (erasure, "note_erasure"),
    (Tags, "update"),
    (Tags, "delete"),
    (LanceDataset, "cleanup_old_versions"),
)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "stage"), STAGES, ids=[stage for _, stage in STAGES])
def test_an_erasure_that_dies_at_any_stage_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, stage: str, done: bool
) -> None:
    lake = open_lake(str(tmp_path))
    secret = fill(lake)
    lake.tag("docs", "second", version="newest")
    whole = getattr(owner, stage)

    def dies(*args: object, **options: object) -> object:
        if stage == "cleanup_old_versions" and "retain_versions" not in options:
            return whole(*args, **options)  # the sweep before the work begins
        if done:
            whole(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, stage, dies)
        with pytest.raises(KeyboardInterrupt):
            lake.erase([secret, "twin"])
    assert {"newest", "second"} <= {tag for version in lake.history("docs") for tag in version.tags}
    open_lake(str(tmp_path)).erase([secret, "twin"])
    assert files_with(tmp_path, CANARY) == []
    assert files_with(tmp_path, secret) == []
    assert [(v.rows, v.tags) for v in lake.history("docs")] == [(50, ("newest", "second"))]
    assert lake.search_documents("docs", "document number 7", 1, version="newest")[0].title == "d7"
