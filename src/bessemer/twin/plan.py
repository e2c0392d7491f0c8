"""The question that the planner answers: what does this work take at this site?

Owns the choice of who answers. Knows no file and no clock: sites and work are handed in, and so is the day.
"""

from __future__ import annotations

from datetime import date

from bessemer.twin.answer import Plan
from bessemer.twin.plan_serving import plan_serving
from bessemer.twin.plan_training import plan_training
from bessemer.twin.site import Site
from bessemer.twin.workload import Serving, Training


def plan(site: Site, work: Training | Serving, today: date) -> Plan:
    """Return what a piece of work takes at a site.

    Args:
        site: where.
        work: what.
        today: prices that are much older get a warning.

    Raises:
        Unsupported: it does not fit, or users' limits cannot be kept; the hint says the least change that helps.
        NotFound: a part that no catalogue has.
        ConfigError: the site breaks its own power envelope.
    """
    if isinstance(work, Serving):
        return plan_serving(site, work, today)
    return plan_training(site, work, today)
