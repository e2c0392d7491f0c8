"""Writes the reference from the code: run it after a change of a configuration, a verb or an error.

    uv run python docs/reference/generate.py

A test fails while what is written differs from what the code says.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from pathlib import Path

import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from bessemer.cli.app import app
from bessemer.core import errors
from bessemer.products.factory import FactoryConfig

HERE = Path(__file__).parent
MADE = "<!-- made by generate.py: change the code, not this page -->\n\n"


def pages() -> dict[str, str]:
    """Return file name -> text of every page of the reference."""
    return {
        "index.md": MADE + _index(),
        "factory.md": MADE + _factory(),
        "cli.md": MADE + _cli(),
        "errors.md": MADE + _errors(),
    }


def _index() -> str:
    return (
        "# Reference\n\n"
        "- [factory.yaml](factory.md): every key with its type, default and meaning\n"
        "- [the command line](cli.md): every verb and option\n"
        "- [errors](errors.md): what is raised, and who must act\n\n"
        "The same as JSON Schema: `bessemer schema`. The public names of each room are its package's `__all__`.\n"
    )


def _factory() -> str:
    done: dict[type[BaseModel], str] = {}
    _describe(FactoryConfig, "factory.yaml", done)
    return "# factory.yaml\n\n" + "\n".join(done.values())


def _describe(model: type[BaseModel], title: str, done: dict[type[BaseModel], str]) -> None:
    """Add a table for a model and for every model below it."""
    if model in done:
        return
    done[model] = ""
    said = _attributes(model)
    first = (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        rows.append(f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {said.get(name, '')} |")
    done[model] = f"## {title}\n\n{first}\n\n" + "\n".join(rows) + "\n"
    for name, field in model.model_fields.items():
        for below in _models(field.annotation):
            path = name if title == "factory.yaml" else f"{title}.{name}"
            kind = below.model_fields.get("kind")
            _describe(below, path + (f" (kind: {kind.default})" if kind else ""), done)


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstring says of each field."""
    doc = inspect.getdoc(model) or ""
    block = doc.partition("Attributes:\n")[2].split("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", block, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).replace("``", "`").replace("|", "\\|") for name, text in entries}


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def _type(annotation: object) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in parts))
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "nothing"}.get(
        annotation, getattr(annotation, "__name__", "value")
    )


def _default(field: typing.Any) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "(required)"
    if isinstance(value, BaseModel):
        return "below"
    if isinstance(value, tuple):
        return ", ".join(
            f"`{part.kind}: {part.metric}`" if isinstance(part, BaseModel) else f"`{part}`" for part in value
        )
    return f"`{value!r}`".replace("'", "") if value != "" else "empty"


def _cli() -> str:
    group = typer.main.get_command(app)
    parts = ["# The command line\n\nEvery verb has `--json`: one JSON value on standard output instead of words.\n"]
    parts += [_verb(f"bessemer {name}", command) for name, command in sorted(_verbs(group).items())]
    return "\n".join(parts)


def _verbs(group: typing.Any, before: str = "") -> dict[str, typing.Any]:
    found: dict[str, typing.Any] = {}
    for name, command in group.commands.items():
        found |= _verbs(command, f"{before}{name} ") if hasattr(command, "commands") else {before + name: command}
    return found


def _verb(title: str, command: typing.Any) -> str:
    lines = [f"## {title}\n", (command.help or "").strip() + "\n"]
    for parameter in command.params:
        if parameter.name == "as_json":
            continue
        name = ", ".join(parameter.opts) if parameter.param_type_name == "option" else (parameter.name or "").upper()
        said = getattr(parameter, "help", "") or ""
        lines.append(f"- `{name}`: {said}")
    return "\n".join(lines) + "\n"


def _errors() -> str:
    kinds = [errors.BessemerError, *errors.BessemerError.__subclasses__()]
    rows = [f"| `{kind.__name__}` | `{kind.code}` | {(inspect.getdoc(kind) or '').splitlines()[0]} |" for kind in kinds]
    return (
        "# Errors\n\nEvery error has a `code` for programs, a message, and a `hint` that says what to do.\n\n"
        "| class | code | means |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "Exit statuses of the command line: 0 done; 1 something is wrong; 2 the command line is wrong; "
        "3 the gate did not let the model through; 130 interrupted.\n"
    )


if __name__ == "__main__":
    for page, text in pages().items():
        (HERE / page).write_text(text, encoding="utf-8")
