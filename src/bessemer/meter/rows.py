"""An entry as a row of the ledger, and back: what it has in common with many others is its form, the rest is numbers.

Requests of one key to one model differ in id, time, tokens, energy and money only. So a row takes a tenth of the
entry's JSON, and loses nothing: `entry_of` gives the entry as it was booked.

Owns both directions. Knows no database.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel

from bessemer.core.digest import canonical_json, digest_bytes
from bessemer.core.nouns import Carbon, Entry, Measurement, Subject, Usage
from bessemer.core.units import Money
from bessemer.meter.energy import MICRO

FORM = (
    *("kind", "name", "run", "project", "key_id", "model", "service_tier", "batch", "status"),
    *("energy_class", "boundary", "sensor", "grid", "grams_per_kilowatt_hour", "grid_source"),
    *("cost_currency", "currency", "price_version", "price_note"),
)
SUMS = (
    *("microseconds", "input_tokens", "output_tokens", "cached_tokens", "units"),
    *("microjoules", "microjoules_low", "microjoules_high"),
    *("micrograms", "micrograms_low", "micrograms_high", "cost_micros", "charge_micros"),
)
COLUMNS = ("id", "form", "started_at", *SUMS, "exact", "subject")
"""Of the table ``entries``."""
BOOKED = f"{', '.join(COLUMNS)}, {', '.join(FORM)}"
"""What `entry_of` needs of ``entries`` with its form."""

Form = tuple[Any, ...]
"""What many entries have in common, as read."""
Amounts = tuple[int, ...]
"""1, for the entry itself, and what is summed, in the order of `SUMS`."""
Row = tuple[Any, ...]

_DEFAULT = " default"
_REQUEST = "request:req_"
_REQUEST_LENGTH = len(_REQUEST) + 32
_GRAMS, _ALL = struct.Struct("<3d"), struct.Struct("<7d")


def read(text: bytes) -> tuple[Form, bytes, float, Amounts, bytes, str | None]:
    """Return an entry's form and what stands in its row: id, start, amounts, exact numbers, and subject.

    Raises:
        ValidationError: pydantic's; it is no entry.
    """
    decode, refusal = _decoder()
    try:
        entry = decode(text)
    except refusal:  # pydantic says what is wrong with it, or takes it
        entry = decode(Entry.model_validate_json(text).model_dump_json())
    subject, measured, carbon, usage = entry.subject, entry.measurement, entry.carbon, entry.usage
    cost, charge, id, kind = entry.energy_cost, entry.charge, entry.id, subject.kind
    seconds, joules, low, high = measured.seconds, measured.joules, measured.joules_low, measured.joules_high
    grams, grams_low, grams_high = carbon.grams, carbon.grams_low, carbon.grams_high
    microseconds, microjoules = round(seconds * MICRO), round(joules * MICRO)
    microjoules_low, microjoules_high = round(low * MICRO), round(high * MICRO)
    # Flat tuples in the order of FORM and SUMS: this is done for each of millions.
    form = (
        kind, subject.name, subject.run, subject.project, subject.key_id, subject.model, subject.service_tier,
        subject.batch, entry.status, measured.energy_class, measured.boundary, measured.source,
        carbon.grid, carbon.grams_per_kilowatt_hour, carbon.source, cost.currency, charge.currency, entry.price_version,
    )  # fmt: skip
    amounts = (
        1, microseconds, usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.units,
        microjoules, microjoules_low, microjoules_high,
        round(grams * MICRO), round(grams_low * MICRO), round(grams_high * MICRO), cost.micros, charge.micros,
    )  # fmt: skip
    if (
        microseconds / MICRO == seconds
        and microjoules / MICRO == joules
        and microjoules_low / MICRO == low
        and microjoules_high / MICRO == high
    ):
        exact = _GRAMS.pack(grams, grams_low, grams_high)
    else:
        exact = _ALL.pack(seconds, joules, low, high, grams, grams_low, grams_high)
    own = subject.id
    return form, packed(id), entry.started_at, amounts, exact, None if id == f"{kind}:{own}" else own


def columns_of(form: Form) -> tuple[Any, ...]:
    """Return a form as `FORM` has it: the same texts on both databases, the price's version without its note."""
    batch, version = FORM.index("batch"), form[-1]
    plain = version.removesuffix(_DEFAULT)
    return (*form[:batch], "1" if form[batch] else "", *form[batch + 1 : -1], plain, version[len(plain) :])


def entry_of(row: Sequence[Any]) -> Entry:
    """Return the entry of a row as it was booked; the row is `BOOKED`."""
    id, _, started_at, *numbers, exact, subject = row[: len(COLUMNS)]
    micros, own = dict(zip(SUMS, numbers, strict=True)), unpacked(id)
    form = dict(zip(FORM, row[len(COLUMNS) :], strict=True))
    amounts = _ALL.unpack(exact) if len(exact) == _ALL.size else None
    seconds, joules, low, high = (
        amounts[:4] if amounts else (micros[name] / MICRO for name in ("microseconds", *SUMS[5:8]))
    )
    grams, grams_low, grams_high = amounts[4:] if amounts else _GRAMS.unpack(exact)
    return Entry(
        id=own,
        subject=Subject(
            id=own.removeprefix(f"{form['kind']}:") if subject is None else subject,
            batch=bool(form["batch"]),
            **{name: form[name] for name in ("kind", "name", "run", "project", "key_id", "model", "service_tier")},
        ),
        started_at=started_at,
        status=form["status"],
        usage=Usage(**{name: micros[name] for name in Usage.model_fields}),
        measurement=Measurement(
            seconds=seconds,
            joules=joules,
            joules_low=low,
            joules_high=high,
            energy_class=form["energy_class"],
            boundary=form["boundary"],
            source=form["sensor"],
        ),
        carbon=Carbon(
            grams=grams,
            grams_low=grams_low,
            grams_high=grams_high,
            grid=form["grid"],
            grams_per_kilowatt_hour=form["grams_per_kilowatt_hour"],
            source=form["grid_source"],
        ),
        energy_cost=Money(micros=micros["cost_micros"], currency=form["cost_currency"]),
        charge=Money(micros=micros["charge_micros"], currency=form["currency"]),
        price_version=form["price_version"] + form["price_note"],
    )


def digest_of(form: Form) -> bytes:
    """Return what a form is known by: 32 bytes."""
    return bytes.fromhex(digest_bytes(canonical_json(form).encode()))


def packed(id: str) -> bytes:
    """Return an entry's id in few bytes: the ids of requests are 16 of them, in hexadecimal digits.

    >>> packed("request:req_0198f3a2b1c000000000000000000007").hex()
    '000198f3a2b1c000000000000000000007'
    >>> packed("step:a")
    b'\\x01step:a'
    """
    if id[:12] == _REQUEST and len(id) == _REQUEST_LENGTH:
        digits = id[12:]
        try:
            short = bytes.fromhex(digits)
        except ValueError:
            short = b""
        if short.hex() == digits:
            return b"\0" + short
    return b"\1" + id.encode()


def unpacked(id: bytes) -> str:
    """Return the id that was packed."""
    return id[1:].decode() if id[:1] == b"\1" else _REQUEST + id[1:].hex()


@cache
def _decoder() -> tuple[Callable[[bytes | str], Any], type[Exception]]:
    """Return what reads an entry's JSON, whose fields are those of `Entry`, and what it raises; pydantic is slower."""
    import msgspec  # only whoever fills a ledger waits for it

    return msgspec.json.Decoder(_struct(Entry, msgspec.defstruct)).decode, msgspec.DecodeError


def _struct(model: type[BaseModel], make: Callable[..., Any]) -> Any:
    fields: list[tuple[Any, ...]] = []
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _struct(kind, make)
        elif isinstance(kind, type) and issubclass(kind, Enum):
            kind = Literal[tuple(each.value for each in kind)]
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            default = kind(**dict(default))
        fields.append((name, kind) if field.is_required() else (name, kind, default))
    return make(model.__name__, fields, forbid_unknown_fields=True, kw_only=True, gc=False, frozen=True)
