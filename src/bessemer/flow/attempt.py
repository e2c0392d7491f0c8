"""One attempt at a step: what it is given, what its function may ask for, and how it ends.

Owns the call of the function and the checkpoints. Knows neither where it runs (a thread, a child process, a
cluster's node) nor who waits for it.
"""

from __future__ import annotations

import errno
import json
import resource
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pydantic import Field

from bessemer.core.digest import canonical_json, digest
from bessemer.core.errors import BessemerError, Cancelled, ConfigError, Conflict
from bessemer.core.nouns import Artifact, Noun
from bessemer.core.protocols import Checkpoints
from bessemer.flow.declare import Step
from bessemer.flow.folders import manifest, sync

Emit = Callable[[Mapping[str, Any]], None]
"""Takes a message from an attempt: ``{"progress": ...}``, ``{"measured": ...}`` or ``{"outcome": ...}``."""


@dataclass(frozen=True, slots=True)
class Task:
    """What an executor runs. All but `emit` can be sent to another process.

    Attributes:
        step: the declaration.
        key: of the result.
        fence: grows with each attempt at the key; the newest alone may publish.
        code: version of the code that the key was made from.
        inputs: artifact of each needed step.
        folder: the attempt's own.
        checkpoints: the key's, shared with earlier attempts.
        resources: where things are; not part of the key.
        emit: takes the attempt's messages; called from any thread.
    """

    step: Step
    key: str
    fence: int
    code: str
    inputs: Mapping[str, Artifact]
    folder: Path
    checkpoints: Path
    resources: Mapping[str, str]
    emit: Emit


class Outcome(Noun):
    """How an attempt ended: `code` is empty, or that of the error. `files`: relative name -> (bytes, SHA-256)."""

    meta: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, tuple[int, str]] = Field(default_factory=dict)
    code: str = ""
    error: str = ""
    hint: str = ""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted (name, SHA-256) list of the files and the meta."""
        return digest([sorted((name, sha256) for name, (_, sha256) in self.files.items()), self.meta])


class Stop(threading.Event):
    """Tells an attempt to stop."""

    def check(self) -> None:
        """Return if the attempt may go on.

        Raises:
            Cancelled: it was told to stop.
        """
        if self.is_set():
            raise Cancelled("the run was stopped", hint="Run it again: it goes on at the last checkpoint.")


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step's function may use.

    Attributes:
        key: the result's key; the same in every attempt, so it can name what is written elsewhere.
        inputs: artifact of each needed step.
        out: empty folder; what is in it at the end is published.
        checkpoints: where a long step keeps its state.
        resources: where things are, such as the lake's URL; not part of the key.
        check: raises Cancelled if the attempt should stop: somebody cancelled the run, or another took it over.
    """

    key: str
    inputs: Mapping[str, Artifact]
    out: Path
    checkpoints: Checkpoints
    resources: Mapping[str, str]
    check: Callable[[], None]
    emit: Emit

    def progress(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Tell that `done` of `total` units are done (total 0: not known).

        Raises:
            Cancelled: as `check`.
        """
        self.check()
        self.emit({"progress": {"done": done, "total": total, "unit": unit, "note": note}})

    def measured(self, **figures: float) -> None:
        """Tell figures, whose names end in their unit.

        Raises:
            Cancelled: as `check`.
        """
        self.check()
        self.emit({"measured": {"figures": {name: float(value) for name, value in figures.items()}}})


class FolderCheckpoints:
    """Checkpoints as folders ``<fence>-<n>``: a newer attempt's always wins, whenever an older one writes.

    Args:
        folder: of the key; may not exist yet.
        scratch: of this attempt, on the same file system.
        fence: of this attempt.
        check: raises Cancelled if the attempt may not go on.
    """

    def __init__(self, folder: Path, scratch: Path, fence: int, check: Callable[[], None]) -> None:
        self._folder, self._scratch, self._fence, self._check = folder, scratch, fence, check

    def latest(self) -> Path | None:
        """Return the folder of the newest complete checkpoint, or None; do not write into it."""
        while found := self._complete():
            (fence, _), path = found[-1]
            if fence >= self._fence:
                return path
            # Made our own before it is read: an older attempt that still runs could prune it under the reader.
            with suppress(FileNotFoundError):
                return path.rename(self._folder / f"{self._fence}-0")
        return None

    @contextmanager
    def save(self) -> Iterator[Path]:
        """Give an empty folder to fill; it becomes the latest checkpoint, whole, when the block ends without error.

        Raises:
            Cancelled: the attempt may not go on.
        """
        draft = self._scratch / "checkpoint"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        self._check()
        manifest(draft)
        self._folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((n for (fence, n), _ in self._complete() if fence == self._fence), default=0)
        draft.rename(self._folder / f"{self._fence}-{number}")
        sync(self._folder)
        for order, path in self._complete():
            if order < (self._fence, number):
                shutil.rmtree(path, ignore_errors=True)

    def _complete(self) -> list[tuple[tuple[int, int], Path]]:
        paths = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(((int(fence), int(n)), path) for path in paths for fence, _, n in [path.name.partition("-")])


def perform(task: Task, check: Callable[[], None]) -> Outcome:
    """Return how the call of the step's function ended; nothing it raises gets past.

    The times are those of the call; an executor that starts a process for it puts that process's in their place.
    """
    began, cpu_before = time.monotonic(), cpu_seconds()
    checkpoints = FolderCheckpoints(task.checkpoints, task.folder, task.fence, check)
    ctx = StepContext(task.key, task.inputs, task.folder / "out", checkpoints, task.resources, check, task.emit)
    told: dict[str, Any] = {}
    try:
        if task.step.version() != task.code:
            raise Conflict("the step's source changed after its key was made", hint="Run the flow again.")
        meta = resolve_name(task.step.run)(ctx, task.step.config)
        told = {"meta": _json(meta), "files": manifest(ctx.out)}
    except BaseException as error:
        with (task.folder / "log.txt").open("a") as log:
            traceback.print_exc(file=log)
        shutil.rmtree(ctx.out, ignore_errors=True)
        told = _explain(error)
    wall, cpu = time.monotonic() - began, cpu_seconds() - cpu_before
    return Outcome(**told, wall_seconds=wall, cpu_seconds=cpu, peak_memory_bytes=_peak_memory_bytes())


def _json(meta: Any) -> dict[str, Any]:
    try:
        return dict(json.loads(canonical_json({} if meta is None else dict(meta))))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the step returned what is no JSON: {error}", hint="Return plain values.") from error


def _explain(error: BaseException) -> dict[str, str]:
    if isinstance(error, BessemerError):
        return {"code": error.code, "error": error.message, "hint": error.hint}
    frame = traceback.extract_tb(error.__traceback__)[-1]
    hint = f"Raised at {frame.filename}:{frame.lineno}."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "The disk is full: free some space and run again."
    return {"code": "error", "error": f"{type(error).__name__}: {error}", "hint": hint}


def cpu_seconds(*, own: bool = True) -> float:
    """Return the processor time of this process so far, with that of its ended children; or theirs alone."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)[: 1 + own]]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_memory_bytes() -> int:
    """Return the peak of this program, not of the one that forked it, which ru_maxrss on Linux includes."""
    unit, status = 1 if sys.platform == "darwin" else 1024, Path("/proc/self/status")
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    if status.exists():
        own = int((status.read_text().partition("VmHWM:")[2] or "0").split()[0])
    return max(own, children) * unit
