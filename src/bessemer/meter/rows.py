"""An entry as a row of the ledger, and back: what it has in common with many others is its form, the rest is numbers.

Requests of one key to one model differ in id, time, tokens, energy and money only. So a row takes a tenth of the
entry's JSON, and loses nothing: `entry_of` gives the entry as it was booked.

Owns both directions. Knows no database.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel

from bessemer.core.digest import canonical_json, digest_bytes
from bessemer.core.nouns import Entry
from bessemer.meter.energy import MICRO

logger = logging.getLogger("bessemer.meter")

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
_MOST = 2**63 - 1
"""Of an amount: what databases have room for."""
_GRAMS, _ALL = struct.Struct("<3d"), struct.Struct("<7d")


def read(text: bytes) -> tuple[Form, bytes, float, Amounts, bytes, str | None]:
    """Return an entry's form and what stands in its row: id, start, amounts, exact numbers, and subject.

    Whole numbers of more than 63 bits are cut to that, which the log says: a server may have told a usage that no
    database has room for, and one entry must not keep all others out of the ledger. The journal has it as it was.

    Raises:
        ValidationError: pydantic's; it is no entry.
    """
    decode, refusal = _decoder()
    try:
        entry = decode(text)
    except refusal:  # pydantic says what is wrong with it, or takes it
        entry = decode(_within(Entry.model_validate_json(text)).model_dump_json())
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


def _within(entry: Entry) -> Entry:
    parts = {name: getattr(entry, name) for name in ("usage", "energy_cost", "charge")}
    kept = {
        name: {field: max(-_MOST, min(value, _MOST)) for field, value in part if isinstance(value, int)}
        for name, part in parts.items()
    }
    made = entry.model_copy(update={name: part.model_copy(update=kept[name]) for name, part in parts.items()})
    if made != entry:
        logger.error("entry %s has numbers that cannot be; the ledger cuts them to %d", entry.id, _MOST)
    return made


def columns_of(form: Form) -> tuple[Any, ...]:
    """Return a form as `FORM` has it: the same texts on both databases, the price's version without its note."""
    batch, version = FORM.index("batch"), form[-1]
    plain = version.removesuffix(_DEFAULT)
    return (*form[:batch], "1" if form[batch] else "", *form[batch + 1 : -1], plain, version[len(plain) :])


def entry_of(row: Sequence[Any]) -> Entry:
    """Return the entry of a row as it was booked; the row is `BOOKED`."""
    id, _, started_at, *numbers, exact, subject = row[: len(COLUMNS)]
    form, own = _parts(*row[len(COLUMNS) :]), unpacked(id)
    seconds, read, written, cached, units, joules, low, high, _, _, _, cost, charge = numbers
    if len(exact) == _ALL.size:
        seconds, joules, low, high, grams, grams_low, grams_high = _ALL.unpack(exact)
    else:
        grams, grams_low, grams_high = _GRAMS.unpack(exact)
        seconds, joules, low, high = seconds / MICRO, joules / MICRO, low / MICRO, high / MICRO
    about = own.removeprefix(f"{form.subject['kind']}:") if subject is None else subject
    return Entry.model_validate(
        {
            **form.entry,
            "id": own,
            "started_at": started_at,
            "subject": {**form.subject, "id": about},
            "usage": {"input_tokens": read, "output_tokens": written, "cached_tokens": cached, "units": units},
            "measurement": {
                **form.measurement, "seconds": seconds, "joules": joules, "joules_low": low, "joules_high": high,
            },
            "carbon": {**form.carbon, "grams": grams, "grams_low": grams_low, "grams_high": grams_high},
            "energy_cost": {"micros": cost, "currency": form.cost_currency},
            "charge": {"micros": charge, "currency": form.currency},
        }
    )  # fmt: skip


class _Parts(NamedTuple):
    """What a form says of each part of its entries."""

    entry: dict[str, Any]
    subject: dict[str, Any]
    measurement: dict[str, Any]
    carbon: dict[str, Any]
    cost_currency: str
    currency: str


@lru_cache(4096)
def _parts(*form: Any) -> _Parts:
    of = dict(zip(FORM, form, strict=True))
    who = ("kind", "name", "run", "project", "key_id", "model", "service_tier")
    return _Parts(
        {"status": of["status"], "price_version": of["price_version"] + of["price_note"]},
        {name: of[name] for name in who} | {"batch": bool(of["batch"])},
        {"energy_class": of["energy_class"], "boundary": of["boundary"], "source": of["sensor"]},
        {
            "grid": of["grid"],
            "grams_per_kilowatt_hour": of["grams_per_kilowatt_hour"],
            "source": of["grid_source"],
        },
        of["cost_currency"],
        of["currency"],
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

    shape = _struct(Entry, msgspec.defstruct, msgspec.Meta(ge=-_MOST, le=_MOST))
    return msgspec.json.Decoder(shape).decode, msgspec.DecodeError


def _struct(model: type[BaseModel], make: Callable[..., Any], bounds: object) -> Any:
    fields: list[tuple[Any, ...]] = []
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _struct(kind, make, bounds)
        elif isinstance(kind, type) and issubclass(kind, Enum):
            kind = Literal[tuple(each.value for each in kind)]
        elif kind is int:
            kind = Annotated[int, bounds]
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            default = kind(**dict(default))
        fields.append((name, kind) if field.is_required() else (name, kind, default))
    return make(model.__name__, fields, forbid_unknown_fields=True, kw_only=True, gc=False, frozen=True)
