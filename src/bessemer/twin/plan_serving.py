"""What serving a model takes at a site: replicas, speed, energy and money for a million tokens, and what limits it.

Owns the joining of the serving model with power, failures and money. Knows no training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from bessemer.core.errors import Unsupported
from bessemer.twin import changes, clouds, inference, money, network, power, training
from bessemer.twin.accelerators import Accelerator
from bessemer.twin.answer import Plan, around, main_nodes, rents
from bessemer.twin.availability import ENOUGH, enough_ratio, replica_ratio, spare_replicas
from bessemer.twin.embodied import kgco2e_per_hour
from bessemer.twin.inference import Decode
from bessemer.twin.interval import Interval
from bessemer.twin.operations import reserved_servers
from bessemer.twin.replica import EXPERT_BYTES
from bessemer.twin.shape import shape
from bessemer.twin.site import Site
from bessemer.twin.storage import bytes_per_second
from bessemer.twin.terms import UNKNOWN, Terms
from bessemer.twin.uncertainty import Array, Model, propagate, tornado
from bessemer.twin.workload import Serving

FIGURES = (
    "tokens_per_second",
    "usd_per_million_tokens",
    "joules_per_token",
    "carbon_gco2e_per_million_tokens",
    "embodied_gco2e_per_million_tokens",
    "accepted_outputs_per_joule",
)
LEAST = 0.05
"""Share of the time that a replica must be up: below it a prediction means nothing."""
REVENUE = "revenue_usd_per_megawatt_year"
YEAR_SECONDS = 365 * 86400.0


@dataclass(frozen=True, slots=True)
class _Service:
    """Replicas placed at a site: all, how many of them are spare, how long each is up, how much of its time is used."""

    site: Site
    work: Serving
    device: Accelerator
    answer: Decode
    replicas: int
    spares: int
    up: Interval
    used_ratio: float
    terms: Terms = UNKNOWN

    @property
    def accelerators(self) -> int:
        """That all replicas hold."""
        return self.replicas * self.answer.accelerators + math.ceil(self.replicas * self.answer.prefill_accelerators)


def plan_serving(site: Site, work: Serving, today: date, terms: Terms = UNKNOWN, *, tries: bool = True) -> Plan:
    """Return what answering requests takes at a site. See `bessemer.twin.plan.plan`."""
    placed = replace(_place(site, work), terms=terms)
    inputs = _inputs(placed)
    found = placed.answer
    answer = {
        name: propagate(_outcome(placed, name), inputs) for name in (*FIGURES, *([REVENUE] if terms.prices else []))
    }
    answer |= {
        "time_to_first_token_seconds": found.time_to_first_token_seconds,
        "time_per_output_token_seconds": found.time_per_output_token_seconds,
        "replicas": Interval.exactly(placed.replicas),
        **({"spare_replicas": Interval.exactly(placed.spares)} if work.requests_per_second else {}),
        "up_ratio": placed.up,
        "accelerators_per_replica": Interval.exactly(found.accelerators + found.prefill_accelerators),
        "concurrency_per_replica": Interval.exactly(found.concurrency),
    }
    swings = tuple(tornado(_outcome(placed, "usd_per_million_tokens"), inputs))
    now = answer["usd_per_million_tokens"].mid, found.time_per_output_token_seconds.mid
    cheaper = changes.cheapest(_variants(placed), _cost, now) if tries else ()
    warnings = tuple(clouds.stale(clouds.offers(placed.device.name), today)) if rents(site) else ()
    warnings = (*_widened(placed), *_short(placed), *power.unpublished(site), *warnings)
    limit = (
        f"most of a decoding step goes to {found.bottleneck}; {placed.used_ratio:.0%} of the replicas' hours are used"
    )
    down = min(1 - placed.up.mid, 1 - placed.used_ratio)
    shares = {"used": placed.used_ratio, "down": down, "waiting for traffic": 1 - placed.used_ratio - down}
    return Plan(site, work, answer, None, limit, found.bottleneck, shares, cheaper, swings, warnings, _notes(placed))


def _widened(placed: _Service) -> Iterator[str]:
    """Yield that weights are narrower than what the accelerator multiplies."""
    asked, unit = placed.work.precision, placed.device.unit(placed.work.precision)
    if unit != asked:
        yield (
            f"{placed.device.name} does not multiply in {asked}: weights are kept in {asked} and multiplied in {unit}, "
            "which saves memory and no arithmetic"
        )


def _short(placed: _Service) -> Iterator[str]:
    """Yield that too few replicas fit for the busiest hour to be answered in spite of failures."""
    if placed.work.requests_per_second:
        kept = enough_ratio(placed.replicas - placed.spares, placed.replicas, placed.up.mid)
        if kept < ENOUGH:
            yield (
                f"{placed.replicas - placed.spares:,} replicas are needed at the busiest hour and {placed.replicas:,} "
                f"fit: enough are up {kept:.1%} of the time, not {ENOUGH:.1%}"
            )


def _notes(placed: _Service) -> dict[str, str]:
    """Return what figures mean and where their inputs are from."""
    terms, answer = placed.terms, placed.answer
    found = {
        "carbon_gco2e_per_million_tokens": "of electricity alone",
        "embodied_gco2e_per_million_tokens": "the replicas' share of making site and hardware; modelled from published "
        "footprints",
        "accepted_outputs_per_joule": f"answers that are accepted, for a joule from the grid (boundary: site); "
        f"{terms.accepted}",
    }
    if answer.prefill_accelerators:
        found["accelerators_per_replica"] = (
            f"{answer.accelerators} decode; {answer.prefill_accelerators:.3g} in the mean prefill for them, of a pool "
            f"that the replicas share: {math.ceil(placed.replicas * answer.prefill_accelerators):,} in all"
        )
    if terms.prices:
        found[REVENUE] = f"what customers are charged, for a megawatt from the grid; {terms.prices}"
    return found


def _place(site: Site, work: Serving) -> _Service:
    nodes = main_nodes(site)
    device, links = power.capped_device(site), network.links(site, nodes)
    there = nodes.count * nodes.accelerators  # of its kind: a replica does not mix them
    found = inference.best(shape(work.model), work, device, links, there)
    each = found.accelerators + found.prefill_accelerators
    out, kept = reserved_servers(site.operations, nodes.count)
    alone = min(training.alone_accelerators(links), there)
    most = _room(there, alone, each)
    if most < 1:
        told = f"one replica of {work.model} takes {each:.0f} accelerators; '{site.name}' has {there} {device.name}"
        raise Unsupported(told, hint=f"Name a site with {each:.0f}, or a narrower precision.")
    most = max(1, _room(there - (out + kept) * nodes.accelerators, alone, each))
    wanted = work.requests_per_second * work.output_tokens
    needed = max(1, -int(-wanted // found.tokens_per_second.mid)) if wanted else most
    if needed > most:
        can = most * found.tokens_per_second.mid / work.output_tokens
        told = f"{work.requests_per_second:g} requests a second take {needed:,} replicas; {most:,} fit at '{site.name}'"
        raise Unsupported(told, hint=f"It answers {can:,.1f} a second.")
    up = _up(site, work, each, needed)
    if not wanted:
        return _Service(site, work, device, found, most, 0, up, site.money.utilisation_ratio * up.mid)
    spares = spare_replicas(needed, most, up.mid)
    peak = wanted / ((needed + spares) * found.tokens_per_second.mid)
    # Traffic swings as a sine over the day, so its mean lies half of the swing below the busiest hour.
    used = peak * (1 - work.daily_swing_ratio / 2)
    return _Service(site, work, device, found, needed + spares, spares, up, used)


def _room(there: float, alone: float, each: float) -> int:
    """Return how many replicas fit on so many accelerators, of which `alone` are joined."""
    return int(there // each) if alone >= there else int(there // alone) * int(alone // each)


def _up(site: Site, work: Serving, each: float, replicas: int) -> Interval:
    """Return the share of the time in which a replica is up.

    Raises:
        Unsupported: hardly ever.
    """
    nodes, network_bytes = main_nodes(site), shape(work.model).parameters * EXPERT_BYTES.get(work.precision, 2.0)
    servers = max(1.0, each / nodes.accelerators)
    whole = min(nodes.count, -(-replicas * each // nodes.accelerators))
    load = network_bytes / bytes_per_second(site, servers)[0]
    up = replica_ratio(site, servers, whole, nodes.count, load)
    if up.mid <= LEAST:
        raise Unsupported(
            f"replicas of {work.model} at '{site.name}' are up {up.mid:.1%} of the time: their servers fail "
            f"{site.operations.node_failures_per_day:g} times a day, and reading the weights takes {load / 3600:.3g} h",
            hint="See operations.node_failures_per_day, repair_seconds, spare_ratio and storage.read_bytes_per_second.",
        )
    return up


def _inputs(placed: _Service) -> dict[str, Interval]:
    site, share = placed.site, placed.accelerators / placed.site.accelerators
    drawn = power.site_power(site, load=placed.used_ratio).facility_watts
    bill = money.bill(site, drawn)
    fixed = bill.people + bill.rent
    capital = bill.capital
    return {
        "replica_tokens_per_second": placed.answer.tokens_per_second,
        "up_ratio": placed.up,
        "facility_watts": drawn.scaled(share),
        "fixed_usd_per_hour": Interval(capital.mid + fixed, capital.low + fixed, capital.high + fixed).scaled(share),
        "gco2e_per_kwh": around(site.power.gco2e_per_kwh, 0.15),
        "embodied_kgco2e_per_hour": kgco2e_per_hour(site).scaled(share),
        "accepted_ratio": placed.terms.accepted_ratio,
        "usd_per_kwh": around(0.0 if rents(site) else site.power.usd_per_kwh, 0.15),
    }


def _outcome(placed: _Service, name: str) -> Model:
    """Return the function from the uncertain inputs to one figure."""
    work, terms = placed.work, placed.terms
    usd_per_answer = (
        work.input_tokens * terms.input_usd_per_million_tokens
        + work.output_tokens * terms.output_usd_per_million_tokens
    ) / 1e6

    def outcome(given: Mapping[str, Array]) -> Array:
        rate = _rate(placed, given["replica_tokens_per_second"] * np.clip(given["up_ratio"], 0.0, 1.0))
        joules = given["facility_watts"] / rate
        usd_per_second = given["fixed_usd_per_hour"] / 3600 + given["facility_watts"] / 3.6e6 * given["usd_per_kwh"]
        values = {
            "tokens_per_second": rate,
            "usd_per_million_tokens": usd_per_second / rate * 1e6,
            "joules_per_token": joules,
            "carbon_gco2e_per_million_tokens": joules * 1e6 / 3.6e6 * given["gco2e_per_kwh"],
            "embodied_gco2e_per_million_tokens": given["embodied_kgco2e_per_hour"] / 3600 / rate * 1e9,
            "accepted_outputs_per_joule": given["accepted_ratio"] / work.output_tokens / joules,
            REVENUE: usd_per_answer / work.output_tokens / joules * 1e6 * YEAR_SECONDS,
        }
        return values[name]

    return outcome


def _rate(placed: _Service, each: Array) -> Array:
    """Return the output tokens a second over the day: what replicas can, and no more than is asked for in each hour."""
    work, can = placed.work, each * placed.replicas
    if not work.requests_per_second:
        return np.asarray(can * placed.site.money.utilisation_ratio)
    swing = work.daily_swing_ratio / 2
    hours = 1 - swing + swing * np.sin(np.arange(24) * math.pi / 12)
    asked = work.requests_per_second * work.output_tokens * hours[:, None]
    return np.asarray(np.minimum(asked, can).mean(axis=0))


def _cost(site: Site, work: Serving) -> tuple[float, float]:
    """Return the middle of what a million tokens costs, and the seconds of a token."""
    placed = _place(site, work)
    usd = propagate(_outcome(placed, "usd_per_million_tokens"), _inputs(placed), draws=1).mid
    return usd, placed.answer.time_per_output_token_seconds.mid


def _variants(placed: _Service) -> Iterator[tuple[str, Site, Serving]]:
    site, work, device = placed.site, placed.work, placed.device
    narrower = [("fp8", device.fp8_flop_per_second), ("fp4", device.fp4_flop_per_second)]
    for precision, rate in narrower:
        if rate and precision != work.precision:
            yield f"weights in {precision}", site, work.model_copy(update={"precision": precision})
    if not work.speculative_tokens:
        yield "four drafted tokens a step", site, work.model_copy(update={"speculative_tokens": 4})
    other = not work.disaggregated
    named = "prefill and decode on different accelerators" if other else "prefill and decode together"
    yield named, site, work.model_copy(update={"disaggregated": other})
    for name, changed in changes.of_site(site):
        yield name, changed, work
