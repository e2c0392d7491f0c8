"""A value that follows a JSON schema: the smallest one that the reference engine can think of.

Owns the rules, for the part of JSON Schema that tools and answers are declared in. Knows no engine.
Source: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

from typing import Any

from bessemer.core.errors import Unsupported

_DEEPEST = 32


def instance(schema: dict[str, Any], text: str) -> Any:
    """Return a value that follows a schema; free strings in it are `text`.

    >>> schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    >>> instance({**schema, "required": ["city", "days"]}, "Rome")
    {'city': 'Rome', 'days': 0}
    >>> instance({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1}, "")
    ['a']

    Raises:
        Unsupported: the schema is too deep, or says something that is not known here.
    """
    return _value(schema, schema, text, 0)


def _value(schema: Any, root: dict[str, Any], text: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise Unsupported(f"a JSON schema is deeper than {_DEEPEST} levels", hint="Make it flatter.")
    if not isinstance(schema, dict):
        return text
    if "$ref" in schema:
        return _value(_resolved(str(schema["$ref"]), root), root, text, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return _value(schema[name][0], root, text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    return _of_kind(str(kind), schema, root, text, depth)


def _of_kind(kind: str, schema: dict[str, Any], root: dict[str, Any], text: str, depth: int) -> Any:
    if kind == "object":
        properties = schema.get("properties", {})
        names = schema.get("required", list(properties))
        return {name: _value(properties.get(name, {}), root, text, depth + 1) for name in names}
    if kind == "array":
        return [_value(schema.get("items", {}), root, text, depth + 1) for _ in range(schema.get("minItems", 0))]
    if kind in ("number", "integer"):
        return schema.get("minimum", 0)
    simple = {"string": text, "boolean": False, "null": None}
    if kind not in simple:
        raise Unsupported(f"a JSON schema has the unknown type '{kind[:40]}'", hint="Use a type of JSON Schema.")
    return simple[kind]


def _resolved(reference: str, root: dict[str, Any]) -> Any:
    """Return what a reference within the same schema points to, such as ``#/$defs/City``."""
    found: Any = root
    for name in reference.removeprefix("#").split("/")[1:]:
        if not isinstance(found, dict) or name not in found:
            raise Unsupported("a JSON schema refers to what is not in it", hint="Only references such as #/$defs/NAME.")
        found = found[name]
    return found
