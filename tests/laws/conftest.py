"""What the laws look at: the source as text and as trees, and the list of exceptions."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One module of the package."""

    module: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """`evals` of `bessemer.evals.gate`; empty for the package itself."""
        return self.module.partition(".")[2].partition(".")[0]

    def classes(self) -> Iterator[tuple[str, ast.ClassDef]]:
        """Yield (full name, class) for every class."""
        for name, node in self.named():
            if isinstance(node, ast.ClassDef):
                yield name, node

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Yield (full name, function) for every function and method."""
        for name, node in self.named():
            if isinstance(node, Function):
                yield name, node

    def named(self) -> Iterator[tuple[str, ast.AST]]:
        """Yield (full name, node) for every class and function, nested ones too."""
        todo: list[tuple[str, ast.AST]] = [(self.module, self.tree)]
        while todo:
            name, node = todo.pop()
            for child in ast.iter_child_nodes(node):
                own = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                full = f"{name}.{child.name}" if own else name
                todo.append((full, child))
                if own:
                    yield full, child


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    found = []
    for path in sorted((ROOT / "src" / "bessemer").rglob("*.py")):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Source(module, path, text, ast.parse(text)))
    assert len(found) > 50
    return found


@pytest.fixture(scope="session")
def keeps():
    """Check a law: what breaks it is exactly what `exceptions.toml` lists, so that the list can only shrink."""
    listed = tomllib.loads((HERE / "exceptions.toml").read_text(encoding="utf-8"))
    known = {law for path in HERE.glob("test_*.py") for law in listed if f'keeps("{law}"' in path.read_text()}
    assert known == set(listed), f"exceptions to laws that nobody checks: {set(listed) - known}"

    def check(law: str, breaches: Mapping[str, object]) -> None:
        allowed = listed.get(law, {})
        new = {name: why for name, why in breaches.items() if name not in allowed}
        assert not new, f"{law}: " + "; ".join(f"{name}: {why}" for name, why in sorted(new.items()))
        stale = sorted(set(allowed) - set(breaches))
        assert not stale, f"{law}: {stale} keep the law now: remove them from exceptions.toml"

    return check
