"""Examples run: Python blocks in the documents, doctests in the source, and the verbs that shell blocks show."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
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


GATEWAY = """
import sys
from pathlib import Path

from bessemer.infer import EchoConfig, open_engine
from bessemer.core.errors import NotFound
from bessemer.meter import MeterConfig, open_ledger, open_meter
from bessemer.serve import (
    GatewayConfig, GatewayParts, JobsConfig, WebhookStore, create_app, open_accounts, open_work, run_gateway
)
from bessemer.products.booked import BookedUsage

home = Path(sys.argv[1])
accounts = open_accounts(home / "keys.sqlite")
_, secret = accounts.keys.create("docs", admin=True)
config = GatewayConfig(port=0, private_webhooks=True)  # a public name may be unknown where the tests run
meter, ledger = open_meter(MeterConfig(), home), open_ledger(home)

def booked(request):
    ledger.sync()
    try:
        return ledger.entry(f"request:{request}")
    except NotFound:
        return None

work = open_work(home / "work", JobsConfig())
parts = GatewayParts(
    webhooks=WebhookStore(home / "webhooks.sqlite"),
    work=work,
    booked=booked,
    accounts=accounts,
    usage=BookedUsage(ledger, meter.price_history),
)
engines = {name: open_engine(EchoConfig()) for name in ("pydocs", "all-minilm-l6-v2")}
app = create_app(config, engines, accounts.keys, meter, parts)
run_gateway(app, config, lambda url: print(url, secret, flush=True))
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Give the URL and a key of a real gateway over the echo engine, for pages that say `needs: gateway`."""
    home = tmp_path_factory.mktemp("gateway")
    command = [sys.executable, "-c", GATEWAY, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url, key = process.stdout.readline().split()
        yield url, key
        process.terminate()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, {"python"})], ids=lambda page: page.name)
def test_python_in_a_page_runs_from_top_to_bottom(page, tmp_path, request) -> None:
    lines: list[str] = []
    for line, text in blocks(page, {"python"}):
        lines += [""] * (line - len(lines)) + text.splitlines()  # a traceback names the page's own lines
    script = "\n".join(lines)
    if "<!-- needs: gateway -->" in page.read_text(encoding="utf-8"):
        url, key = request.getfixturevalue("gateway")
        script = script.replace("http://127.0.0.1:8000", url).replace("bk-…", key)
    (tmp_path / "page.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "page.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


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
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in known]
    assert not unknown, f"{where}: {command.name} has no {unknown}"


def test_the_readme_leads_to_every_verb_and_every_page() -> None:
    from bessemer.cli.app import app

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = set(typer.main.get_command(app).commands)
    assert not {verb for verb in verbs if not re.search(rf"bessemer {verb}\b|`{verb}`", text)}
    pages = {
        path.relative_to(ROOT).as_posix() for path in PAGES if path.parent.name in ("tutorial", "howto", "explanation")
    }
    assert pages <= set(re.findall(r"\]\(([^)#]+)", text))


@pytest.mark.parametrize(
    ("page", "table", "bench"),
    [
        ("README.md", "gateway", "bench_gateway.py"),
        ("README.md", "ledger", "bench_ledger.py"),
        ("README.md", "recommender", "bench_recommend.py"),
        ("README.md", "agent", "bench_agents.py"),
        ("README.md", "synthetic", "bench_synthetic.py"),
        ("README.md", "planner", "bench_planner.py"),
        ("docs/explanation/planner.md", "peers", "bench_planner_peers.py"),
    ],
)
def test_a_table_is_that_of_the_newest_result(page: str, table: str, bench: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / bench), "--markdown"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = (ROOT / page).read_text("utf-8")
    shown = re.search(rf"<!-- {table}:start -->\n(.*?)<!-- {table}:end -->", text, re.DOTALL)
    assert shown and shown[1] == made
