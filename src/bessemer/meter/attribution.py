"""Who used the joules: splits a meter's readings over the spans that were open, and keeps the rest as idle.

    attributed + idle == meter        exactly, in microjoules, after every event

Owns the split. Knows no sensor, no thread and no file: readings and times are handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bessemer.core.nouns import Usage
from bessemer.meter.energy import MICRO, Energy
from bessemer.meter.shares import StepCost, split

IDLE_PIECES = 4096
"""How many pieces of idle time are told apart; beyond it neighbours are merged, so memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Books:
    """What a meter has counted since it was opened: ``attributed + idle == meter``, in microjoules."""

    meter: Energy
    attributed: Energy
    idle: Energy


_NOTHING = Usage()


def _nothing() -> Usage:
    return _NOTHING


@dataclass(slots=True)
class _Span:
    energy: Energy
    shared: bool
    progress: Callable[[], Usage] = _nothing
    seen: Usage = _NOTHING

    def worked(self, cost: StepCost) -> int:
        before, self.seen = self.seen, self.progress()
        return cost.work(before, self.seen)


@dataclass(slots=True)
class _Idle:
    start: float
    end: float
    energy: Energy

    def overlap(self, start: float, end: float) -> tuple[int, int]:
        """Return (overlap, duration) in microseconds, both at least 1 if a piece without duration lies inside."""
        if self.end <= self.start:
            return (1, 1) if start <= self.start <= end else (0, 1)
        duration = max(1, round((self.end - self.start) * MICRO))
        inside = round((min(end, self.end) - max(start, self.start)) * MICRO)
        return max(0, min(inside, duration)), duration


class Attribution:
    """Splits the energy between two readings over the spans open at the time; what falls where none is open is idle.

    A span that is followed is charged for what it did meanwhile (see `shares`); those of which nothing is known share
    the fixed part with all others, and where nothing is known of any, they share everything equally.

    Args:
        reading: the meter's reading at the beginning.
        at: when that was, Unix seconds.
        cost: of the work of spans.
        fixed_watts: what the meter counts however little is done.
    """

    def __init__(self, reading: Energy, at: float, cost: StepCost | None = None, fixed_watts: float = 0.0) -> None:
        self._cost = cost or StepCost()
        self._fixed_watts = self._cost.fixed_watts if self._cost.fixed_watts is not None else fixed_watts
        self.began_at = at
        self.attributed = Energy()
        self.idle = Energy()
        self._first = self._last = reading
        self._at = at
        self._spans: dict[str, _Span] = {}
        self._pieces: list[_Idle] = []

    @property
    def meter(self) -> Energy:
        """Everything that the meter counted since the beginning."""
        return self._last - self._first

    @property
    def in_spans(self) -> Energy:
        """What the open spans have so far."""
        return sum((span.energy for span in self._spans.values()), Energy())

    def advance(self, reading: Energy, at: float) -> None:
        """Take the meter to a new reading and split what it counted since the last."""
        delta, self._last = reading - self._last, reading
        rest = delta
        if self._spans:
            fixed = round(self._fixed_watts * max(0.0, at - self._at) * MICRO)
            shares = split(delta, fixed, [span.worked(self._cost) for span in self._spans.values()])
            for span, share in zip(self._spans.values(), shares, strict=True):
                span.energy += share
                span.shared = span.shared or len(self._spans) > 1
            self.attributed, rest = self.attributed + delta, Energy()
        if rest != Energy():
            self.idle += rest
            self._pieces.append(_Idle(min(self._at, at), at, rest))
            if len(self._pieces) > IDLE_PIECES:
                self._pieces = _merged(self._pieces)
        self._at = at

    def open(self, handle: str) -> None:
        """Begin a span at the last reading."""
        self._spans[handle] = _Span(Energy(), shared=False)

    def follow(self, handle: str, progress: Callable[[], Usage]) -> None:
        """Ask a span at each reading how many tokens it has taken so far; nothing if it has ended."""
        if span := self._spans.get(handle):
            span.progress = progress

    def so_far(self, handle: str) -> Energy:
        """Return what a span has at the last reading; nothing if it has ended."""
        span = self._spans.get(handle)
        return span.energy if span else Energy()

    def close(self, handle: str) -> tuple[Energy, bool]:
        """End a span at the last reading; return its energy and whether it ever shared the meter with another."""
        span = self._spans.pop(handle)
        return span.energy, span.shared

    def covers(self, start: float) -> bool:
        """Return whether the meter was being read at that time."""
        return start >= self.began_at

    def claim(self, start: float, end: float, modelled_limit: int) -> Energy:
        """Attribute the still unclaimed energy between two times, and return it.

        Hardware counters cannot tell processes apart, so all of the measured part is taken; of the modelled part at
        most `modelled_limit` microjoules are, because a model knows what a process took from its processor time.
        """
        found = self._between(start, end)
        available = sum(energy.modelled for _, energy in found)
        taken = Energy()
        for piece, energy in found:
            part = _capped(energy, modelled_limit, max(available, modelled_limit))
            piece.energy -= part
            taken += part
        self.idle -= taken
        self.attributed += taken
        return taken

    def unclaimed(self, start: float, end: float) -> Energy:
        """Return the energy between two times that is nobody's yet; it stays so."""
        total = Energy()
        for _, energy in self._between(start, end):
            total += energy
        return total

    def _between(self, start: float, end: float) -> list[tuple[_Idle, Energy]]:
        overlaps = [(piece, *piece.overlap(start, end)) for piece in self._pieces]
        return [(piece, piece.energy.share(inside, whole)) for piece, inside, whole in overlaps if inside]


def _capped(energy: Energy, numerator: int, denominator: int) -> Energy:
    """Return the energy with its modelled part scaled, and its bounds scaled like the whole."""
    modelled = energy.modelled * numerator // denominator if denominator else energy.modelled
    whole = energy.measured + modelled
    if not energy.total:
        return Energy()
    return Energy(energy.measured, modelled, energy.low * whole // energy.total, energy.high * whole // energy.total)


def _merged(pieces: list[_Idle]) -> list[_Idle]:
    pairs = zip(pieces[::2], pieces[1::2], strict=False)
    merged = [_Idle(a.start, b.end, a.energy + b.energy) for a, b in pairs]
    return merged + pieces[len(merged) * 2 :]
