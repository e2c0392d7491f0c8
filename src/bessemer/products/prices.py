"""What a price book says, for people: the version in force, its warnings, and what changed from version to version.

Owns the questions. Knows no charge: the price book's own arithmetic makes those.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bessemer.core.nouns import Noun
from bessemer.meter import PriceHistory, load_price_history
from bessemer.products.config import BUILTIN, load_factory
from bessemer.products.home import Home
from bessemer.products.known_prices import KnownPrices, known_prices
from bessemer.products.price_list import price_lines


class VersionLine(Noun):
    """One version: its stamp as entries record it, from which day (empty: the beginning), what differs from before."""

    version: str
    stamp: str
    in_force_from: str
    changed: tuple[str, ...]


def find_prices(path: Path | None, home: Home) -> KnownPrices:
    """Return the prices of a TOML price book, or those that a factory.yaml names, with the factory's name.

    Without a path they are those of the factory that ran or served in the home last; the built-in example's if none.

    Raises:
        ConfigError: the file is missing or says something else.
    """
    known = known_prices(home)
    if path and path.suffix == ".toml":
        return KnownPrices(factory=known.factory if known else BUILTIN, history=load_price_history(path))
    if path is None and known:
        return known
    config, base = load_factory(path)
    named = config.meter.price_book
    return KnownPrices(factory=config.name, history=load_price_history(base / named if named else None))


def price_warnings(history: PriceHistory) -> list[str]:
    """Return what is allowed but seldom meant: placeholder prices, free tokens, a cache or a batch that is dearer."""
    found = []
    for book in history.books:
        if book.example:
            found.append(f"{book.version}: example = true marks placeholder prices; bill nobody by them")
        lines = price_lines(book)
        standard = {(line.project, line.model): line for line in lines if line.kind == "standard"}
        for line in lines:
            what = f"{book.version}: {line.project or 'all projects'}, {line.model or 'default'}, {line.kind}"
            if not line.unit and (line.input == 0 or line.output == 0):
                found.append(f"{what}: some tokens are free")
            if line.cached > line.input:
                found.append(f"{what}: cached input costs more than fresh input")
            usual = standard[line.project, line.model]
            if line.kind == "batch" and (line.input > usual.input or line.output > usual.output):
                found.append(f"{what}: dearer than the standard price")
    return found


def price_versions(history: PriceHistory) -> list[VersionLine]:
    """Return the versions, the earliest first, each with the keys whose value differs from the version before."""
    lines = []
    before: dict[str, Any] = {}
    for at, book in enumerate(history.books):
        said = dict(_leaves(book.model_dump(mode="json", exclude={"version", "in_force_from"})))
        changed = sorted(key for key in said.keys() | before.keys() if said.get(key) != before.get(key))
        day = book.in_force_from.isoformat() if book.in_force_from else ""
        differs = tuple(changed) if at else ()
        lines.append(VersionLine(version=book.version, stamp=book.stamp(), in_force_from=day, changed=differs))
        before = said
    return lines


def _leaves(said: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in said.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield path + key, value
