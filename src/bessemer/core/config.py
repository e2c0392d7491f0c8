"""Configuration: frozen, strict declarations whose digest is recorded with every run.

Owns the base class and the wording of validation errors. Reads no file: a room's config is built by whoever
read the declaration.
"""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from bessemer.core.digest import digest


class Config(BaseModel):
    """Base of every configuration: immutable, unknown keys refused, defaults checked.

    At most 12 fields, each with a default, a unit (last in its name) and a range. Variants are discriminated
    unions on a field called ``kind``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def digest(self) -> str:
        """Return the SHA-256 of this configuration's canonical JSON, 64 hexadecimal digits."""
        return digest(self)


class StepConfig(Config):
    """Base of what a product hands to a step of its own: built from what a person declared, never by a person.

    Its fields need no defaults, because nobody could mean to leave one out.
    """


def explain(error: ValidationError, known: type[BaseModel] | None = None) -> list[tuple[tuple[str | int, ...], str]]:
    """Return one (location, sentence) for each thing wrong with a declaration.

    The location is the path of keys and indices to the value; an unknown key names the nearest valid one.

    Args:
        error: what pydantic raised.
        known: the outermost model, used to look up the valid keys at the location of an unknown one.
    """
    found = []
    items = error.errors(include_url=False)
    for item in items:
        where = tuple(part for part in item["loc"])
        if item["type"] == "too_short" and any(len(o["loc"]) > len(where) == _shared(o["loc"], where) for o in items):
            continue  # it is too short because what stands in it is wrong, which is said already
        if item["type"] == "extra_forbidden":
            key = str(where[-1])
            keys = _keys_at(known, where[:-1]) if known else []
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            advice = f"did you mean '{near[0]}'?" if near else f"valid keys: {', '.join(keys)}" if keys else ""
            found.append((where, f"unknown key '{key}'" + (f"; {advice}" if advice else "")))
        else:
            found.append((where, _sentence(item)))
    return found


def refusal(where: tuple[str | int, ...], sentence: str) -> ValidationError:
    """Return what a validator raises to refuse a value inside the one it was given, so that its own line is named.

    Args:
        where: keys and indices from the validated value to the refused one.
        sentence: what is wrong, and what to do.
    """
    wrong = PydanticCustomError("refused", "{sentence}", {"sentence": sentence})
    return ValidationError.from_exception_data("", [InitErrorDetails(type=wrong, loc=where, input=None)])


def _shared(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> int:
    """Return how many parts two locations begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


_IN_YAML = {
    "tuple_type": "a list is wanted here: `[one, two]`, or one item a line with `- ` before it",
    "list_type": "a list is wanted here: `[one, two]`, or one item a line with `- ` before it",
    "dict_type": "keys and values are wanted here, indented below it",
    "model_type": "keys and values are wanted here, indented below it",
    "model_attributes_type": "keys and values are wanted here, indented below it",
    "string_type": "a text is wanted here: put it in quotes",
}
"""What a person who writes YAML understands, in the place of pydantic's words about Python."""


def _sentence(item: Any) -> str:
    message = _IN_YAML.get(item["type"]) or str(item["msg"])
    if item["type"] == "too_short":
        message = f"too few items: at least {item['ctx']['min_length']} wanted"
    if item["type"] == "union_tag_invalid":
        tag, kinds = item["ctx"]["tag"], [kind.strip("' ") for kind in item["ctx"]["expected_tags"].split(",")]
        near = difflib.get_close_matches(tag, kinds, n=1, cutoff=0.5)
        return f"unknown kind '{tag}'; " + (
            f"did you mean '{near[0]}'?" if near else f"kinds: {', '.join(map(repr, kinds))}"
        )
    given = item.get("input")
    shown = f" (got {given!r})" if isinstance(given, (str, int, float, bool)) else ""
    return message[0].lower() + message[1:] + shown


def _keys_at(model: type[BaseModel] | None, path: tuple[str | int, ...]) -> list[str]:
    """Return the valid keys of the models that may stand at a path below `model`."""
    found: list[type[BaseModel]] = [model] if model else []
    for part in path:
        below: list[type[BaseModel]] = []
        for candidate in found:
            if isinstance(part, str) and part in candidate.model_fields:
                below += _models_in(candidate.model_fields[part].annotation)
            else:  # an index, or the tag of a discriminated union: pydantic puts both in the path
                tagged = [c for c in found if _tag(c) == part]
                below += tagged or [candidate]
        found = below
    return sorted({name for candidate in found for name in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = getattr(annotation, "__args__", ())
    return [model for part in inner for model in _models_in(part)]


def _tag(model: type[BaseModel]) -> Any:
    kind = model.model_fields.get("kind")
    return kind.default if kind else None
