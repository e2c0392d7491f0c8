"""What a site does not say of itself: the defaults that stand for it, each with its source.

Owns finding them; the sources are ``catalogue/defaults.csv``. Knows no model of anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bessemer.core.config import Config
from bessemer.twin.catalogue import table
from bessemer.twin.site import Site

PARTS = ("money", "power", "cooling", "operations", "nodes", "fabric", "storage")
OF_OWNERS = frozenset({"power.usd_per_kwh", "money.life_years", "money.discount_ratio"})
"""What a tenant does not pay, or pays with the rent."""

MONTHS = {"power.usd_per_kwh": "2025-04"}
"""Of the prices among the defaults."""


@dataclass(frozen=True, slots=True)
class Default:
    """A value that nobody declared.

    Attributes:
        path: such as ``power.usd_per_kwh``.
        value: that is taken.
        source: where it is from; may begin with ``assumed``.
        month: of a price, such as ``2025-04``; else empty.
    """

    path: str
    value: float
    source: str
    month: str = ""


def defaults(site: Site) -> tuple[Default, ...]:
    """Return the quantities that a site leaves to their defaults; those that stand for "none" are left out.

    >>> [each.path for each in defaults(Site()) if each.path.startswith("money")]
    ['money.life_years', 'money.discount_ratio', 'money.utilisation_ratio']
    """
    found: dict[str, Default] = {}
    for part in PARTS:
        if part == "fabric" and site.fabric.kind == "none":
            continue
        for path, value in _left_out(site, part):
            source = sources()[path]
            if not source.startswith("none") and not (site.money.tenure == "rented" and path in OF_OWNERS):
                found[path] = Default(path, value, source, MONTHS.get(path, ""))
    return tuple(found.values())


def sources() -> dict[str, str]:
    """Return where the default of each value of a site is from, by its path."""
    return {row["path"]: row["source"] for row in table("defaults")}


def _left_out(site: Site, part: str) -> Iterator[tuple[str, float]]:
    given: Config | tuple[Config, ...] = getattr(site, part)
    for each in given if isinstance(given, tuple) else (given,):
        for name in type(each).model_fields:
            value = getattr(each, name)
            if name not in each.model_fields_set and isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{part}.{name}", value
