"""The verbs of requests that go through as bytes: an engine that is content with it, a meter that books many at once.

Owns the shapes. Knows no wire and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from bessemer.core.forwarding import Forward, Spent


@runtime_checkable
class Forwarding(Protocol):
    """An engine whose requests may be sent to its server as bytes."""

    @property
    def forward(self) -> Forward:
        """Where to."""
        ...


@runtime_checkable
class BatchMeter(Protocol):
    """Books requests many at once."""

    def begin(self, spent: Spent, /) -> None:
        """Begin a request; takes microseconds."""
        ...

    def keep(self, spent: Spent, likely: tuple[int, int], /) -> memoryview:
        """Return the place of a number: the output tokens of a stream so far, to be set before each piece leaves.

        Should the process be killed, these are booked; `likely` are the input tokens, and the most output tokens.
        """
        ...

    def book(self, spent: Sequence[Spent], /) -> None:
        """End requests; when this returns, their entries are as safe as the durability promises.

        Raises:
            BackendError: the disk refused; nothing was counted, and booking the same again is right.
        """
        ...

    @property
    def waits(self) -> bool:
        """Whether `book` waits for the disk, and so is not for the event loop."""
        ...


@runtime_checkable
class Batching(Protocol):
    """A Meter that can also book many requests at once."""

    @property
    def batch(self) -> BatchMeter:
        """That side of it; it books into the same journal and ends with the meter."""
        ...
