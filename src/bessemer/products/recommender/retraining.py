"""Making a factory's products anew on a schedule, from what its gateway was told meanwhile.

Owns when: at most once in an interval, and only if there is something new. Any number of processes may tick; one of
them runs. What passes the gate is deployed, so a worse model never replaces a better one by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from bessemer.flow import Trigger, open_store
from bessemer.products.factory import Factory
from bessemer.products.line import build_line
from bessemer.products.receipt import Receipt
from bessemer.products.recommender.config import RecommenderConfig
from bessemer.serve import EventStore


def retrain(
    factory: Factory, every_seconds: float = 86_400.0, clock: Callable[[], float] = time.time
) -> Receipt | None:
    """Run a factory if it was told of new events, at most once in an interval; return the receipt, None if not.

    Args:
        factory: with a recommender that learns from projects (`learning.projects`).
        every_seconds: length of the interval, counted from 1970.
        clock: Unix time in seconds.

    Raises:
        BackendError: a step failed for good; a re-run resumes.
        Cancelled: somebody asked to stop.
    """
    projects = sorted(
        {
            project
            for product in factory.config.made.values()
            if isinstance(product, RecommenderConfig)
            for project in product.learning.projects
        }
    )
    if not projects or not factory.home.events.exists():
        return None
    with closing(EventStore(factory.home.events)) as events:
        count, last = events.state(projects)
    store = open_store(factory.home.database_url)
    name = f"retrain {factory.config.name}"
    interval = str(int(clock() // every_seconds))
    known = (store.fingerprint(name) or " ").split(" ", 1)
    if known[0] == interval or known[1:] == [f"{count} to {last}"] or not count:
        return None
    trigger = Trigger(
        name,
        flow=lambda found: build_line(factory.declared, factory.products(), factory.home.erased()),
        fingerprint=lambda: f"{interval} {count} to {last}",
    )
    run = trigger.tick(store)
    return factory.run(run) if run else None
