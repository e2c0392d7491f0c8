"""Compares owning a site with renting, for what a factory asks of it, and gives the answers as values.

Owns the joining. Knows no equation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

from bessemer.twin.compare import Comparison, compare
from bessemer.twin.site import Site
from bessemer.twin.workload import Serving, Training


def compare_all(site: Site, work: Sequence[Training | Serving], today: date, years: int) -> list[Comparison]:
    """Return one comparison for each piece of work, or one without any. See `bessemer.twin.compare.compare`."""
    return [compare(site, today, each, years) for each in work or (None,)]


def comparison_values(found: Comparison) -> dict[str, object]:
    """Return a comparison as JSON values; what does not exist or is never reached is null."""
    return {"provenance": "estimated", **_plain(asdict(found))}


def _plain(value: dict[str, object]) -> dict[str, object]:
    return {name: _finite(each) for name, each in value.items()}


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return _plain(value)
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
