"""What is seen of requests besides the books: who watches is told when one begins and how it ended.

Owns the shape of what is seen. Knows no metrics library and no trace; watching never changes an answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Protocol

from bessemer.core.acting import Act
from bessemer.core.forwarding import Spent
from bessemer.core.nouns import Entry, EntryStatus, Subject, Usage

logger = logging.getLogger("bessemer.serve")

parent: ContextVar[str] = ContextVar("traceparent", default="")
"""The caller's ``traceparent`` header. Source: W3C Trace Context, https://www.w3.org/TR/trace-context/."""


_NONE = Usage()


class Seen:
    """One request as it went; no word of what was asked or answered.

    Not a dataclass, for the reason that `Spent` is none.

    Attributes:
        subject: whose request it is.
        began: Unix seconds.
        parent: the caller's ``traceparent``, or empty.
        first_token_seconds: from beginning to the first piece of the answer; None before it.
        last_token_seconds: the same to the latest piece.
        seconds: from beginning to end.
        status: how it ended.
        usage: the tokens that were booked.
        finish_reason: of an answer that ended well.
        entry: what was booked, if it could be.
        spent: the same of a request that went through as bytes; it has no entry here.
        acts: of an agent, with its words, which nobody who watches tells on.
    """

    first_token_seconds: float | None = None
    last_token_seconds: float | None = None
    seconds: float = 0.0
    status: EntryStatus = "error"
    usage: Usage = _NONE
    finish_reason: str = ""
    entry: Entry | None = None
    spent: Spent | None = None
    acts: tuple[Act, ...] = ()

    def __init__(self, subject: Subject | Spent, began: float, parent: str = "") -> None:
        self.subject, self.began, self.parent = subject, began, parent

    @property
    def seconds_per_token(self) -> float | None:
        """Mean time of the tokens after the first; None where there are none."""
        later = (self.spent.usage[1] if self.spent else self.usage.output_tokens) - 1
        if self.first_token_seconds is None or self.last_token_seconds is None or later < 1:
            return None
        return (self.last_token_seconds - self.first_token_seconds) / later


class Watcher(Protocol):
    """Is told of requests, in the event loop: returns at once."""

    def began(self, seen: Seen, /) -> None:
        """A request was let in."""
        ...

    def ended(self, seen: Seen, /) -> None:
        """A request is over; called once for each that began."""
        ...


class Watch:
    """Times one request and tells the watchers.

    Args:
        watchers: are told.
        subject: whose request it is.
        wall: gives Unix seconds.
        clock: any seconds; only differences are used.
    """

    def __init__(
        self,
        watchers: Sequence[Watcher],
        subject: Subject,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._watchers, self._clock, self._at = watchers, clock, clock()
        self.seen = Seen(subject, wall(), parent.get())
        for watcher in watchers:
            told(watcher.began, self.seen)

    def piece(self) -> None:
        """A piece of the answer came from the engine."""
        self.seen.last_token_seconds = self._clock() - self._at
        if self.seen.first_token_seconds is None:
            self.seen.first_token_seconds = self.seen.last_token_seconds

    def end(self) -> None:
        """The request is over."""
        self.seen.seconds = self._clock() - self._at
        for watcher in self._watchers:
            told(watcher.ended, self.seen)


def told(tell: Callable[[Seen], None], seen: Seen) -> None:
    """Tell a watcher of a request; one that fails is logged."""
    try:
        tell(seen)
    except Exception as error:  # whoever watches must not break what is watched
        unwatched(error)


def unwatched(error: Exception) -> None:
    """Say in the log that a watcher failed."""
    logger.warning("a watcher of requests failed: %s", type(error).__name__)
