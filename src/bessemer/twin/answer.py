"""The shape of an answer: figures with bounds, what limits them, and what would be cheaper.

Owns the nouns that planning training and planning serving share. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bessemer.core.errors import Unsupported
from bessemer.twin.interval import Interval
from bessemer.twin.site import Nodes, Site
from bessemer.twin.uncertainty import Swing
from bessemer.twin.workload import Layout, Serving, Training


@dataclass(frozen=True, slots=True)
class Change:
    """One thing done differently; the ratios are over the plan's own figures: 0.9 is a tenth less."""

    name: str
    cost_ratio: float
    time_ratio: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer. Every figure is modelled, and holds 80 % of what may happen.

    Attributes:
        site: where.
        work: what.
        answer: figure, with its unit last in the name -> interval.
        layout: how the model is cut, when training.
        limit: what most of the time goes into, in words.
        bottleneck: the same, in a word or two.
        shares: what the time goes into -> share; they sum to 1.
        changes: the three that cost least for the same work, cheapest first.
        swings: how far each uncertain input alone moves the cost, the largest first.
        warnings: what to look at before relying on this.
        notes: figure -> what it means and where its inputs are from, where that is not plain.
    """

    site: Site
    work: Training | Serving
    answer: Mapping[str, Interval]
    layout: Layout | None
    limit: str
    bottleneck: str
    shares: Mapping[str, float]
    changes: tuple[Change, ...]
    swings: tuple[Swing, ...]
    warnings: tuple[str, ...]
    notes: Mapping[str, str]


def main_nodes(site: Site) -> Nodes:
    """Return the servers that hold most of a site's accelerators.

    Raises:
        Unsupported: it has none.
    """
    if not site.accelerators:
        raise Unsupported(f"site '{site.name}' has no accelerators", hint="Name a site that has some.")
    return max(site.nodes, key=lambda nodes: nodes.count * nodes.accelerators)


def rents(site: Site) -> bool:
    """Return whether somebody else owns the site."""
    return site.money.tenure == "rented"


def around(value: float, ratio: float) -> Interval:
    """Return an interval as wide as prices and grids differ within a year; the width is assumed."""
    return Interval(value, value * (1 - ratio), value * (1 + ratio))


def with_part(site: Site, part: str, **values: object) -> Site:
    """Return a site with some values of one part changed."""
    return site.model_copy(update={part: getattr(site, part).model_copy(update=values)})
