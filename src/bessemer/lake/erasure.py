"""Erasing rows for good, and keeping tables small.

Owns the order in which a row's bytes disappear: from the latest version, from its files (compaction), from the
indices (rebuilt), from the history (all older versions and their tags go), and from what dead writers left behind.
The tags of the latest version move before anything is removed: killed anywhere, a second run finishes the work.
What lies outside of the lake (backups, snapshots of the disk, a model that was trained on the row) it cannot reach;
in an object store, neither what dead writers left behind in the last seven days.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Set
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from lance.dataset import LanceOperation

from bessemer.core.errors import Conflict
from bessemer.core.nouns import Noun
from bessemer.lake.commits import note_erasure, open_dataset
from bessemer.lake.failures import translated
from bessemer.lake.places import Place
from bessemer.lake.searching import index_columns, indexed_columns

_IDS_PER_CONDITION = 500
_FOREVER = timedelta(days=36_500)


class Erased(Noun):
    """What an erasure did to one table.

    Attributes:
        table: its name.
        version: its only version now.
        rows: rows that left the latest version.
        lost_tags: tags of older versions, which are gone with them; tags of the latest version moved along.
        freed_bytes: size of the files that were removed.
    """

    table: str
    version: int
    rows: int
    lost_tags: tuple[str, ...]
    freed_bytes: int


class Compacted(Noun):
    """What a compaction did to one table: files (fragments) before and after, the version that it made."""

    table: str
    version: int
    fragments_before: int
    fragments_after: int


def erase_rows(place: Place, table: str, ids: Sequence[str], column: str) -> Erased | None:
    """Erase rows from a table and all its history; return None if none of its versions ever held one.

    A second run after a crash finishes what the first one began.
    """
    with place.writing(table), translated(f"erase rows of the table '{table}'"):
        dataset = open_dataset(place, table)
        if dataset is None:
            _sweep_unborn(place, table)
            return None
        _sweep(place, dataset)
        conditions = [
            _condition(dataset, column, ids[at : at + _IDS_PER_CONDITION])
            for at in range(0, len(ids), _IDS_PER_CONDITION)
        ]
        if not any(_holds(dataset, entry["version"], column, conditions) for entry in dataset.versions()):
            return None
        done = _erase(place, dataset, table, column, conditions)
        if place.local is None:
            now = open_dataset(place, table)
            if now is None or any(_holds(now, entry["version"], column, conditions) for entry in now.versions()):
                raise Conflict(f"another writer wrote such rows to the table '{table}' meanwhile", hint="Try again.")
        return done


def compact_table(dataset: Any, table: str, retain_versions: int | None) -> Compacted:
    """Join small files and bring indices up to date; drop untagged versions beyond `retain_versions` if given."""
    before = len(dataset.get_fragments())
    with translated(f"compact the table '{table}'"):
        dataset.optimize.compact_files()
        dataset.optimize.optimize_indices()
        if retain_versions is not None:
            dataset.cleanup_old_versions(retain_versions=retain_versions, error_if_tagged_old_versions=False)
        dataset.checkout_latest()
    return Compacted(
        table=table,
        version=dataset.version,
        fragments_before=before,
        fragments_after=len(dataset.get_fragments()),
    )


def forget_versions(dataset: Any, tags: Set[str], keep: Set[int], *, dry: bool) -> int:
    """Remove tags and the versions that they alone named, but for the latest and those to keep; return how many."""
    known = {name: int(tag["version"]) for name, tag in dataset.tags.list().items()}
    named = {version for name, version in known.items() if name not in tags}
    gone = {known[name] for name in tags & known.keys()} - named - keep - {int(dataset.version)}
    if not dry:
        for name in tags & known.keys():
            dataset.tags.delete(name)
        if gone:
            dataset.cleanup_old_versions(versions=sorted(gone), error_if_tagged_old_versions=False)
    return len(gone)


def _erase(place: Place, dataset: Any, table: str, column: str, conditions: Sequence[str]) -> Erased:
    indexed = indexed_columns(dataset)
    rows = 0
    if column in dataset.schema.names:
        rows = sum(dataset.delete(condition)["num_deleted_rows"] for condition in conditions)
        for index in dataset.describe_indices():
            dataset.drop_index(index.name)
        dataset.optimize.compact_files(materialize_deletions=True, materialize_deletions_threshold=0.0)
        index_columns(dataset, indexed)
    # The last commit must not be the deletion: its record repeats the condition, and the ids with it.
    note_erasure(dataset)
    lost = _move_tags(dataset)
    locked = place.local is not None  # without a lock, files that no version names yet may be a living writer's
    freed = dataset.cleanup_old_versions(retain_versions=1, delete_unverified=locked).bytes_removed
    return Erased(table=table, version=dataset.version, rows=rows, lost_tags=lost, freed_bytes=freed)


def _move_tags(dataset: Any) -> tuple[str, ...]:
    """Move the tags of the latest rows onto the version that is left of them; remove the other tags and return them.

    An erasure that was killed may have left these tags on any version since the rows were written.
    """
    tags = {name: int(tag["version"]) for name, tag in dataset.tags.list().items() if tag["version"] < dataset.version}
    since = _written(dataset)
    for name, version in tags.items():
        if version >= since:
            dataset.tags.update(name, dataset.version)
    lost = sorted(name for name, version in tags.items() if version < since)
    for name in lost:
        dataset.tags.delete(name)
    return tuple(lost)


def _written(dataset: Any) -> int:
    """Return the first of the versions that lead to this one without a row being written: by deletions and upkeep."""
    known = {entry["version"] for entry in dataset.versions()}
    since = int(dataset.version)
    while since - 1 in known:
        change = dataset.read_transaction(since)
        if change is None or isinstance(change.operation, (LanceOperation.Overwrite, LanceOperation.Append)):
            break
        since -= 1
    return since


def _condition(dataset: Any, column: str, ids: Sequence[str]) -> str:
    quoted = ", ".join("'" + str(value).replace("'", "''") + "'" for value in ids)
    kind = dataset.schema.field(column).type if column in dataset.schema.names else pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"array_has_any(`{column}`, make_array({quoted}))"
    text = pa.types.is_string(kind)
    return f"`{column}` IN ({quoted})" if text else f"CAST(`{column}` AS STRING) IN ({quoted})"


def _holds(dataset: Any, version: int, column: str, conditions: Sequence[str]) -> bool:
    then = dataset.checkout_version(version)
    return column in then.schema.names and any(then.count_rows(condition) for condition in conditions)


def _sweep(place: Place, dataset: Any) -> None:
    """Remove files that no version names, whatever their age; the lock keeps living writers from committing them.

    In an object store, where there is no lock, Lance keeps those of the last seven days.
    """
    locked = place.local is not None
    dataset.cleanup_old_versions(older_than=_FOREVER, delete_unverified=locked, error_if_tagged_old_versions=False)


def _sweep_unborn(place: Place, table: str) -> None:
    """Remove the files of a table whose first writer died before its first commit."""
    if place.local is not None:
        shutil.rmtree(Path(place.uri(table)), ignore_errors=True)
