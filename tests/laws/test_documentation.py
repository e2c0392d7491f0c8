"""Examples run: Python blocks in the documents, doctests in the source, and the verbs that shell blocks show."""

from __future__ import annotations

import doctest
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = {"console", "sh", "bash", "shell"}


def blocks(page: Path, kinds: set[str]) -> list[tuple[int, str]]:
    """Return (line, text) of each fenced block of some kinds."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [
        (text[: match.start()].count("\n") + 1, re.sub(f"(?m)^{match[1]}", "", match[3]))
        for match in found
        if match[2] in kinds
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, {"python"})], ids=lambda page: page.name)
def test_python_in_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__example__"}
    for line, text in blocks(page, {"python"}):
        code = compile("\n" * line + text, str(page), "exec")  # so that a traceback shows the page's own lines
        exec(code, names)


MODULES = [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    for path in sorted((ROOT / "src").rglob("*.py"))
    if re.search(r"(?m)^\s*>>> ", path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("module", MODULES)
def test_doctests(module) -> None:
    result = doctest.testmod(import_module(module.removesuffix(".__init__")), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def commands() -> list[tuple[str, list[str]]]:
    """Return (where, words) for each `bessemer …` line of a shell block."""
    found = []
    for page in PAGES:
        for line, text in blocks(page, SHELL):
            for command in re.split(r"\n|&&|;|\|", text.replace("\\\n", " ")):
                words = re.sub(r"^\s*\$?\s*(?:uv run(?: --\S+)* )?", "", command.split(" #")[0])
                if words.startswith("bessemer "):
                    found.append((f"{page.name}:{line}", shlex.split(words)[1:]))
    return found


@pytest.mark.parametrize(("where", "words"), commands())
def test_verbs_that_pages_show_exist(where, words) -> None:
    from bessemer.cli.app import app

    command = typer.main.get_command(app)
    context = command.make_context("bessemer", [], resilient_parsing=True)
    while words and hasattr(command, "get_command") and not words[0].startswith("-"):
        below = command.get_command(context, words[0])
        assert below, f"{where}: there is no verb '{words[0]}'"
        command, words = below, words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in known]
    assert not unknown, f"{where}: {command.name} has no {unknown}"


def test_the_readme_shows_verbs_and_every_page_is_read() -> None:
    assert any(where.startswith("README") for where, _ in commands()), "the README shows how it is used"
