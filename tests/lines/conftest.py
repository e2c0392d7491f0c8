"""One small factory over a folder of files, run once for all tests of the line, through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bessemer.products.receipt import Receipt
from tests.programs import program

THINGS = {
    "valve": ("a gate in a pipe", "turned by hand", "brass", "water and steam"),
    "ledger": ("a book of accounts", "written every evening", "paper", "debts and payments"),
    "lantern": ("a lamp with a handle", "lit at dusk", "glass", "light on the road"),
    "anvil": ("a block to forge on", "struck with a hammer", "iron", "shaping hot metal"),
    "sextant": ("an instrument for angles", "held to the eye", "bronze", "finding a ship's place"),
    "loom": ("a frame for weaving", "worked with both feet", "oak", "cloth and ribbons"),
    "kiln": ("an oven for clay", "heated for two days", "brick", "pots and tiles"),
    "bellows": ("a bag that blows air", "pressed with the arms", "leather", "feeding a fire"),
    "pulley": ("a wheel for a rope", "hung from a beam", "steel", "lifting heavy loads"),
    "chisel": ("a blade for carving", "driven with a mallet", "hardened steel", "joints and letters"),
    "funnel": ("a cone for pouring", "set on a bottle", "tin", "filling narrow necks"),
    "compass": ("a needle that shows north", "kept level", "ivory", "walking through fog"),
    "barrel": ("a round wooden vessel", "rolled on its side", "chestnut", "wine and salted fish"),
    "whistle": ("a small pipe for signals", "blown in short bursts", "silver", "calling dogs and crews"),
}
GATE = "    rules: [{kind: at_least, metric: token_f1, value: 0.0}]\n"


def declaration(gate: str = GATE, train: str = "") -> str:
    return (
        "name: tools\nsize: tiny\nsources:\n  - {kind: folder, path: documents}\n"
        f"product:\n  kind: llm\n  gate:\n{gate}{train}"
    )


def write_documents(folder: Path) -> None:
    folder.mkdir(parents=True)
    for index, (name, (what, how, of, use)) in enumerate(THINGS.items()):
        title = name.capitalize()
        said = (
            f"A {name} is {what}. It is {how}, and the best ones are made of {of}. "
            f"People have used a {name} for {use} since long before there were factories."
        )
        care = f"Keep a {name} dry and clean. Oil it in spring. A {name} made of {of} lasts longer than its owner."
        if index % 2:
            text = f"<html><head><title>{title}</title></head><body><nav>Home</nav><h1>{title}</h1><p>{said}</p>"
            text += f"<h2>Care of the {name}</h2><p>{care}</p></body></html>"
            (folder / f"{name}.html").write_text(text)
        else:
            (folder / f"{name}.md").write_text(f"# {title}\n\n{said}\n\n## Care of the {name}\n\n{care}\n")
    (folder / "photo.md").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)
    (folder / "copy.md").write_text((folder / "valve.md").read_text())


@dataclass(frozen=True)
class Line:
    """A home and a declaration, and the verbs over them."""

    home: Path
    factory: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "BESSEMER_HOME": str(self.home), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-W", "error::DeprecationWarning:bessemer", "-m", "bessemer.cli", *words]

    def call(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.factory.parent,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @contextmanager
    def up(
        self, end: int = signal.SIGTERM, environment: dict[str, str] | None = None, stderr: int = subprocess.DEVNULL
    ) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
        """Give what `bessemer up` runs within a block and what it said first; at the end it gets a signal."""
        command = self.command("up", str(self.factory), "--port", "0", "--json")
        environment = {**self.environment, **(environment or {})}
        with program(command, env=environment, cwd=self.factory.parent, stderr=stderr) as process:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            try:
                yield process, said
            finally:
                process.send_signal(end)
                process.wait(60)

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.call(*words, "--json", status=status).stdout)

    def run(self, status: int = 0) -> Receipt:
        return Receipt.model_validate(self.json("run", str(self.factory), status=status))

    def declare(self, name: str, **parts: str) -> Line:
        """Return the same home with another declaration over the same documents."""
        path = self.factory.with_name(f"{name}.yaml")
        path.write_text(declaration(**parts))
        return Line(self.home, path)


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp("tools")
    write_documents(folder / "documents")
    (folder / "factory.yaml").write_text(declaration())
    return Line(folder / "state", folder / "factory.yaml")


@pytest.fixture(scope="session")
def receipt(line: Line) -> Receipt:
    return line.run()


Ran = Callable[[Receipt], set[str]]


@pytest.fixture(scope="session")
def ran() -> Ran:
    """Give a function: the steps that a run did not find in the cache."""
    return lambda receipt: {stage.step for stage in receipt.stages if not stage.cached}
