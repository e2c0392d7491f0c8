"""A site beside what others rent out: money for a useful hour, a training run or a million tokens, over years.

Owns the comparison: what each way costs today, and from when and from which use on owning is cheaper. Knows no clock:
the day is handed in.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError
from bessemer.twin import clouds, money, power
from bessemer.twin.answer import Plan, main_nodes, with_part
from bessemer.twin.clouds import Offer
from bessemer.twin.interval import Interval
from bessemer.twin.operations import DAY_SECONDS, goodput, per_node
from bessemer.twin.plan import plan
from bessemer.twin.plan_training import LEAST, STATE_BYTES_PER_PARAMETER
from bessemer.twin.renting import decline, interruptions_per_server_day
from bessemer.twin.shape import shape
from bessemer.twin.site import Site
from bessemer.twin.workload import Serving, Training

Array = NDArray[np.float64]
MONTH_HOURS = money.HOURS_PER_YEAR / 12
COMMITTED_YEARS = {"reserved_1y": 1, "reserved_3y": 3}
"""Terms that are paid used or not, and for how long their price holds."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One way to have the accelerators, for the same useful work over the same years.

    Attributes:
        name: the site itself, or a provider.
        term: ``owned``, or that of the offer.
        usd_per_useful_hour: levelised: all money over all useful accelerator-hours, both discounted.
        present_usd: all money, discounted to today.
        usd_per_unit: the same for the comparison's unit; None without work.
        goodput_ratio: useful share of the hours that work holds.
        break_even_month: the first in which owning has cost less in all; infinite: in none of them; NaN for the site.
        break_even_ratio: use above which owning is cheaper; infinite: at none; 0: at any; NaN for the site.
        warning: why the price should be looked up again, or "".
    """

    name: str
    term: str
    usd_per_useful_hour: Interval
    present_usd: Interval
    usd_per_unit: Interval | None
    goodput_ratio: float
    break_even_month: float
    break_even_ratio: float
    warning: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All ways, cheapest first, and what was taken for granted.

    Attributes:
        site: that is owned.
        years: compared over.
        unit: ``training run``, ``million tokens``, or "" without work.
        decline: by what share rented hours get cheaper a year.
        used_ratio: share of the accelerator-hours that are used.
        offered: the ways.
        notes: in words.
    """

    site: str
    years: int
    unit: str
    decline: Interval
    used_ratio: float
    offered: tuple[Offered, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Work:
    """What is done with the hours: how much is used, what a unit takes, and what is useful at a rate of reclaims."""

    used_ratio: float
    unit: str
    useful_hours_per_unit: float
    goodput: Callable[[float], float]
    told: str


@dataclass(frozen=True, slots=True)
class _Years:
    """Months of the comparison. `worth` is today's value of a dollar in the middle of each. Shape: (months,)."""

    months: int
    discount_ratio: float
    change: Interval

    @property
    def worth(self) -> Array:
        """Return today's value of a dollar of each month."""
        return np.asarray((1 + self.discount_ratio) ** (-(np.arange(self.months) + 0.5) / 12))

    def cheaper(self, term: str, decline_ratio: float) -> Array:
        """Return each month's price over today's; a commitment keeps its price until it ends."""
        passed = np.arange(self.months) / 12
        kept = COMMITTED_YEARS.get(term)
        return np.asarray((1 - decline_ratio) ** (np.floor(passed / kept) * kept if kept else passed))


def compare(site: Site, today: date, work: Training | Serving | None = None, years: int = 0) -> Comparison:
    """Return the site and the newest offer of each provider and term for its accelerators, cheapest first.

    Owning pays every hour, and so does a commitment; on demand and spot pay the hours that are used. Servers on the
    spot market are taken away, so a useful hour takes more of them. The people of the site are paid by its owner alone.
    Source: levelised cost is money over output, both discounted (IEA/NEA, Projected Costs of Generating Electricity).

    Args:
        site: owned; its utilisation, interest and life count.
        today: old prices get a warning.
        work: what is done with it; without, a useful hour is the unit.
        years: compared over; 0: the site's life.

    Raises:
        ConfigError: more years than the site lives.
        Unsupported: the site has no accelerators, or the work does not fit.
    """
    nodes, life = main_nodes(site), site.money.life_years
    asked = years or max(1, int(life))
    if asked > life:
        raise ConfigError(
            f"'{site.name}' is written off after {life:g} years", hint=f"Compare over {int(life)} years or fewer."
        )
    owned = with_part(site, "money", tenure="owned")
    done = _work(owned, work, today)
    told = site.money.price_decline_ratio
    change = decline(asked) if told is None else Interval.exactly(told)
    time = _Years(asked * 12, site.money.discount_ratio, change)
    drawn = power.site_power(owned, load=done.used_ratio).facility_watts
    owner = _owner(owned, time, drawn.mid)
    found = [_own(owner, done, drawn, today)]
    found += [_rented(offer, owner, done, drawn, today) for offer in clouds.newest(clouds.offers(nodes.accelerator))]
    notes = (
        done.told,
        f"{done.used_ratio:.0%} of the hours are used; {site.money.discount_ratio:.0%} interest",
        f"rented hours get {change.mid:.0%} cheaper a year ({change.low:.0%} to {change.high:.0%})",
    )
    return Comparison(
        site.name,
        asked,
        done.unit,
        change,
        done.used_ratio,
        tuple(sorted(found, key=lambda each: each.usd_per_useful_hour.mid)),
        notes,
    )


def _work(site: Site, work: Training | Serving | None, today: date) -> _Work:
    if work is None:
        told = "goodput is that of a job on one server; name the work for its own"
        one = per_node(site)
        return _Work(site.money.utilisation_ratio, "", 1.0, _trained(site, one, one * 1e10, 0.0), told)
    found = plan(site, work, today)
    return _serving(site, work, found) if isinstance(work, Serving) else _training(site, work, found)


def _training(site: Site, work: Training, found: Plan) -> _Work:
    count = found.layout.accelerators if found.layout else site.accelerators
    step = found.answer["step_seconds"].mid
    useful = _trained(site, count, STATE_BYTES_PER_PARAMETER * shape(work.model).parameters, step)
    hours = found.answer["days"].mid * 24 * count * useful(0.0)
    told = f"{work.model}, {work.tokens:.3g} tokens on {count:,} accelerators"
    return _Work(site.money.utilisation_ratio, "training run", hours, useful, told)


def _trained(site: Site, accelerators: int, checkpoint_bytes: float, step_seconds: float) -> Callable[[float], float]:
    """Return the function from reclaims of a server a day to the share of a training job's time that is useful."""
    servers = accelerators / per_node(site)

    def useful(reclaims: float) -> float:
        more = site.operations.job_failures_per_day + reclaims * servers
        taken = with_part(site, "operations", job_failures_per_day=more)
        return goodput(taken, accelerators, checkpoint_bytes, step_seconds).goodput_ratio

    return useful


def _serving(site: Site, work: Serving, found: Plan) -> _Work:
    each, used = found.answer["accelerators_per_replica"].mid, found.shares["used"]
    rate = found.answer["tokens_per_second"].mid / (found.answer["replicas"].mid * each * used)
    operations, servers = site.operations, max(1.0, each / per_node(site))
    away = (operations.detect_seconds + operations.restart_seconds) / DAY_SECONDS

    def useful(reclaims: float) -> float:
        return 1 / (1 + (operations.node_failures_per_day + reclaims) * servers * away)

    told = f"{work.model}, {work.input_tokens} tokens in and {work.output_tokens} out, {each:g} accelerators a replica"
    return _Work(used, "million tokens", 1e6 / rate / 3600, useful, told)


@dataclass(frozen=True, slots=True)
class _Owner:
    """What owning costs. `capital_usd` is paid at once; `left_usd` is today's value of what the books keep of it."""

    site: Site
    time: _Years
    capital_usd: float
    left_usd: float
    staff_usd_per_year: float

    def flow(self, facility_watts: float, capital_ratio: float = 1.0) -> Array:
        """Return today's USD of each month at so many watts, without what is left. Shape: (months,)."""
        drawn = facility_watts / 1000 * self.site.power.usd_per_kwh * MONTH_HOURS
        found = (self.staff_usd_per_year / 12 + drawn) * self.time.worth
        found[0] += self.capital_usd * capital_ratio
        return np.asarray(found)

    def present_usd(self, facility_watts: float, capital_ratio: float = 1.0) -> float:
        """Return today's USD of all months."""
        return float(self.flow(facility_watts, capital_ratio).sum()) - self.left_usd * capital_ratio

    def even_ratio(self, always_usd: float, is_committed: bool) -> float:
        """Return the use above which owning is cheaper, given what renting costs when all hours are used.

        Power is taken as a line between an idle and a full site.
        """
        idle, full = (self.present_usd(power.draw(self.site, load).facility_watts.mid) for load in (0.0, 1.0))
        if is_committed:
            return 0.0 if full <= always_usd else math.inf
        slope = always_usd - (full - idle)
        even = idle / slope if slope > 0 else math.inf
        return even if even <= 1 else math.inf


def _owner(site: Site, time: _Years, facility_watts: float) -> _Owner:
    capital, passed = sum(money.capital(site, facility_watts).values()), time.months / 12
    book = capital * (1 - passed / site.money.life_years)
    left = book * float((1 + time.discount_ratio) ** -passed)
    full_watts = power.draw(site, 1.0).facility_watts.mid  # people come with the site, however much it is used
    return _Owner(site, time, capital, left, money.staff_usd_per_year(site, full_watts))


def _useful_hours(site: Site, done: _Work, time: _Years) -> float:
    """Return the useful accelerator-hours of all years, discounted like money."""
    each = site.accelerators * MONTH_HOURS * done.used_ratio * done.goodput(0.0)
    return float((each * time.worth).sum())


def _own(owner: _Owner, done: _Work, drawn: Interval, today: date) -> Offered:
    spread = money.SPREAD
    bounds = ((drawn.mid, 1.0), (drawn.low, 1 - spread), (drawn.high, 1 + spread))
    present = Interval(*(owner.present_usd(watts, ratio) for watts, ratio in bounds))
    hourly = present.scaled(1 / _useful_hours(owner.site, done, owner.time))
    unit = hourly.scaled(done.useful_hours_per_unit) if done.unit else None
    nothing = float("nan")
    told = "; ".join(money.stale(owner.site, today))
    return Offered(owner.site.name, "owned", hourly, present, unit, done.goodput(0.0), nothing, nothing, told)


def _rented(offer: Offer, owner: _Owner, done: _Work, drawn: Interval, today: date) -> Offered:
    time, is_committed = owner.time, offer.term in COMMITTED_YEARS
    taken = interruptions_per_server_day() if offer.term == "spot" else Interval.exactly(0.0)

    def flow(fall: float, reclaims: float, held: float) -> Array:
        """Return today's USD of each month for the same useful work, `held` of the hours paid."""
        kept = done.goodput(reclaims)
        hours = held * owner.site.accelerators * MONTH_HOURS * (done.goodput(0.0) / kept if kept > LEAST else math.inf)
        return np.asarray(hours * offer.usd_per_hour * time.cheaper(offer.term, fall) * time.worth)

    held = 1.0 if is_committed else done.used_ratio
    fall = time.change
    middle = flow(fall.mid, taken.mid, held)
    bounds = (middle, flow(fall.high, taken.low, held), flow(fall.low, taken.high, held))
    present = Interval(*(float(each.sum()) for each in bounds))
    hourly = present.scaled(1 / _useful_hours(owner.site, done, time))
    cheaper = np.nonzero(np.cumsum(owner.flow(drawn.mid)) <= np.cumsum(middle))[0]
    return Offered(
        name=offer.provider,
        term=offer.term,
        usd_per_useful_hour=hourly,
        present_usd=present,
        usd_per_unit=hourly.scaled(done.useful_hours_per_unit) if done.unit else None,
        goodput_ratio=done.goodput(taken.mid),
        break_even_month=float(cheaper[0] + 1) if len(cheaper) else math.inf,
        break_even_ratio=owner.even_ratio(float(flow(fall.mid, taken.mid, 1.0).sum()), is_committed),
        warning=offer.warning(today),
    )


COLUMNS = ("name", "term", "goodput_ratio", "break_even_month", "break_even_ratio", "warning")
BOUNDED = ("usd_per_useful_hour", "present_usd", "usd_per_unit")


def as_csv(comparisons: Sequence[Comparison]) -> str:
    """Return the ways as one CSV, a row each; what does not exist or is never reached is empty.

    A row begins with the number of its comparison, the site and the unit of its work.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    bounds = [f"{name}{bound}" for name in BOUNDED for bound in ("", "_low", "_high")]
    writer.writerow(["comparison", "site", "unit", *COLUMNS, *bounds])
    ways = [(place, found, each) for place, found in enumerate(comparisons, 1) for each in found.offered]
    for place, found, each in ways:
        given = [getattr(each, name) for name in BOUNDED]
        numbers = [getattr(one, bound) if one else "" for one in given for bound in ("mid", "low", "high")]
        cells = [place, found.site, found.unit, *(getattr(each, name) for name in COLUMNS), *numbers]
        writer.writerow(["" if isinstance(cell, float) and not math.isfinite(cell) else cell for cell in cells])
    return out.getvalue()
