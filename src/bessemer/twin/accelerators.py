"""What an accelerator is: peak rates, memory, links and power, from the catalogue or measured on the machine at hand.

Owns the catalogue's units. Knows not how much of a peak a kernel reaches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.errors import Unsupported
from bessemer.twin.catalogue import Row, number, table, unknown


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device. Rates are the vendor's dense peaks; `None`: it has no such unit, or nobody said.

    Attributes:
        name: as in the catalogue, such as ``H100-SXM-80GB``.
        bf16_flop_per_second: dense matrix products in bf16 (fp16 where there is no bf16).
        fp8_flop_per_second: the same in fp8.
        fp4_flop_per_second: the same in fp4.
        memory_bytes: of the fast memory.
        memory_bytes_per_second: of the fast memory.
        scaleup_bytes_per_second: to its neighbours in the scale-up domain, in one direction.
        scaleup_accelerators: how many share that domain in the usual product.
        scaleout_bytes_per_second: of its share of the network adapters in the usual server, in one direction.
        power_watts: the rated maximum of the board; see ``power.rated_watts`` where nobody said.
        idle_watts: with a model loaded and nothing to do.
        achievable_ratio: best measured bf16 matrix product over the peak.
        year: when it was first sold; 0 where nobody said.
        source: where the numbers are from.
        fp32_flop_per_second: dense matrix products in fp32.
    """

    name: str
    bf16_flop_per_second: float
    fp8_flop_per_second: float | None
    fp4_flop_per_second: float | None
    memory_bytes: float
    memory_bytes_per_second: float
    scaleup_bytes_per_second: float | None
    scaleup_accelerators: int
    scaleout_bytes_per_second: float | None
    power_watts: float | None
    idle_watts: float | None
    achievable_ratio: float | None
    year: int
    source: str
    fp32_flop_per_second: float | None = None

    def flop_per_second(self, precision: str) -> float:
        """Return the dense peak in fp32, bf16, fp8, int8 or fp4; the next wider one where it has no such unit.

        Raises:
            Unsupported: nobody said how fast it is in fp32.
        """
        if precision == "fp32":
            if self.fp32_flop_per_second is None:
                told = f"nobody said how fast {self.name} multiplies in fp32"
                raise Unsupported(told, hint="Take bf16; or measure it on that machine: bessemer doctor --measure.")
            return self.fp32_flop_per_second
        rates = {"fp4": self.fp4_flop_per_second, "fp8": self.fp8_flop_per_second, "int8": self.fp8_flop_per_second}
        order = ["fp4", "fp8"] if precision in ("fp4", "nvfp4", "mxfp4") else [precision]
        return next((rate for name in order if (rate := rates.get(name))), self.bf16_flop_per_second)

    def unit(self, precision: str) -> str:
        """Return the precision in which products of numbers kept in another one are made: the narrowest it can.

        >>> [accelerator(name).unit("fp4") for name in ("B200", "H100", "A100")], accelerator("A100").unit("int8")
        (['fp4', 'fp8', 'bf16'], 'bf16')
        """
        if precision in ("fp4", "nvfp4", "mxfp4") and self.fp4_flop_per_second:
            return "fp4"
        if precision in ("fp32", "bf16", "int4"):
            return "fp32" if precision == "fp32" else "bf16"
        return ("int8" if precision == "int8" else "fp8") if self.fp8_flop_per_second else "bf16"


class Measured(Config):
    """One device as it was measured: sustained rates, not peaks. A processor counts as a device.

    Attributes:
        day: when, such as ``2026-11-23``.
        device: what it calls itself.
        fp32_flop_per_second: of large matrix products.
        bf16_flop_per_second: the same in bf16; 0: not measured.
        memory_bytes: of its memory.
        memory_bytes_per_second: read and written by a large copy, both counted.
        power_watts: at full load; 0: the host's watts hold it.
        idle_watts: with nothing to do.
    """

    day: str = ""
    device: str = ""
    fp32_flop_per_second: Annotated[float, Field(gt=0)] = 1e11
    bf16_flop_per_second: Annotated[float, Field(ge=0)] = 0.0
    memory_bytes: Annotated[float, Field(gt=0)] = 8e9
    memory_bytes_per_second: Annotated[float, Field(gt=0)] = 1e10
    power_watts: Annotated[float, Field(ge=0)] = 0.0
    idle_watts: Annotated[float, Field(ge=0)] = 0.0

    def accelerator(self, name: str) -> Accelerator:
        """Return it as the planner takes it; work in bf16 runs at the faster of the two rates, as the trainer does."""
        return Accelerator(
            name=name,
            bf16_flop_per_second=max(self.bf16_flop_per_second, self.fp32_flop_per_second),
            fp8_flop_per_second=None,
            fp4_flop_per_second=None,
            memory_bytes=self.memory_bytes,
            memory_bytes_per_second=self.memory_bytes_per_second,
            scaleup_bytes_per_second=None,
            scaleup_accelerators=1,
            scaleout_bytes_per_second=None,
            power_watts=self.power_watts,
            idle_watts=self.idle_watts or None,
            achievable_ratio=1.0,  # what was measured is what is reached
            year=0,
            source=f"measured on {self.day}: {self.device}",
            fp32_flop_per_second=self.fp32_flop_per_second,
        )


@cache
def accelerators() -> dict[str, Accelerator]:
    """Return all accelerators of the catalogue, by name."""
    return {row["name"]: _read(row) for row in table("accelerators")}


MAKER = re.compile(r"nvidia|amd|instinct|intel|google|virtualized|nps\d|spx|dpx|cpx|cts|\d+w")
"""What publications add to a name: who makes it, how its memory is divided, what it may draw, how it was tested."""
SIZE = re.compile(r"\d+gb|hbm\d\w?")
"""What they add of its memory; it tells some accelerators apart."""


def accelerator(name: str) -> Accelerator:
    """Return an accelerator.

    >>> accelerator("AMD Instinct MI300X-NPS1-SPX-192GB-750W").name
    'MI300X'

    Raises:
        NotFound: the catalogue has none of that name or alias.
    """
    known = accelerators()
    found = known.get(name)
    for least in (re.compile("(?!)"), MAKER, re.compile(f"{MAKER.pattern}|{SIZE.pattern}")):
        names = _aliases(least).get(_bare(name, least), frozenset())
        found = known[next(iter(names))] if not found and len(names) == 1 else found
    if found is None:
        raise unknown("accelerator", name, known)
    return found


def _bare(name: str, least: re.Pattern[str]) -> str:
    """Return a name in lower case without the words that match."""
    return "-".join(word for word in re.split(r"[\s_-]+", name.casefold()) if not least.fullmatch(word))


@cache
def _aliases(least: re.Pattern[str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for row in table("accelerators"):
        for alias in (row["name"], *filter(None, row["aliases"].split("|"))):
            found.setdefault(_bare(alias, least), set()).add(row["name"])
    return {alias: frozenset(names) for alias, names in found.items()}


def _read(row: Row) -> Accelerator:
    def scaled(column: str, factor: float) -> float | None:
        value = number(row, column)
        return None if value is None else value * factor

    tera, giga = 1e12, 1e9
    return Accelerator(
        name=row["name"],
        bf16_flop_per_second=float(row["bf16_tflops"]) * tera,
        fp8_flop_per_second=scaled("fp8_tflops", tera),
        fp4_flop_per_second=scaled("fp4_tflops", tera),
        memory_bytes=float(row["memory_gb"]) * giga,
        memory_bytes_per_second=float(row["memory_tb_per_s"]) * tera,
        scaleup_bytes_per_second=scaled("scaleup_gb_per_s", giga),
        scaleup_accelerators=int(row["scaleup_accelerators"]),
        scaleout_bytes_per_second=scaled("scaleout_gb_per_s", giga),
        power_watts=number(row, "power_w"),
        idle_watts=number(row, "idle_w"),
        achievable_ratio=number(row, "achievable_ratio"),
        year=int(row["year"]),
        source=row["source"],
    )
