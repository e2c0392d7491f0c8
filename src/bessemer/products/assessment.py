"""An assessment as a whole: where a factory stands, what is missing, what growing is worth, what the next run takes.

Owns the joining and the page. Every figure is made elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from bessemer.core.nouns import Noun
from bessemer.core.units import show_seconds
from bessemer.meter import load_price_book
from bessemer.products.config import FactoryConfig
from bessemer.products.figures import said
from bessemer.products.home import Home
from bessemer.products.machine import find_site
from bessemer.products.page import page, table
from bessemer.products.prospects import Demand, Prospect, demand, prospects
from bessemer.products.reconciliation import StageForecast, forecast
from bessemer.products.standing import Need, Standing, standing
from bessemer.twin.storage import days_until_full


class Asked(Noun):
    """What is asked of an assessment: sites, and what production is to do where the books do not say.

    Attributes:
        sites: to grow on, by name or path; ``here`` is this machine.
        requests_per_day: of production; from the books if None.
        answer_usd: what an accepted answer is worth; the price book's charge if None.
        budget_usd: for the next stage; None: nobody said.
    """

    sites: tuple[str, ...]
    requests_per_day: float | None = None
    answer_usd: float | None = None
    budget_usd: float | None = None


class Assessment(Noun):
    """Where a factory stands and where it can go. `provenance` of money is estimated, of what happened in `facts`.

    Attributes:
        standing: stage, facts and needs.
        missing: what the next stage asks for and does not have, the budget included.
        demand: what production is to do.
        prospects: growing, by site and scenario.
        days_until_full: site -> days until its storage is full at the lake's growth; None: never.
        next_run: what the next run is predicted to take on this machine.
    """

    standing: Standing
    missing: tuple[Need, ...]
    demand: Demand
    prospects: tuple[Prospect, ...]
    days_until_full: dict[str, float | None]
    next_run: tuple[StageForecast, ...]


def assess(home: Home, config: FactoryConfig, base: Path, asked: Asked, now: float) -> Assessment:
    """Return where a factory stands and where it can go.

    Args:
        home: its state; nothing is written to it.
        config: the factory.
        base: the folder that its relative paths start from.
        asked: which sites, and what production is to do.
        now: Unix time in seconds.

    Raises:
        NotFound: there is no such site, model or source; names the nearest.
        ConfigError: a site or the price book cannot be read, or breaks its own limits.
    """
    sites = [find_site(home, name) for name in asked.sites]
    found = standing(home, config, base, now)
    book = config.meter.price_book
    wanted = demand(found, load_price_book(base / book if book else None), asked.requests_per_day, asked.answer_usd)
    today = datetime.fromtimestamp(now, UTC).date()
    grown = [each for site in sites for each in prospects(site, config, found, wanted, today)]
    known = {fact.name: fact.value for fact in found.facts}
    held, daily = known.get("lake_bytes", 0.0), known.get("lake_bytes_per_day", config.plan.expected.lake_bytes_per_day)
    full = {site.name: days_until_full(site, daily, held) for site in sites}
    return Assessment(
        standing=found,
        missing=(*found.missing, *_budget(found, grown, asked.budget_usd)),
        demand=wanted,
        prospects=tuple(grown),
        days_until_full={name: None if days == float("inf") else days for name, days in full.items()},
        next_run=tuple(forecast([home], config.sources, config.llm, base)),
    )


def _budget(found: Standing, grown: Sequence[Prospect], budget: float | None) -> list[Need]:
    """Return the budget as a need of the next stage, unless it is there; the middle scenario's cost counts."""
    costs = [each.stages[0] for each in grown if each.scenario == "middle" and each.stages]
    if not costs:
        return []
    stage, asked = costs[0].stage, max(each.estimated_usd for each in costs)
    if budget is not None and budget >= asked:
        return []
    told = "no budget is named" if budget is None else f"the budget is {said(budget)} USD"
    detail = f"{told}; the next stage takes about {said(asked)} USD"
    return [Need(stage=stage, name="budget", met=False, detail=detail, advice=f"--budget-usd {asked:.0f}")]


def assessment_page(found: Assessment) -> str:
    """Return an assessment as a whole HTML document."""
    at = found.standing
    missing = [(need.name, need.detail, need.advice) for need in found.missing]
    facts = [(fact.name, said(fact.value), fact.provenance, fact.source) for fact in at.facts]
    worth = [
        (
            each.site,
            each.scenario,
            said(each.requests_per_day),
            *(
                (each.problem and ("–", "–", "–", each.problem))
                or (said(each.committed_usd), said(each.staged_usd), said(each.option_usd), path(each))
            ),
        )
        for each in found.prospects
    ]
    parts = (
        f"<h1>{escape(at.factory)}: {escape(at.stage)}</h1>",
        "<h2>What is missing before the next stage</h2>",
        table(("what", "now", "what to do"), missing, text=True) if missing else "<p>Nothing.</p>",
        "<h2>Facts</h2>",
        table(("figure", "value", "known", "from"), facts, text=True),
        "<h2>Growing (estimated, USD of today)</h2>",
        table(("site", "scenario", "requests/day", "all paid", "with stops", "the right to stop", "stages"), worth),
        "<h2>The next run on this machine (predicted)</h2>",
        table(("stage", "time"), [(line.stage, show_seconds(line.seconds)) for line in found.next_run]),
    )
    return page(f"{at.factory}: assessment", "".join(parts))


def path(found: Prospect) -> str:
    """Return the stages that are left in words: when, for how much, and whether to go on."""
    return " → ".join(
        f"{each.stage} in {each.in_years:g} y for {said(each.estimated_usd)}"
        + ("" if each.value_usd > 0 else " (stop)")
        for each in found.stages
    )
