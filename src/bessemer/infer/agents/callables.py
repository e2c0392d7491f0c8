"""A typed Python function as a tool: its signature becomes a JSON schema, its docstring what the model is told.

Owns the reading of signatures. Source of the schema: pydantic.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, create_model

from bessemer.core.acting import Effects
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Tool
from bessemer.infer.agents.capability import Capability, Occasion

Function = Callable[..., Any]


@overload
def callable_tool(function: Function, /) -> Capability: ...
@overload
def callable_tool(
    *,
    name: str = "",
    effects: Effects = "none",
    approval: bool = False,
    trusted: bool = False,
    timeout_seconds: float = 30.0,
) -> Callable[[Function], Capability]: ...
def callable_tool(
    function: Function | None = None,
    /,
    *,
    name: str = "",
    effects: Effects = "none",
    approval: bool = False,
    trusted: bool = False,
    timeout_seconds: float = 30.0,
) -> Capability | Callable[[Function], Capability]:
    """Return a function as a tool; a decorator, with or without arguments.

    A parameter of the type `Occasion` is not told to the model: it gets the occasion of the call.

    Args:
        function: synchronous (it runs in a thread) or asynchronous; each parameter has a type.
        name: what the model calls it; the function's name unless given.
        effects: what it does to the world, see `Capability`.
        approval: whether each call must be approved.
        trusted: whether nobody from outside can have written what it returns.
        timeout_seconds: of a call.

    Raises:
        ConfigError: a parameter has no type, or one that JSON cannot hold.

    >>> @callable_tool(effects="none")
    ... def add(one: int, other: int = 1) -> int:
    ...     "Add two numbers."
    ...     return one + other
    >>> add.tool.name, sorted(add.tool.parameters["properties"]), add.tool.parameters["required"]
    ('add', ['one', 'other'], ['one'])
    """

    def wrap(function: Function) -> Capability:
        model, occasion_name = _arguments(function)

        def values(arguments: Mapping[str, Any], occasion: Occasion) -> dict[str, Any]:
            return {**arguments, **({occasion_name: occasion} if occasion_name else {})}

        async def awaited(arguments: Mapping[str, Any], occasion: Occasion) -> Any:
            return await function(**values(arguments, occasion))

        def called(arguments: Mapping[str, Any], occasion: Occasion) -> Any:
            return function(**values(arguments, occasion))

        return Capability(
            tool=Tool(
                name=name or function.__name__,
                description=(inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " "),
                parameters=written_out(model.model_json_schema()),
                strict=True,
            ),
            call=awaited if inspect.iscoroutinefunction(function) else called,
            check=lambda arguments: checked(model, arguments),
            effects=effects,
            approval=approval,
            trusted=trusted,
            timeout_seconds=timeout_seconds,
        )

    return wrap if function is None else wrap(function)


def checked(model: type[BaseModel], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return arguments as a model of them reads them; raises pydantic's ValidationError, a ValueError."""
    read = model.model_validate(dict(arguments))
    return {name: getattr(read, name) for name in type(read).model_fields}


def written_out(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema without references and titles: what a grammar for small models takes.

    Raises:
        ConfigError: it refers to itself.
    """
    definitions = schema.get("$defs", {})

    def walk(value: Any, trail: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [walk(item, trail) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            name = str(value["$ref"]).rsplit("/", 1)[-1]
            if name in trail or name not in definitions:
                raise ConfigError(f"a tool's schema refers to '{name}' in a ring", hint="Write a flat signature.")
            return walk({**definitions[name], **{k: v for k, v in value.items() if k != "$ref"}}, (*trail, name))
        named = value.get("properties") if isinstance(value.get("properties"), dict) else None
        kept = {k: walk(v, trail) for k, v in value.items() if k not in ("$defs", "title", "properties")}
        if named is not None:  # a property may be called 'title'
            kept["properties"] = {key: walk(item, trail) for key, item in named.items()}
        return kept

    found: dict[str, Any] = walk(dict(schema), ())
    return found


def _arguments(function: Function) -> tuple[type[BaseModel], str]:
    """Return the model of a function's arguments, and the name of the one that takes the occasion."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        told = f"the types of '{function.__name__}' cannot be read: {error}"
        raise ConfigError(told, hint="Import the types at the top of the module.") from error
    told_of, fields, occasion = _told_arguments(inspect.getdoc(function) or ""), {}, ""
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        if hint is Occasion:
            occasion = parameter.name
            continue
        if hint is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            told = f"parameter '{parameter.name}' of the tool '{function.__name__}' has no type"
            raise ConfigError(told, hint="Give each parameter a type; *args and **kwargs cannot be told to a model.")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hint, Field(default, description=told_of.get(parameter.name)))
    made: Any = create_model
    model: type[BaseModel] = made(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    return model, occasion


def _told_arguments(doc: str) -> dict[str, str]:
    """Return what the section ``Args:`` of a docstring in Google style says of each."""
    _, _, section = doc.partition("\nArgs:\n")
    found = re.findall(r"^ {4}(\w+)(?: \([^)]*\))?: (.+(?:\n {8,}.+)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in found}
