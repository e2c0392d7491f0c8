"""What a journal said at an earlier moment, which is told by how far each of its segments had been read.

Owns nothing: it reads the journal again, by the ledger's rule of which of two entries with one id counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bessemer.meter.journal import SegmentReader


def charged_before(journal: Path, read: Mapping[str, int], project: str, start: int, end: int) -> int:
    """Return what a project had been charged for a span of time, in micro-units, when so much had been booked.

    Args:
        journal: the folder.
        read: how many records of each segment count.
        project: whose.
        start: of the span, Unix seconds.
        end: of the span; not part of it.

    Raises:
        IntegrityError: a record is damaged.
    """
    found: dict[str, tuple[str, int]] = {}
    for name, count in read.items():
        for body, _ in zip(SegmentReader(journal / name).bodies(), range(count), strict=False):
            entry = json.loads(body)
            id, status = entry["id"], entry["status"]
            if entry["subject"]["project"] != project or not start <= entry["started_at"] < end:
                continue
            if id not in found or (found[id][0] == "ok" and status != "ok"):
                found[id] = status, 0 if status == "error" else int(entry["charge"]["micros"])
    return sum(micros for _, micros in found.values())
