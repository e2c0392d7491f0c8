"""What growing is worth: the stages that are left, their cash flow and value at a site, with the right to stop.

Owns what each stage buys and what production earns; all dollars are estimates. The decision tree is the twin's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from bessemer.core.errors import ConfigError, Unsupported
from bessemer.core.nouns import Noun, Usage
from bessemer.meter import PriceBook
from bessemer.products.config import FactoryConfig
from bessemer.products.standing import DAY, STAGES, Standing
from bessemer.twin import growth, money
from bessemer.twin.catalogue import table
from bessemer.twin.plan import plan
from bessemer.twin.power import site_power
from bessemer.twin.site import Site
from bessemer.twin.workload import Serving

USD_PER_PERSON_YEAR = 150_000.0
"""Assumed: an engineer with all that goes with one."""

USUAL_GROWTH = 100.0
"""Production's traffic over today's, where nobody says. Assumed."""

USUAL_REQUESTS_PER_DAY = 100_000.0
"""Production's traffic where there is none today either. Assumed."""

RUNNING_PEOPLE = 1.0
"""Who keep production running. Assumed."""

SWING = 0.6
"""How much of the busiest hour's traffic is missing in the quietest. Assumed, as in a declaration of work."""

DAYS_PER_YEAR = 365.0


class Ahead(Noun):
    """A stage that is left: what it costs as it begins, and what it is worth to stand before it; 0: stop there."""

    stage: str
    in_years: float
    estimated_usd: float
    success_ratio: float
    value_usd: float


class Prospect(Noun):
    """Growing at one site in one scenario. `problem` says why it cannot be, and there are no figures then.

    Attributes:
        requests_per_day: of production.
        stages: those that are left.
        cash_flow: (years from today, USD) when all goes well.
        committed_usd: expected present value when everything is paid for whatever happens.
        staged_usd: the same with the right to stop before each stage.
        option_usd: what that right is worth.
    """

    site: str
    scenario: str
    requests_per_day: float
    stages: tuple[Ahead, ...] = ()
    cash_flow: tuple[tuple[float, float], ...] = ()
    committed_usd: float = 0.0
    staged_usd: float = 0.0
    option_usd: float = 0.0
    problem: str = ""


class Demand(Noun):
    """What production is to do: requests a day, USD for an accepted answer, and how each is known."""

    requests_per_day: float
    usd_per_accepted: float
    sources: tuple[str, str]


def demand(found: Standing, prices: PriceBook, requests_per_day: float | None, usd: float | None) -> Demand:
    """Return what production is to do: as given, or from the books and the price book.

    Raises:
        ConfigError: the price book is in another currency, and no USD are given.
    """
    now = found.value("requests_per_day")
    wanted, told = requests_per_day, "given"
    if wanted is None:
        wanted = now * USUAL_GROWTH if now else USUAL_REQUESTS_PER_DAY
        told = f"assumed: {USUAL_GROWTH:g} times today's traffic" if now else "assumed: there is no traffic yet"
    if usd is not None:
        return Demand(requests_per_day=wanted, usd_per_accepted=usd, sources=(told, "given"))
    if prices.currency != "USD":
        told = f"the price book is in {prices.currency}"
        raise ConfigError(told, hint="Say what an accepted answer is worth: --answer-usd")
    usage = Usage(
        input_tokens=round(found.value("input_tokens_per_request")),
        output_tokens=round(found.value("output_tokens_per_request")),
    )
    charged = prices.charge(usage, found.factory).micros / 1e6
    known = "assumed: the shipped example of a price book" if prices.example else f"price book {prices.version}"
    return Demand(requests_per_day=wanted, usd_per_accepted=charged, sources=(told, known))


def prospects(site: Site, config: FactoryConfig, found: Standing, wanted: Demand, today: date) -> list[Prospect]:
    """Return what growing to production at a site is worth, by scenario.

    Raises:
        NotFound: no catalogue has the model, or a part of the site.
        ConfigError: the site breaks its own power envelope.
    """
    done = []
    for row in table("growth_scenarios"):
        traffic, value, cost = (float(row[name]) for name in ("traffic_ratio", "value_ratio", "cost_ratio"))
        asked = Demand(
            requests_per_day=wanted.requests_per_day * traffic,
            usd_per_accepted=wanted.usd_per_accepted * value,
            sources=wanted.sources,
        )
        try:
            capital, pilot, running = _costs(site, _work(config, found, asked), today)
        except Unsupported as error:
            problem = f"{error.message}. {error.hint}"
            told = Prospect(
                site=site.name, scenario=row["name"], requests_per_day=asked.requests_per_day, problem=problem
            )
            done.append(told)
            continue
        compute = {"pilot": pilot * cost, "production": capital * cost}
        earned = asked.requests_per_day * DAYS_PER_YEAR * asked.usd_per_accepted * found.value("accepted_ratio")
        yearly = [earned - cost * running] * max(1, round(site.money.life_years))
        done.append(_prospect(site, row["name"], asked, _stages(found, compute, cost), yearly))
    return done


def _work(config: FactoryConfig, found: Standing, wanted: Demand) -> Serving:
    """Return production's work: the serving that the factory declares, or its own model with the usual request."""
    declared = [work for work in config.plan.work if isinstance(work, Serving)]
    if not declared and config.llm is None:
        raise Unsupported(
            "this factory serves no language model", hint="Name what production is to serve: `plan: {work: [...]}`"
        )
    model = config.llm.base if config.llm else ""
    work = declared[0] if declared else Serving(model=model, daily_swing_ratio=SWING)
    peak = wanted.requests_per_day / DAY / (1 - work.daily_swing_ratio / 2)  # the mean of a sine lies half below
    asked: dict[str, object] = {"requests_per_second": peak}
    if not declared:
        asked |= {
            "input_tokens": max(1, round(found.value("input_tokens_per_request"))),
            "output_tokens": max(1, round(found.value("output_tokens_per_request"))),
        }
    return work.model_copy(update=asked)


def _costs(site: Site, work: Serving, today: date) -> tuple[float, float, float]:
    """Return USD to buy production's share of a site, to run a pilot of one replica, and to run production for a year.

    Raises:
        Unsupported: the site does not hold it.
    """
    answer = plan(site, work, today).answer
    replica = answer["accelerators_per_replica"].mid
    share = answer["replicas"].mid * replica / site.accelerators
    watts = answer["joules_per_token"].mid * answer["tokens_per_second"].mid
    drawn = site_power(site).facility_watts
    bill = money.bill(site, drawn)
    rented = site.money.tenure == "rented"
    power = 0.0 if rented else watts / 1000 * site.power.usd_per_kwh
    running = (power + share * (bill.rent + bill.people)) * money.HOURS_PER_YEAR + RUNNING_PEOPLE * USD_PER_PERSON_YEAR
    capital = 0.0 if rented else share * sum(money.capital(site, drawn.mid).values())
    years = next(float(row["years"]) for row in table("growth") if row["name"] == "pilot")
    pilot = bill.usd_per_accelerator_hour.mid * replica * years * money.HOURS_PER_YEAR
    return capital, pilot, running


def _stages(found: Standing, compute: Mapping[str, float], cost: float) -> list[growth.Stage]:
    """Return the stages that are left: what was reached is paid."""
    left = STAGES[STAGES.index(found.stage) + 1 :]
    return [
        growth.Stage(
            name=row["name"],
            estimated_usd=cost * float(row["people_years"]) * USD_PER_PERSON_YEAR + compute.get(row["name"], 0.0),
            years=float(row["years"]),
            success_ratio=float(row["success_ratio"]),
            estimated_salvage_usd=float(row["salvage_ratio"]) * compute.get(row["name"], 0.0),
        )
        for row in table("growth")
        if row["name"] in left
    ]


def _prospect(site: Site, scenario: str, wanted: Demand, stages: list[growth.Stage], yearly: list[float]) -> Prospect:
    rate = site.money.discount_ratio
    payoff = money.present_value([0.0, *yearly], rate)
    values = growth.values_usd(stages, payoff, rate)
    begins = [sum(stage.years for stage in stages[:index]) for index in range(len(stages))]
    return Prospect(
        site=site.name,
        scenario=scenario,
        requests_per_day=wanted.requests_per_day,
        stages=tuple(
            Ahead(
                stage=stage.name,
                in_years=begun,
                estimated_usd=stage.estimated_usd,
                success_ratio=stage.success_ratio,
                value_usd=value,
            )
            for stage, begun, value in zip(stages, begins, values, strict=False)
        ),
        cash_flow=tuple(growth.cash_flow(stages, yearly)),
        committed_usd=growth.committed_usd(stages, payoff, rate),
        staged_usd=values[0],
        option_usd=growth.option_usd(stages, payoff, rate),
    )
