"""A step's key has the source of what decides its result: what its function uses of the rooms, and what that uses."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from bessemer.products.llm import steps
from bessemer.products.llm.config import LlmConfig
from bessemer.products.llm.flow import llm_steps
from bessemer.products.product import LakeState, Place

ROOMS = tuple(f"bessemer.{room}" for room in ("train", "models", "infer", "evals"))
"""Where results are decided; rows are read and written alike whatever `lake` does, and core only names things."""

STEPS = llm_steps(Place("f", "f", True, Path(), "lake", {}, {}), LlmConfig(), LakeState("lake", lambda table: ""))


def imports(tree: ast.AST) -> dict[str, str]:
    """Return name -> module of ours, for all imports below a node."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bessemer."):
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = below if _is_module(below) else str(node.module)
    return found


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def used(tree: ast.Module, function: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Return the modules of the rooms that a function uses, and the functions beside it that it calls."""
    known = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found, node = imports(tree), known[function]
    each_name = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    own = {each.id for each in each_name if isinstance(each.ctx, ast.Store)}
    names = {each.id for each in each_name if not each.id.isupper()} - own  # a constant names rows, which are inputs
    modules = {found[name] for name in names & found.keys() if found[name].startswith(ROOMS)}
    for other in (names & known.keys()) - seen - {function}:
        modules |= used(tree, other, seen | {function, other})
    return modules


def covered(module: str, code: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in code)


def sources(module: str) -> list[Path]:
    """Return the files of a module; of a package, all of them."""
    spec = find_spec(module)
    assert spec and spec.origin
    path = Path(spec.origin)
    return sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_the_code_that_makes_a_result_is_in_its_key(step) -> None:
    module, _, function = step.run.partition(":")
    assert module == steps.__name__
    (file,) = sources(module)
    uses = used(ast.parse(file.read_text()), function)
    assert uses, "this test sees nothing"
    for name in (name for name in step.code if name.startswith(ROOMS)):
        for path in sources(name):
            uses |= {each for each in imports(ast.parse(path.read_text())).values() if each.startswith(ROOMS)}
    assert sorted(name for name in uses if not covered(name, step.code)) == []
