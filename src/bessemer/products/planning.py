"""Brings the factory and the planner together: what a factory asks of a site, and the answers as values.

Owns the translation of a declaration into work. Knows no equation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

from bessemer.products.factory import FactoryConfig
from bessemer.products.plan_html import plan_page
from bessemer.twin import money
from bessemer.twin.answer import Plan
from bessemer.twin.interval import Interval
from bessemer.twin.plan import plan
from bessemer.twin.power import site_power
from bessemer.twin.scenario import Scenario
from bessemer.twin.simulate import Simulation, simulate
from bessemer.twin.site import Site
from bessemer.twin.swings import swing
from bessemer.twin.totals import totals
from bessemer.twin.traffic import Job, Service, usual, usual_service
from bessemer.twin.workload import Serving, Training


def work_of(config: FactoryConfig) -> list[Training | Serving]:
    """Return what a factory asks of a site: the work that it declares, or the product's fine-tuning."""
    if config.work:
        return list(config.work)
    train = config.product.train
    rows = max(1, train.batch_tokens // train.max_length_tokens)
    return [
        Training(
            method="lora",
            model=config.product.base,
            tokens=train.max_tokens,
            sequence_tokens=train.max_length_tokens,
            batch_sequences=rows,
            accelerators=1,
        )
    ]


def plan_all(site: Site, work: Sequence[Training | Serving], today: date) -> list[Plan]:
    """Return the plan of each piece of work at a site. See `bessemer.twin.plan.plan`."""
    return [plan(site, each, today) for each in work]


def play(site: Site, days: float, seed: int, scenario: Scenario | None = None) -> Simulation:
    """Return months of a usual mix of jobs at a site. See `bessemer.twin.simulate.simulate`."""
    asked = scenario or Scenario()
    work: list[Job | Service] = [*usual(site, days, seed, asked.load_ratio, is_warm=True)]
    if asked.service_ratio:
        work.append(usual_service(site, asked.service_ratio))
    bill = money.bill(site, site_power(site, load=1.0).facility_watts)
    fixed = bill.capital.mid + bill.people + bill.rent
    return simulate(site, work, days, seed, scenario=asked, fixed_usd_per_hour=fixed)


def simulated_values(site: Site, found: Simulation) -> dict[str, object]:
    """Return a simulation as JSON values: totals, what was lost by cause, failures by component, swings of the load."""
    return {
        "provenance": "simulated",
        "totals": asdict(found.totals),
        "loss_accelerator_hours": dict(found.loss),
        "failures": dict(found.causes),
        "events": found.events,
        "swing": {"provenance": "modelled", **asdict(swing(site))},
    }


def plan_report(found: Plan, days: float = 30, seed: int = 0) -> str:
    """Return a plan as an HTML page, with some days of its site played out. See `bessemer.products.plan_html`."""
    site = found.site
    return plan_page(found, site_power(site), totals(site), play(site, days, seed))


def as_values(found: Plan) -> dict[str, object]:
    """Return a plan as JSON values, each figure with its bounds and how it is known."""

    def bounds(given: Interval) -> dict[str, float]:
        return {"mid": given.mid, "low": given.low, "high": given.high}

    return {
        "site": found.site.name,
        "work": found.work.model_dump(mode="json"),
        "provenance": "modelled",
        "answer": {name: bounds(given) for name, given in found.answer.items()},
        "layout": found.layout.model_dump(mode="json") if found.layout else None,
        "limit": found.limit,
        "shares": dict(found.shares),
        "changes": [{"name": c.name, "cost_ratio": c.cost_ratio, "time_ratio": c.time_ratio} for c in found.changes],
        "swings": [{"name": s.name, "at_low": s.at_low, "at_high": s.at_high} for s in found.swings],
        "warnings": list(found.warnings),
    }
