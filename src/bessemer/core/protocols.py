"""The verbs, one protocol per stage, at most five methods each. Rooms meet here and nowhere else.

Owns the shapes. `tests/conformance` has one suite for each, which all backends run; what a backend lacks, its
`capabilities` leave out. Meter, Lake, Trainer and Checkpoints have one implementation each so far; the suites run the
meter with counters and with a model, and the lake on a path and in an object store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from bessemer.core.errors import Unsupported
from bessemer.core.nouns import ChatRequest, Entry, EntryStatus, Example, Subject, Usage

Req_contra = TypeVar("Req_contra", contravariant=True)
Res_co = TypeVar("Res_co", covariant=True)
Piece_co = TypeVar("Piece_co", covariant=True)


@runtime_checkable
class Engine(Protocol[Req_contra, Res_co, Piece_co]):
    """Serves a model. The language model is ``Engine[ChatRequest, Completion, Delta]``.

    Calls may overlap: an engine batches or queues them itself. Closing the iterator of `stream` cancels the
    request in the engine.

    Capabilities: ``chat``, ``stream``, ``stop``, ``seed``, ``logprobs``, ``top_logprobs`` (alternatives to each
    token), ``penalties``, ``logit_bias``, ``json_object``, ``json_schema``, ``tools``, ``prompt`` (takes a
    PromptRequest), ``score`` (takes a ScoreRequest), ``embed`` (takes an EmbedRequest), ``tokens`` (those three as
    tokens, too), ``batch`` (overlapping calls share the device).
    """

    name: str
    capabilities: frozenset[str]

    async def respond(self, request: Req_contra, /) -> Res_co:
        """Return the whole answer."""
        ...

    def stream(self, request: Req_contra, /) -> AsyncIterator[Piece_co]:
        """Yield the answer in pieces; the last has the finish reason and the usage."""
        ...

    async def close(self) -> None:
        """Release the device; later calls raise Unsupported."""
        ...


@runtime_checkable
class Counting(Protocol):
    """An Engine that counts what it would read of a request, without answering it."""

    async def count_tokens(self, request: ChatRequest, /) -> int:
        """Return the input tokens that an answer's usage would have; raises what reading the request raises."""
        ...


def counting(engine: object) -> Counting:
    """Return an engine as one that counts.

    Raises:
        Unsupported: it does not.
    """
    if not isinstance(engine, Counting):
        raise Unsupported("the engine of this model counts no tokens ahead", hint="Read the usage of an answer.")
    return engine


@runtime_checkable
class Meter(Protocol):
    """Measures a span of work and books it."""

    name: str
    capabilities: frozenset[str]

    def start(self, subject: Subject, /) -> str:
        """Begin a span; return its handle."""
        ...

    def stop(self, handle: str, usage: Usage, status: EntryStatus = "ok", /) -> Entry:
        """End a span; when this returns, the entry is on disk."""
        ...


@runtime_checkable
class Following(Protocol):
    """A Meter that charges joules by the work of each span, as far as it is told of it."""

    def follow(self, handle: str, progress: Callable[[], Usage], /) -> None:
        """Ask, whenever the sensors are read, how many tokens a span has taken so far; from any thread, at once."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """A Meter that keeps what a stream has taken so far where a kill of its process leaves it."""

    def keep(self, handle: str, /) -> Callable[[Usage], None]:
        """Return what is to be told, before each piece leaves, what the span has taken by then; it returns at once."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs one attempt at a step somewhere: in this process, in a child, on a cluster."""

    name: str
    capabilities: frozenset[str]

    def submit(self, task: Any, /) -> str:
        """Start a task; return its handle at once."""
        ...

    def wait(self, handle: str, timeout_seconds: float | None = None, /) -> Any:
        """Return the task's outcome, or None if it still runs after the timeout."""
        ...

    def cancel(self, handle: str, /) -> Any:
        """Stop a task; return its outcome, or None if nobody knows it, when it no longer runs."""
        ...


@runtime_checkable
class Lake(Protocol):
    """Versioned tables."""

    name: str
    capabilities: frozenset[str]

    def put(self, table: str, rows: Iterable[Mapping[str, Any]], /, *, mode: str = "overwrite", tag: str = "") -> int:
        """Write rows as a new version and return it; with a tag, doing it again returns the first version."""
        ...

    def get(self, table: str, /, *, version: int | str | None = None, where: str = "") -> list[dict[str, Any]]:
        """Return rows of a version (number or tag; None is the latest), filtered by an SQL condition."""
        ...

    def open(self, table: str, /, *, version: int | str | None = None) -> Any:
        """Return the backend's own handle to a version, for scans larger than memory."""
        ...

    def list(self) -> list[str]:
        """Return the names of the tables, sorted."""
        ...


@runtime_checkable
class Trainer(Protocol):
    """Makes a model better."""

    name: str
    capabilities: frozenset[str]

    def train(self, base: Path, examples: Iterable[Example], out: Path, checkpoints: Checkpoints, /) -> Any:
        """Train from a base model, or go on exactly at the latest checkpoint; `out` holds the result."""
        ...


@runtime_checkable
class Checkpoints(Protocol):
    """Where a long step keeps its state, so that a restart goes on instead of beginning again."""

    def latest(self) -> Path | None:
        """Return the folder of the newest complete checkpoint, or None; do not write into it."""
        ...

    def save(self) -> AbstractContextManager[Path]:
        """Give an empty folder to fill; it becomes the latest checkpoint, whole, when the block ends without error."""
        ...
