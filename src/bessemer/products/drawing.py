"""Drawings for pages as inline SVG: shares of a whole, flows, swings, and time lines. No script.

Owns coordinates and colours. Knows no plan: values, names and words come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

COLORS = ("#d9622b", "#3b82c4", "#2a9d8f", "#8b6fc0", "#d4a017", "#c94f6d", "#7a8f3c", "#5f7d95", "#a9744f", "#94a3b8")
"""Of one lightness, so that they stand on white and on black."""
WIDTH = 740
"""Of every drawing, in its own units; the page scales it."""
Show = Callable[[float], str]
"""Says a value in words."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A named part of a whole; `through` says whether it flows through the hub of a flow chart."""

    name: str
    value: float
    color: str
    through: bool = False


def legend(slices: Iterable[Slice], show: Show) -> str:
    """Return names with their colours and values, as HTML."""
    told = "".join(
        f'<span><i style="background:{part.color}"></i>{escape(part.name)} <b>{escape(show(part.value))}</b></span>'
        for part in slices
    )
    return f'<p class="legend">{told}</p>'


def bar(slices: Sequence[Slice], show: Show) -> str:
    """Return one bar cut in proportion, with its legend."""
    whole, x, drawn = sum(part.value for part in slices) or 1.0, 0.0, ""
    for part in slices:
        wide = WIDTH * part.value / whole
        said = escape(f"{part.name}: {show(part.value)}")
        drawn += (
            f'<rect x="{x:.2f}" y="0" width="{wide:.2f}" height="26" fill="{part.color}"><title>{said}</title></rect>'
        )
        x += wide
    return f'<svg viewBox="0 0 {WIDTH} 26" role="img" aria-label="shares">{drawn}</svg>' + legend(slices, show)


HIGH = 230
TOP, GAP = 22, 17


def sankey(slices: Sequence[Slice], source: str, hub: str, show: Show) -> str:
    """Return a flow chart: a source that splits into slices, some of them by way of a hub. Widths are in proportion.

    Args:
        slices: from top to bottom; those that flow through the hub come first.
        source: its name.
        hub: its name.
        show: says a value.
    """
    whole = sum(part.value for part in slices) or 1.0
    hubbed = sum(part.value for part in slices if part.through)
    left, middle, right, top = 8, 300, 540, float(TOP)
    deep = HIGH * hubbed / whole
    drawn = _ribbon(left + 12, top, middle, top + GAP, deep, "var(--soft)", f"{source} to {hub}: {show(hubbed)}")
    from_source, from_hub, y = top + deep, top + GAP, top
    for part in slices:
        deep_part, said = HIGH * part.value / whole, f"{part.name}: {show(part.value)}"
        if part.through:
            drawn += _ribbon(middle + 12, from_hub, right, y, deep_part, part.color, said)
            from_hub += deep_part
        else:
            drawn += _ribbon(left + 12, from_source, right, y, deep_part, part.color, said)
            from_source += deep_part
        drawn += _block(right, y, deep_part, part.color)
        drawn += (
            f'<text x="{right + 20}" y="{y + deep_part / 2 + 4:.1f}"><tspan class="ink">{escape(part.name)}</tspan> '
            f"{escape(show(part.value))} ({part.value / whole:.1%})</text>"
        )
        y += deep_part + GAP
    drawn += _block(left, top, HIGH, "var(--ink)") + _block(middle, top + GAP, deep, "var(--ink)")
    drawn += f'<text x="{left}" y="{TOP - 8}"><tspan class="ink">{escape(source)}</tspan> {escape(show(whole))}</text>'
    drawn += (
        f'<text x="{middle + 6}" y="{TOP + GAP - 8}" text-anchor="middle"><tspan class="ink">{escape(hub)}</tspan> '
        f"{escape(show(hubbed))}</text>"
    )
    tall = max(y, TOP + HIGH) + 8
    said = escape(f"{source} {show(whole)} splits into " + ", ".join(f"{p.name} {show(p.value)}" for p in slices))
    return f'<svg viewBox="0 0 {WIDTH} {tall:.0f}" role="img" aria-label="{said}">{drawn}</svg>'


def _ribbon(x: float, y: float, to_x: float, to_y: float, deep: float, color: str, said: str) -> str:
    """Return a band of one depth between two places, by upper left corners."""
    half = (x + to_x) / 2
    path = (
        f"M{x:.1f},{y:.2f}C{half:.1f},{y:.2f} {half:.1f},{to_y:.2f} {to_x:.1f},{to_y:.2f}v{deep:.3f}"
        f"C{half:.1f},{to_y + deep:.2f} {half:.1f},{y + deep:.2f} {x:.1f},{y + deep:.2f}z"
    )
    return f'<path class="flow" data-depth="{deep:.3f}" d="{path}" fill="{color}"><title>{escape(said)}</title></path>'


def _block(x: float, y: float, deep: float, color: str) -> str:
    return f'<rect x="{x}" y="{y:.2f}" width="12" height="{max(deep, 0.5):.2f}" fill="{color}"/>'


def swings(rows: Sequence[tuple[str, float, float]], middle: float, show: Show) -> str:
    """Return a tornado chart: for each input the answer at its low and at its high bound, around the middle.

    Args:
        rows: input, the answer at its low bound, the answer at its high one.
        middle: the answer when all inputs are in the middle.
        show: says an answer.
    """
    ends = [middle, *(value for _, *both in rows for value in both)]
    low, high = min(ends), max(ends)
    left, wide = 250, 360

    def place(value: float) -> float:
        return left + wide * (value - low) / ((high - low) or 1.0)

    drawn, y = "", 20
    for name, at_low, at_high in rows:
        for value, color in ((at_low, COLORS[1]), (at_high, COLORS[0])):
            x, to_x = sorted((place(middle), place(value)))
            drawn += f'<rect x="{x:.1f}" y="{y}" width="{max(to_x - x, 0.5):.1f}" height="18" fill="{color}"/>'
        less, more = sorted((at_low, at_high))
        drawn += f'<text x="{left - 90}" y="{y + 13}" text-anchor="end" class="ink">{escape(name)}</text>'
        drawn += f'<text x="{place(less) - 6:.1f}" y="{y + 13}" text-anchor="end">{escape(show(less))}</text>'
        drawn += f'<text x="{place(more) + 6:.1f}" y="{y + 13}">{escape(show(more))}</text>'
        y += 26
    x = place(middle)
    drawn += f'<line x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{y - 2}" stroke="var(--ink)"/>'
    drawn += f'<text x="{x:.1f}" y="10" text-anchor="middle" class="ink">{escape(show(middle))}</text>'
    return f'<svg viewBox="0 0 {WIDTH} {y}" role="img" aria-label="what the answer depends on">{drawn}</svg>'


LEFT, RIGHT, CEILING = 56, 732, 20
"""Between these, and below that, stand time lines."""


def areas(lines: Sequence[tuple[Slice, Sequence[float]]], days: float, whole: float, unit: str) -> str:
    """Return time lines on top of each other, the first one lowest, up to the whole.

    Args:
        lines: a slice for name and colour, and its values, evenly spaced over the days.
        days: how long all of it takes.
        whole: top of the chart.
        unit: of the values.
    """
    high, count = 200.0, len(lines[0][1])
    floor, drawn = [0.0] * count, _scale(whole, high, unit)
    for part, values in lines:
        roof = [below + value for below, value in zip(floor, values, strict=True)]
        edge = [*_steps(roof, whole, high), *reversed(_steps(floor, whole, high))]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in edge)
        drawn += f'<polygon points="{path}" fill="{part.color}"><title>{escape(part.name)}</title></polygon>'
        floor = roof
    drawn += _days(days, high)
    return f'<svg viewBox="0 0 {WIDTH} 250" role="img" aria-label="{escape(unit)} by state over time">{drawn}</svg>'


def line(values: Sequence[float], days: float, unit: str) -> str:
    """Return one time line from nothing up to its peak."""
    high, peak = 110.0, max(values) * 1.08 or 1.0
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in _steps(values, peak, high))
    drawn = f'<polyline points="{path}" fill="none" stroke="var(--hot)" stroke-width="1.5"/>'
    drawn += _scale(peak, high, unit) + _days(days, high)
    return f'<svg viewBox="0 0 {WIDTH} 160" role="img" aria-label="{escape(unit)} over time">{drawn}</svg>'


def _steps(values: Sequence[float], peak: float, high: float) -> list[tuple[float, float]]:
    """Return the corners of a line that holds each value for its whole stretch."""
    wide = (RIGHT - LEFT) / len(values)
    corners = []
    for place, value in enumerate(values):
        y = CEILING + high * (1 - value / peak)
        corners += [(LEFT + place * wide, y), (LEFT + (place + 1) * wide, y)]
    return corners


def _scale(peak: float, high: float, unit: str) -> str:
    drawn = ""
    for share in (0.0, 0.5, 1.0):
        y, value = CEILING + high * (1 - share), peak * share
        told = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        drawn += f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
        drawn += f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{told}</text>'
    return drawn + f'<text x="{LEFT}" y="12" class="ink">{escape(unit)}</text>'


def _days(days: float, high: float) -> str:
    step = next((each for each in (0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 90) if days / each <= 10), days / 6)
    drawn, day = "", 0.0
    while day <= days:
        x = LEFT + (RIGHT - LEFT) * day / days
        drawn += f'<text x="{x:.1f}" y="{high + CEILING + 17:.0f}" text-anchor="middle">{day:g}</text>'
        day += step
    return drawn + f'<text x="4" y="{high + CEILING + 17:.0f}">day</text>'


@dataclass(frozen=True, slots=True)
class Dot:
    """A named point of a plot; the best one is marked."""

    name: str
    x: float
    y: float
    is_best: bool = False


NAMED = 16
"""Dots up to which each has its name beside it; more are named when pointed at."""


def dots(points: Sequence[Dot], across: str, up: str, show: Show) -> str:
    """Return points over two axes that both begin at nothing.

    Args:
        points: one or more.
        across: name and unit of the axis from left to right.
        up: the same from below.
        show: says a value.
    """
    high = 240.0
    wide, tall = (max(getattr(point, side) for point in points) * 1.1 or 1.0 for side in ("x", "y"))
    drawn = _scale(tall, high, up)
    for share in (0.0, 0.5, 1.0):
        x = LEFT + (RIGHT - LEFT) * share
        anchor, told = ("start" if share == 0 else "middle" if share < 1 else "end"), escape(show(wide * share))
        drawn += f'<text x="{x:.1f}" y="{high + CEILING + 17:.0f}" text-anchor="{anchor}">{told}</text>'
    drawn += f'<text x="{RIGHT}" y="{high + CEILING + 34:.0f}" text-anchor="end" class="ink">{escape(across)}</text>'
    for point in sorted(points, key=lambda each: each.is_best):
        x, y = LEFT + (RIGHT - LEFT) * point.x / wide, CEILING + high * (1 - point.y / tall)
        color, size = (COLORS[0], 6) if point.is_best else (COLORS[1], 4)
        told = escape(f"{point.name}: {show(point.x)}, {show(point.y)}")
        drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{color}"><title>{told}</title></circle>'
        if len(points) <= NAMED:
            turn = 'end" dx="-8' if point.x > 0.6 * wide else 'start" dx="8'
            drawn += f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{turn}">{escape(point.name)}</text>'
    return f'<svg viewBox="0 0 {WIDTH} 300" role="img" aria-label="{escape(up)} over {escape(across)}">{drawn}</svg>'
