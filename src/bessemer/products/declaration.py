"""Reads `factory.yaml`: text to a checked FactoryConfig, with errors that name the line and the nearest valid key.

Owns the YAML dialect (duplicate keys refused), the size dial's merge and the wording of mistakes. Knows no room.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from bessemer.core.config import Config, explain
from bessemer.core.errors import ConfigError, NotFound

C = TypeVar("C", bound=Config)
Location = tuple[str | int, ...]
Dials = Mapping[str, Mapping[str, Mapping[str, Any]]]
FIRST_KIND = "llm"
"""Of a product that does not name its kind."""
DEEPEST = 50
"""Levels of a declaration; far more than any has."""


def read_declaration(path: Path, model: type[C], dials: Dials) -> C:
    """Return the checked declaration in a file.

    Args:
        path: a YAML file.
        model: what it declares.
        dials: for each value of the key ``size``, the values that it implies for each kind of product; what the file
            says wins.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is not YAML, or not a valid declaration; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no factory declaration at {path}", hint="Write one with: bessemer init DIR"
        ) from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder", hint=f"Name the file: {path / 'factory.yaml'}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", hint="Save the declaration as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="Check the file's permissions.") from error
    return parse_declaration(text, str(path), model, dials)


def parse_declaration(text: str, name: str, model: type[C], dials: Dials) -> C:
    """Return the checked declaration in a text; `name` stands for the file in errors. See `read_declaration`."""
    values, lines = _load(text, name)
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: a factory is a mapping of keys to values", hint="Start with: name: my-factory")
    size = values.get("size", next(iter(dials), None))
    implied = dials.get(size, {}) if isinstance(size, str) else {}
    try:
        return model.model_validate(_dialled(implied, values))
    except ValidationError as error:
        found = explain(error, model)
        said = [
            f"{name}, line {lines.get(_known(lines, where), 1)}: {_path(lines, where)}: {sentence}"
            for where, sentence in found
        ]
        raise ConfigError(
            "\n".join(said), hint="`bessemer schema` prints every key with its type and default."
        ) from error


def _load(text: str, name: str) -> tuple[Any, dict[Location, int]]:
    """Return the values of a YAML text and the line (from 1) of each location."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines: dict[Location, int] = {}
        if node is None:
            return {}, lines
        _walk(node, (), lines, name)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(
            f"{name}, line {line}: not valid YAML: {error.problem or error}", hint="Check the indentation and colons."
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}", hint="Save the declaration as plain text.") from error


def _walk(node: yaml.Node, where: Location, lines: dict[Location, int], name: str) -> None:
    if len(where) > DEEPEST:
        raise ConfigError(f"{name}: an alias contains itself", hint="Write the value out instead of `*alias`.")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                told = f"{name}, line {key.start_mark.line + 1}: a key is no plain word"
                raise ConfigError(told, hint="Write `key: value`; put quotes around values that begin with { or [.")
            below = (*where, key.value)
            if below in lines:
                raise ConfigError(
                    f"{name}, line {key.start_mark.line + 1}: '{key.value}' is given twice "
                    f"(first on line {lines[below]})",
                    hint="Keep one of them.",
                )
            lines[below] = key.start_mark.line + 1
            _walk(value, below, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*where, index)] = value.start_mark.line + 1
            _walk(value, (*where, index), lines, name)


def _dialled(implied: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a declaration with what the dial implies for each of its products; the declaration wins."""

    def whole(product: Any) -> Any:
        known = isinstance(product, Mapping) and isinstance(kind := product.get("kind", FIRST_KIND), str)
        return _merged({**implied.get(kind, {}), "kind": kind}, product) if known else product

    several = values.get("products")
    if isinstance(several, Mapping):
        return {**values, "products": {name: whole(product) for name, product in several.items()}}
    return {**values, "product": whole(values.get("product", {}))}


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` laid on `under`, mapping by mapping; `over` wins, lists are replaced whole."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def _known(lines: Mapping[Location, int], where: Location) -> Location:
    """Return the part of a location that the file has: pydantic adds the tags of unions, which are no keys of it."""
    found: Location = ()
    for part in where:
        if (*found, part) in lines:
            found = (*found, part)
    return found


def _path(lines: Mapping[Location, int], where: Location) -> str:
    known = _known(lines, where)
    full = known if where[-1:] == known[-1:] else (*known, *where[-1:])
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in full)
    return shown.lstrip(".") or "the declaration"
