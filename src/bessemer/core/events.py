"""The one typed stream of events. Rooms emit it and never print; the terminal, the JSON log and the console read it.

    RunStarted -> (StepStarted -> Progress* -> Measured* -> StepFinished | StepFailed)* -> RunFinished | RunFailed

Owns the event types. Knows no clock: `at` is handed in by the emitter, in seconds since 1970 (Unix time).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run of a flow begins; `steps` are its step names in an order in which they can run."""

    at: float
    run: str
    flow: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """An attempt at a step begins (attempts count from 1)."""

    at: float
    run: str
    step: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A step has done `done` of `total` units; `total` 0 means not known yet. `note` is a few words for people."""

    at: float
    run: str
    step: str
    done: float
    total: float
    unit: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A step reports named figures, for example the training loss at a step; names end in their unit."""

    at: float
    run: str
    step: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step's result is published.

    `cached` means that an earlier run made it. `wall_seconds`, `cpu_seconds` (of the step's own process and its
    children) and `peak_memory_bytes` are those of the attempt that made it, also when cached.
    """

    at: float
    run: str
    step: str
    key: str
    cached: bool
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepFailed:
    """An attempt at a step failed or was stopped; `will_retry` says whether another follows. It took time all the same.

    `code` is that of the error, ``crashed`` for a process that died, ``cancelled`` for an attempt that was stopped.
    """

    at: float
    run: str
    step: str
    attempt: int
    error: str
    hint: str
    will_retry: bool
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    code: str = ""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """All steps of a run are published."""

    at: float
    run: str


@dataclass(frozen=True, slots=True)
class RunFailed:
    """A run stopped: a step failed for good, or somebody cancelled it."""

    at: float
    run: str
    error: str
    hint: str


Event = RunStarted | StepStarted | Progress | Measured | StepFinished | StepFailed | RunFinished | RunFailed
Sink = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Take an event and do nothing with it: the default sink."""
