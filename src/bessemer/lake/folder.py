"""The source "folder": which files of it count, in which order, and what its fingerprint is.

Owns the walk (hidden files skipped, links followed but never in a circle) and the globs. What is in a file is the
readers' matter.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from bessemer.core.config import Config, refusal
from bessemer.core.digest import digest
from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Document
from bessemer.core.units import show_bytes
from bessemer.lake.document import Progress, no_progress, reason
from bessemer.lake.readers.formats import dropped, read_raw
from bessemer.lake.readers.raw import Raw


class FolderSource(Config):
    """A folder of a user's own files, or one file.

    Attributes:
        path: relative to the folder of the declaration, or absolute.
        include: globs of files to read, relative to `path`; ``**`` crosses folders, ``[ab]`` is one of these characters
            and ``[!ab]`` none of them, a glob without a slash matches a name at any depth.
        exclude: globs of files and folders to leave out; they win.
        max_file_bytes: a larger file is dropped.
        text_field: for JSON Lines and Parquet: the field that holds the text.
        passage_characters: texts are split into passages of at most this length; 0 keeps them whole.
    """

    kind: Literal["folder"] = "folder"
    path: Annotated[str, Field(min_length=1)] = "."
    include: Annotated[tuple[str, ...], Field(min_length=1)] = ("**/*",)
    exclude: tuple[str, ...] = ("node_modules", "__pycache__")
    max_file_bytes: Annotated[int, Field(ge=1)] = 50_000_000
    text_field: Annotated[str, Field(min_length=1)] = "text"
    passage_characters: Annotated[int, Field(ge=0, le=1_000_000)] = 1_500

    @field_validator("include", "exclude")
    @classmethod
    def _are_globs(cls, globs: tuple[str, ...]) -> tuple[str, ...]:
        for number, glob in enumerate(globs):
            try:
                _pattern(glob)
            except re.error as error:
                raise refusal((number,), f"'{glob}' is no glob: {error.msg}") from error
        return globs

    def describe(self) -> str:
        """Return what is read, in words."""
        only = "" if self.include == ("**/*",) else f" ({', '.join(self.include)})"
        return f"the files in {self.path}{only}"


def read_folder(source: FolderSource, base: Path, progress: Progress = no_progress) -> Iterator[Document]:
    """Yield the documents of all files, sorted by path; a file that cannot be read is a dropped document.

    Raises:
        NotFound: the folder does not exist.
        ConfigError: no file in it matches.
    """
    files = find_files(source, base)
    return _read(source, files, progress)


def _read(source: FolderSource, files: list[tuple[str, Path]], progress: Progress) -> Iterator[Document]:
    for done, (name, path) in enumerate(files, 1):
        yield from _read_file(source, name, path)
        progress(done, len(files))


def _read_file(source: FolderSource, name: str, path: Path) -> Iterator[Document]:
    place = name if Path(source.path).is_absolute() else (Path(source.path) / name).as_posix()
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a link to a pipe or a device would be read for ever
            yield dropped(place, name, place, reason("unreadable", "no regular file"))
            return
        size = state.st_size
        if size > source.max_file_bytes:
            limit = show_bytes(source.max_file_bytes)
            yield dropped(place, name, place, reason("too_large", f"{show_bytes(size)}, more than {limit}"))
            return
        data = path.read_bytes()
    except OSError as error:
        yield dropped(place, name, place, reason("unreadable", error.strerror or type(error).__name__))
        return
    raw = Raw(
        source=place,
        name=path.name,
        group=place,
        data=data,
        text_field=source.text_field,
        passage_characters=source.passage_characters,
    )
    yield from read_raw(raw)


def fingerprint_folder(source: FolderSource, base: Path) -> str:
    """Return a digest of each file's path, size and time of change.

    Raises:
        NotFound: the folder does not exist.
        ConfigError: no file in it matches.
    """
    rows = []
    for name, path in find_files(source, base):
        try:
            state = path.stat()
            rows.append([name, state.st_size, state.st_mtime_ns])
        except OSError:  # a dangling link: it is reported when it is read
            rows.append([name, -1, 0])
    return digest(rows)


def find_files(source: FolderSource, base: Path) -> list[tuple[str, Path]]:
    """Return (path relative to the folder, path) of the files that count, sorted.

    Raises:
        NotFound: the folder does not exist.
        ConfigError: no file in it matches.
    """
    root = base / source.path
    if root.is_file():
        return [(root.name, root)]
    if not root.is_dir():
        raise _missing(root, source.path)
    seen: set[tuple[int, int]] = set()
    files = sorted(_walk(root, "", source, seen))
    if not files:
        raise ConfigError(
            f"no file in {root} matches {', '.join(source.include)}",
            hint="Put documents there (.md, .html, .rst, .txt, .jsonl, .parquet), or change `include` and `exclude`.",
        )
    return files


def _walk(folder: Path, prefix: str, source: FolderSource, seen: set[tuple[int, int]]) -> Iterator[tuple[str, Path]]:
    state = folder.stat()
    if (state.st_dev, state.st_ino) in seen:  # a link back up, or a second way to the same folder
        return
    seen.add((state.st_dev, state.st_ino))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        yield prefix.rstrip("/"), folder  # reading it fails and names the reason
        return
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if entry.name.startswith(".") or _matches(name, source.exclude):
            continue
        if _is_folder(entry):
            yield from _walk(Path(entry.path), f"{name}/", source, seen)
        elif _matches(name, source.include) and (entry.is_symlink() or entry.is_file()):
            yield name, Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry can be walked into; a link in a ring cannot, and is reported when it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return any(_pattern(glob).fullmatch(name) for glob in globs)


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    """Return a glob as a regular expression over a relative path with forward slashes.

    >>> [bool(_pattern("docs/**/*.md").fullmatch(p)) for p in ("docs/a.md", "docs/x/y/a.md", "a.md")]
    [True, True, False]
    """
    marks = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob if "/" in glob.rstrip("/") else f"**/{glob}")
    return re.compile("".join(marks.get(part) or _characters(part) for part in parts))


def _characters(part: str) -> str:
    """Return a set of characters, or plain text, of a glob as a regular expression."""
    if len(part) < 3 or not part.startswith("["):
        return re.escape(part)
    negated = part[1] == "!" and len(part) > 3
    inside = part[1 + negated : -1].replace("\\", "\\\\").replace("^", "\\^").replace("[", "\\[")
    return f"[{'^/' if negated else ''}{inside}]"


def _missing(root: Path, declared: str) -> NotFound:
    try:
        near = difflib.get_close_matches(root.name, [p.name for p in root.parent.iterdir()], n=1)
    except OSError:
        near = []
    advice = f"Did you mean '{near[0]}'? " if near else ""
    return NotFound(
        f"the folder '{declared}' does not exist ({root})",
        hint=f"{advice}A relative `path` starts from the folder of the declaration.",
    )
