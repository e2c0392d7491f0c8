"""Draws simulated months of a site as one HTML page: what the accelerators did, power, money, and what was declared.

Owns what stands where. Every figure is simulated or modelled, and the page says which.
"""

from __future__ import annotations

from html import escape

from bessemer.products.figures import watts
from bessemer.products.page import page, table
from bessemer.products.plan_html import MODELLED, STYLE, money_section, played, power_section
from bessemer.twin.money import bill
from bessemer.twin.power import site_power
from bessemer.twin.scenario import Scenario
from bessemer.twin.simulate import Simulation
from bessemer.twin.site import Site
from bessemer.twin.swings import DIP_SECONDS, PERIOD_SECONDS, swing


def months_page(site: Site, found: Simulation, scenario: Scenario) -> str:
    """Return months of a site as a whole HTML document.

    Args:
        site: that was played.
        found: what became of it.
        scenario: under which it was played.
    """
    drawn = site_power(site, load=1.0)
    head = (
        f"<h1>{len(found.hours.waiting) / 24:g} days of {escape(site.name)}</h1>"
        f'<p class="soft">{escape(site.description)} {site.accelerators:,} accelerators.</p>'
    )
    parts = (head, played(found), _declared(scenario), _swing(site), power_section(drawn))
    body = "".join(parts) + money_section(bill(site, drawn.facility_watts))
    return page(f"{site.name}: simulated months", body, STYLE)


def _declared(scenario: Scenario) -> str:
    policy = scenario.policy
    rows = [
        ("order of the queue", {"fifo": "first come, first served", "fair": "fair shares"}[policy.order]),
        ("short jobs may pass one that waits", "yes" if policy.backfill else "no"),
        ("urgent jobs may stop others", "yes" if policy.preempt else "no"),
        ("servers", {"packed": "packed by block of the network", "spread": "spread over blocks"}[policy.packing]),
        ("jobs ask for", f"{scenario.load_ratio:.0%} of the accelerator-hours"),
        ("the service's busiest hour takes", f"{scenario.service_ratio:.0%} of the accelerators"),
    ]
    for cut in scenario.cuts:
        again = "" if not cut.every_days else ", every day" if cut.every_days == 1 else f", every {cut.every_days} days"
        when = f"hour {cut.start_hour}, for {cut.hours}{again}"
        rows.append((f"power cut by {cut.power_ratio:.0%}", when))
    for window in scenario.windows:
        told = f"hour {window.start_hour}, for {window.hours}"
        rows.append((f"{window.servers_ratio:.0%} of the servers out for planned work", told))
    return f"<h2>What was declared</h2>{table(('', ''), rows)}"


def _swing(site: Site) -> str:
    found = swing(site)
    rows = [
        ("swing of the racks", watts(found.drawn_watts)),
        ("seen by the grid", watts(found.grid_watts)),
        ("battery of the site", f"{found.battery_joules / 3.6e6:,.3g} kWh"),
        ("least battery that smooths all of it", f"{found.enough_joules / 3.6e6:,.3g} kWh"),
    ]
    told = (
        f"One job on all accelerators whose members wait together for {DIP_SECONDS:g} of every "
        f"{PERIOD_SECONDS:g} seconds; both are assumed."
    )
    return f'<h2>Swings of the load{MODELLED}</h2><p class="soft">{escape(told)}</p>{table(("", ""), rows)}'
