"""Words for the planner's figures: what people call them, their units, and numbers with no more digits than are known.

Owns the names. Knows no page and no terminal.
"""

from __future__ import annotations

from bessemer.twin.interval import Interval

WORDS = {
    "days": ("time", "days"),
    "energy_kwh": ("energy", "kWh"),
    "cost_usd": ("cost", "USD"),
    "carbon_kgco2e": ("carbon", "kg CO2e"),
    "embodied_kgco2e": ("carbon of making the hardware", "kg CO2e"),
    "embodied_gco2e_per_million_tokens": ("carbon of making the hardware, a million tokens", "g CO2e"),
    "accepted_outputs_per_joule": ("accepted answers for a joule", ""),
    "revenue_usd_per_megawatt_year": ("revenue of a megawatt for a year", "USD"),
    "store_full_days": ("until shared storage is full", "days"),
    "store_usd_per_year": ("storage for a year of growth", "USD"),
    "tokens_per_second": ("rate", "tokens/s"),
    "usd_per_million_tokens": ("price of a million tokens", "USD"),
    "step_seconds": ("one step", "s"),
    "read_bytes_per_second_per_accelerator": ("data read, each accelerator", "B/s"),
    "mfu_ratio": ("model FLOPs utilisation", ""),
    "joules_per_token": ("energy of a token", "J"),
    "carbon_gco2e_per_million_tokens": ("carbon of a million tokens", "g CO2e"),
    "time_to_first_token_seconds": ("time to first token", "s"),
    "time_per_output_token_seconds": ("time per output token", "s"),
    "spare_replicas": ("of them spare, for failures", ""),
    "up_ratio": ("share of time that a replica is up", ""),
    "accelerators_per_replica": ("accelerators of a replica", ""),
    "concurrency_per_replica": ("requests at once, each replica", ""),
    "exaflops_bf16": ("peak in bf16", "exaFLOP/s"),
    "exaflops_fp8": ("peak in fp8", "exaFLOP/s"),
    "petabytes": ("shared storage", "PB"),
    "megawatts_rated": ("servers by their plates", "MW"),
    "megawatts_it": ("servers, network, storage", "MW"),
    "megawatts": ("from the grid", "MW"),
    "pue": ("PUE", ""),
    "water_cubic_metres_per_day": ("water a day", "m³"),
    "fabric_usd": ("network", "USD"),
    "capital_usd": ("capital", "USD"),
    "staff_usd_per_year": ("people for a year", "USD"),
    "embodied_tonnes_co2e": ("embodied carbon", "t CO2e"),
    "embodied_tonnes_co2e_per_day": ("embodied carbon of a day", "t CO2e"),
    "embodied_kgco2e_per_hour": ("embodied carbon of an hour", ""),
    "accepted_ratio": ("share of answers accepted", ""),
    "gco2e_per_kwh": ("carbon of a kWh", "g CO2e"),
    "tonnes_co2e_per_day": ("carbon a day", "t CO2e"),
    "effective_ratio": ("share of time that is kept", ""),
    "fixed_usd_per_hour": ("fixed cost of an hour", ""),
    "usd_per_kwh": ("price of a kWh", ""),
    "facility_watts": ("power of the site", ""),
    "replica_tokens_per_second": ("rate of a replica", ""),
}
"""Figure -> what people call it, and its unit."""


SCALES = {
    "days": ((1.0, "days"), (1 / 24, "h"), (1 / 1440, "min"), (1 / 86400, "s")),
    "kWh": ((1e6, "GWh"), (1e3, "MWh"), (1.0, "kWh"), (1e-3, "Wh")),
    "kg CO2e": ((1e6, "kt CO2e"), (1e3, "t CO2e"), (1.0, "kg CO2e"), (1e-3, "g CO2e")),
    "t CO2e": ((1e3, "kt CO2e"), (1.0, "t CO2e"), (1e-3, "kg CO2e"), (1e-6, "g CO2e")),
    "MW": ((1e3, "GW"), (1.0, "MW"), (1e-3, "kW"), (1e-6, "W")),
    "exaFLOP/s": ((1.0, "exaFLOP/s"), (1e-3, "petaFLOP/s"), (1e-6, "teraFLOP/s")),
    "PB": ((1e3, "EB"), (1.0, "PB"), (1e-3, "TB")),
    "B/s": ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")),
    "USD": ((1e9, "billion USD"), (1e6, "million USD"), (1.0, "USD")),
}
"""Unit -> how much of it each of its other units is, largest first."""


def said(value: float) -> str:
    """Return a number for people, with three digits: no figure here is known better.

    >>> [said(v) for v in (0.000972, 3.25509, 970952.86, 605475419.7, 2.5e12)]
    ['0.000972', '3.26', '971,000', '605 million', '2.5 trillion']
    """
    for size, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if abs(value) >= size:
            return f"{value / size:.3g}{word}"
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def counted(value: float) -> str:
    """Return a number that is known exactly: all digits of a count, else as any other.

    >>> counted(1016.0), counted(2.0106)
    ('1,016', '2.01')
    """
    return f"{value:,.0f}" if value == int(value) and value < 1e7 else said(value)


def figure(name: str, given: Interval) -> tuple[str, str]:
    """Return the middle and the bounds of a figure for people, ratios as shares.

    >>> figure("mfu_ratio", Interval(0.4, 0.3, 0.45))
    ('40.0%', '30.0% – 45.0%')
    """
    if name.endswith("_ratio"):
        return f"{given.mid:.1%}", f"{given.low:.1%} – {given.high:.1%}"
    return (counted(given.mid) if given.low == given.high else said(given.mid)), bounds(given)


def reading(name: str, given: Interval) -> tuple[str, str, str]:
    """Return the middle of a figure, a unit in which it is neither tiny nor huge, and the bounds, for people.

    >>> reading("days", Interval(0.5, 0.4, 0.6)), reading("energy_kwh", Interval(2.5e6, 2e6, 4e6))
    (('12', 'h', '9.6 – 14.4'), ('2.5', 'GWh', '2 – 4'))
    """
    size, known = scale(name, given.mid)
    middle, around = figure(name, given.scaled(1 / size))
    return middle, known, around


def scale(name: str, value: float) -> tuple[float, str]:
    """Return how much of a figure's unit the unit is in which a value is neither tiny nor huge, and that unit.

    >>> scale("megawatts", 0.0084), scale("pue", 1.1)
    ((0.001, 'kW'), (1.0, ''))
    """
    known = words(name)[1]
    sizes = SCALES.get(known, ((1.0, known),))
    return next((each for each in sizes if abs(value) >= each[0] * (1 - 1e-9)), sizes[-1])


def bounds(given: Interval) -> str:
    """Return the bounds of an interval for people; nothing if they are the same.

    >>> bounds(Interval(10.0, 8.0, 13.0)), bounds(Interval.exactly(8.0))
    ('8 – 13', '')
    """
    return "" if given.low == given.high else f"{said(given.low)} – {said(given.high)}"


def watts(value: float) -> str:
    """Return a power for people.

    >>> [watts(w) for w in (72_576.0, 1_203_509.0, 40.0)]
    ['72.6 kW', '1.20 MW', '40.0 W']
    """
    for size, unit in ((1e9, "GW"), (1e6, "MW"), (1e3, "kW")):
        if abs(value) >= size:
            return f"{value / size:#.3g}".rstrip(".") + f" {unit}"
    return f"{value:#.3g}".rstrip(".") + " W"


def words(name: str) -> tuple[str, str]:
    """Return what people call a figure, and its unit.

    >>> words("energy_kwh"), words("leaf_switches")
    (('energy', 'kWh'), ('leaf switches', ''))
    """
    kind = name.partition(": ")[0]
    return WORDS.get(name, (name.replace("_", " "), {"capital": "USD", "embodied carbon": "t CO2e"}.get(kind, "")))


def unit(name: str) -> str:
    """Return the unit of a figure after a space, if it has one.

    >>> unit("energy_kwh"), unit("pue")
    (' kWh', '')
    """
    known = words(name)[1]
    return f" {known}" if known else ""
