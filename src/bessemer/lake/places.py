"""Where a lake's tables lie: their names, their addresses, and the lock that makes writers of one table take turns.

Owns the layout (``<root>/<table>.lance``) on a local path or in an object store. The lock exists on local paths
only. In an object store a commit is still atomic, and each writer tags the version that its own commit made; of two
writers of one tag both may commit: the first one's version keeps the tag, and the second takes appended rows out again
(unless it is killed in that moment: then the latest version holds them twice, the tagged one does not).
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.errors import ConfigError, Conflict, Unsupported
from bessemer.lake.failures import translated

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SUFFIX = ".lance"
_STORES = ("s3", "s3+ddb", "gs", "az", "abfss", "oss", "cos", "tos", "hf", "goosefs", "file-object-store")
"""Source: what pylance 14.0.2 lists as valid when it meets another scheme, without what is local or in memory."""
_SCHEMES = "Write a path, or a URL such as s3://bucket/folder (also gs://, az://, abfss://)."
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

            with translated("list the tables"):
                names = LanceFileSession(self.root, self.options()).list_with_delimiter().common_prefixes
        bare = (name.rstrip("/").rpartition("/")[2] for name in names)
        return sorted(name.removesuffix(_SUFFIX) for name in bare if name.endswith(_SUFFIX))

    def identity(self) -> str:
        """Return what tells this lake from one that stood here before; in an object store nothing does."""
        if self.local is None:
            return ""
        path = self.local / ".locks" / "identity"
        with self.writing("identity"):
            if not path.exists() or not path.read_text():
                path.write_text(uuid.uuid4().hex)
            return path.read_text()

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
        ConfigError: it is neither a path nor a URL of a store that Lance knows.
    """
    scheme, found, rest = url.partition("://")
    if found and scheme == "memory":
        raise Unsupported("memory:// keeps nothing between two calls", hint="Use a temporary folder.")
    if (found and scheme not in ("file", *_STORES)) or (not found and re.match(r"[a-z0-9+-]{2,}:/", url)):
        raise ConfigError(f"the lake '{url}' is in no store that is known", hint=_SCHEMES)
    if found and scheme != "file":
        if not re.fullmatch(r"[^\s?#]*[^\s?#/][^\s?#]*", rest):
            raise ConfigError(f"the lake '{url}' names no bucket", hint=_SCHEMES)
        return Place(url.rstrip("/"), None, storage_options)
    path = Path(rest if found else url).absolute()
    return Place(str(path), path, storage_options)
