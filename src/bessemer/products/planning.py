"""Brings the factory and the planner together: what a factory asks of a site, and the answers as values.

Owns the translation of a declaration into work. Knows no equation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date

from bessemer.core.errors import ConfigError
from bessemer.products.config import FactoryConfig
from bessemer.products.plan_html import plan_page
from bessemer.products.sweep_html import sweep_section
from bessemer.twin import money
from bessemer.twin.answer import Plan
from bessemer.twin.defaults import defaults
from bessemer.twin.interval import Interval
from bessemer.twin.plan import plan
from bessemer.twin.power import site_power
from bessemer.twin.scenario import Scenario
from bessemer.twin.simulate import Simulation, simulate
from bessemer.twin.site import Site
from bessemer.twin.sweep import Axis, Point, axes, best, sweep
from bessemer.twin.swings import swing
from bessemer.twin.terms import UNKNOWN, Terms
from bessemer.twin.totals import totals
from bessemer.twin.traffic import Job, Service, usual, usual_service
from bessemer.twin.workload import Serving, Training


def work_of(config: FactoryConfig) -> list[Training | Serving]:
    """Return what a factory asks of a site: the work that it declares, or the product's fine-tuning."""
    if config.plan.work:
        return list(config.plan.work)
    if config.llm is None:
        raise ConfigError(
            "this factory makes no language model, and names no work to plan", hint="Say what: `plan: {work: [...]}`."
        )
    train = config.llm.train
    rows = max(1, train.batch_tokens // train.max_length_tokens)
    return [
        Training(
            method="lora",
            model=config.llm.base,
            tokens=train.max_tokens,
            sequence_tokens=train.max_length_tokens,
            batch_sequences=rows,
            accelerators=1,
        )
    ]


def plan_all(site: Site, work: Sequence[Training | Serving], today: date, terms: Terms = UNKNOWN) -> list[Plan]:
    """Return the plan of each piece of work at a site. See `bessemer.twin.plan.plan`."""
    return [plan(site, each, today, terms) for each in work]


@dataclass(frozen=True, slots=True)
class Swept:
    """A piece of work at every point of a grid; without axes, one point."""

    site: Site
    work: Training | Serving
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]


def sweep_all(
    site: Site, work: Sequence[Training | Serving], given: Sequence[str], today: date, terms: Terms = UNKNOWN
) -> list[Swept]:
    """Return each piece of work at every point of a grid, from texts such as ``nodes=8,16``.

    Raises:
        ConfigError: a name that this work and site do not have; the hint says the nearest.
    """
    found = []
    for each in work:
        varied = tuple(axes(given, site, each))
        found.append(Swept(site, each, varied, tuple(sweep(site, each, varied, today, terms))))
    return found


def swept_values(found: Swept) -> dict[str, object]:
    """Return a grid as JSON values: every point with its plan's figures, or with the reason why it cannot be."""
    least = best(found.points)
    return {
        "site": found.site.name,
        "work": found.work.model_dump(mode="json"),
        "provenance": "modelled",
        "axes": [{"name": axis.name, "path": axis.path, "values": list(axis.values)} for axis in found.axes],
        "points": [
            {
                "values": dict(zip((axis.name for axis in found.axes), each.values, strict=True)),
                "is_best": each is least,
                "answer": _figures(each.plan) if each.plan else None,
                "bottleneck": each.plan.bottleneck if each.plan else "",
                "reason": each.reason,
            }
            for each in found.points
        ],
    }


def play(site: Site, days: float, seed: int, scenario: Scenario | None = None) -> Simulation:
    """Return months of a usual mix of jobs at a site. See `bessemer.twin.simulate.simulate`."""
    asked = scenario or Scenario()
    work: list[Job | Service] = [*usual(site, days, seed, asked.load_ratio, is_warm=True)]
    if round(asked.service_ratio * site.accelerators):
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


def plan_report(found: Sequence[Plan], swept: Sequence[Swept] = (), days: float = 30, seed: int = 0) -> str:
    """Return the plans of a site's work as one HTML page, with some days of the site played out.

    Args:
        found: at one site, at least one.
        swept: other points of each, if they were planned.
        days: that are played.
        seed: of the draws.
    """
    site = found[0].site
    drawn = [sweep_section(each.axes, each.points) if each.axes else "" for each in swept]
    return plan_page(found, site_power(site), totals(site), play(site, days, seed), drawn)


def as_values(found: Plan) -> dict[str, object]:
    """Return a plan as JSON values, each figure with its bounds and how it is known."""
    return {
        "site": found.site.name,
        "work": found.work.model_dump(mode="json"),
        "provenance": "modelled",
        "answer": _figures(found),
        "notes": dict(found.notes),
        "layout": found.layout.model_dump(mode="json") if found.layout else None,
        "limit": found.limit,
        "bottleneck": found.bottleneck,
        "shares": dict(found.shares),
        "changes": [{"name": c.name, "cost_ratio": c.cost_ratio, "time_ratio": c.time_ratio} for c in found.changes],
        "swings": [{"name": s.name, "at_low": s.at_low, "at_high": s.at_high} for s in found.swings],
        "warnings": list(found.warnings),
        "defaults": [asdict(each) for each in defaults(found.site)],
        "site_totals": site_totals(found.site),
    }


def site_totals(site: Site) -> dict[str, dict[str, float | str | None]]:
    """Return a site's totals as JSON values, modelled, each beside what was published; None where nobody did."""
    return {
        total.name: {**_bounds(total.modelled), "published": total.published, "source": total.source}
        for total in totals(site)
    }


def _figures(found: Plan) -> dict[str, dict[str, float]]:
    return {name: _bounds(given) for name, given in found.answer.items()}


def _bounds(given: Interval) -> dict[str, float]:
    return {"mid": given.mid, "low": given.low, "high": given.high}
