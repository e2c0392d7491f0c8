"""Bad input gets one clear error that says what to do, a non-zero exit status, and leaves nothing behind."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bessemer.meter import Journal
from bessemer.meter.journal import segments

from .calling import call, refused, surroundings

GOOD = "name: mine\nsize: tiny\nsources:\n  - {kind: folder, path: docs}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "factory.yaml").write_text(GOOD)
    return tmp_path


def test_a_missing_factory(tmp_path: Path) -> None:
    refused(call(tmp_path, "run", "none.yaml"), "none.yaml", "bessemer init")


def test_a_missing_source(folder: Path) -> None:
    refused(call(folder, "run", "factory.yaml"), "docs")


def test_an_empty_folder(folder: Path) -> None:
    (folder / "docs").mkdir()
    refused(call(folder, "run", "factory.yaml"), "docs")


def test_a_folder_with_nothing_to_learn_from(folder: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "only.bin").write_bytes(bytes(range(256)) * 64)
    refused(call(folder, "run", "factory.yaml"), "binary")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "prodct: {}\n", ("line 5", "did you mean 'product'")),
        (GOOD + "product: [\n", ("not valid YAML", "line")),
    ],
)
def test_a_malformed_factory(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    (tmp_path / "factory.yaml").write_text(text)
    refused(call(tmp_path, "run", "factory.yaml"), *words)


def test_an_unknown_base_model(folder: Path) -> None:
    (folder / "docs").mkdir()
    for name in ("harbour", "orchard", "foundry", "library", "quarry", "bakery", "dairy", "tannery"):
        said = (
            f"A {name} is a place where people work from early morning. The oldest {name} in this valley was built of"
        )
        (folder / "docs" / f"{name}.md").write_text(
            f"# The {name}\n\n{said} oak and limestone. It stands to this day.\n"
        )
    (folder / "factory.yaml").write_text(GOOD + "product: {kind: llm, base: no/such-model}\n")
    refused(call(folder, "run", "factory.yaml"), "no/such-model")


def test_an_unknown_verb_or_option(tmp_path: Path) -> None:
    assert call(tmp_path, "rnu").returncode == 2
    assert call(tmp_path, "run", "--no-such").returncode == 2


def test_chat_without_a_gateway(tmp_path: Path) -> None:
    refused(call(tmp_path, "chat", "-m", "hello"), "no gateway runs", "bessemer up")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    for words in (("-m", "hello"), ()):
        done = call(tmp_path, "chat", "--url", url, *words, COLUMNS="200")
        refused(done, f"no gateway answers at {url}", "bessemer up", "--url")
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(call(tmp_path, "status", BESSEMER_HOME=str(tmp_path / "file")), "BESSEMER_HOME")


def test_an_error_is_one_json_value_when_asked(tmp_path: Path) -> None:
    """In a process of its own, as a script would call it."""
    command = [sys.executable, "-m", "bessemer.cli", "run", "none.yaml", "--json"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=surroundings(tmp_path), check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "not_found"
    assert error["hint"]


def test_init_does_not_write_over_a_factory(folder: Path) -> None:
    refused(call(folder, "init", "."), "exists already")
    assert (folder / "factory.yaml").read_text() == GOOD


def test_a_key_for_no_project(tmp_path: Path) -> None:
    refused(call(tmp_path, "keys", "create", "--project", ""), "project")


@pytest.mark.parametrize("text", ["name: {{ project }}\n", "name: x\nsources: &a [*a]\n", "? [a, b]\n: c\n"])
def test_odd_yaml_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "factory.yaml").write_text(text)
    refused(call(tmp_path, "run", "factory.yaml"), "factory.yaml")


def test_names_with_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    made = call(tmp_path, "keys", "create", "--project", "[/x] list[int]")
    assert made.returncode == 0, made.stderr
    assert "[/x] list[int]" in made.stdout
    listed = call(tmp_path, "keys", "list", COLUMNS="200")
    assert "[/x] list[int]" in listed.stdout


def test_damaged_books_show_before_the_work(folder: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "one.md").write_text("# One\n\nA document that says enough to be read by anybody at all.\n")
    journal = folder / "state" / "books" / "journal"
    with closing(Journal(journal)) as books:
        books.append({"n": 1234})
    (segment,) = segments(journal)
    segment.write_bytes(segment.read_bytes().replace(b"1234", b"1235"))
    refused(call(folder, "run", "factory.yaml"), "damaged")
    assert not (folder / "state" / "flow.sqlite").exists()


def test_a_damaged_ledger_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state" / "books").mkdir(parents=True)
    (tmp_path / "state" / "books" / "ledger.sqlite").write_bytes(b"no database at all, but long enough" * 100)
    refused(call(tmp_path, "usage"), "ledger.sqlite")
