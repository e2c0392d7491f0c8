"""A site beside what others rent out: dollars an accelerator-hour, and from which use on owning is cheaper.

Owns the comparison. Knows no clock: the day is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from bessemer.twin import clouds, money
from bessemer.twin.answer import main_nodes
from bessemer.twin.interval import Interval
from bessemer.twin.power import site_power
from bessemer.twin.site import Site

YEARS = (3, 5)


@dataclass(frozen=True, slots=True)
class Offered:
    """One way to have the site's accelerators.

    Attributes:
        name: the site itself, or a provider and its term.
        usd_per_hour: for one accelerator that is used, at the utilisation of the site.
        break_even_ratio: utilisation above which owning is cheaper than this; NaN for the site itself.
        usd_by_years: years -> of all accelerators, for the same useful hours.
        warning: why the price should be looked up again, or "".
    """

    name: str
    usd_per_hour: Interval
    break_even_ratio: float
    usd_by_years: dict[int, float]
    warning: str


def compare(site: Site, today: date) -> list[Offered]:
    """Return the site and every offer of the catalogue for its accelerators, cheapest first.

    Owning costs every hour, renting the hours that are used: both are told per used hour.

    Args:
        site: owned; its utilisation counts.
        today: old prices get a warning.

    Raises:
        Unsupported: the site has no accelerators.
    """
    nodes, used = main_nodes(site), site.money.utilisation_ratio
    owned = site.model_copy(update={"money": site.money.model_copy(update={"tenure": "owned"})})
    bill = money.bill(owned, site_power(owned, load=used).facility_watts)
    mine = bill.usd_per_accelerator_hour
    hours = money.HOURS_PER_YEAR * used * site.accelerators
    found = [_offered(f"{site.name} (owned)", mine.scaled(1 / used), float("nan"), hours, "")]
    for offer in clouds.offers(nodes.accelerator):
        price = Interval.exactly(offer.usd_per_hour)
        even = money.break_even_ratio(mine.mid, offer.usd_per_hour)
        found.append(_offered(f"{offer.provider}, {offer.term}", price, even, hours, offer.warning(today)))
    return sorted(found, key=lambda each: each.usd_per_hour.mid)


def _offered(name: str, price: Interval, even: float, hours: float, warning: str) -> Offered:
    return Offered(name, price, even, {years: price.mid * hours * years for years in YEARS}, warning)
