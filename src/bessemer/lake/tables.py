"""The lake: versioned tables in Lance, on a local path or in an object store.

Owns the public methods and what a caller may ask of a table: write, read, search, look back, erase, compact. Lance
runs threads of its own: open a lake after a fork, not before it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any

import lance

from bessemer.core.errors import Conflict, NotFound
from bessemer.core.nouns import Document, Noun
from bessemer.lake.commits import Mode, count_erasures, open_dataset, write_version
from bessemer.lake.erasure import Compacted, Erased, compact_table, erase_rows, forget_versions
from bessemer.lake.failures import translated
from bessemer.lake.places import Place, find_place
from bessemer.lake.rows import DOCUMENT_SCHEMA, SEARCH_COLUMNS, document_row, row_document, rows_digest, vector_schema
from bessemer.lake.searching import find, find_near, index_columns, indexed_columns

_READ_ROWS = 1_024


class Version(Noun):
    """One version of a table.

    Attributes:
        version: its number, rising; numbers may be skipped.
        at: when it was committed, Unix time in seconds.
        rows: how many it holds.
        tags: names that point at it, sorted.
    """

    version: int
    at: float
    rows: int
    tags: tuple[str, ...] = ()


class LanceLake:
    """Versioned tables; a core `Lake` with history, search, erasure and compaction.

    Writes are atomic: a reader sees the version before or the version after, also when the writer is killed. On a
    local path writers of one table take turns; a put with a tag happens once, however often it is tried.

    Args:
        url: a path, or a URL that Lance knows (``s3://``, ``gs://``, ``az://``).
        storage_options: credentials, endpoint and region of an object store.
    """

    name = "lance"

    def __init__(self, url: str, storage_options: Mapping[str, str] | None = None) -> None:
        self._place: Place = find_place(url, storage_options)
        local = {"exactly-once-tags"} if self._place.local is not None else set()
        self.capabilities = frozenset({"versions", "tags", "search", "erase", "compact"} | local)

    def put(self, table: str, rows: Iterable[Mapping[str, Any]], /, *, mode: Mode = "overwrite", tag: str = "") -> int:
        """Write rows as a new version and return its number; the first thousand rows say what the columns are.

        Args:
            table: its name; made if it does not exist.
            rows: taken one by one, in this thread.
            mode: ``overwrite`` replaces all rows (older versions stay), ``append`` adds to them.
            tag: a name for the version; a second put with the same tag returns the first one's version and
                writes nothing.

        Raises:
            ConfigError: there are no rows, or their values do not fit together or into the table.
            Conflict: another writer changed the table meanwhile.
            BudgetExceeded: no space is left.
        """
        return write_version(self._place, table, rows, schema=None, mode=mode, tag=tag, finish=_leave)

    def put_documents(
        self, table: str, documents: Iterable[Document], /, *, mode: Mode = "overwrite", tag: str = ""
    ) -> int:
        """Write documents, dropped ones too, as a new version that can be searched; return its number.

        Raises:
            As `put`; no documents at all make an empty table.
        """
        rows = (document_row(document) for document in documents)
        return write_version(
            self._place, table, rows, schema=DOCUMENT_SCHEMA, mode=mode, tag=tag, finish=_index_documents
        )

    def put_vectors(self, table: str, rows: Iterable[Mapping[str, Any]], /, *, tag: str = "") -> int:
        """Write rows with a ``vector`` each as a new version and return its number; `nearest` finds them.

        Args:
            table: its name.
            rows: each with the same columns: ``vector``, numbers, as many in each row; ``…_ids``, texts; the others
                are texts.
            tag: as in `put`.

        Raises:
            As `put`.
        """
        first, rest = next(iterator := iter(rows), None), iterator
        given = () if first is None else (first,)
        schema = vector_schema(first) if first else None
        return write_version(
            self._place, table, chain(given, rest), schema=schema, mode="overwrite", tag=tag, finish=_leave
        )

    def get(self, table: str, /, *, version: int | str | None = None, where: str = "") -> list[dict[str, Any]]:
        """Return the rows of a version (number or tag; None is the latest) for which an SQL condition holds.

        Raises:
            NotFound: no such table or version.
            ConfigError: the condition is wrong.
        """
        dataset = self.open(table, version=version)
        shown = [name for name in dataset.schema.names if name not in SEARCH_COLUMNS]
        with translated(f"read the table '{table}'"):
            rows: list[dict[str, Any]] = dataset.to_table(columns=shown, filter=where or None).to_pylist()
        return rows

    def get_documents(self, table: str, /, *, version: int | str | None = None, where: str = "") -> Iterator[Document]:
        """Yield the documents of a version in the order in which they were written, a thousand in memory at a time.

        Raises:
            NotFound: no such table or version.
            ConfigError: the condition is wrong.
        """
        dataset = self.open(table, version=version)
        columns = [name for name in DOCUMENT_SCHEMA.names if name not in SEARCH_COLUMNS]
        return _documents(dataset, table, columns, where)

    def open(self, table: str, /, *, version: int | str | None = None) -> Any:
        """Return Lance's own dataset of a version, for scans larger than memory.

        Raises:
            NotFound: no such table or version; the hint names near ones.
        """
        with translated(f"open the table '{table}'"):
            dataset = open_dataset(self._place, table)
            if dataset is None:
                raise self._no_table(table)
            if version is None or version == dataset.version:
                return dataset
            known = {entry["version"] for entry in dataset.versions()}
            number = version if isinstance(version, int) else _tags(dataset).get(version)
            if number not in known:
                raise _no_version(table, version, known, sorted(_tags(dataset)))
            return dataset.checkout_version(number)

    def history(self, table: str, /) -> list[Version]:
        """Return the versions of a table, the oldest first.

        Raises:
            NotFound: no such table.
        """
        dataset = self.open(table)
        names: dict[int, list[str]] = {}
        for tag, number in _tags(dataset).items():
            names.setdefault(number, []).append(tag)
        return [
            Version(
                version=entry["version"],
                at=entry["timestamp"].timestamp(),
                rows=int(entry["metadata"]["total_rows"]),
                tags=tuple(sorted(names.get(entry["version"], ()))),
            )
            for entry in dataset.versions()
        ]

    def digest(self, table: str, /, *, version: int | str | None = None) -> str:
        """Return the SHA-256 of a version's rows in their order: the same rows have the same in any version.

        Of documents the text is not read: their id is a digest of it.

        Raises:
            NotFound: no such table or version.
        """
        dataset = self.open(table, version=version)
        names = [name for name in dataset.schema.names if name not in SEARCH_COLUMNS]
        if set(DOCUMENT_SCHEMA.names) <= set(dataset.schema.names):
            names.remove("text")
        with translated(f"read the table '{table}'"):
            batches = dataset.to_batches(columns=names, batch_size=_READ_ROWS)
            return rows_digest(row for batch in batches for row in batch.to_pylist())

    def erasures(self, table: str, /) -> int:
        """Return how often rows of a table were erased, its older versions with them; 0 if there is no such table."""
        with translated(f"open the table '{table}'"):
            return count_erasures(open_dataset(self._place, table))

    def identity(self) -> str:
        """Return what tells this lake from one that stood at its URL before it; empty in an object store."""
        with translated("open the lake"):
            return self._place.identity()

    def tag(self, table: str, tag: str, /, *, version: int | str | None = None) -> int:
        """Name a version and return its number; the same name for the same version is fine.

        Raises:
            NotFound: no such table or version.
            Conflict: the name belongs to another version.
        """
        dataset = self.open(table, version=version)
        known = _tags(dataset).get(tag)
        if known not in (None, dataset.version):
            raise Conflict(f"the tag '{tag}' of '{table}' names version {known}", hint="Choose another name.")
        if known is None:
            with translated(f"tag the table '{table}'"):
                dataset.tags.create(tag, dataset.version)
        return int(dataset.version)

    def index(self, table: str, column: str, /) -> int:
        """Index a column for full-text search and return the version that has the index.

        Raises:
            NotFound: no such table or column.
        """
        with self._place.writing(table):
            dataset = self.open(table)
            index_columns(dataset, (column,))
            return int(dataset.version)

    def search(
        self,
        table: str,
        query: str,
        k: int = 5,
        column: str = "",
        *,
        version: int | str | None = None,
        where: str = "",
    ) -> list[dict[str, Any]]:
        """Return the k best rows for a question with their ``_score``, best first; dropped documents are never found.

        Any text is a question: nothing in it is syntax. A column without an index is scanned.

        Args:
            table: its name.
            query: words or names, such as ``json.dumps(obj, *, indent=None)``.
            k: how many rows at most.
            column: what is searched; empty: a document's title and text together, else the column ``text``.
            version: number or tag; None is the latest.
            where: an SQL condition that rows must meet.

        Raises:
            NotFound: no such table, version or column.
            ConfigError: the condition is wrong.
        """
        return find(self.open(table, version=version), query, k, column=column, where=where)

    def search_documents(
        self, table: str, query: str, k: int = 5, *, version: int | str | None = None
    ) -> list[Document]:
        """Return the k best documents for a question, best first; errors as in `search`."""
        return [row_document(row) for row in self.search(table, query, k, version=version)]

    def nearest(self, table: str, vector: Sequence[float], k: int = 5) -> list[dict[str, Any]]:
        """Return the k rows whose vectors point most nearly where this one does, the nearest first.

        All rows are looked at: exact, and fast enough for some hundred thousand.

        Raises:
            NotFound: no such table.
            ConfigError: it has no vectors, or of another length.
        """
        return find_near(self.open(table), vector, k)

    def erase(self, ids: Iterable[str], column: str = "id") -> list[Erased]:
        """Remove rows from all tables that have the column, their bytes included, and return what was done.

        Older versions of the tables that held such rows are gone afterwards, and the tags on them.

        Args:
            ids: values of the column.
            column: compared with `ids`, or with each of its values where it holds lists; for tables made from
                documents perhaps ``document_ids``.

        Raises:
            Conflict: a writer does not finish.
        """
        wanted = [str(value) for value in ids]
        done = [erase_rows(self._place, table, wanted, column) for table in self._place.folders() if wanted]
        return [found for found in done if found is not None]

    def compact(self, table: str, /, *, retain_versions: int | None = None) -> Compacted:
        """Join a table's small files and return how many there were; rows, order and tags stay.

        Args:
            table: its name.
            retain_versions: keep the last so many versions (and the tagged ones) and free the space of older ones;
                None keeps all.

        Raises:
            NotFound: no such table.
        """
        with self._place.writing(table):
            return compact_table(self.open(table), table, retain_versions)

    def forget(self, table: str, tags: Set[str], /, *, keep: Set[int] = frozenset(), dry: bool = False) -> int:
        """Remove tags, and the versions that no other tag names then; return how many versions those are.

        Args:
            table: its name.
            tags: names of versions that nobody wants any more; unknown ones are fine.
            keep: versions that stay without a tag; so does the latest.
            dry: only count.

        Raises:
            NotFound: no such table.
        """
        with self._place.writing(table), translated(f"forget versions of the table '{table}'"):
            return forget_versions(self.open(table), tags, keep, dry=dry)

    def _no_table(self, table: str) -> NotFound:
        known = self.list()
        near = difflib.get_close_matches(table, known, n=3)
        if near:
            hint = f"Did you mean {' or '.join(repr(name) for name in near)}?"
        else:
            hint = f"Tables: {', '.join(known)}" if known else "The lake is empty: run the factory first."
        return NotFound(f"no table '{table}' in {self._place.root}", hint=hint)

    def list(self) -> list[str]:
        """Return the names of the tables that have a version, sorted."""
        with translated("list the tables"):
            return [name for name in self._place.folders() if open_dataset(self._place, name) is not None]


def _documents(dataset: Any, table: str, columns: Sequence[str], where: str) -> Iterator[Document]:
    with translated(f"read the table '{table}'"):
        for batch in dataset.to_batches(columns=list(columns), filter=where or None, batch_size=_READ_ROWS):
            for row in batch.to_pylist():
                yield row_document(row)


def _tags(dataset: lance.LanceDataset) -> dict[str, int]:
    return {name: int(tag["version"]) for name, tag in dataset.tags.list().items()}


def _no_version(table: str, version: int | str, known: set[int], tags: Sequence[str]) -> NotFound:
    numbers = ", ".join(str(number) for number in sorted(known)[-8:])
    near = difflib.get_close_matches(str(version), tags, n=3) or tags[:8]
    return NotFound(
        f"the table '{table}' has no version {version!r}",
        hint=f"The latest versions: {numbers}. Tags: {', '.join(near) or 'none'}.",
    )


def _index_documents(dataset: Any) -> None:
    """Index a new version; after an append only what is new."""
    if set(SEARCH_COLUMNS) <= set(indexed_columns(dataset)):
        dataset.optimize.optimize_indices()
    else:
        index_columns(dataset, SEARCH_COLUMNS)


def _leave(dataset: Any) -> None:
    """Leave a new version as it is."""
