"""JSON schemas that clients send: whether a grammar can be made of one, and one written out without references.

The compiler of grammars runs inside of a pipeline's step, and a step that fails leaves a pipeline that works no more,
for nobody. So what it is known to stumble over is refused before.

Owns those checks. Knows no engine. Source: JSON Schema 2020-12, and xgrammar in OpenVINO GenAI 2026.4, tried case by
case in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bessemer.core.errors import Unsupported
from bessemer.core.nouns import ChatRequest

MOST_PARTS = 10_000
"""What a schema may grow to when its references are written out: each of ten could name the next one twice."""

MOST_DEPTH = 32
"""Schemas within each other; a grammar of 300 took half a minute, in which no other answer went on."""

_TYPES = {"string", "number", "integer", "boolean", "null", "array", "object"}
_ONE = ("items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "propertyNames", "contains")
_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties")
_SIZES = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_BEYOND = re.compile(r"\\[bBpPkK1-9]|\(\?(?!:)")
"""What patterns may have elsewhere: word boundaries, classes of Unicode, references, groups other than ``(?:``."""


def check(request: ChatRequest) -> None:
    """Return if grammars can be made of the schemas of a request.

    Raises:
        Unsupported: one is wrong, or goes beyond them.
    """
    form = request.json_format
    found = [("the JSON schema", "json_format", form.json_schema)] if form and form.json_schema else []
    for tool in request.callable_tools():
        found.append((f"the JSON schema of the tool '{tool.name}'", "tools", tool.parameters))
    for what, about, schema in found:
        try:
            _check(schema, schema, "", 0)
        except _Wrong as error:
            raise Unsupported(f"{what}{error}", hint="Mend the schema.", about=about) from None


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that was checked with what its references name in their place, and no definitions.

    >>> inlined({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "string"}}})
    {'properties': {'a': {'type': 'string'}}}

    Raises:
        Unsupported: a reference names itself, or all of it is too much.
    """
    found: dict[str, Any] = _inlined(schema, schema, (), iter(range(MOST_PARTS)))
    return found


def _inlined(schema: Any, root: dict[str, Any], within: tuple[str, ...], left: Iterator[int]) -> Any:
    if next(left, None) is None or len(within) > MOST_DEPTH:
        hint = "Write it out to the depth that is needed."
        raise Unsupported("the JSON schema of a tool refers to itself, or to too much", hint=hint, about="tools")
    if not isinstance(schema, dict):
        return schema
    told: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _NAMED:
            told[name] = {each: _inlined(part, root, within, left) for each, part in value.items()}
        elif name in _SEVERAL:
            told[name] = [_inlined(part, root, within, left) for part in value]
        elif name not in ("$ref", "$defs", "definitions"):
            told[name] = _inlined(value, root, within, left) if name in _ONE else value
    if "$ref" not in schema:
        return told
    target = _target(root, schema["$ref"], "")
    return {**_inlined(target, root, (*within, schema["$ref"]), left), **told}


def _check(schema: Any, root: dict[str, Any], at: str, depth: int) -> None:
    if schema is True:
        return
    if not isinstance(schema, dict):
        raise _wrong(at, "is no schema")
    if depth > MOST_DEPTH:
        raise _wrong("", f"is deeper than {MOST_DEPTH} levels")
    if "$ref" in schema:
        _target(root, schema["$ref"], at)
    _check_values(schema, at)
    _check_sizes(schema, at)
    for name, part in _parts(schema, at):
        _check(part, root, f"{at}.{name}" if at else name, depth + 1)


def _check_values(schema: dict[str, Any], at: str) -> None:
    kinds = schema.get("type", [])
    if not all(isinstance(kind, str) and kind in _TYPES for kind in (kinds if isinstance(kinds, list) else [kinds])):
        raise _wrong(at, "has a type that is none of JSON's")
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        raise _wrong(at, "has an enum that is no list of values")
    required = schema.get("required", [])
    if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        raise _wrong(at, "has a required that is no list of names")
    if not isinstance(schema.get("format", ""), str):
        raise _wrong(at, "has a format that is no text")
    names = schema.get("propertyNames")
    if isinstance(names, dict) and names.get("type", "string") != "string":
        raise _wrong(at, "has propertyNames that are no texts")
    named = schema.get("patternProperties")
    for pattern in (schema.get("pattern", ""), *(named if isinstance(named, dict) else ())):
        if not isinstance(pattern, str) or _BEYOND.search(pattern) or not _compiles(pattern):
            raise _wrong(at, "has a pattern that is none, or has lookarounds, references, flags, \\b or \\p")


def _compiles(pattern: str) -> bool:
    try:
        return bool(re.compile(pattern))
    except (re.error, OverflowError, RecursionError):
        return False


def _check_sizes(schema: dict[str, Any], at: str) -> None:
    for least, most in _SIZES:
        given = [schema[name] for name in (least, most) if name in schema]
        if not all(_is_number(size) and isinstance(size, int) and size >= 0 for size in given):
            raise _wrong(at, f"has a {least} or {most} that is no number from 0")
        if given != sorted(given):
            raise _wrong(at, f"has a {least} above its {most}")
    for few, closed, places in (
        ("minItems", "items", schema.get("prefixItems") or []),
        ("minProperties", "additionalProperties", schema.get("properties") or {}),
    ):
        if schema.get(closed) is False and isinstance(places, list | dict) and schema.get(few, 0) > len(places):
            raise _wrong(at, f"has a {few} that leaves no room")
    bounds = [schema[name] for name in _BOUNDS if name in schema]
    if not all(_is_number(bound) and abs(bound) < 2**63 for bound in bounds):
        raise _wrong(at, "has a minimum or maximum that is no number of 64 bits")
    whole = "integer" in str(schema.get("type"))
    if whole and any(bound != int(bound) for bound in bounds):
        raise _wrong(at, "has a minimum or maximum that is not whole")
    step = 1 if whole else 0
    low = max([schema[n] + step * (n != "minimum") for n in _BOUNDS[:2] if n in schema], default=None)
    high = min([schema[n] - step * (n != "maximum") for n in _BOUNDS[2:] if n in schema], default=None)
    if low is not None and high is not None and low > high:
        raise _wrong(at, "has a minimum above its maximum")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parts(schema: dict[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    """Yield the schemas within a schema, with their places; False, where it only closes an array or an object, is none.

    Raises:
        _Wrong: there is something else in such a place.
    """
    for name in _NAMED:
        named = schema.get(name, {})
        if not isinstance(named, dict) or not all(key.isprintable() for key in named):
            raise _wrong(at, f"has {name} that are none, or whose names have control characters")
        yield from ((f"{name}.{key}", part) for key, part in named.items())
    for name in _SEVERAL:
        several = schema.get(name, [])
        if not isinstance(several, list) or (not several and name in schema and name != "prefixItems"):
            raise _wrong(at, f"has an {name} that is no list of schemas")
        yield from ((f"{name}[{number}]", part) for number, part in enumerate(several))
    for name in _ONE:
        if schema.get(name, False) is not False:
            yield name, schema[name]


def _target(root: dict[str, Any], name: Any, at: str) -> dict[str, Any]:
    """Return the schema that a reference names."""
    found: Any = root if isinstance(name, str) and name.startswith("#") and name != "#/" else None
    for part in str(name)[1:].split("/")[1:]:
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not (name == "#" or name.startswith("#/")):
        raise _wrong(at, "has a $ref that names nothing in it")
    return found


class _Wrong(Exception):
    """Says where a schema is wrong, and how."""


def _wrong(at: str, what: str) -> _Wrong:
    return _Wrong((f" at '{at[:64]}' " if at else " ") + what)
