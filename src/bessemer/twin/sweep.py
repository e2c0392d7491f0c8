"""The same question at many points: a grid over values of site and work, each planned, none dropped.

Owns the names that may vary and the grid. Knows no page and no terminal.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from math import prod
from typing import TypeVar

from pydantic import ValidationError

from bessemer.core.config import Config, explain
from bessemer.core.errors import ConfigError, Unsupported
from bessemer.twin.accelerators import accelerator
from bessemer.twin.answer import Plan, main_nodes
from bessemer.twin.plan import plan
from bessemer.twin.site import Nodes, Site
from bessemer.twin.terms import UNKNOWN, Terms
from bessemer.twin.workload import Serving, Training

MOST = 200
"""Points of a grid."""
Part = TypeVar("Part", bound=Config)

NAMES = {
    "accelerator": "nodes.accelerator",
    "nodes": "nodes.count",
    "demand": "work.requests_per_second",
    "batch": "work.batch_sequences",
    "electricity_price": "power.usd_per_kwh",
    "grid_carbon": "power.gco2e_per_kwh",
    "oversubscription": "fabric.oversubscription",
    "utilisation": "money.utilisation_ratio",
    "checkpoint_bandwidth": "storage.write_bytes_per_second",
}
"""Short names for what planners vary most."""
SECTIONS = ("nodes", "fabric", "storage", "power", "cooling", "operations", "money")


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that varies: its name as it was given, its dotted path, and its values as text."""

    name: str
    path: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a grid. Without a plan, `reason` says why it cannot be and what would help."""

    values: tuple[str, ...]
    plan: Plan | None
    reason: str = ""


def axes(given: Sequence[str], site: Site, work: Training | Serving) -> list[Axis]:
    """Return what varies, from texts such as ``nodes=8,16``.

    Raises:
        ConfigError: no such name for this work, named twice, no values, one that cannot be, or too many points.
        NotFound: an accelerator or a model that no catalogue has.
    """
    found = [_axis(text, site, work) for text in given]
    if len({axis.path for axis in found}) < len(found):
        raise ConfigError("a name is swept twice", hint="Give all its values at once: nodes=8,16,32")
    points = prod(len(axis.values) for axis in found)
    if points > MOST:
        raise ConfigError(f"the sweep has {points:,} points", hint=f"Give fewer values: {MOST} points at most.")
    return found


def sweep(
    site: Site, work: Training | Serving, given: Sequence[Axis], today: date, terms: Terms = UNKNOWN
) -> list[Point]:
    """Return the plan of every point of the grid, the last axis fastest.

    Raises:
        NotFound: a part that no catalogue has.
    """
    found = []
    for values in product(*(axis.values for axis in given)):
        here, asked = site, work
        try:
            for axis, value in zip(given, values, strict=True):
                here, asked = _changed(here, asked, axis, value)
            found.append(Point(values, plan(here, asked, today, terms, tries=False)))
        except (Unsupported, ConfigError) as error:
            found.append(Point(values, None, f"{error.message}. {error.hint}".strip()))
    return found


def money_name(work: Training | Serving) -> str:
    """Return the figure that says what a work costs."""
    return "cost_usd" if isinstance(work, Training) else "usd_per_million_tokens"


def best(points: Sequence[Point]) -> Point | None:
    """Return the point that costs least, or None if nothing can be."""
    planned = [(each.plan.answer[money_name(each.plan.work)].mid, at) for at, each in enumerate(points) if each.plan]
    return points[min(planned)[1]] if planned else None


def as_csv(grids: Sequence[tuple[Training | Serving, Sequence[Axis], Sequence[Point]]]) -> str:
    """Return the points of each piece of work as one CSV.

    A row has the number of the work, its kind and model, what varied, the middle and bounds of every figure,
    bottleneck, best, and reason. What a piece of work does not have is empty.
    """
    planned = [each.plan for _, _, points in grids for each in points if each.plan]
    varied = list(dict.fromkeys(axis.name for _, given, _ in grids for axis in given))
    figures = list(dict.fromkeys(name for found in planned for name in found.answer))
    bounds = [(name, bound) for name in figures for bound in ("mid", "low", "high")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [name if bound == "mid" else f"{name}_{bound}" for name, bound in bounds]
    writer.writerow(["work", "kind", "model", *varied, *heads, "bottleneck", "is_best", "reason"])
    for place, (work, given, points) in enumerate(grids, 1):
        least = best(points)
        for each in points:
            answer: Mapping[str, object] = each.plan.answer if each.plan else {}
            at = dict(zip((axis.name for axis in given), each.values, strict=True))
            cells = [f"{getattr(answer[name], bound):.6g}" if name in answer else "" for name, bound in bounds]
            limit = each.plan.bottleneck if each.plan else ""
            before = [place, work.kind, work.model, *(at.get(name, "") for name in varied)]
            writer.writerow([*before, *cells, limit, int(each is least), each.reason])
    return text.getvalue()


def _axis(text: str, site: Site, work: Training | Serving) -> Axis:
    name, is_given, rest = text.partition("=")
    values = tuple(dict.fromkeys(value.strip() for value in rest.split(",") if value.strip()))
    if not is_given or not values:
        raise ConfigError(f"'{text}' names nothing to vary", hint="Write NAME=VALUE,VALUE such as nodes=8,16.")
    axis = Axis(name, _path(name.strip(), site, work), values)
    for value in values:
        _changed(site, work, axis, value)
    return axis


def _path(name: str, site: Site, work: Training | Serving) -> str:
    """Return the dotted path of a name: a short one, a field of the work, or a path in the site."""
    fields = [field for field in type(work).model_fields if field not in ("kind", "layout")]
    known = {f"work.{field}" for field in fields}
    known |= {f"{section}.{field}" for section in SECTIONS for field in _section(site, section)}
    short = {alias: path for alias, path in NAMES.items() if path in known} | {
        field: f"work.{field}" for field in fields
    }
    found = short.get(name, name.removeprefix("site."))
    if found in known:
        return found
    near = difflib.get_close_matches(name, [*short, *known], n=1, cutoff=0.3)
    told = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(short))}."
    raise ConfigError(
        f"nothing of this {work.kind} is called '{name}'", hint=f"{told} Any path of a site works: power.usd_per_kwh."
    )


def _section(site: Site, section: str) -> list[str]:
    model = Nodes if section == "nodes" else type(getattr(site, section))
    return [field for field in model.model_fields if field != "measured"]


def _changed(site: Site, work: Training | Serving, axis: Axis, value: str) -> tuple[Site, Training | Serving]:
    """Return site and work with one value changed; of a site's servers those with most of the accelerators change."""
    section, _, field = axis.path.partition(".")
    if section == "work":
        return site, _with(work, field, value, axis)
    if section != "nodes":
        return site.model_copy(update={section: _with(getattr(site, section), field, value, axis)}), work
    main = main_nodes(site)
    changed = _with(main, field, value, axis)
    if field == "accelerator":
        device = accelerator(value)
        domain = device.scaleup_accelerators if device.scaleup_accelerators > main.accelerators else 0
        changed = changed.model_copy(update={"rated_watts": 0.0, "scaleup": domain, "measured": None})
    nodes = tuple(changed if each is main else each for each in site.nodes)
    return site.model_copy(update={"nodes": nodes}), work


def _with(part: Part, field: str, value: str, axis: Axis) -> Part:
    try:
        return type(part).model_validate(part.model_dump() | {field: value})
    except ValidationError as error:
        told = "; ".join(sentence for _, sentence in explain(error, type(part)))
        raise ConfigError(
            f"{axis.name} cannot be '{value}': {told}", hint="Give values that a declaration may have."
        ) from error
