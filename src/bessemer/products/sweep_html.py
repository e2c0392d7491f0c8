"""Draws the points of a sweep: time and money of each in one plot, and all of them in a table.

Owns the section. Every figure comes from the planner and is modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bessemer.products.drawing import Dot, dots
from bessemer.products.figures import bounds, said, unit, words
from bessemer.products.page import table
from bessemer.twin.sweep import Axis, Point, best, money_name
from bessemer.twin.workload import Training


def sweep_section(axes: Sequence[Axis], points: Sequence[Point]) -> str:
    """Return the section on a grid's points as HTML; those that cannot be stand there with their reason."""
    named = [
        " · ".join(f"{axis.name} {value}" for axis, value in zip(axes, each.values, strict=True)) for each in points
    ]
    least = best(points)
    plans = [(name, each.plan, each is least) for name, each in zip(named, points, strict=True) if each.plan]
    drawn = ""
    if plans:
        work = plans[0][1].work
        time, usd = "days" if isinstance(work, Training) else "time_per_output_token_seconds", money_name(work)
        placed = [Dot(name, plan.answer[time].mid, plan.answer[usd].mid, is_best) for name, plan, is_best in plans]
        across, up = (f"{words(name)[0]},{unit(name)}" for name in (time, usd))
        drawn = dots(placed, across, up, said)
    rows = [
        (name, *_cells(each), "cheapest" if each is least else "") for name, each in zip(named, points, strict=True)
    ]
    head = ("point", "time", "cost", "energy", "bottleneck", "")
    told = f"{len(plans)} of {len(points)} points can be; the cheapest is marked."
    shown = table(head, rows, text=True)
    return f'<h2>Other points<span class="tag">modelled</span></h2><p>{escape(told)}</p>{drawn}{shown}'


def _cells(point: Point) -> tuple[str, str, str, str]:
    if point.plan is None:
        return "–", "–", "–", point.reason
    names = ("time_per_output_token_seconds", "usd_per_million_tokens", "joules_per_token")
    if isinstance(point.plan.work, Training):
        names = ("days", "cost_usd", "energy_kwh")
    answer = point.plan.answer
    time, usd, energy = (f"{said(answer[name].mid)}{unit(name)} ({bounds(answer[name])})" for name in names)
    return time, usd, energy, point.plan.bottleneck
