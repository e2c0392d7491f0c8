"""The question that the planner answers: what does this work take at this site?

Owns the choice of who answers. Knows no file and no clock: sites and work are handed in, and so is the day.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from bessemer.twin import money, storage
from bessemer.twin.answer import Plan
from bessemer.twin.interval import Interval
from bessemer.twin.plan_serving import plan_serving
from bessemer.twin.plan_training import plan_training
from bessemer.twin.site import Site
from bessemer.twin.terms import UNKNOWN, Terms
from bessemer.twin.workload import Serving, Training


def plan(site: Site, work: Training | Serving, today: date, terms: Terms = UNKNOWN, *, tries: bool = True) -> Plan:
    """Return what a piece of work takes at a site.

    Args:
        site: where.
        work: what.
        today: prices that are much older get a warning.
        terms: what is known of the product: accepted answers, prices.
        tries: whether changes are tried; without, the plan has none.

    Raises:
        Unsupported: it does not fit, or users' limits cannot be kept; the hint says the least change that helps.
        NotFound: a part that no catalogue has.
        ConfigError: the site breaks its own power envelope.
    """
    if isinstance(work, Serving):
        found = plan_serving(site, work, today, terms, tries=tries)
    else:
        found = plan_training(site, work, today, tries=tries)
    return _grown(replace(found, warnings=(*found.warnings, *money.stale(site, today))), terms)


def _grown(found: Plan, terms: Terms) -> Plan:
    """Return a plan with what the lake's growth takes of the site's shared storage, if its pace is known."""
    pace, site = terms.lake_bytes_per_day, found.site
    if not pace:
        return found
    usd = money.store_usd(site, pace * 365)
    figures = {
        "store_full_days": Interval.exactly(storage.days_until_full(site, pace, terms.lake_bytes)),
        "store_usd_per_year": Interval(usd, usd * (1 - money.SPREAD), usd * (1 + money.SPREAD)),
    }
    told = f"at a steady {pace / 1e9:.3g} GB a day; {terms.growth}"
    notes = dict.fromkeys(figures, told)
    return replace(found, answer={**found.answer, **figures}, notes={**found.notes, **notes})
