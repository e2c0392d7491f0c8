"""The search finds the page that a question is about: by its name, else by its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.core.digest import digest
from bessemer.core.nouns import Document
from bessemer.lake import open_lake
from bessemer.lake.tables import LanceLake
from bessemer.products.home import Deployment
from bessemer.products.llm.config import RetrievalConfig
from bessemer.products.llm.serving import open_search

TEXTS = {
    "json.dumps": "Serialise an object to a string in JSON format.",
    "json.dump": "Serialise an object as a stream to a file.",
    "zlib.crc32": "Compute a checksum of some bytes.",
    "textwrap.dedent": "Remove common leading blanks from every line of a text.",
}


def deployed(folder: Path) -> tuple[str, Deployment]:
    documents = [
        Document(id=digest(name), source="lib", title=name, text=f"{name}(...)\n\n{text}", group="lib")
        for name, text in TEXTS.items()
    ]
    gone = documents[2].model_copy(update={"id": digest("gone"), "title": "zlib.gone", "dropped": "duplicate"})
    version = open_lake(str(folder)).put_documents("m.curated", [*documents, gone])
    return str(folder), Deployment(
        name="m", run="r", key="k", path="p", table="m.curated", table_version=version, deployed_at=0.0
    )


def test_a_name_in_the_question_wins(tmp_path: Path) -> None:
    search = open_search(*deployed(tmp_path), RetrievalConfig())
    assert search("How is json.dump(obj, fp) different?")[0].startswith("json.dump(")
    assert search("What does `json.dumps` return, a string or a file?")[0].startswith("json.dumps(")


def test_words_find_what_no_name_says(tmp_path: Path) -> None:
    search = open_search(*deployed(tmp_path), RetrievalConfig())
    assert search("How can I remove the leading blanks of a text?")[0].startswith("textwrap.dedent")
    assert search("checksum of bytes")[0].startswith("zlib.crc32")


def test_a_dropped_document_is_never_read(tmp_path: Path) -> None:
    search = open_search(*deployed(tmp_path), RetrievalConfig(passages=4))
    assert not any(text.startswith("zlib.gone") for text in search("What is zlib.gone?"))


def test_many_names_are_one_search_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = LanceLake.get_documents
    reads = []
    monkeypatch.setattr(LanceLake, "get_documents", lambda *a, **k: reads.append(k["where"]) or read(*a, **k))
    search = open_search(*deployed(tmp_path), RetrievalConfig(passages=2))
    found = search("Is zlib.crc32 or json.dumps like " + " ".join(f"a.b{n}" for n in range(500)))
    assert [text.partition("(")[0] for text in found] == ["zlib.crc32", "json.dumps"]
    (where,) = reads
    assert where.count("a.b") == 6


def test_a_quote_in_a_question_is_no_syntax(tmp_path: Path) -> None:
    search = open_search(*deployed(tmp_path), RetrievalConfig())
    search("What's json.dumps' '; DROP TABLE documents --")
