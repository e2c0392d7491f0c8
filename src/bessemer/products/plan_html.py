"""Draws a plan as one HTML page: the answer, what limits it, what would be cheaper, power, money and a played month.

Owns what stands where. Every figure comes from the planner; it is modelled, or simulated,
and the page says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bessemer.products.drawing import COLORS, Slice, areas, bar, legend, line, sankey, swings
from bessemer.products.figures import bounds, counted, reading, said, scale, unit, watts, words
from bessemer.products.page import page, table
from bessemer.twin.answer import Plan
from bessemer.twin.defaults import defaults
from bessemer.twin.interval import Interval
from bessemer.twin.money import Bill, bill
from bessemer.twin.power import SitePower
from bessemer.twin.simulate import Simulation
from bessemer.twin.totals import Total
from bessemer.twin.workload import Training

STYLE = """
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(12.5rem,1fr));gap:.8rem;margin:1.2rem 0}
.tile{border:1px solid var(--line);padding:.7rem .9rem}.tile b{display:block;font-size:1.35rem;line-height:1.2}
.tile u{font-size:.9rem;font-weight:400;text-decoration:none}
.tile small,.tag{color:var(--soft);font-size:.75rem}.tag{border:1px solid var(--line);border-radius:1rem;
padding:.05rem .55rem;font-weight:400;margin-left:.4rem}.lead{font-size:1.15rem;margin:.8rem 0}
.range{height:4px;background:var(--line);margin:.5rem 0 .2rem;position:relative}
.range i{position:absolute;width:3px;height:10px;top:-3px;background:var(--hot)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:0 2rem;margin-top:1rem}
.legend span{display:inline-block;margin-right:1.1rem;color:var(--soft);font-size:.85rem}
.legend i{display:inline-block;width:.75em;height:.75em;margin-right:.35em}.legend b{color:var(--ink);font-weight:500}
svg text.ink,svg tspan.ink{fill:var(--ink)}path.flow{opacity:.6}details{margin:.6rem 0}
td:not(:first-child):not(.text){white-space:nowrap}
@media(max-width:40rem){main{padding:1.2rem;overflow-x:auto}svg:not([aria-label=shares]){min-width:36rem}}
.less{color:var(--good)}.more{color:var(--bad)}h2{break-after:avoid}.tile,svg{break-inside:avoid}
"""

MODELLED, SIMULATED = '<span class="tag">modelled</span>', '<span class="tag">simulated</span>'


def plan_page(
    plans: Sequence[Plan],
    site_power: SitePower,
    totals: Sequence[Total],
    simulation: Simulation | None,
    swept: Sequence[str] = (),
) -> str:
    """Return the plans of a site's work as a whole HTML document: each piece of work, then the site once.

    Args:
        plans: the answers, at one site.
        site_power: of that site at full load.
        totals: of that site.
        simulation: some weeks of that site, if they were played.
        swept: a section on other points of each plan, as HTML.
    """
    first, drawn = plans[0], [*swept, *[""] * len(plans)]
    pieces = [_piece(each, more) for each, more in zip(plans, drawn, strict=False)]
    parts = (
        *pieces,
        f"<h1>{escape(first.site.name)}, the site of all of them</h1>" if len(plans) > 1 else "",
        power_section(site_power),
        money_section(bill(first.site, site_power.facility_watts)),
        played(simulation) if simulation else "",
        _totals(first, totals),
    )
    named = ", ".join(dict.fromkeys(each.work.model for each in plans))
    return page(f"{named} at {first.site.name}: plan", "".join(parts), STYLE)


def _piece(plan: Plan, swept: str) -> str:
    """Return what is told of one piece of work."""
    return "".join((_head(plan), _answer(plan), _limit(plan), _changes(plan), swept, _swings(plan)))


def _head(plan: Plan) -> str:
    work, answer = plan.work, plan.answer
    if isinstance(work, Training):
        cut = f"Training {work.model} ({work.method}, {said(work.tokens)} tokens, {work.precision})"
        days, usd = answer["days"], answer["cost_usd"]
        time, unit_of_time, around = reading("days", days)
        takes = f"takes {time} {unit_of_time} ({around}) and {said(usd.mid)} USD ({bounds(usd)})"
    else:
        cut = f"Serving {work.model} ({work.input_tokens:,} tokens in, {work.output_tokens:,} out, {work.precision})"
        rate, usd = answer["tokens_per_second"], answer["usd_per_million_tokens"]
        takes = f"brings {said(rate.mid)} tokens/s ({bounds(rate)}) at {said(usd.mid)} USD a million ({bounds(usd)})"
    warnings = "".join(f'<p class="fail">{escape(warning)}</p>' for warning in plan.warnings)
    return (
        f"<h1>{escape(work.model)} at {escape(plan.site.name)}</h1>"
        f'<p class="soft">{escape(plan.site.description)} {plan.site.accelerators:,} accelerators.</p>'
        f'<p class="lead">{escape(cut)} {escape(takes)}.</p>{warnings}'
    )


def _answer(plan: Plan) -> str:
    tiles = "".join(_tile(name, given, plan.notes.get(name, "")) for name, given in plan.answer.items())
    told = "Beside each figure stand the bounds that hold 80 % of what may happen."
    return f'<h2>The answer{MODELLED}</h2><p class="soft">{told}</p><div class="tiles">{tiles}</div>'


def _tile(name: str, given: Interval, note: str) -> str:
    middle, measure, around = reading(name, given)
    number, _, word = middle.partition(" ")
    whole = escape(f"{word} {measure}".strip())
    spread = given.high - given.low
    mark = f'<div class="range"><i style="left:{(given.mid - given.low) / spread:.1%}"></i></div>' if spread else ""
    return (
        f'<div class="tile"><small>{escape(words(name)[0])}</small><b>{number} <u>{whole}</u></b>'
        f"{mark}<small>{around or 'without bounds'}</small>{f'<br><small>{escape(note)}</small>' if note else ''}</div>"
    )


def _limit(plan: Plan) -> str:
    parts = [
        Slice(name, share, COLORS[place % len(COLORS)])
        for place, (name, share) in enumerate(plan.shares.items())
        if share > 0
    ]
    cut = ""
    if plan.layout:
        of = plan.layout
        cut = (
            f"The model is cut: tensor {of.tensor} × pipeline {of.pipeline} × data {of.data} × context {of.context}, "
            f"expert {of.expert}, micro-batches of {of.micro_batch}, recompute {of.recompute}."
        )
    told = plan.limit[:1].upper() + plan.limit[1:]
    drawn = bar(parts, lambda share: f"{share:.1%}")
    return f'<h2>The limit{MODELLED}</h2><p>{escape(told)}.</p>{drawn}<p class="soft">{escape(cut)}</p>'


def _changes(plan: Plan) -> str:
    if not plan.changes:
        return f"<h2>Cheaper ways{MODELLED}</h2><p>None of the changes that were tried costs less.</p>"
    name = _costs(plan)
    usd = plan.answer[name].mid
    rows = "".join(
        f"<tr><td>{escape(change.name)}</td><td>{said(usd * change.cost_ratio)}{unit(name)}</td>"
        f"<td>{_less(change.cost_ratio)}</td><td>{_less(change.time_ratio)}</td></tr>"
        for change in plan.changes
    )
    told = ("the same work, but", words(name)[0], "cost, changed by", "time, changed by")
    head = "".join(f"<th>{escape(cell)}</th>" for cell in told)
    return (
        f"<h2>The cheapest changes{MODELLED}</h2>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _costs(plan: Plan) -> str:
    return "cost_usd" if "cost_usd" in plan.answer else "usd_per_million_tokens"


def _less(ratio: float) -> str:
    if abs(ratio - 1) < 0.0005:
        return "same"
    return f'<span class="{"less" if ratio < 1 else "more"}">{ratio - 1:+.1%}</span>'


def flows(power: SitePower) -> list[Slice]:
    """Return where a site's power goes; the parts add up to what comes from the grid."""
    racks = {
        "accelerators": power.accelerator_watts,
        "hosts": power.host_watts,
        "server supplies": power.supply_watts,
        "fabric": power.fabric_watts,
        "storage": power.storage_watts,
    }
    around = {"cooling": power.cooling_watts, "losses": power.losses_watts}
    found = [Slice(name, value, COLORS[place], True) for place, (name, value) in enumerate(racks.items())]
    return found + [Slice(name, value, COLORS[5 + place]) for place, (name, value) in enumerate(around.items())]


def power_section(power: SitePower) -> str:
    """Return where a site's power goes, as HTML."""
    drawn = sankey([part for part in flows(power) if part.value > 0], "grid", "racks", watts)
    whole = power.facility_watts
    told = (
        f"At full load {watts(whole.mid)} come from the grid ({watts(whole.low)} – {watts(whole.high)}); "
        f"PUE {power.pue.mid:.3f} ({power.pue.low:.3f} – {power.pue.high:.3f}) over a usual year."
    )
    return f"<h2>Where the power goes{MODELLED}</h2><p>{escape(told)}</p>{drawn}"


def money_section(found: Bill) -> str:
    """Return what a site costs by the hour, as HTML."""
    kinds = {"capital": found.capital, "power": found.power}
    kinds |= {"people": Interval.exactly(found.people), "rent": Interval.exactly(found.rent)}
    parts = [Slice(name, kinds[name].mid, COLORS[place]) for place, name in enumerate(kinds) if kinds[name].mid > 0]
    whole, share = found.usd_per_hour, 1 / max(1, found.accelerators)
    rows = [
        (name, said(given.mid), bounds(given), said(given.mid * share), f"{given.mid / (whole.mid or 1.0):.1%}")
        for name, given in (*kinds.items(), ("all", whole))
    ]
    head = ("", "USD an hour", "bounds", "USD an accelerator-hour", "share")
    told = escape("; ".join(found.assumptions))
    return (
        f"<h2>What the site costs by the hour{MODELLED}</h2>{bar(parts, lambda usd: f'{said(usd)} USD')}"
        f'{table(head, rows)}<p class="soft">Taken for granted: {told}.</p>'
    )


def _swings(plan: Plan) -> str:
    name = _costs(plan)
    middle = plan.answer[name].mid
    rows = [(words(each.name)[0], each.at_low, each.at_high) for each in plan.swings if each.size > 0]
    if not rows:
        return ""
    told = f"{words(name)[0].capitalize()} in USD when one input goes to its bounds and the others stay in the middle."
    key = (Slice("input at its low bound", 0.0, COLORS[1]), Slice("at its high bound", 0.0, COLORS[0]))
    return (
        f"<h2>What the cost depends on most{MODELLED}</h2><p>{escape(told)}</p>"
        f"{swings(rows, middle, said)}{legend(key, lambda _: '')}"
    )


def played(found: Simulation) -> str:
    """Return what the accelerators of a site did over the days, what it drew, and the totals, as HTML."""
    hours = len(found.hours.waiting)
    whole = found.totals.accelerator_hours
    lines = _states(found)
    thin = [(kind, _thinned(values)) for kind, values in lines]
    drawn = areas(thin, hours / 24, whole / hours, "accelerators")
    measure, size = ("MW", 1e6) if found.hours.facility_watts.max() >= 1e6 else ("kW", 1e3)
    grid = line(_thinned((found.hours.facility_watts / size).tolist()), hours / 24, measure)
    kinds = [kind for kind, _ in lines]
    return (
        f"<h2>{hours / 24:g} days of operation{SIMULATED}</h2>"
        f'<p class="soft">A usual mix of jobs and a service, nothing else: one run of chance with '
        f"{found.events:,} events. What the accelerators did:</p>"
        f"{drawn}{legend(kinds, lambda value: f'{value / whole:.1%}')}"
        f'<p class="soft">Drawn from the grid:</p>{grid}{_month(found)}'
    )


STATE_COLORS = {
    "working": COLORS[0],
    "serving": COLORS[1],
    "headroom": COLORS[7],
    "throttled": "#e9b48f",
    "straggling": COLORS[4],
    "checkpointing": "#b7a6dd",
    "lost": "#7c3a2d",
    "recovering": COLORS[3],
    "planned": "#4f6f52",
    "repair": COLORS[5],
    "maintenance": COLORS[8],
    "spare": COLORS[2],
    "idle": "var(--line)",
}
SHOWN = 0.004
"""Share of all hours below which a state is drawn among the others."""


def _states(found: Simulation) -> list[tuple[Slice, list[float]]]:
    """Return each state with its time line; rare ones together, idle on top."""
    whole, rare, lines = found.totals.accelerator_hours, [0.0] * len(found.hours.waiting), []
    for name, values in found.hours.states.items():
        used, course = float(values.sum()), values.tolist()
        if name in ("working", "serving", "idle") or used > SHOWN * whole:
            lines.append((Slice(name, used, STATE_COLORS.get(name, COLORS[9])), course))
        else:
            rare = [one + more for one, more in zip(rare, course, strict=True)]
    others = (Slice("all other stops", sum(rare), COLORS[6]), rare)
    return [*(each for each in lines if each[0].name != "idle"), others, *(e for e in lines if e[0].name == "idle")]


def _thinned(values: Sequence[float], most: int = 240) -> list[float]:
    """Return means over equal stretches, so that a drawing stays small."""
    width = -(-len(values) // most)
    return [sum(cut) / len(cut) for cut in (values[at : at + width] for at in range(0, len(values), width))]


def _month(found: Simulation) -> str:
    totals = found.totals
    rows = [
        ("of all accelerator-hours did useful work", f"{totals.useful_ratio:.1%}"),
        ("of the hours that jobs held were work", f"{totals.goodput_ratio:.1%}"),
        ("interruptions of jobs", f"{totals.interruptions:,}"),
        ("jobs finished; not finished", f"{totals.finished:,}; {totals.unfinished:,}"),
        ("requests answered; refused", f"{said(totals.served_requests)}; {said(totals.refused_requests)}"),
        ("energy at the meter", f"{said(totals.facility_joules / 3.6e9)} MWh"),
        ("electricity", f"{said(totals.energy_usd)} USD"),
        ("all else", f"{said(totals.fixed_usd)} USD"),
        ("carbon of electricity", f"{said(totals.gco2e / 1e6)} t CO2e"),
        ("these days' share of making site and hardware, modelled", f"{said(totals.embodied_gco2e / 1e6)} t CO2e"),
    ]
    if totals.over_envelope_hours:
        rows.append(("hours above what the grid gives", f"{totals.over_envelope_hours:,}"))
    lost = [
        (cause.replace("_", " "), f"{hours:,.0f}", f"{hours / totals.accelerator_hours:.2%}")
        for cause, hours in sorted(found.loss.items(), key=lambda item: -item[1])
        if hours > 0
    ]
    head = ("accelerator-hours without work", "hours", "share")
    return f'<div class="pair">{table(("", "simulated"), rows)}{table(head, lost)}</div>'


def _totals(plan: Plan, totals: Sequence[Total]) -> str:
    rows = [_total(total) for total in totals if total.modelled.mid or total.published is not None]
    columns = 5 if any(total.published is not None for total in totals) else 3
    head = ("", "modelled", "bounds", "published", "difference")[:columns]
    sources = table(("value", "source"), list(plan.site.sources.items()), text=True)
    told = f"<details><summary>Where the site's values are from</summary>{sources}</details>"
    shown = table(head, [row[:columns] for row in rows])
    taken = [(each.path, f"{each.value:g}", each.source) for each in defaults(plan.site)]
    assumed = table(("not declared", "taken", "source"), taken, text=True)
    told = (told if plan.site.sources else "") + (
        f"<details><summary>What the site does not declare, and what is taken instead</summary>{assumed}</details>"
    )
    return f"<h2>The site in numbers{MODELLED}</h2>{shown}{told}"


def _total(total: Total) -> tuple[str, ...]:
    middle, measure, around = reading(total.name, total.modelled)
    told = None if total.published is None else counted(total.published / scale(total.name, total.modelled.mid)[0])
    return (
        words(total.name)[0],
        f"{middle} {measure}".rstrip(),
        around,
        "not published" if told is None else f"{told} {measure}".rstrip(),
        f"{total.difference:+.1%}" if total.difference is not None else "",
    )
