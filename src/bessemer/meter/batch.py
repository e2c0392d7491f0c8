"""Books requests many at once, at microseconds each: the side of the meter for a gateway that forwards bytes.

The sensors are read at most every 20 ms, and the requests that are open then share what was read; one that begins and
ends between two readings has no part in either. All open requests are one span of the meter's attribution, so the
books balance as ever; within it a level rises by each one's share, and a request has what the level rose by while it
was open. Entries are the same as `LocalMeter` makes, written from a template of one.

Owns the sharing within that span and the template. Knows no disk: the journal writes.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bessemer.core.digest import canonical_json
from bessemer.core.forwarding import Spent, Terms
from bessemer.core.nouns import EnergyClass, Entry, EntryStatus, Measurement, Subject, Usage
from bessemer.core.units import JOULES_PER_KILOWATT_HOUR, MICROS_PER_UNIT, Money
from bessemer.meter.energy import MICRO, Energy

if TYPE_CHECKING:
    from bessemer.meter.local import LocalMeter
    from bessemer.meter.pricing import PriceBook

STALE_SECONDS = 0.02
"""How old a reading of the sensors may be when a request begins or ends."""

_MAX_FORMS = 4096
_HALF = MICROS_PER_UNIT // 2

_Level = tuple[int, int, int, int]
"""Measured, modelled, low and high microjoules."""

_NOTHING: _Level = (0, 0, 0, 0)


class _Opened:
    """The level, Unix time, the monotonic clock and the failures of sensors when a request began."""

    def __init__(self, level: _Level, started_at: float, began: float, failures: int) -> None:
        self.level, self.started_at, self.began, self.failures = level, started_at, began, failures


class _Ended:
    """What was counted of a request, whatever its status will be; failures are of sensors."""

    def __init__(self, started_at: float, seconds: float, failures: int, level: _Level, cost: int) -> None:
        self.started_at, self.seconds, self.failures = started_at, seconds, failures
        self.level, self.cost = level, cost


_Told = tuple[str, str, float, tuple[int, int, int]]
"""Grams and joules with their bounds as JSON, then as numbers: grams; microjoules, their lower and upper bound."""


@dataclass(frozen=True, slots=True)
class _Form:
    """An entry's JSON around the places for what differs, and what all entries of the form have in common."""

    between: tuple[str, ...]
    terms: Terms
    prices: tuple[int, int, int]


class BatchBooks:
    """See `bessemer.core.batching.BatchMeter`; safe to use from several threads."""

    def __init__(self, meter: LocalMeter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._count = 0
        self.made = 0
        self._handle = f"{meter._nonce}-batch-{id(self):x}"
        self._level = self._carry = _NOTHING
        self._read_at = float("-inf")
        self._forms: dict[tuple[str, str, str, EntryStatus, int, int], _Form] = {}
        rates = [
            book.exact_energy_cost(1, meter.config.power_usage_effectiveness) for book in meter.price_history.books
        ]
        self._cost_down = math.lcm(*(rate.denominator for rate in rates))
        self._cost_up = {
            id(book): int(rate * self._cost_down) for book, rate in zip(meter.price_history.books, rates, strict=True)
        }
        self._cost_carry = 0
        books = meter.price_history.books
        self._only = books[0] if len(books) == 1 else None
        self._told: dict[_Level, _Told] = {}
        self._grams = meter.config.power_usage_effectiveness / JOULES_PER_KILOWATT_HOUR

    @property
    def waits(self) -> bool:
        """Whether `book` waits for the disk."""
        return self._meter.config.durability == "fsync"

    @property
    def is_open(self) -> bool:
        """Whether a request is open."""
        return self._count > 0

    def begin(self, spent: Spent, /) -> None:
        """Begin a request."""
        now = time.monotonic()
        with self._lock:
            if now - self._read_at > STALE_SECONDS:
                self._read(now)
            if not self._count:
                with self._meter._lock:
                    self._meter._attribution.open(self._handle)
            self._count += 1
            spent.mark = _Opened(self._level, self._meter._clock(), now, self._meter._failures)

    def keep(self, spent: Spent, likely: tuple[int, int], /) -> memoryview:
        """Return the place of a number: the output tokens of a stream so far, to be set before each piece leaves."""
        opened: _Opened = spent.mark
        about = (spent.project, spent.key_id, spent.model, "", "", "", False)
        book = self._book_at(opened.started_at)
        slot = spent.kept = self._meter.streams.enter(
            spent.id, about, book, opened.started_at, likely, lambda: Energy(*self._level) - Energy(*opened.level)
        )
        return slot.written

    def read(self) -> None:
        """Share out what the open requests took by now."""
        with self._lock:
            if self._count:
                self._read(time.monotonic())

    def book(self, spent: Sequence[Spent], /) -> None:
        """End requests and write their entries.

        Raises:
            BackendError: the disk refused; what was counted is kept in them, and booking them again writes it.
            ConfigError: a usage does not add up.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._read_at > STALE_SECONDS:
                self._read(now)
            bodies = [self._body(each, now) for each in spent]
        kept, streams = [each.kept for each in spent if each.kept], self._meter.streams
        for slot in kept:
            streams.booking(slot)
        self._meter._journal.append_many(bodies)
        for slot in kept:
            streams.free(slot)

    def _read(self, now: float) -> None:
        """Read the sensors, and share out what the open requests took since the last time."""
        meter = self._meter
        with meter._lock:
            meter._advance()
            if self._count:
                energy, _ = meter._attribution.close(self._handle)
                meter._attribution.open(self._handle)
                self._share(energy)
        self._read_at = now

    def _share(self, energy: Energy) -> None:
        count = self._count
        pairs = [
            divmod(new + rest, count)
            for new, rest in zip((energy.measured, energy.modelled, energy.low, energy.high), self._carry, strict=True)
        ]
        self._level = _level(old + share for old, (share, _) in zip(self._level, pairs, strict=True))
        self._carry = _level(rest for _, rest in pairs)

    def _close(self, opened: _Opened, now: float) -> _Ended:
        self.made += 1  # first of all: the meter is not at rest until the journal has it
        if self._count == 1:  # the last takes what could not be divided, so that nothing is left over
            with self._meter._lock:
                energy, _ = self._meter._attribution.close(self._handle)
            self._share(energy)
        self._count -= 1
        failures, seconds = self._meter._failures - opened.failures, max(0.0, now - opened.began)
        if opened.level == self._level:  # it began and ended between two readings
            return _Ended(opened.started_at, seconds, failures, _NOTHING, 0)
        level = _level(new - old for new, old in zip(self._level, opened.level, strict=True))
        up = self._cost_up[id(self._book_at(opened.started_at))]
        # Most requests cost less than a micro-unit: what is below one is carried on to the next.
        micros, self._cost_carry = divmod(self._cost_carry + (level[0] + level[1]) * up, self._cost_down)
        return _Ended(opened.started_at, seconds, failures, level, micros)

    def _book_at(self, when: float) -> PriceBook:
        return self._only or self._meter.price_history.at(when)

    def _body(self, spent: Spent, now: float) -> str:
        if isinstance(spent.mark, _Opened):
            spent.mark = self._close(spent.mark, now)
        ended: _Ended = spent.mark
        lost, level = ended.failures, ended.level
        book = self._book_at(ended.started_at)
        key = (spent.project, spent.key_id, spent.model, spent.status, lost, id(book))
        form = self._forms.get(key) or self._formed(key, book)
        told = self._told.get(level) or self._tell(level)
        read, written, cached = spent.usage
        if not 0 <= cached <= read or written < 0:
            book.quote(Usage(input_tokens=read, output_tokens=written, cached_tokens=cached), spent.model)
        fresh_price, cached_price, output_price = form.prices
        exact = (read - cached) * fresh_price + cached * cached_price + written * output_price
        charge, rest = exact // MICROS_PER_UNIT, exact % MICROS_PER_UNIT
        if rest > _HALF or (rest == _HALF and charge & 1):
            charge += 1
        spent.terms, spent.charge_micros, spent.grams, spent.microjoules = form.terms, charge, told[2], told[3]
        a, b, c, d, e, f, g, h, i, j, k, last = form.between
        return "".join(
            (
                *(a, told[0], b, str(charge), c, str(ended.cost), d, spent.id, e, told[1], f, _micro(ended.seconds), g),
                *(_micro(ended.started_at), h, spent.id, i, str(cached), j, str(read), k, str(written), last),
            )
        )

    def _tell(self, level: _Level) -> _Told:
        """Return what an energy is in the words of an entry; many requests that were open together have the same."""
        measured, modelled, low, high = level
        value = measured + modelled
        low, high = min(low, value), max(high, value)  # each was rounded for itself
        joules, joules_low, joules_high = value / MICRO, low / MICRO, high / MICRO
        grid, factor = self._meter.grid, self._grams
        grams = joules * factor * grid.grams_per_kilowatt_hour
        grams_high, grams_low = joules_high * factor * grid.high, joules_low * factor * grid.low
        if len(self._told) >= _MAX_FORMS:
            self._told.clear()
        told = self._told[level] = (
            f'{grams:.9g},"grams_high":{grams_high:.9g},"grams_low":{grams_low:.9g}',
            f'{joules:.6f},"joules_high":{joules_high:.6f},"joules_low":{joules_low:.6f}',
            grams,
            (value, low, high),
        )
        return told

    def _formed(self, key: tuple[str, str, str, EntryStatus, int, int], book: PriceBook) -> _Form:
        project, key_id, model, status, lost, _ = key
        meter = self._meter
        measurement = Measurement(
            seconds=0,
            joules=0,
            joules_low=0,
            joules_high=0,
            energy_class=EnergyClass.ASSUMED if lost else meter._class(shared=True),
            boundary=meter._boundary(),
            source=meter._source() + (f"; a sensor failed {lost} times" if lost else ""),
        )
        quote, currency = book.quote(Usage(), model, project), book.currency
        entry = Entry(
            id="",
            subject=Subject(kind="request", id="", project=project, key_id=key_id, model=model),
            started_at=0,
            status=status,
            measurement=measurement,
            carbon=meter.grid.footprint(measurement, meter.config.power_usage_effectiveness),
            energy_cost=Money(currency=currency),
            charge=Money(currency=currency),
            price_version=quote.price_version,
        )
        terms = Terms(measurement.energy_class, measurement.boundary, measurement.source, currency, quote.price_version)
        price = book.price(model, project)[0].rates()
        cached = price.input if price.cached is None else price.cached
        prices = (0, 0, 0) if status == "error" else (price.input, cached, price.output)
        if len(self._forms) >= _MAX_FORMS:
            self._forms.clear()
        form = self._forms[key] = _Form(_between(entry.model_dump(mode="json")), terms, prices)
        return form


_PLACES = (
    *(("carbon", "grams", ""), ("charge", "micros", ""), ("energy_cost", "micros", "")),
    *(("", "id", '"request:'), ("measurement", "joules", ""), ("measurement", "seconds", "")),
    *(("", "started_at", ""), ("subject", "id", '"')),
    *(("usage", f"{name}_tokens", "") for name in ("cached", "input", "output")),
)
"""What differs between entries, in the order in which canonical JSON has it; to the microsecond and microjoule, and to
nine digits of grams, because the shortest exact text of a float takes as long as all the rest. The bounds of grams and
joules follow their values, and are told with them."""


def _between(body: dict[str, Any]) -> tuple[str, ...]:
    """Return the canonical JSON of a body around the places."""
    for part, name in (("carbon", "grams"), ("measurement", "joules")):
        del body[part][f"{name}_high"], body[part][f"{name}_low"]
    for number, (part, name, _) in enumerate(_PLACES):
        (body[part] if part else body)[name] = f"\0{number:02d}"
    rest, between = canonical_json(body), []
    for number, (_, _, before) in enumerate(_PLACES):
        text, _, rest = rest.partition(f'"\\u0000{number:02d}"')
        between.append(text + before)
        rest = '"' * bool(before) + rest
    return (*between, rest)


def _micro(seconds: float) -> str:
    """Return seconds to the microsecond."""
    micros = int(seconds * 1e6 + 0.5)
    return f"{micros // 1_000_000}.{str(1_000_000 + micros % 1_000_000)[1:]}"


def _level(values: Any) -> _Level:
    a, b, c, d = values
    return a, b, c, d
