"""How a table gets a new version: files first, then one atomic commit, then the tag.

Owns the guarantee that a tag is written once, and names a version that holds the rows of its own write and no others.
The commit itself carries the tag as a property, so that a writer that was killed between the commit and the tag is
noticed by the next one, which finishes the work instead of doubling it. Where a lock makes writers take turns, all
versions since the commit are the writer's own. In an object store others commit in between, so a writer goes by the
version that its own commit made, never by the latest, and removes none. A killed writer leaves files that no version
names; nobody sees them, and `compact` or `erase` removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lance
import pyarrow as pa
from lance.commit import CommitConflictError
from lance.dataset import LanceOperation, Transaction
from lance.fragment import FragmentMetadata, write_fragments

from bessemer.core.errors import ConfigError, Conflict
from bessemer.lake.failures import NO_BUCKET, translated
from bessemer.lake.places import Place
from bessemer.lake.rows import arrow_chunks

Mode = Literal["overwrite", "append"]
Finish = Callable[[Any], None]
"""Called with the new version's dataset before it is tagged, for example to index it."""

_TAG_PROPERTY = "bessemer.tag"
_ERASURES = "bessemer.erasures"
_LOOK_BACK_VERSIONS = 64
_ATTEMPTS = 20


def open_dataset(place: Place, table: str, version: int | str | None = None) -> Any | None:
    """Return Lance's dataset, or None if there is no such table."""
    try:
        return lance.dataset(place.uri(table), version=version, storage_options=place.options())
    except (ValueError, OSError) as error:
        text = str(error)
        missing = "not found" in text.lower() or "does not exist" in text.lower()
        if missing and not any(word in text for word in NO_BUCKET):
            return None
        raise


def count_erasures(dataset: Any | None) -> int:
    """Return how often rows of a table were erased; 0 if there is no such table."""
    return int(dataset.config().get(_ERASURES, "0")) if dataset is not None else 0


def note_erasure(dataset: Any) -> None:
    """Count one more erasure, as a new version; later versions keep the count."""
    dataset.update_config({_ERASURES: str(count_erasures(dataset) + 1)})


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
                done = _finished(place, open_dataset(place, table), tag, finish)
            if done is not None:
                return done
    appending = mode == "append" and before is not None
    schema = before.schema if appending and before is not None else schema
    fragments, schema = _write_files(place, table, rows, schema, append=appending)
    write = _Write(place, table, mode, tag, finish, fragments, schema, before)
    with place.writing(table), translated(f"write the table '{table}'"):
        return _commit(write)


@dataclass(frozen=True, slots=True)
class _Write:
    """Files that wait for their commit; `before` is the table as it was when they were begun."""

    place: Place
    table: str
    mode: Mode
    tag: str
    finish: Finish
    fragments: list[FragmentMetadata]
    schema: pa.Schema
    before: Any | None

    def swept(self, now: Any | None) -> bool:
        """Return whether an erasure came while the files were written: it removes what no version names yet."""
        gone = count_erasures(now) != count_erasures(self.before)
        if self.mode == "append" and self.before is not None and not gone:
            gone = now is None or self.before.version not in {entry["version"] for entry in now.versions()}
        if self.place.local is not None:
            folder = Path(self.place.uri(self.table)) / "data"
            gone = gone or not all((folder / file.path).exists() for part in self.fragments for file in part.files)
        return gone

    def change(self, now: Any | None) -> Transaction:
        """Return what is to be committed on a table as it is now.

        Raises:
            Conflict: another writer made the table that was not there, with other columns.
        """
        properties = {_TAG_PROPERTY: self.tag} if self.tag else {}
        read = now.version if now is not None else 0
        if self.mode == "overwrite" or now is None:
            return Transaction(
                read, LanceOperation.Overwrite(self.schema, self.fragments), transaction_properties=properties
            )
        if self.before is not None:
            read = self.before.version  # Lance sees whether what came since lets rows be added
        elif not now.schema.equals(self.schema):
            raise Conflict(f"another writer made the table '{self.table}' with other columns", hint="Try again.")
        return Transaction(read, LanceOperation.Append(self.fragments), transaction_properties=properties)


def _write_files(
    place: Place, table: str, rows: Iterable[Mapping[str, Any]], schema: pa.Schema | None, *, append: bool
) -> tuple[list[FragmentMetadata], pa.Schema]:
    fragments: list[FragmentMetadata] = []
    for chunk in arrow_chunks(rows, schema):
        schema = chunk.schema
        with translated(f"write the table '{table}'"):
            fragments += _write_file(place, table, chunk, append=append)
    if schema is None:
        raise ConfigError(
            f"the table '{table}' would have no columns: there are no rows", hint="Write at least one row."
        )
    return fragments, schema


def _write_file(place: Place, table: str, chunk: pa.Table, *, append: bool) -> list[FragmentMetadata]:
    # Lance warns on standard error when it overwrites nothing, and refuses to create what exists.
    mode = "append" if append else "create" if open_dataset(place, table) is None else "overwrite"
    try:
        written = write_fragments(chunk, place.uri(table), mode=mode, storage_options=place.options())
    except OSError as error:
        if mode != "create" or "already exists" not in str(error):
            raise
        written = write_fragments(chunk, place.uri(table), mode="overwrite", storage_options=place.options())
    return list(written)


def _commit(write: _Write) -> int:
    """Commit files and finish the version, unless a twin has meanwhile written the same tag."""
    place = write.place
    for attempts_left in reversed(range(_ATTEMPTS)):
        now = open_dataset(place, write.table)
        done = _finished(place, now, write.tag, write.finish) if write.tag else None
        if done is not None:
            return done
        if write.swept(now):
            told = f"the table '{write.table}' was rewritten by an erasure while it was written"
            raise Conflict(told, hint="Try again.")
        change = write.change(now)
        try:
            dataset = _apply(place, write.table, change)
            break
        except OSError as error:
            born = now is None and open_dataset(place, write.table) is not None
            if not attempts_left or not (born or "Retryable" in str(error)):
                raise
    twin = _version_with(dataset, write.tag, dataset.version) if write.tag and place.local is None else None
    if twin is None:
        return _finish(place, dataset, dataset.version, write.tag, write.finish)
    if isinstance(change.operation, LanceOperation.Append):
        _withdraw(place, write.table, dataset, write.fragments)
    return _name(dataset, write.tag, twin)


def _apply(place: Place, table: str, change: Transaction) -> Any:
    retries = _ATTEMPTS if change.read_version else 0  # 0: fail if another writer makes the table now
    return lance.LanceDataset.commit(place.uri(table), change, storage_options=place.options(), max_retries=retries)


def _finish(place: Place, dataset: Any, first: int, tag: str, finish: Finish) -> int:
    """Index the version `first`, tag it, and forget the steps in between, so that one write is one version."""
    try:
        finish(dataset)
    except (Conflict, CommitConflictError):
        if place.local is not None:
            raise  # only in an object store another writer can have come in between: its version is the latest now
    last = int(dataset.version)  # of our own last commit; the latest may be another writer's
    if place.local is None:
        return _name(dataset, tag, last if _same_rows(dataset, first, last) else first)
    _name(dataset, tag, last)
    between = list(range(first, last))
    if between:
        dataset.cleanup_old_versions(versions=between, error_if_tagged_old_versions=False)
    return last


def _finished(place: Place, dataset: Any | None, tag: str, finish: Finish) -> int | None:
    """Return the version that a tag names, finishing the work of a writer that died before it could tag it."""
    if dataset is None:
        return None
    known = dataset.tags.list().get(tag)
    if known:
        return int(known["version"])
    version = _version_with(dataset, tag, dataset.version + 1)
    if version is None:
        return None
    if _same_rows(dataset, version, dataset.version):
        return _finish(place, dataset, version, tag, finish)
    return _name(dataset, tag, version)


def _version_with(dataset: Any, tag: str, before: int) -> int | None:
    """Return the first version below `before` whose commit carries a tag: of twins it is the one that counts."""
    numbers = [entry["version"] for entry in dataset.versions() if entry["version"] < before][-_LOOK_BACK_VERSIONS:]
    for version in numbers:
        change = dataset.read_transaction(version)
        if change is not None and (change.transaction_properties or {}).get(_TAG_PROPERTY) == tag:
            return int(version)
    return None


def _same_rows(dataset: Any, first: int, last: int) -> bool:
    """Return whether all versions after `first`, up to `last`, are there and only add indices to it."""
    known = {entry["version"] for entry in dataset.versions()}
    return all(
        version in known
        and (change := dataset.read_transaction(version)) is not None
        and isinstance(change.operation, LanceOperation.CreateIndex)
        for version in range(first + 1, last + 1)
    )


def _name(dataset: Any, tag: str, version: int) -> int:
    """Give a version its tag and return it; or the version that a twin has given this tag to."""
    if not tag:
        return version
    try:
        dataset.tags.create(tag, version)
    except ValueError:
        known = dataset.tags.list().get(tag)
        if known is None:
            raise
        return int(known["version"])
    return version


def _withdraw(place: Place, table: str, dataset: Any, fragments: list[FragmentMetadata]) -> None:
    """Take appended files out of the table again: a twin has appended the same rows."""
    ours = {file.path for part in fragments for file in part.files}
    numbers = [part.fragment_id for part in dataset.get_fragments() if {f.path for f in part.data_files()} & ours]
    _apply(place, table, Transaction(dataset.version, LanceOperation.Delete([], numbers, "false")))
