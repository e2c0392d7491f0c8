"""What a home holds, for people who look: runs, deployments, usage, receipts.

Owns how the rooms' own records are gathered. Starts nothing and trains nothing.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Noun
from bessemer.core.units import Money
from bessemer.flow import RunRecord, open_store
from bessemer.meter import Total, open_ledger
from bessemer.products.home import Deployment, Gateway, Home
from bessemer.products.receipt import Receipt, load_receipt
from bessemer.products.recommender.retraining import Retraining, retrainings

_ENDED = {"ok": "", "cancelled": " that were stopped", "error": " that failed"}
"""Status of steps' entries -> what people say of them, the good ones first."""


class RunLine(Noun):
    """A run, with Unix time in seconds."""

    run: str
    flow: str
    status: str
    created_at: float


class RetrainingLine(Noun):
    """When a recommender is made anew, what came of it last, and how many events are new to it."""

    retraining: Retraining
    new_events: int


class Overview(Noun):
    """What runs, what is deployed, what is retrained by itself, which runs there were (newest first)."""

    home: str
    gateway: Gateway | None
    deployments: tuple[Deployment, ...]
    retrainings: tuple[RetrainingLine, ...]
    runs: tuple[RunLine, ...]


class UsageLine(Noun):
    """What some entries of the ledger sum up to, and what the figures rest on.

    `energy_class` and `boundary` name all classes and boundaries that the joules are made of; `grids` say whose
    electricity the grams come from and who says so; `price_versions` are those of the price books in force.
    """

    what: str
    project: str
    model: str
    entries: int
    input_tokens: int
    output_tokens: int
    units: int
    seconds: float
    joules: float
    joules_low: float
    joules_high: float
    energy_class: str
    boundary: str
    grams: float
    grids: tuple[str, ...]
    energy_costs: tuple[Money, ...]
    charges: tuple[Money, ...]
    price_versions: tuple[str, ...]


def overview(home: Home, runs: int = 10) -> Overview:
    """Return what there is in a home, with the newest runs."""
    found = _runs(home)[:runs]
    return Overview(
        home=str(home.path),
        gateway=home.gateway(),
        deployments=tuple(home.deployments()),
        retrainings=tuple(RetrainingLine(retraining=each, new_events=new) for each, new in retrainings(home)),
        runs=tuple(RunLine(run=r.id, flow=r.flow, status=r.status, created_at=r.created_at) for r in found),
    )


def _runs(home: Home) -> list[RunRecord]:
    """Return all runs, the newest first; a database that does not exist is not made for it."""
    path = home.database_url.removeprefix("sqlite:///")
    if path != home.database_url and not Path(path).exists():
        return []
    with closing(open_store(home.database_url)) as store:
        return sorted(store.runs(), key=lambda run: -run.created_at)


def usage_of(home: Home, project: str | None = None) -> list[UsageLine]:
    """Return the sums of the ledger by project and model: requests, then the steps of clients' jobs and the factory's.

    Steps that came to nothing stand apart.
    """
    if not (home.books.exists() or home.ledger_url):
        return []
    with closing(open_ledger(home.books, home.ledger_url)) as ledger:
        requests = ledger.totals(("project", "model"), kind="request", project=project or "")
        steps = ledger.totals(("project", "model", "status"), kind="step", project=project or "")
    endings = list(_ENDED)
    steps.sort(key=lambda total: (not total.group["project"], endings.index(total.group["status"])))
    return [
        *(_usage_line("requests", total) for total in requests),
        *(_usage_line(_steps(total) + _ENDED[total.group["status"]], total) for total in steps),
    ]


def _steps(total: Total) -> str:
    """Return what people call steps: the factory's own have no project, those of clients' jobs have."""
    if not total.group["project"]:
        return "steps"
    return "training steps" if total.group["model"].startswith("ft:") else "job steps"


def read_receipt(home: Home, run: str | None) -> Receipt:
    """Return the receipt of a run, or the newest.

    Raises:
        NotFound: there is none.
        IntegrityError: another version wrote it.
    """
    path = home.last_receipt() if run is None else home.receipt(run) / "receipt.json"
    if not path.is_file():
        raise NotFound(f"no run '{run}' left a receipt in {home.path}", hint="`bessemer status` lists the runs.")
    return load_receipt(path)


def _usage_line(what: str, total: Total) -> UsageLine:
    return UsageLine(
        what=what,
        project=total.group.get("project", ""),
        model=total.group.get("model", ""),
        entries=total.entries,
        input_tokens=total.usage.input_tokens,
        output_tokens=total.usage.output_tokens,
        units=total.usage.units,
        seconds=total.seconds,
        joules=total.joules.value,
        joules_low=total.joules.low,
        joules_high=total.joules.high,
        energy_class=", ".join(kind.value for kind in total.joules_by_class),
        boundary=", ".join(boundary.value for boundary in total.boundaries),
        grams=total.grams.value,
        grids=total.grids,
        energy_costs=total.energy_costs,
        charges=total.charges,
        price_versions=total.price_versions,
    )
