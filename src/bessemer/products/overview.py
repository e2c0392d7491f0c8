"""What a home holds, for people who look: runs, deployments, usage, documents; and the lake's housekeeping.

Owns how the rooms' own records are gathered. Starts nothing and trains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Noun
from bessemer.core.units import Money
from bessemer.flow import open_store
from bessemer.lake import open_lake
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


class DocumentLine(Noun):
    """A document in a list; `dropped` is empty or the reason."""

    id: str
    title: str
    source: str
    group: str
    dropped: str


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


def list_documents(
    home: Home, name: str | None, *, dropped: bool, reason: str | None, limit: int
) -> tuple[int, list[DocumentLine]]:
    """Return how many documents fit, and the first of them, from a factory's newest curated table."""
    table = _curated([table for url in home.lakes() for table in open_lake(url).list()], name)
    lake = open_lake(home.lake_of(table.removesuffix(".curated")))
    found = [
        DocumentLine(id=d.id, title=d.title, source=d.source, group=d.group, dropped=d.dropped)
        for d in lake.get_documents(table)
        if (not (dropped or reason) or d.dropped) and (reason is None or d.dropped.partition(":")[0] == reason)
    ]
    return len(found), found[:limit]


def erase_documents(home: Home, ids: Sequence[str]) -> dict[str, int]:
    """Erase documents, named by ids or unique beginnings of ids; return table -> rows erased.

    Raises:
        NotFound: no document has such an id.
        ConfigError: a beginning fits several documents.
    """
    lakes = {url: open_lake(url) for url in home.lakes()}
    tables = [(lake, table) for lake in lakes.values() for table in lake.list() if table.endswith(".documents")]
    known = {document.id for lake, table in tables for document in lake.get_documents(table)}
    whole = [_resolved(start, known) for start in ids]
    home.erase(whole)  # first, so that a run in the meantime does not read them again
    rows: dict[str, int] = {}
    for url, lake in lakes.items():
        done = [*lake.erase(whole), *lake.erase(whole, "document_id")]
        versions = {found.table: found.version for found in done}
        for deployment in home.deployments():
            if (deployment.lake or home.lake_url) == url and deployment.table in versions:
                home.deploy(deployment.model_copy(update={"table_version": versions[deployment.table]}))
        for found in done:
            rows[found.table] = rows.get(found.table, 0) + found.rows
    return rows


def compact_lake(home: Home) -> dict[str, str]:
    """Compact every table; return table -> its files before and after."""
    said: dict[str, str] = {}
    for url in home.lakes():
        lake = open_lake(url)
        for found in (lake.compact(table) for table in lake.list()):
            name = found.table if url == home.lake_url else f"{url}/{found.table}"
            said[name] = f"{found.fragments_before} -> {found.fragments_after} files"
    return said


def _resolved(start: str, known: set[str]) -> str:
    fitting = sorted(name for name in known if name.startswith(start))
    if not fitting and re.fullmatch("[0-9a-f]{64}", start):
        return start  # a whole id: perhaps only an older version holds it
    if not fitting:
        raise NotFound(f"no document's id begins with '{start}'", hint="`bessemer documents` lists ids.")
    if len(fitting) > 1 and start not in fitting:
        raise ConfigError(f"'{start}' fits {len(fitting)} documents", hint="Give more of the id.")
    return start if start in fitting else fitting[0]


def _curated(tables: Sequence[str], name: str | None) -> str:
    factories = sorted({table.removesuffix(".curated") for table in tables if table.endswith(".curated")})
    if name in factories:
        return f"{name}.curated"
    if name is None and len(factories) == 1:
        return f"{factories[0]}.curated"
    known = ", ".join(factories) or "none yet; run one with: bessemer run"
    raise NotFound(
        f"no factory '{name}' has documents here" if name else "which factory's documents?",
        hint=f"Name one of: {known}",
    )


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
