"""What a home holds, for people who look: runs, deployments, usage, receipts.

Owns how the rooms' own records are gathered. Starts nothing and trains nothing.
"""

from __future__ import annotations

from contextlib import closing

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Noun
from bessemer.core.units import Money
from bessemer.flow import open_store
from bessemer.meter import Total, open_ledger
from bessemer.products.home import Deployment, Gateway, Home
from bessemer.products.receipt import Receipt


class RunLine(Noun):
    """A run, with Unix time in seconds."""

    run: str
    flow: str
    status: str
    created_at: float


class Overview(Noun):
    """What runs, what is deployed, which runs there were (newest first)."""

    home: str
    gateway: Gateway | None
    deployments: tuple[Deployment, ...]
    runs: tuple[RunLine, ...]


class UsageLine(Noun):
    """What some entries of the ledger sum up to; `energy_class` names all classes that the joules are made of."""

    what: str
    project: str
    model: str
    entries: int
    input_tokens: int
    output_tokens: int
    seconds: float
    joules: float
    joules_low: float
    joules_high: float
    energy_class: str
    grams: float
    energy_costs: tuple[Money, ...]
    charges: tuple[Money, ...]


def overview(home: Home, runs: int = 10) -> Overview:
    """Return what there is in a home, with the newest runs."""
    with closing(open_store(home.database_url)) as store:
        found = sorted(store.runs(), key=lambda run: -run.created_at)[:runs]
    return Overview(
        home=str(home.path),
        gateway=home.gateway(),
        deployments=tuple(home.deployments()),
        runs=tuple(RunLine(run=r.id, flow=r.flow, status=r.status, created_at=r.created_at) for r in found),
    )


def usage_of(home: Home, project: str | None = None) -> list[UsageLine]:
    """Return the sums of the ledger: requests by project and model, steps by name of the run's flow."""
    with closing(open_ledger(home.books)) as ledger:
        requests = ledger.totals(("project", "model"), kind="request", project=project or "")
        steps = [] if project else ledger.totals((), kind="step")
    return [*(_usage_line("requests", t) for t in requests), *(_usage_line("steps", t) for t in steps if t.entries)]


def read_receipt(home: Home, run: str | None) -> Receipt:
    """Return the receipt of a run, or the newest.

    Raises:
        NotFound: there is none.
    """
    path = home.last_receipt() if run is None else home.receipt(run) / "receipt.json"
    if not path.is_file():
        raise NotFound(f"no run '{run}' left a receipt in {home.path}", hint="`bessemer status` lists the runs.")
    return Receipt.model_validate_json(path.read_text(encoding="utf-8"))


def _usage_line(what: str, total: Total) -> UsageLine:
    return UsageLine(
        what=what,
        project=total.group.get("project", ""),
        model=total.group.get("model", ""),
        entries=total.entries,
        input_tokens=total.usage.input_tokens,
        output_tokens=total.usage.output_tokens,
        seconds=total.seconds,
        joules=total.joules.value,
        joules_low=total.joules.low,
        joules_high=total.joules.high,
        energy_class=", ".join(kind.value for kind in total.joules_by_class),
        grams=total.grams.value,
        energy_costs=total.energy_costs,
        charges=total.charges,
    )
