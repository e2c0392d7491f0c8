"""What could be done differently: changes of a site that any work may gain from, and the cheapest of all tried.

Owns the trying and its order. Knows no model: what a change costs is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from bessemer.core.errors import BessemerError, NotFound
from bessemer.twin import clouds
from bessemer.twin.answer import Change, rents, with_part
from bessemer.twin.clouds import Offer
from bessemer.twin.site import Site

Work = TypeVar("Work")
MOST = 3
WORTH_TELLING = 0.99
"""Cost over that of today from which a change is told."""

MODELLED = "market model"
"""Not a provider: what a market analyst's model says that accelerators rent for."""
PAID = {"on_demand": "on demand", "spot": "spot", "reserved_1y": "for a year", "reserved_3y": "for three years"}


def cheapest(
    variants: Iterable[tuple[str, Site, Work]],
    judge: Callable[[Site, Work], tuple[float, float]],
    now: tuple[float, float],
) -> tuple[Change, ...]:
    """Return the changes that cost least and less than now, three at most, cheapest first.

    Args:
        variants: name, site and work of each change; one that cannot be is left out.
        judge: gives cost and time of a site and a work.
        now: cost and time without a change.
    """
    found = []
    for name, site, work in variants:
        try:
            cost, time = judge(site, work)
        except BessemerError:
            continue
        found.append(Change(name, cost / now[0], time / now[1]))
    cheaper = (change for change in found if change.cost_ratio < WORTH_TELLING)
    return tuple(sorted(cheaper, key=lambda change: change.cost_ratio)[:MOST])


def of_site(site: Site) -> Iterator[tuple[str, Site]]:
    """Yield the changes of a site that any work may gain from: how it is cooled, and who owns it."""
    if site.cooling.kind in ("air", "rear_door"):
        better = {"kind": "direct_liquid", "liquid_ratio": 0.85, "rejection": "dry", "supply_celsius": 32.0}
        yield "direct liquid cooling", with_part(site, "cooling", **better)
    found = _renting(site)
    if found and not (rents(site) and site.money.provider == found[0].provider):
        yield rented(found[0]), with_part(site, "money", tenure="rented", provider=found[0].provider)
    if rents(site):
        yield "bought instead of rented", with_part(site, "money", tenure="owned")


def rented(offer: Offer) -> str:
    """Return an offer in words, with its price for an accelerator.

    >>> rented(Offer("Lambda", "H100-SXM-80GB", 2.99, "on_demand", "2026-03", "x"))
    'rented from Lambda on demand, 2.99 USD/h'
    """
    if offer.provider == MODELLED:
        return f"rented {PAID[offer.term]}, {offer.usd_per_hour:.2f} USD/h (modelled, no quote)"
    return f"rented from {offer.provider} {PAID[offer.term]}, {offer.usd_per_hour:.2f} USD/h"


def _renting(site: Site) -> list[Offer]:
    """Return what each provider that rents out all of a site's accelerators asks for its main ones, cheapest first."""
    fitted = [nodes for nodes in site.nodes if nodes.accelerators]
    main = max(fitted, key=lambda nodes: nodes.count * nodes.accelerators)
    found = []
    for provider in {each.provider for each in clouds.offers(main.accelerator)}:
        try:
            asked = {nodes.accelerator: clouds.offer(nodes.accelerator, provider) for nodes in fitted}
        except NotFound:
            continue
        found.append(asked[main.accelerator])
    return sorted(found, key=lambda each: (each.usd_per_hour, each.provider))
