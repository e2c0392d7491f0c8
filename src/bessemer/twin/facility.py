"""Reads the constants of power, cooling and links from ``catalogue/fitted_facility.toml``.

Owns nothing but the reading. Each table of the file says where its numbers are from.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


@cache
def facility(table: str) -> dict[str, float]:
    """Return the numbers of a table, such as ``cooling``."""
    text = (files("bessemer.twin") / "catalogue" / "fitted_facility.toml").read_text("utf-8")
    return {name: float(value) for name, value in tomllib.loads(text)[table].items() if name != "source"}
