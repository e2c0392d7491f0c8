"""How a table gets a new version: files first, then one atomic commit, then the tag.

Owns the guarantee that a tag is written once. The commit itself carries the tag as a property, so that a writer that
was killed between the commit and the tag is noticed by the next one, which finishes the work instead of doubling it.
A killed writer leaves files that no version names; nobody sees them, and `compact` or `erase` removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import lance
import pyarrow as pa
from lance.dataset import LanceOperation, Transaction
from lance.fragment import FragmentMetadata, write_fragments

from bessemer.core.errors import ConfigError, Conflict
from bessemer.lake.failures import translated
from bessemer.lake.places import Place
from bessemer.lake.rows import arrow_chunks

Mode = Literal["overwrite", "append"]
Finish = Callable[[Any], None]
"""Called with the new version's dataset before it is tagged, for example to index it."""

_TAG_PROPERTY = "bessemer.tag"
_LOOK_BACK_VERSIONS = 64


def open_dataset(place: Place, table: str, version: int | str | None = None) -> Any | None:
    """Return Lance's dataset, or None if there is no such table."""
    try:
        return lance.dataset(place.uri(table), version=version, storage_options=place.options())
    except (ValueError, OSError) as error:
        if "not found" in str(error).lower() or "does not exist" in str(error).lower():
            return None
        raise


def write_version(
    place: Place,
    table: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    schema: pa.Schema | None,
    mode: Mode,
    tag: str,
    finish: Finish,
) -> int:
    """Write rows as a new version and return its number; with a tag that exists, return that version.

    Raises:
        ConfigError: there are no rows and no schema, or a row does not fit.
        Conflict: the table changed in a way that this write cannot follow.
        BudgetExceeded: no space is left.
        Any error of `rows`, as it is.
    """
    with translated(f"open the table '{table}'"):
        before = open_dataset(place, table)
        if tag and before is not None:
            with place.writing(table):
                done = _finished(open_dataset(place, table), tag, finish)
            if done is not None:
                return done
    appended_to = before if mode == "append" else None
    schema = appended_to.schema if appended_to is not None else schema
    fragments, schema = _write_files(place, table, rows, schema, append=appended_to is not None)
    with place.writing(table), translated(f"write the table '{table}'"):
        return _commit(place, table, fragments, schema, appended_to, tag, finish)


def _write_files(
    place: Place, table: str, rows: Iterable[Mapping[str, Any]], schema: pa.Schema | None, *, append: bool
) -> tuple[list[FragmentMetadata], pa.Schema]:
    fragments: list[FragmentMetadata] = []
    for chunk in arrow_chunks(rows, schema):
        schema = chunk.schema
        with translated(f"write the table '{table}'"):
            # Lance warns on standard error when it overwrites nothing, and refuses to create what exists.
            mode = "append" if append else "create" if open_dataset(place, table) is None else "overwrite"
            fragments += write_fragments(chunk, place.uri(table), mode=mode, storage_options=place.options())
    if schema is None:
        raise ConfigError(
            f"the table '{table}' would have no columns: there are no rows", hint="Write at least one row."
        )
    return fragments, schema


def _commit(
    place: Place,
    table: str,
    fragments: list[FragmentMetadata],
    schema: pa.Schema,
    appended_to: Any | None,
    tag: str,
    finish: Finish,
) -> int:
    """Commit files under the lock, unless a twin has meanwhile written the same tag."""
    now = open_dataset(place, table)
    done = _finished(now, tag, finish) if tag else None
    if done is not None:
        return done
    _check_not_swept(place, table, fragments, now, appended_to)
    if appended_to is not None:
        operation: Any = LanceOperation.Append(fragments)
    else:
        operation = LanceOperation.Overwrite(schema, fragments)
    read_version = appended_to.version if appended_to is not None else now.version if now is not None else 0
    change = Transaction(read_version, operation, transaction_properties={_TAG_PROPERTY: tag} if tag else {})
    dataset = lance.LanceDataset.commit(place.uri(table), change, storage_options=place.options())
    return _finish(dataset, dataset.version, tag, finish)


def _check_not_swept(
    place: Place, table: str, fragments: list[FragmentMetadata], now: Any | None, appended_to: Any | None
) -> None:
    """See that no erasure came while we wrote: it removes old versions, and files that no version names yet."""
    gone = False
    if appended_to is not None and (now is None or now.version != appended_to.version):
        gone = now is None or appended_to.version not in {entry["version"] for entry in now.versions()}
    if place.local is not None:
        folder = Path(place.uri(table)) / "data"
        gone = gone or not all((folder / file.path).exists() for part in fragments for file in part.files)
    if gone:
        raise Conflict(f"the table '{table}' was rewritten by an erasure while it was written", hint="Try again.")


def _finish(dataset: Any, first: int, tag: str, finish: Finish) -> int:
    """Index the version, tag it, and forget the steps in between, so that one write is one version."""
    finish(dataset)
    dataset.checkout_latest()
    if tag:
        dataset.tags.create(tag, dataset.version)
    between = list(range(first, dataset.version))
    if between:
        dataset.cleanup_old_versions(versions=between, error_if_tagged_old_versions=False)
    return int(dataset.version)


def _finished(dataset: Any | None, tag: str, finish: Finish) -> int | None:
    """Return the version that a tag names, finishing the work of a writer that died before it could tag it."""
    if dataset is None:
        return None
    known = dataset.tags.list().get(tag)
    if known:
        return int(known["version"])
    versions = [entry["version"] for entry in dataset.versions()][-_LOOK_BACK_VERSIONS:]
    later: list[Any] = []
    for version in reversed(versions):
        change = dataset.read_transaction(version)
        if change is not None and (change.transaction_properties or {}).get(_TAG_PROPERTY) == tag:
            if all(isinstance(other.operation, LanceOperation.CreateIndex) for other in later):
                return _finish(dataset, version, tag, finish)
            dataset.tags.create(tag, version)
            return int(version)
        later += [change] if change is not None else []
    return None
