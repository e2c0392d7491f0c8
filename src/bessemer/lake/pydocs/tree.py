"""What a Python file defines and re-exports, read from its syntax tree: the file is never imported.

Owns the walk over the tree. Knows no module but the one whose text it is given.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from bessemer.lake.pydocs.entry import Entry, Kind, clean

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Import:
    """`from module import name as alias`; `name` may be ``*``, `level` counts the leading dots."""

    module: str
    level: int
    name: str
    alias: str


@dataclass(frozen=True, slots=True)
class ModuleTree:
    """What a module's file says.

    Attributes:
        entries: the module itself, then its public definitions in the order of the file.
        imports: what it takes from other modules.
        exported: its ``__all__`` as far as it is written out, or None.
    """

    entries: tuple[Entry, ...]
    imports: tuple[Import, ...]
    exported: frozenset[str] | None


def parse_module(text: str | bytes) -> ModuleTree:
    """Return what a module's text defines.

    Raises:
        SyntaxError: the text is not this Python's.
        ValueError: the text holds a NUL.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings are not our news
        tree = ast.parse(text)
    statements = list(_top_level(tree.body))
    entries = [Entry("module", "", "", clean(ast.get_docstring(tree, clean=False)), 1)]
    entries += _definitions(statements, "")
    return ModuleTree(tuple(_first_of_each(entries)), tuple(_imports(statements)), _exported(statements))


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run on import, those in branches included."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody"):
            if isinstance(statement, (ast.If, ast.Try, ast.With)):
                yield from _top_level(getattr(statement, field, []))
        if isinstance(statement, ast.Try):
            for handler in statement.handlers:
                yield from _top_level(handler.body)


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[Entry]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield Entry("class", prefix + node.name, _class_arguments(node), _doc(node), node.lineno)
            yield from _definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, Function) and not node.name.startswith("_"):
            kind = _kind(node, in_class=bool(prefix))
            if kind:
                arguments = "" if kind == "property" else _arguments(node, bound=kind == "method")
                yield Entry(kind, prefix + node.name, arguments, _doc(node), node.lineno)


def _doc(node: Function | ast.ClassDef) -> str:
    return clean(ast.get_docstring(node, clean=False))


def _kind(node: Function, *, in_class: bool) -> Kind | None:
    """Return what a function is; None for a property's setter or deleter, which the property already covers."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if any(name.endswith((".setter", ".deleter")) for name in decorators):
        return None
    if not in_class:
        return "function"
    return "property" if any(name.endswith("property") for name in decorators) else "method"


def _arguments(node: Function, *, bound: bool) -> str:
    """Return ``(a, *, b=1) -> int``; of a bound method without the argument that Python fills in."""
    static = any(ast.unparse(decorator) == "staticmethod" for decorator in node.decorator_list)
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({_parameters(node.args, skip=bound and not static)}){result}"


def _parameters(arguments: ast.arguments, *, skip: bool) -> str:
    if not skip:
        return ast.unparse(arguments)
    positional, plain = list(arguments.posonlyargs), list(arguments.args)
    if positional or plain:
        (positional or plain).pop(0)
    kept = len(positional) + len(plain)
    return ast.unparse(
        ast.arguments(
            posonlyargs=positional,
            args=plain,
            vararg=arguments.vararg,
            kwonlyargs=arguments.kwonlyargs,
            kw_defaults=arguments.kw_defaults,
            kwarg=arguments.kwarg,
            defaults=arguments.defaults[-kept:] if kept else [],
        )
    )


def _class_arguments(node: ast.ClassDef) -> str:
    """Return how a class is called, from its own constructor; else its bases in brackets of the same kind."""
    for name in ("__init__", "__new__"):
        for inner in node.body:
            if isinstance(inner, Function) and inner.name == name:
                return f"({_parameters(inner.args, skip=True)})"
    return ""


def _imports(statements: list[ast.stmt]) -> Iterator[Import]:
    for node in statements:
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                yield Import(node.module or "", node.level, name.name, name.asname or name.name)


def _exported(statements: list[ast.stmt]) -> frozenset[str] | None:
    """Return the names that assignments to ``__all__`` write out; parts computed at run time are not seen."""
    names: set[str] | None = None
    for node in statements:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AugAssign):
            targets, value = [node.target], node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.args:
            # `__all__.extend([...])`, `__all__.append("x")`
            owner = node.value.func
            targets = [owner.value] if isinstance(owner, ast.Attribute) else []
            value = node.value.args[0]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            names = (names or set()) | {
                part.value for part in ast.walk(value) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return frozenset(names) if names is not None else None


def _first_of_each(entries: list[Entry]) -> Iterator[Entry]:
    """Yield one entry per name: the first that is documented, at the place of the first."""
    best: dict[str, Entry] = {}
    for entry in entries:
        known = best.get(entry.path)
        if known is None or (entry.doc and not known.doc):
            best[entry.path] = entry
    yield from best.values()
