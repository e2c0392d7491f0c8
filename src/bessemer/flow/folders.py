"""The files of results: where attempts work, how a result is published whole, and whether it is still what it was.

    attempts/<key>-<fence>/      one attempt: out/, log.txt, a checkpoint being written
    published/<key>-<fence>/     a result; recorded in the store, never written again
    checkpoints/<key>/<fence>-<n>/
    owners/<owner>               locked by each living coordinator

A fence belongs to one attempt alone, so no attempt can write where another does. Knows no database.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bessemer.core.errors import ConfigError

Files = Mapping[str, tuple[int, str]]
"""Relative name -> (bytes, SHA-256)."""


class Folders:
    """The folder in which a store's results are. All coordinators on one database share it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.attempts, self.published = self.root / "attempts", self.root / "published"
        self.checkpoints, self.owners = self.root / "checkpoints", self.root / "owners"
        for folder in (self.attempts, self.published, self.checkpoints, self.owners):
            folder.mkdir(parents=True, exist_ok=True)

    def begin(self, key: str, fence: int) -> Path:
        """Return a fresh folder for an attempt."""
        folder = self.attempts / f"{key}-{fence}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "out").mkdir(parents=True)
        return folder

    def publish(self, key: str, fence: int) -> None:
        """Move an attempt's output, in one rename, to where results are."""
        (self.attempts / f"{key}-{fence}" / "out").rename(self.published / f"{key}-{fence}")
        sync(self.published)

    def discard(self, key: str, fence: int, *, checkpoints: bool = False) -> None:
        """Remove what an attempt left, and the checkpoints too if the key has its result."""
        shutil.rmtree(self.attempts / f"{key}-{fence}", ignore_errors=True)
        if checkpoints:
            shutil.rmtree(self.checkpoints / key, ignore_errors=True)

    def sweep(self, look: Callable[[], tuple[set[str], set[str]]]) -> None:
        """Remove what dead attempts left.

        Args:
            look: says ``<key>-<fence>`` of attempts that may still run, and of the recorded results.
        """
        listing = [*self.attempts.iterdir(), *self.published.iterdir()]
        living, published = look()  # after listing: what begins now is not in it
        for folder in listing:
            if folder.name not in living and not (folder.parent == self.published and folder.name in published):
                shutil.rmtree(folder, ignore_errors=True)
        finished = {name.partition("-")[0] for name in published}
        for folder in self.checkpoints.iterdir():
            if folder.name in finished:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def own(self) -> Iterator[str]:
        """Hold the name of a new coordinator; the kernel lets go of it when the process dies, however it dies."""
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        with (self.owners / name).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield name
            finally:
                (self.owners / name).unlink(missing_ok=True)

    def is_dead(self, owner: str) -> bool:
        """Return whether a coordinator certainly no longer runs; if it cannot be known, its lease must lapse."""
        with suppress(OSError), (self.owners / owner).open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False


def manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """Return name, size and SHA-256 of every file, once all of them are safely on the disk.

    Raises:
        ConfigError: there is a link in it, whose target could change under a published result.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ConfigError(f"the step left a link in its output: {path.name}", hint="Copy the file instead.")
        if path.is_file():
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            files[path.relative_to(folder).as_posix()] = (path.stat().st_size, sha256)
        else:
            sync(path)
    sync(folder)
    return files


def damage(folder: Path, files: Files, *, deep: bool) -> str:
    """Return what is wrong with a published folder, or "": sizes, or with `deep` every byte and no file more."""
    for name, (size, _) in files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            return f"{path} is " + ("missing" if found is None else f"{found} bytes long instead of {size}")
    whole = folder.is_dir() and (not deep or manifest(folder) == files)
    return "" if whole else f"{folder} is not what was published"


def sync(folder: Path) -> None:
    """Return when a folder's entries are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
