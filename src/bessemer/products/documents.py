"""The documents of a home, for people: list them, erase them wherever they are quoted, and keep the tables small.

Owns where an erased document may be quoted: lake tables, what agents keep of sessions and runs, and the receipts'
answers. Reads no source.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from contextlib import closing

from bessemer.core.errors import ConfigError, IntegrityError, NotFound
from bessemer.core.nouns import Document, Noun
from bessemer.infer.agents.config import RetentionConfig
from bessemer.infer.agents.records import Records, open_records
from bessemer.lake import open_lake
from bessemer.lake.curation import DUPLICATE_OF
from bessemer.products.home import Home
from bessemer.products.receipt import AnyPart, LlmPart, load_receipt
from bessemer.products.receipt_html import write_receipt

KEPT = RetentionConfig(keep_days=36_500, names_per_project=10_000_000)
"""Whoever erases a document ends no records by their age: only the agent's declaration says when that is."""


class DocumentLine(Noun):
    """A document in a list; `dropped` is empty or the reason."""

    id: str
    title: str
    source: str
    group: str
    dropped: str


def list_documents(
    home: Home, name: str | None, *, dropped: bool, reason: str | None, limit: int
) -> tuple[int, list[DocumentLine]]:
    """Return how many documents fit, and the first of them, from a factory's newest curated table."""
    table = _curated([table for url in home.lakes() for table in open_lake(url).list()], name)
    lake = open_lake(home.lake_of(table.removesuffix(".curated")))
    found = [
        _line(d)
        for d in lake.get_documents(table)
        if (not (dropped or reason) or d.dropped) and (reason is None or d.dropped.partition(":")[0] == reason)
    ]
    return len(found), found[:limit]


def erase_documents(home: Home, ids: Sequence[str]) -> dict[str, int]:
    """Erase documents and all that quotes them: tables, agents' records, receipts; return table -> rows erased.

    Args:
        home: holds the tables and the receipts.
        ids: of documents, or unique beginnings of ids.

    Raises:
        NotFound: no document has such an id.
        ConfigError: a beginning fits several documents.
        IntegrityError: all is erased but what receipts quote that cannot be read.
    """
    lakes = {url: open_lake(url) for url in home.lakes()}
    tables = [(lake, table) for lake in lakes.values() for table in lake.list() if table.endswith(".documents")]
    known = {document.id for lake, table in tables for document in lake.get_documents(table)}
    gone = set(home.erased())  # an erasure that was killed is finished by the same words
    whole = [_resolved(start, known, gone) for start in ids]
    home.erase(whole)  # first, so that a run in the meantime does not read them again
    rows: dict[str, int] = {}
    for url, lake in lakes.items():
        columns = ("id", "document_ids", "document_id")  # the last is that of tables from before there were several
        done = [found for column in columns for found in lake.erase(whole, column)]
        versions = {found.table: found.version for found in done}
        for deployment in home.deployments():
            if (deployment.lake or home.lake_url) == url and deployment.table in versions:
                home.deploy(deployment.model_copy(update={"table_version": versions[deployment.table]}))
        for found in done:
            rows[found.table] = rows.get(found.table, 0) + found.rows
    rows |= _from_agents(home, lambda records: records.erase(whole))
    _erase_from_receipts(home, frozenset(whole))
    return rows


def erase_project(home: Home, project: str) -> dict[str, int]:
    """Erase what agents keep of a project's sessions and runs; return whose -> records erased.

    Args:
        home: holds the records.
        project: its name.
    """
    return _from_agents(home, lambda records: records.erase_owner(project))


def _from_agents(home: Home, erase: Callable[[Records], int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in home.agent_records:
        with closing(open_records(f"sqlite:///{path}", KEPT)) as records:
            if gone := erase(records):
                found[f"sessions and runs of {path.parent.name}"] = gone
    return found


def same_text(home: Home, ids: Sequence[str]) -> list[DocumentLine]:
    """Return the other documents with the text of one of these: after an erasure the next run keeps one of them.

    Args:
        home: holds the tables.
        ids: of documents, or beginnings of ids.
    """
    wanted = tuple(ids)
    found: dict[str, DocumentLine] = {}
    for url in home.lakes():
        lake = open_lake(url)
        for table in (name for name in lake.list() if name.endswith(".curated")):
            groups: dict[str, list[DocumentLine]] = defaultdict(list)
            for document in lake.get_documents(table):
                first = document.dropped.removeprefix(DUPLICATE_OF)
                groups[document.id[:12] if first == document.dropped else first].append(_line(document))
            for group in groups.values():
                if any(line.id.startswith(wanted) for line in group):
                    found |= {line.id: line for line in group if not line.id.startswith(wanted)}
    return list(found.values())


def compact_lake(home: Home) -> dict[str, str]:
    """Compact every table; return table -> its files before and after."""
    said: dict[str, str] = {}
    for url in home.lakes():
        lake = open_lake(url)
        for found in (lake.compact(table) for table in lake.list()):
            name = found.table if url == home.lake_url else f"{url}/{found.table}"
            said[name] = f"{found.fragments_before} -> {found.fragments_after} files"
    return said


def _line(document: Document) -> DocumentLine:
    d = document
    return DocumentLine(id=d.id, title=d.title, source=d.source, group=d.group, dropped=d.dropped)


def _erase_from_receipts(home: Home, ids: Set[str]) -> None:
    """Write receipts that quote a document anew, all of them before saying which cannot be read."""
    unread = []
    for path in home.receipts():
        try:
            receipt = load_receipt(path)
        except IntegrityError:
            unread.append(path.parent.name)
            continue
        kept = tuple(_without(part, ids) for part in receipt.products)
        if kept != receipt.products:
            written_at = path.stat().st_mtime_ns
            write_receipt(path.parent, receipt.model_copy(update={"products": kept}))
            os.utime(path, ns=(written_at, written_at))  # by which the newest receipt is told
    if unread:
        raise IntegrityError(
            f"erased everywhere but in receipts that cannot be read: {', '.join(unread)}",
            hint=f"Another version wrote them; delete their folders in {home.path / 'runs'}.",
        )


def _without(part: AnyPart, ids: Set[str]) -> AnyPart:
    """Return a part of a receipt without the answers that quote documents."""
    if not isinstance(part, LlmPart):
        return part
    kept = tuple(answer for answer in part.answers if ids.isdisjoint(answer.document_ids))
    return part.model_copy(update={"answers": kept})


def _resolved(start: str, known: set[str], gone: set[str]) -> str:
    """Return the id that begins so: of what is listed first, else of what was erased."""
    listed, erased = (sorted(name for name in names if name.startswith(start)) for names in (known, gone))
    fitting = listed or erased
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
    if not factories:
        raise NotFound("no factory has run here", hint="Run one with: bessemer run")
    known = ", ".join(factories)
    raise NotFound(
        f"no factory '{name}' has documents here" if name else "which factory's documents?",
        hint=f"Name one of: {known}",
    )
