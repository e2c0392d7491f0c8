"""Reads the catalogues: tables and sites as data, each number with its source.

Owns finding a part by name and saying which names are near. Knows no model of anything.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from bessemer.core.errors import NotFound

Row = Mapping[str, str]


@cache
def table(name: str) -> tuple[Row, ...]:
    """Return the rows of a catalogue's table, such as ``accelerators``; all values are text."""
    text = (files("bessemer.twin") / "catalogue" / f"{name}.csv").read_text("utf-8")
    return tuple(MappingProxyType(row) for row in csv.DictReader(text.splitlines()))


def unknown(kind: str, name: str, known: Iterable[str]) -> NotFound:
    """Return the error for a part that no catalogue has, with the nearest names.

    Args:
        kind: what was looked for, such as "accelerator".
        name: how it was called.
        known: all names that there are.
    """
    names = sorted(set(known))
    folded = {each.casefold(): each for each in names}
    near = [folded[each] for each in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.4)]
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(names)}."
    return NotFound(f"there is no {kind} '{name}' in the catalogue", hint=hint)


def number(row: Row, column: str) -> float | None:
    """Return a cell as a number, or None if it is empty."""
    return float(row[column]) if row.get(column, "").strip() else None
