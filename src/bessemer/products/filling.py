"""Fills a receipt from what the steps of a run published and from the ledger: what all products have in common.

Owns what each stage took, and the lineage. Each product fills its own part.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Mapping

from bessemer.core.nouns import Artifact, Entry
from bessemer.products.product import INGEST, Finished, Product, bill_of
from bessemer.products.receipt import Link, Receipt, StageLine, added
from bessemer.products.rows import rows_tag


def fill_receipt(done: Finished, products: Mapping[str, Product]) -> Receipt:
    """Return the receipt of a finished run."""
    parts = tuple(product.part(done) for product in products.values())
    stages = stage_lines(done)
    return Receipt(
        factory=done.factory,
        run=done.run,
        created_at=done.ended,
        wall_seconds=done.ended - done.began,
        machine=f"{platform.system()} {platform.machine()}",
        deployed=all(part.deployed for part in parts),
        products=parts,
        stages=stages,
        total=added([line.bill for line in stages if line.bill]),
        prices=done.prices.told,
        lineage=_lineage(done, products),
    )


def stage_lines(done: Finished) -> tuple[StageLine, ...]:
    """Return a line for each step; the bill is of the newest attempt that made it and of those lost before it."""
    lost: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in done.entries:
        if entry.status != "ok":
            lost[entry.subject.run, entry.subject.name].append(entry)
    lines = []
    for name, event in done.steps.items():
        made = done.entry(event.key)
        others = lost[made.subject.run if made else done.run, name]
        bill = added([bill_of(entry) for entry in (*([made] if made else []), *others)])
        line = StageLine(
            step=name, cached=event.cached, wall_seconds=event.wall_seconds, bill=bill, lost_attempts=len(others)
        )
        lines.append(line)
    return tuple(lines)


def _lineage(done: Finished, products: Mapping[str, Product]) -> tuple[Link, ...]:
    """Return the artefacts from the served products back to the sources, each with what it was made from."""
    order: list[str] = []
    waiting = [product.served for product in products.values()]
    while waiting:
        step = waiting.pop(0)
        if step not in order:
            order.append(step)
            waiting += done.needs[step]
    return tuple(
        Link(
            step=step,
            key=done.artifacts[step].key,
            what=what(step, done.artifacts[step], products),
            made_from=tuple(done.artifacts[need].key for need in done.needs[step]),
        )
        for step in order
    )


def what(step: str, artifact: Artifact, products: Mapping[str, Product]) -> str:
    """Say what a step made: in the words of its product, or of the step itself."""
    meta = artifact.meta
    if step == INGEST:
        return f"{meta['table']} tagged {rows_tag(artifact.key)}, read from {'; '.join(meta['sources'])}"
    if "what" in meta:
        return str(meta["what"])
    if "table" in meta:
        return f"{meta['table']} tagged {rows_tag(artifact.key)}"
    owner, _, name = step.rpartition(".")
    product = products.get(owner) or next(iter(products.values()))
    return product.what(name, artifact)
