"""Size is a habit: files, functions, arguments, inheritance, configs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

FILE_LINES, FILE_LINES_AT_MOST = 400, 600
BODY_LINES, BODY_LINES_AT_MOST = 40, 60
ARGUMENTS = 7
DEPTH = 2
CONFIG_FIELDS = 12
PROTOCOL_METHODS = 5
ERRORS = 10
FLOW_CODE_LINES = 1000


def test_files(sources, keeps) -> None:
    lengths = {source.module: source.text.count("\n") for source in sources}
    assert {module: lines for module, lines in lengths.items() if lines > FILE_LINES_AT_MOST} == {}
    keeps("file_lines", {module: lines for module, lines in lengths.items() if lines > FILE_LINES})


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_function_bodies(sources, keeps) -> None:
    lengths = {name: body_lines(node) for source in sources for name, node in source.functions()}
    assert {name: lines for name, lines in lengths.items() if lines > BODY_LINES_AT_MOST} == {}
    keeps("body_lines", {name: lines for name, lines in lengths.items() if lines > BODY_LINES})


def code_lines(source) -> int:
    """Return the lines that hold code: no docstring, no comment, nothing blank."""
    told: set[int] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            told |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(source.text.splitlines(), 1)
    return sum(1 for number, line in lines if number not in told and line.strip() and line.strip()[0] != "#")


def test_the_runner_stays_small(sources) -> None:
    flow = {source.module: code_lines(source) for source in sources if source.module.startswith("bessemer.flow")}
    assert "bessemer.flow.store" in flow
    assert sum(flow.values()) < FLOW_CODE_LINES


def test_arguments(sources, keeps) -> None:
    counts = {name: len(list(arguments(node))) for source in sources for name, node in source.functions()}
    keeps("arguments", {name: count for name, count in counts.items() if count > ARGUMENTS})


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the names that a caller fills in."""
    of = function.args
    for argument in (*of.posonlyargs, *of.args, *of.kwonlyargs):
        if argument.arg not in ("self", "cls"):
            yield argument.arg


def own_bases(sources) -> dict[str, list[str]]:
    """Return class -> the classes of this package that it derives from, all by full name."""
    imported: dict[str, dict[str, str]] = {}
    for source in sources:
        names = imported[source.module] = {}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bessemer"):
                names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    classes = {name: (source, node) for source in sources for name, node in source.classes()}

    def full(module: str, name: str) -> str | None:
        """Follow a name to the module that defines it, through the front doors that re-export it."""
        here = f"{module}.{name}"
        if here in classes:
            return here
        there = imported.get(module, {}).get(name)
        return full(*there.rsplit(".", 1)) if there else None

    found = {}
    for name, (source, node) in classes.items():
        bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
        known = (full(source.module, base.id) for base in bases if isinstance(base, ast.Name))
        found[name] = [base for base in known if base]
    return found


@pytest.fixture(scope="module")
def bases(sources) -> dict[str, list[str]]:
    return own_bases(sources)


def depth(name: str, bases: dict[str, list[str]]) -> int:
    """Return how many steps it is to the topmost of our own classes that a class derives from."""
    return max((1 + depth(base, bases) for base in bases[name]), default=0)


def test_inheritance(bases, keeps) -> None:
    assert depth("bessemer.evals.gate.BetterThan", bases) == 1, "the law sees our classes"
    depths = {name: depth(name, bases) for name in bases}
    keeps("inheritance", {name: steps for name, steps in depths.items() if steps > DEPTH})


def test_configs_are_small_and_have_defaults(sources, bases, keeps) -> None:
    large, bare = {}, {}
    for source in sources:
        for name, node in source.classes():
            declared = "bessemer.core.config.Config" in bases[name]
            if not declared and "bessemer.core.config.StepConfig" not in bases[name]:
                continue
            annotated = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            fields = [item for item in annotated if "ClassVar" not in ast.unparse(item.annotation)]
            if len(fields) > CONFIG_FIELDS:
                large[name] = f"{len(fields)} fields"
            without = [ast.unparse(field.target) for field in fields if field.value is None]
            if declared and without:
                bare[name] = f"no default for {', '.join(without)}"
    keeps("config_fields", large)
    keeps("config_defaults", bare)


def test_protocols_are_small(sources, keeps) -> None:
    breaches = {}
    for source in sources:
        for name, node in source.classes():
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
            if any("Protocol" in ast.unparse(base) for base in node.bases) and len(methods) > PROTOCOL_METHODS:
                breaches[name] = f"{len(methods)} methods"
    keeps("protocol_methods", breaches)


def test_one_tree_of_errors(bases, keeps) -> None:

    def is_error(name: str) -> bool:
        return name == "bessemer.core.errors.BessemerError" or any(is_error(base) for base in bases[name])

    errors = {name for name in bases if is_error(name)}
    core = {name for name in errors if name.startswith("bessemer.core.errors.")}
    assert len(core) == ERRORS
    keeps("errors", dict.fromkeys(errors - core, "an error outside core.errors"))
