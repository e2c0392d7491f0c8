"""The folder source: real files of every kind, and every way in which a file can be no good."""

import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Document
from bessemer.lake import FolderSource, SourceConfig, fingerprint, read_source

MARKDOWN = """---
title: The bee book
tags: [insects, honey]
---
<!-- a comment -->
# Bees
[![badge](https://x/y.svg)](https://x) Bees [hum](https://x/hum).

```python
# not a heading
honey = 1
```

## Food

Nectar and pollen.
"""

HTML = b"""<!doctype html><html><head><title>Site - Bees</title><style>p{color:red}</style></head><body>
<nav><a href=/>Home</a></nav><script>var secret = 1;</script>
<main><h1>Bees</h1><p>They   hum <b>loudly</b>.</p><h2>Food<a>\xc2\xb6</a></h2><ul><li>Nectar</li><li>Pollen</li></ul>
<pre>honey = 1
    indented</pre><table><tr><th>a</th><td>b</td></tr></table></main><footer>Imprint</footer></body></html>"""

RST = """Bees
====

They hum. See :func:`bees.hum` and |missing|.

.. include:: /etc/passwd

.. raw:: html

   <script>alert(1)</script>

Food
----

* Nectar
* Pollen

Example::

    honey = 1
"""


def read(folder: Path, **fields: object) -> list[Document]:
    return list(read_source(FolderSource(path=str(folder), **fields), Path("/nowhere")))  # type: ignore[arg-type]


def test_markdown(tmp_path: Path) -> None:
    (tmp_path / "bees.md").write_text(MARKDOWN)
    bees, food = read(tmp_path)
    assert bees.title == "The bee book: Bees"
    assert bees.meta == bees.meta | {
        "tags": "insects, honey",
        "heading": "Bees",
        "document": "The bee book",
        "part": "1/2",
    }
    assert bees.text == "Bees hum.\n\n```python\n# not a heading\nhoney = 1\n```"
    assert (food.meta["heading"], food.text) == ("Bees > Food", "Nectar and pollen.")
    assert bees.media_type == "text/markdown"
    assert bees.group == food.group == "bees.md"


def test_html(tmp_path: Path) -> None:
    (tmp_path / "bees.html").write_bytes(HTML)
    bees, food = read(tmp_path)
    assert (bees.title, bees.text) == ("Bees", "They hum loudly.")
    assert (food.title, food.meta["heading"]) == ("Bees: Food", "Food")
    assert food.text == "- Nectar\n- Pollen\n\n```\nhoney = 1\n    indented\n```\n\na | b |"


def test_restructured_text_reaches_nothing_outside(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bees.rst").write_text(RST)
    bees, food = read(tmp_path)
    assert bees.title == "Bees"
    assert "They hum. See bees.hum" in bees.text
    assert "root:" not in bees.text and "script" not in bees.text
    assert food.text == "- Nectar\n- Pollen\n\nExample:\n\n```\nhoney = 1\n```"
    assert capfd.readouterr() == ("", "")


def test_json_lines(tmp_path: Path) -> None:
    lines = ['{"body": "Bees hum.", "title": "Bees", "stars": 5}', "", "{broken", '["no object"]', '{"body": ""}']
    (tmp_path / "data.jsonl").write_text("\n".join([*lines, '{"body": "Birds sing.", "group": "birds"}']))
    bees, broken, listed, empty, birds = read(tmp_path, text_field="body")
    assert (bees.title, bees.text, bees.meta["stars"], bees.meta["line"]) == ("Bees", "Bees hum.", "5", "1")
    assert bees.group == "data.jsonl#1" and birds.group == "birds"
    assert [d.dropped.partition(":")[0] for d in (broken, listed, empty)] == ["bad_line", "bad_line", "no_text"]
    assert "line 3" in broken.dropped and "line 4" in listed.dropped and "'body'" in empty.dropped
    assert broken.source == "data.jsonl#3"


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["Bees hum.", None], "n": [1, 2]}), tmp_path / "a.parquet")
    bees, empty = read(tmp_path)
    assert (bees.text, bees.meta["n"], bees.group) == ("Bees hum.", "1", "a.parquet#1")
    assert empty.dropped.startswith("no_text: row 2")
    assert read(tmp_path, text_field="body")[0].dropped == "no_text: no column 'body' among text, n"


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    files = {
        "a.md": b"# Fine\n\nA text.",
        "binary.txt": b"abc\0def",
        "broken.parquet": b"PAR1 nothing",
        "empty.md": b"",
        "image.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "large.txt": b"x" * 2_000,
        "latin.txt": "caf\xe9".encode("latin-1"),
        "only-front.md": b"---\ntitle: x\n---\n",
        "program": os.urandom(64) + b"\0",
        "spaces.txt": b" \n ",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "dangling.md").symlink_to(tmp_path / "gone.md")
    reasons = {d.source: d.dropped for d in read(tmp_path, max_file_bytes=1_000)}
    assert {name: why.partition(":")[0] for name, why in reasons.items()} == {
        "a.md": "",
        "binary.txt": "binary",
        "broken.parquet": "malformed",
        "dangling.md": "unreadable",
        "empty.md": "empty",
        "image.png": "binary",
        "large.txt": "too_large",
        "latin.txt": "undecodable",
        "only-front.md": "empty",
        "program": "binary",
        "spaces.txt": "empty",
    }
    assert reasons["latin.txt"] == "undecodable: not utf-8 at byte 3"
    assert reasons["large.txt"] == "too_large: 2 kB, more than 1 kB"


def test_other_encodings_that_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("caf\xe9".encode("utf-16"))
    (tmp_path / "b.txt").write_bytes("caf\xe9".encode("utf-8-sig"))
    (tmp_path / "c.html").write_bytes("<meta charset=iso-8859-1><p>caf\xe9".encode("latin-1"))
    assert [d.text for d in read(tmp_path)] == ["caf\xe9"] * 3


def test_content_decides_where_the_name_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(HTML)
    (tmp_path / "notes").write_text("plain words")
    assert {d.source: d.media_type for d in read(tmp_path)} == {"notes": "text/plain", "page": "text/html"}


def test_globs_hidden_files_and_links(tmp_path: Path) -> None:
    for name in ("a.md", "b.txt", "sub/c.md", "sub/deep/d.md", ".hidden/e.md", ".f.md", "node_modules/g.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("words")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert [d.source for d in read(tmp_path)] == ["a.md", "b.txt", "sub/c.md", "sub/deep/d.md"]
    assert [d.source for d in read(tmp_path, include=("*.md",))] == ["a.md", "sub/c.md", "sub/deep/d.md"]
    assert [d.source for d in read(tmp_path, include=("sub/*",))] == ["sub/c.md"]
    assert [d.source for d in read(tmp_path, include=("sub/**/*.md",), exclude=("sub/deep",))] == ["sub/c.md"]
    assert [d.source for d in read(tmp_path / "sub" / "c.md")] == ["c.md"]


def test_links_that_lead_nowhere_are_named_and_nothing_waits_for_them(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "loop.md").symlink_to("loop.md")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "docs" / "pipe.md").symlink_to("../pipe")
    (tmp_path / "docs" / "zero.md").symlink_to("/dev/zero")
    (tmp_path / "docs" / "fine.md").write_text("fine\n")
    source = FolderSource(path="docs")
    assert fingerprint(source, tmp_path)
    why = {d.source: d.dropped for d in read_source(source, tmp_path)}
    assert why.pop("docs/loop.md").startswith("unreadable: Too many levels of symbolic links")
    assert why == {
        "docs/fine.md": "",
        "docs/pipe.md": "unreadable: no regular file",
        "docs/zero.md": "unreadable: no regular file",
    }


@pytest.mark.parametrize(
    ("glob", "matched"),
    [
        ("[ab].md", {"a.md", "b.md"}),
        ("[!ab].md", {"^.md", "].md"}),
        ("[^a].md", {"a.md", "^.md"}),
        ("[a-b]*", {"a.md", "b.md"}),
        ("[!]", set()),
    ],
)
def test_sets_of_characters_in_globs(tmp_path: Path, glob: str, matched: set[str]) -> None:
    for name in ("a.md", "b.md", "^.md", "].md"):
        (tmp_path / name).write_text("x\n")
    source = FolderSource(path=str(tmp_path), include=(glob, "keep"))
    (tmp_path / "keep").write_text("x\n")
    assert {Path(d.source).name for d in read_source(source, tmp_path)} == {*matched, "keep"}


def test_what_is_no_glob_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"'\[z-a\]\*' is no glob: bad character range z-a"):
        FolderSource(exclude=("fine", "[z-a]*"))


def test_paths_start_from_the_declaration(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("words")
    (document,) = read_source(FolderSource(path="docs"), tmp_path)
    assert (document.source, document.group) == ("docs/a.md", "docs/a.md")


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    with pytest.raises(NotFound) as missing:
        read_source(FolderSource(path="doc"), tmp_path)
    assert "'docs'" in missing.value.hint
    with pytest.raises(ConfigError) as empty:
        read_source(FolderSource(path="docs", include=("*.md",)), tmp_path)
    assert "*.md" in str(empty.value) and "include" in empty.value.hint
    with pytest.raises(NotFound):
        fingerprint(FolderSource(path="doc"), tmp_path)


def test_the_declaration_is_a_union_on_kind() -> None:
    adapter = TypeAdapter[object](SourceConfig)
    assert adapter.validate_python({"kind": "folder", "path": "x"}) == FolderSource(path="x")
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "s3"})


def test_progress_and_order(tmp_path: Path) -> None:
    for name in random.Random(1).sample([f"{n:02}.txt" for n in range(20)], 20):
        (tmp_path / name).write_text(name)
    told: list[tuple[int, int]] = []
    sources = [
        d.source for d in read_source(FolderSource(path=str(tmp_path)), tmp_path, lambda d, t: told.append((d, t)))
    ]
    assert sources == sorted(sources)
    assert told == [(n, 20) for n in range(1, 21)]


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    source = FolderSource(path=str(tmp_path))
    (tmp_path / "a.md").write_text("one")
    first = fingerprint(source, tmp_path)
    assert fingerprint(source, tmp_path) == first
    os.utime(tmp_path / "a.md", ns=(1, 1))
    second = fingerprint(source, tmp_path)
    (tmp_path / "b.md").write_text("two")
    assert len({first, second, fingerprint(source, tmp_path)}) == 3
    (tmp_path / ".hidden").write_text("not read, not counted")
    (tmp_path / "b.md").unlink()
    assert fingerprint(source, tmp_path) == second


def test_ids_are_stable_and_distinct(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(MARKDOWN)
    first, second = read(tmp_path), read(tmp_path)
    assert first == second
    assert len({d.id for d in first}) == len(first)
    assert all(len(d.id) == 64 for d in first)
