"""Where a lake's tables lie: their names, their addresses, and the lock that makes writers of one table take turns.

Owns the layout (``<root>/<table>.lance``) on a local path or in an object store. The lock exists on local paths
only; in an object store a commit is still atomic, but two writers of one tag may both commit.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.errors import ConfigError, Conflict, Unsupported

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SUFFIX = ".lance"
_WAIT_SECONDS = 120.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Place:
    """A lake's root.

    Attributes:
        root: path or URL without a slash at its end.
        local: the root as a path, or None in an object store.
        storage_options: what Lance hands to the object store (credentials, endpoint, region).
    """

    root: str
    local: Path | None
    storage_options: Mapping[str, str] | None = None

    def uri(self, table: str) -> str:
        """Return a table's address.

        Raises:
            ConfigError: the name does not fit a file system and an object store.
        """
        if not _NAME.fullmatch(table):
            raise ConfigError(
                f"'{table}' cannot name a table", hint="Use letters, digits, '_', '-' and '.', a letter or digit first."
            )
        return f"{self.root}/{table}{_SUFFIX}"

    def options(self) -> dict[str, str] | None:
        """Return the storage options as Lance wants them."""
        return dict(self.storage_options) if self.storage_options else None

    def folders(self) -> list[str]:
        """Return the names of all tables' folders, sorted; some may hold no version yet."""
        if self.local is not None:
            names = [p.name for p in self.local.iterdir() if p.is_dir()] if self.local.is_dir() else []
        else:
            from lance.file import LanceFileSession

            names = LanceFileSession(self.root, self.options()).list_with_delimiter().common_prefixes
        bare = (name.rstrip("/").rpartition("/")[2] for name in names)
        return sorted(name.removesuffix(_SUFFIX) for name in bare if name.endswith(_SUFFIX))

    @contextmanager
    def writing(self, table: str, wait_seconds: float = _WAIT_SECONDS) -> Iterator[None]:
        """Hold a table's lock; the system releases it when its holder dies, however it dies.

        Raises:
            Conflict: another writer did not finish in time.
        """
        if self.local is None:
            yield
            return
        import fcntl

        folder = self.local / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / f"{table}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            until = time.monotonic() + wait_seconds
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise Conflict(
                            f"another writer holds the table '{table}' for more than {wait_seconds:.0f} s",
                            hint="If it is a stopped process, continue or end it; then try again.",
                        ) from None
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(handle)


def find_place(url: str, storage_options: Mapping[str, str] | None) -> Place:
    """Return the place that a URL or path names.

    Raises:
        Unsupported: ``memory://``, which forgets a table as soon as it is written.
    """
    scheme, found, rest = url.partition("://")
    if found and scheme == "memory":
        raise Unsupported("memory:// keeps nothing between two calls", hint="Use a temporary folder.")
    if found and scheme != "file":
        return Place(url.rstrip("/"), None, storage_options)
    path = Path(rest if found else url).absolute()
    return Place(str(path), path, storage_options)
