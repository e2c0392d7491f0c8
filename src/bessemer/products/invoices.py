"""Invoices: what a project was charged for a month, to the micro-unit, from the books.

While the month runs an invoice is a draft. Once issued it is a record that never changes, and a file with its text; if
the books say more or less later (a late entry, a correction), the next one for the same month holds the difference
only, and is a credit note where that is negative. The sum of all that were issued is what the ledger says.

Owns numbers, lines and where invoices lie. Draws nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

from bessemer.core.errors import ConfigError, Conflict, IntegrityError, NotFound
from bessemer.core.nouns import EnergyClass, Noun
from bessemer.core.units import charge_micros
from bessemer.core.usage import CostLine, UsageQuery, UsageRow
from bessemer.meter.layout import check_whole
from bessemer.products.booked import BookedUsage
from bessemer.products.home import Home, write_whole
from bessemer.products.register import Issued, Register

DAY = 86_400
_TRIES = 5


class InvoiceLine(Noun):
    """One line: tokens of one kind at one price. `unit_micros` is for a million; None where nothing is multiplied."""

    model: str
    service_tier: str
    batch: bool
    item: str
    price_version: str
    quantity: int
    unit_micros: int | None
    amount_micros: int

    @property
    def key(self) -> tuple[str, str, bool, str, str, int | None]:
        """What tells lines of one invoice apart."""
        return (self.model, self.service_tier, self.batch, self.item, self.price_version, self.unit_micros)


class Invoice(Noun):
    """What a project is charged for a month; amounts are whole micro-units of one currency.

    Attributes:
        number: of the invoice; a draft has none.
        kind: ``draft`` while the month runs, ``invoice``, or ``credit note`` if the amount is negative.
        seller: the factory's name.
        start: of the month, Unix seconds, UTC.
        end: of the month; not part of it.
        issued_at: Unix seconds; of a draft, when it was drawn.
        corrects: numbers of the invoices for the same month that were issued before.
        requests: that it charges for; what they read and wrote is in `input_tokens` and `output_tokens`.
        trained_tokens: that fine-tuning jobs were trained on.
        joules: of all that it charges for, requests and training, this invoice's share only.
        energy_class: the weakest in that sum.
        grams: of CO2 equivalent.
    """

    number: str
    kind: Literal["draft", "invoice", "credit note"]
    seller: str
    project: str
    start: int
    end: int
    issued_at: float
    currency: str
    lines: tuple[InvoiceLine, ...]
    amount_micros: int
    requests: int
    input_tokens: int
    output_tokens: int
    trained_tokens: int = 0
    joules: float
    joules_low: float
    joules_high: float
    energy_class: EnergyClass | None
    grams: float
    corrects: tuple[str, ...] = ()


def month_of(text: str) -> tuple[int, int]:
    """Return when a month such as ``2026-11`` begins and ends, Unix seconds, UTC.

    >>> month_of("1970-02")
    (2678400, 5097600)

    Raises:
        ConfigError: it is no month.
    """
    found = re.fullmatch(r"(\d{4})-(\d{2})", text)
    try:
        first = date(int(found[1]), int(found[2]), 1) if found else None
    except ValueError:
        first = None
    if first is None or not 1970 <= first.year < 9999:
        raise ConfigError(f"'{text}' is no month", hint="Write it as YYYY-MM, for example 2026-11.")
    after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    begin, end = (int(datetime(d.year, d.month, d.day, tzinfo=UTC).timestamp()) for d in (first, after))
    return begin, end


class InvoiceBook:
    """The invoices of a home.

    Args:
        home: where they lie.
        source: what was used and charged.
        seller: the factory's name.
        clock: gives Unix seconds.
    """

    def __init__(self, home: Home, source: BookedUsage, seller: str, clock: Callable[[], float]) -> None:
        self.folder, self._source, self._seller, self._clock = home.path / "invoices", source, seller, clock
        self.register = Register(home.books / "invoices.jsonl")

    def issued(self, project: str, month: str) -> list[Invoice]:
        """Return what was issued to a project for a month, in order.

        Raises:
            ConfigError: it is no month.
            IntegrityError: the register is damaged, or an invoice of before there was one is.
        """
        month_of(month)
        found = [each for each in self.records() if (each.project, each.month) == (project, month)]
        return [_read(each) for each in found]

    def projects(self) -> list[tuple[str, str]]:
        """Return (project, month) of everything that was issued, sorted."""
        return sorted({(each.project, each.month) for each in self.records()})

    def records(self) -> list[Issued]:
        """Return what the register says was issued; where there is none yet, the files as they stand."""
        return self.register.records() if self.register.is_open() else self._found()

    def open(self) -> None:
        """Open the register, if there is none: what was issued before is taken in as it stands.

        Raises:
            BackendError: the disk refuses.
            IntegrityError: there was one.
        """
        with self.register.writing():
            self._open()

    def draw(self, project: str, month: str) -> Invoice:
        """Return the draft of what is not on any invoice of the month yet.

        Raises:
            ConfigError: it is no month, or it has charges in several currencies.
            Conflict: what other hosts booked is missing from the ledger since an upgrade.
            NotFound: the project used nothing in it.
        """
        start, end = month_of(month)
        check_whole(self._source.awaited())
        before = self.issued(project, month)
        query = UsageQuery(start=start, end=end, projects=(project,), kind="", charged=True)
        costs, used = self._source.costs(query), self._source.usage(query.model_copy(update={"group_by": ("kind",)}))
        if not costs and not used and not before:
            raise NotFound(
                f"the project '{project}' was charged nothing in {month}", hint="`bessemer costs` lists who was."
            )
        currencies = {line.currency for line in costs} | {invoice.currency for invoice in before}
        if len(currencies) > 1:
            raise ConfigError(
                f"{month} has charges in {', '.join(sorted(currencies))}", hint="A month is billed in one currency."
            )
        lines = _difference(_summed(costs), [line for invoice in before for line in invoice.lines])
        return Invoice(
            number="",
            kind="draft",
            seller=self._seller,
            project=project,
            start=start,
            end=end,
            issued_at=self._clock(),
            currency=next(iter(currencies), "USD"),
            lines=lines,
            amount_micros=sum(line.amount_micros for line in lines),
            corrects=tuple(invoice.number for invoice in before),
            **_taken(used, before),
        )

    def issue(self, project: str, month: str) -> Invoice:
        """Return the month's invoice and keep it for good; what was issued already is returned as it is.

        Raises:
            ConfigError: the month is not over, or as `draw`.
            Conflict: as `draw`, or entries of the month are being booked, or a file that nobody issued is in the way.
            IntegrityError: the register is damaged.
            NotFound: as `draw`.
        """
        _, end = month_of(month)
        if self._clock() < end:
            raise ConfigError(f"{month} is not over", hint="Until then `bessemer invoice` shows a draft.")
        with self.register.writing():
            self._open()
            made = self._issue(project, month)
        for each in self.records():
            if (each.project, each.month) == (project, month):
                _keep(self.path(each), each.text)
        return made

    def path(self, record: Issued) -> Path:
        """Return where the file of an issued invoice is."""
        return self.folder / record.month / f"{quote(record.project, safe='')}-{record.number}.json"

    def _issue(self, project: str, month: str) -> Invoice:
        for _ in range(_TRIES):
            draft, before = self.draw(project, month), self.issued(project, month)
            charged, read = self._source.charged(project, draft.start, draft.end)
            lines = [line for each in (*before, draft) for line in each.lines]
            if charged == sum(line.amount_micros for line in lines):
                break
        else:
            raise Conflict(f"{month} is still being booked", hint="Ask again when what is under way has ended.")
        if before and not draft.lines:
            return before[-1]
        number = 1 + max(
            (each.number for each in self.records() if (each.project, each.month) == (project, month)), default=0
        )
        kind = "credit note" if draft.amount_micros < 0 else "invoice"
        made = draft.model_copy(update={"number": f"{month}-{project}-{number}", "kind": kind})
        text = made.model_dump_json(indent=2)
        record = Issued(project=project, month=month, number=number, text=text, charged_micros=charged, read=read)
        if self.path(record).exists():
            raise Conflict(
                f"{self.path(record)} is in the way: it was not issued here", hint="Move it away, then ask again."
            )
        self._append([record])
        return made

    def check_register(self) -> None:
        """Hold the register against what the ledger knows of it; the ledger learns it, if it knows nothing.

        Raises:
            IntegrityError: it was cut off, removed or written anew.
        """
        self.register.records()
        known, end = self._source.anchored(), self.register.end
        if known is None:
            if self.register.is_open():
                self._source.anchor(end.seq, end.hash)
        elif not self.register.has(*known):
            raise IntegrityError(
                f"the register of invoices had {known[0] - 1:,} and other ones",
                hint="Restore books/invoices.jsonl from a copy.",
            )

    def _open(self) -> None:
        self.check_register()
        if not self.register.is_open():
            found = [each.model_copy(update=self._as_of(each)) for each in self._found()]
            self._append(found)

    def _as_of(self, record: Issued) -> dict[str, Any]:
        charged, read = self._source.charged(record.project, *month_of(record.month))
        return {"charged_micros": charged, "read": read}

    def _append(self, records: Sequence[Issued]) -> None:
        """Append, each with what was read of the journal since the record before only; and let the ledger know."""
        known: dict[str, int] = {}
        for each in self.register.records():
            known |= each.read or {}
        kept = []
        for each in records:
            new = each.read and {name: seq for name, seq in each.read.items() if known.get(name) != seq}
            known |= new or {}
            kept.append(each.model_copy(update={"read": new}))
        self.register.append(kept)
        self._source.anchor(self.register.end.seq, self.register.end.hash)

    def _found(self) -> list[Issued]:
        """Return the files that are there, as records of what was issued before there was a register."""
        found = []
        for path in self.folder.glob("*/*.json"):
            named = re.fullmatch(r"(.+)-(\d+)\.json", path.name)
            if named and re.fullmatch(r"\d{4}-\d{2}", path.parent.name):
                text, who = path.read_text(encoding="utf-8"), unquote(named[1])
                found.append(
                    Issued(
                        project=who,
                        month=path.parent.name,
                        number=int(named[2]),
                        text=text,
                        charged_micros=0,
                        read=None,
                        taken_in=True,
                    )
                )
        return sorted(found, key=lambda each: (each.month, each.project, each.number))


def _keep(path: Path, text: str) -> None:
    """Write an invoice's file, if it is not there."""
    if not path.exists():
        write_whole(path, text)


def _read(record: Issued) -> Invoice:
    try:
        return Invoice.model_validate_json(record.text)
    except ValueError as error:
        raise IntegrityError(
            f"invoice {record.number} of '{record.project}' for {record.month} is no invoice",
            hint="It was damaged before it was registered: restore it from a copy.",
        ) from error


def amounts_agree(invoices: Iterable[Invoice]) -> bool:
    """Return whether every invoice's lines sum to its amount, and each corrects those before it."""
    found = list(invoices)
    numbers = [each.number for each in found]
    chained = all(each.corrects == tuple(numbers[:place]) for place, each in enumerate(found))
    return chained and all(sum(line.amount_micros for line in each.lines) == each.amount_micros for each in found)


def _taken(used: Sequence[UsageRow], before: Sequence[Invoice]) -> dict[str, Any]:
    """Return what was taken by what is charged, requests and training, less what the invoices of before told of.

    Those issued until 2026-11-29 took training for requests: what is more than they told of is told as they did.
    """
    told = all("trained_tokens" in invoice.model_fields_set for invoice in before)
    training = [row for row in used if told and row.group["kind"] == "step"]
    requests = [row for row in used if row not in training]
    whole = {
        "requests": sum(row.entries for row in requests),
        "input_tokens": sum(row.usage.input_tokens for row in requests),
        "output_tokens": sum(row.usage.output_tokens for row in requests),
        "trained_tokens": sum(row.usage.input_tokens for row in training),
        "joules": sum(row.microjoules for row in used) / 1e6,
        "joules_low": sum(row.microjoules_low for row in used) / 1e6,
        "joules_high": sum(row.microjoules_high for row in used) / 1e6,
        "grams": sum(row.micrograms for row in used) / 1e6,
    }
    classes = [row.energy_class for row in used]
    left = {name: value - sum(getattr(invoice, name) for invoice in before) for name, value in whole.items()}
    return {**left, "energy_class": max(classes, key=list(EnergyClass).index) if classes else None}


def _summed(costs: Iterable[CostLine]) -> list[InvoiceLine]:
    """Return one line for each model, tier, kind of token and price, over all days and keys.

    A priced line is quantity times price for the whole month; what that differs from the charges is rounding.
    """
    found: dict[tuple[object, ...], list[InvoiceLine]] = defaultdict(list)
    for cost in costs:
        line = InvoiceLine(**{name: getattr(cost, name) for name in InvoiceLine.model_fields})
        found[line.key].append(line)
    lines = [_sum(each) for each in found.values()]
    made: list[InvoiceLine] = []
    for line in lines:
        if line.unit_micros is None:
            made.append(line)
            continue
        amount = charge_micros(line.quantity * line.unit_micros, 1)
        left = {"item": "rounding", "unit_micros": None, "quantity": 0, "amount_micros": line.amount_micros - amount}
        made += [line.model_copy(update={"amount_micros": amount}), line.model_copy(update=left)]
    return made


def _difference(now: Iterable[InvoiceLine], before: Iterable[InvoiceLine]) -> tuple[InvoiceLine, ...]:
    """Return what the lines are more or less than those of before, sorted; equal ones are left out."""
    found: dict[tuple[object, ...], list[InvoiceLine]] = defaultdict(list)
    for line in now:
        found[line.key].append(line)
    for line in before:
        less = {"quantity": -line.quantity, "amount_micros": -line.amount_micros}
        found[line.key].append(line.model_copy(update=less))
    lines = (_sum(each) for each in found.values())
    order = ("input", "cached input", "output", "units", "training", "rounding", "as booked")
    return tuple(
        sorted(
            (line for line in lines if line.quantity or line.amount_micros),
            key=lambda line: (line.model, line.batch, line.service_tier, line.price_version, order.index(line.item)),
        )
    )


def _sum(lines: list[InvoiceLine]) -> InvoiceLine:
    totals = {name: sum(getattr(line, name) for line in lines) for name in ("quantity", "amount_micros")}
    return lines[0].model_copy(update=totals)
