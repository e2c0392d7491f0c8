"""What serving a model takes at a site: replicas, speed, energy and money for a million tokens, and what limits it.

Owns the joining of the serving model with power, failures and money. Knows no training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from bessemer.core.errors import BessemerError, Unsupported
from bessemer.twin import clouds, inference, money, network, power
from bessemer.twin.accelerators import Accelerator
from bessemer.twin.answer import Change, Plan, around, main_nodes, rents, with_part
from bessemer.twin.inference import Decode
from bessemer.twin.interval import Interval
from bessemer.twin.shape import shape
from bessemer.twin.site import Site
from bessemer.twin.uncertainty import Array, Model, propagate, tornado
from bessemer.twin.workload import Serving

FIGURES = ("tokens_per_second", "usd_per_million_tokens", "joules_per_token", "carbon_gco2e_per_million_tokens")
WORTH_TELLING = 0.99


@dataclass(frozen=True, slots=True)
class _Service:
    """Replicas placed at a site."""

    site: Site
    work: Serving
    device: Accelerator
    answer: Decode
    replicas: int
    used_ratio: float

    @property
    def accelerators(self) -> int:
        """That all replicas hold."""
        return round(self.replicas * (self.answer.accelerators + self.answer.prefill_accelerators))


def plan_serving(site: Site, work: Serving, today: date) -> Plan:
    """Return what answering requests takes at a site. See `bessemer.twin.plan.plan`."""
    placed = _place(site, work)
    inputs = _inputs(placed)
    found = placed.answer
    answer = {name: propagate(_outcome(placed, name), inputs) for name in FIGURES}
    answer |= {
        "time_to_first_token_seconds": found.time_to_first_token_seconds,
        "time_per_output_token_seconds": found.time_per_output_token_seconds,
        "replicas": Interval.exactly(placed.replicas),
        "accelerators_per_replica": Interval.exactly(found.accelerators + found.prefill_accelerators),
        "concurrency_per_replica": Interval.exactly(found.concurrency),
    }
    swings = tuple(tornado(_outcome(placed, "usd_per_million_tokens"), inputs))
    cheaper = [change for change in _changes(placed, answer) if change.cost_ratio < WORTH_TELLING]
    changes = tuple(sorted(cheaper, key=lambda change: change.cost_ratio)[:3])
    warnings = tuple(clouds.stale(clouds.offers(placed.device.name), today)) if rents(site) else ()
    limit = (
        f"most of a decoding step goes to {found.bottleneck}; {placed.used_ratio:.0%} of the replicas' hours are used"
    )
    shares = {"used": placed.used_ratio, "waiting for traffic": 1 - placed.used_ratio}
    return Plan(site, work, answer, None, limit, shares, changes, swings, warnings)


def _place(site: Site, work: Serving) -> _Service:
    nodes = main_nodes(site)
    device, links = nodes.device, network.links(site, nodes)
    found = inference.best(shape(work.model), work, device, links)
    each = found.accelerators + found.prefill_accelerators
    most = int(site.accelerators // each)
    if most < 1:
        told = f"one replica of {work.model} takes {each:.0f} accelerators; '{site.name}' has {site.accelerators}"
        raise Unsupported(told, hint=f"Name a site with {each:.0f}, or a narrower precision.")
    if not work.requests_per_second:
        return _Service(site, work, device, found, most, site.money.utilisation_ratio)
    wanted = work.requests_per_second * work.output_tokens
    replicas = max(1, -int(-wanted // found.tokens_per_second.mid))
    if replicas > most:
        can = most * found.tokens_per_second.mid / work.output_tokens
        told = (
            f"{work.requests_per_second:g} requests a second take {replicas:,} replicas; {most:,} fit at '{site.name}'"
        )
        raise Unsupported(told, hint=f"It answers {can:,.1f} a second.")
    peak = wanted / (replicas * found.tokens_per_second.mid)
    # Traffic swings as a sine over the day, so its mean lies half of the swing below the busiest hour.
    return _Service(site, work, device, found, replicas, peak * (1 - work.daily_swing_ratio / 2))


def _inputs(placed: _Service) -> dict[str, Interval]:
    site, share = placed.site, placed.accelerators / placed.site.accelerators
    drawn = power.site_power(site, load=placed.used_ratio).facility_watts
    bill = money.bill(site, drawn)
    fixed = bill.people + bill.rent
    capital = bill.capital
    return {
        "replica_tokens_per_second": placed.answer.tokens_per_second,
        "facility_watts": drawn.scaled(share),
        "fixed_usd_per_hour": Interval(capital.mid + fixed, capital.low + fixed, capital.high + fixed).scaled(share),
        "gco2e_per_kwh": around(site.power.gco2e_per_kwh, 0.15),
        "usd_per_kwh": around(0.0 if rents(site) else site.power.usd_per_kwh, 0.15),
    }


def _outcome(placed: _Service, name: str) -> Model:
    """Return the function from the uncertain inputs to one figure."""

    def outcome(given: Mapping[str, Array]) -> Array:
        rate = given["replica_tokens_per_second"] * placed.replicas * placed.used_ratio
        joules = given["facility_watts"] / rate
        usd_per_second = given["fixed_usd_per_hour"] / 3600 + given["facility_watts"] / 3.6e6 * given["usd_per_kwh"]
        values = {
            "tokens_per_second": rate,
            "usd_per_million_tokens": usd_per_second / rate * 1e6,
            "joules_per_token": joules,
            "carbon_gco2e_per_million_tokens": joules * 1e6 / 3.6e6 * given["gco2e_per_kwh"],
        }
        return values[name]

    return outcome


def _changes(placed: _Service, answer: Mapping[str, Interval]) -> Iterator[Change]:
    for name, site, work in _variants(placed):
        try:
            other = _place(site, work)
            inputs = _inputs(other)
        except BessemerError:
            continue
        cost = propagate(_outcome(other, "usd_per_million_tokens"), inputs, draws=1).mid
        token = other.answer.time_per_output_token_seconds.mid
        slower = token / answer["time_per_output_token_seconds"].mid
        yield Change(name, cost / answer["usd_per_million_tokens"].mid, slower)


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
    if site.cooling.kind in ("air", "rear_door"):
        better = {"kind": "direct_liquid", "liquid_ratio": 0.85, "rejection": "dry", "supply_celsius": 32.0}
        yield "direct liquid cooling", with_part(site, "cooling", **better), work
    steady = [each for each in clouds.offers(device.name) if each.term != "spot"]
    if steady and not (rents(site) and site.money.provider == steady[0].provider):
        rented = {"tenure": "rented", "provider": steady[0].provider}
        yield f"rented from {steady[0].provider}", with_part(site, "money", **rented), work
