"""Writers in an object store, where no lock makes them take turns: Lance's own store over local files stands for it.

``file-object-store://`` goes through the code for object stores (listing, conditional puts); this room sees no path
and takes no lock.
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bessemer.core.errors import BackendError, ConfigError, Conflict
from bessemer.lake import open_lake
from bessemer.lake.commits import Mode, write_version
from bessemer.lake.document import make_document
from bessemer.lake.places import find_place
from bessemer.lake.tables import LanceLake

from .test_erase import CANARY, files_with, fill
from .test_writers import start


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file-object-store://{tmp_path}"


def write(url: str, number: int, finish: Any, *, mode: Mode = "overwrite", tag: str = "") -> int:
    rows = [{"n": number}]
    return write_version(find_place(url, None), "t", rows, schema=None, mode=mode, tag=tag, finish=finish)


def nothing(dataset: Any) -> None:
    pass


def index(dataset: Any) -> None:
    dataset.create_scalar_index("n", "BTREE")


def test_it_takes_no_lock(url: str) -> None:
    assert find_place(url, None).local is None
    assert "exactly-once-tags" not in open_lake(url).capabilities


def test_two_processes_that_race_tag_what_they_wrote(url: str, tmp_path: Path) -> None:
    writers = [start("overwrite_under_tags", url, who) for who in (1, 2)]
    assert [(writer.communicate(), writer.returncode)[1] for writer in writers] == [0, 0]
    lake = open_lake(url)
    assert lake.list() == ["docs", "twins"]
    tags = {tag: version.version for version in lake.history("docs") for tag in version.tags}
    assert sorted(tags) == sorted(f"{who}-{number}" for who in (1, 2) for number in range(8))
    assert len(set(tags.values())) == 16
    for tag in tags:
        assert {d.source for d in lake.get_documents("docs", version=tag)} == {tag}
    assert {tag for version in lake.history("twins") for tag in version.tags} == {str(n) for n in range(8)}


def test_two_processes_that_append_lose_nothing_and_double_nothing(url: str) -> None:
    writers = [start("append", url, who) for who in (1, 2)]
    assert [(writer.communicate(), writer.returncode)[1] for writer in writers] == [0, 0]
    lake = open_lake(url)
    rows = sorted((row["who"], row["n"]) for row in lake.get("t"))
    assert rows == sorted((who, number) for who in (1, 2) for number in range(20))
    assert lake.get("shared") == lake.get("shared", version="once") == [{"n": 1}]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_version_that_comes_in_between_is_neither_tagged_nor_removed(url: str, mode: Mode) -> None:
    lake = open_lake(url)
    lake.put("t", [{"n": 0}])

    def meanwhile(dataset: Any) -> None:
        theirs.append(write(url, 2, nothing, mode=mode))
        index(dataset)  # a conflict after an overwrite; on top of their rows after an append

    theirs: list[int] = []
    before = [{"n": 0}] if mode == "append" else []
    ours = write(url, 1, meanwhile, mode=mode, tag="ours")
    assert lake.get("t", version="ours") == lake.get("t", version=ours) == [*before, {"n": 1}]
    assert lake.get("t", version=theirs[0])[-1] == {"n": 2}


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_twins_of_one_tag_are_one_version(url: str, mode: Mode) -> None:
    """The second commits between the look for the tag and the first one's commit, as only a race can."""
    lake = open_lake(url)
    lake.put("t", [{"n": 0}])
    place, twins = find_place(url, None), list[int]()

    def rows() -> Any:
        twins.append(write(url, 1, index, mode=mode, tag="once"))
        lake.open("t").tags.delete("once")  # it has committed and is not at its tag yet
        yield {"n": 1}

    ours = write_version(place, "t", rows(), schema=None, mode=mode, tag="once", finish=index)
    before = [{"n": 0}] if mode == "append" else []
    assert lake.get("t") == lake.get("t", version="once") == lake.get("t", version=ours) == [*before, {"n": 1}]
    assert lake.get("t", version=twins[0]) == [*before, {"n": 1}]
    assert write(url, 1, index, mode=mode, tag="once") == ours


def test_later_twin_withdraws_its_rows(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = open_lake(url)
    lake.put("t", [{"n": 0}])
    first = write(url, 1, nothing, mode="append", tag="once")
    lake.open("t").tags.delete("once")
    with monkeypatch.context() as patched:
        patched.setattr("bessemer.lake.commits._finished", lambda *_: None)  # it looked before the first committed
        assert write(url, 1, nothing, mode="append", tag="once") == first
    assert lake.get("t") == lake.get("t", version="once") == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_table_that_another_writer_makes_first(url: str, mode: Mode) -> None:
    lake = open_lake(url)

    def rows() -> Any:
        yield {"n": 1}
        write(url, 2, nothing)

    assert lake.put("t", rows(), mode=mode) == 2
    assert lake.get("t") == ([{"n": 2}] if mode == "append" else []) + [{"n": 1}]

    def others() -> Any:
        yield {"n": 1}
        lake.put("u", [{"other": "columns"}])

    if mode == "append":
        with pytest.raises(Conflict, match="other columns"):
            lake.put("u", others(), mode=mode)


def test_what_is_erased_is_gone_and_a_living_writer_keeps_its_files(url: str, tmp_path: Path) -> None:
    lake: LanceLake = open_lake(url)
    secret = fill(lake)
    assert files_with(tmp_path, CANARY)

    def rows() -> Any:
        yield {"id": "a"}
        assert len(lake.erase([secret, "twin"])) == 1

    lake.put("other", [{"id": "z"}])
    assert lake.put("other", rows(), mode="append") == 2
    assert lake.get("other") == [{"id": "z"}, {"id": "a"}]
    assert files_with(tmp_path, CANARY) == []
    assert lake.search_documents("docs", "document number 7", 1, version="newest")[0].title == "d7"


def test_a_version_without_an_index_is_searched(url: str) -> None:
    lake = open_lake(url)
    documents = [make_document("s", f"document number {n} about bees", title=f"d{n}", group="g") for n in range(9)]

    def meanwhile(dataset: Any) -> None:
        raise Conflict("another writer was faster")

    from bessemer.lake.rows import DOCUMENT_SCHEMA, document_row

    rows = [document_row(document) for document in documents]
    place = find_place(url, None)
    write_version(place, "docs", rows, schema=DOCUMENT_SCHEMA, mode="overwrite", tag="bare", finish=meanwhile)
    assert lake.search_documents("docs", "document number 7", 1, version="bare") == [documents[7]]


@pytest.mark.parametrize("bad", ["s3:/bucket/x", "s3://", "s3:///", "s3://bad bucket/x", "ftp://host/x", "az://box?x"])
def test_a_bad_url_is_one_clear_error(bad: str) -> None:
    with pytest.raises(ConfigError, match="the lake '") as caught:
        open_lake(bad)
    assert "s3://bucket/folder" in caught.value.hint


class _NoBucket(BaseHTTPRequestHandler):
    """Answers as S3 does where there is no such bucket."""

    def do_GET(self) -> None:
        body = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_bucket_that_is_not_there_and_a_store_that_does_not_answer() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NoBucket)
    Thread(target=server.serve_forever, daemon=True).start()
    keys = {"aws_region": "x", "allow_http": "true", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    options = {**keys, "aws_endpoint": f"http://127.0.0.1:{server.server_port}", "client_max_retries": "0"}
    lake = open_lake("s3://none/lake", options)
    for call in (lake.list, lambda: lake.put("t", [{"n": 1}]), lambda: lake.erase(["a"])):
        with pytest.raises(ConfigError, match="NoSuchBucket") as missing:
            call()
        assert "no such bucket" in missing.value.hint
    server.shutdown()
    server.server_close()
    with pytest.raises(BackendError) as caught:
        lake.list()
    assert "AWS_ENDPOINT" in caught.value.hint
