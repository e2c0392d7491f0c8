"""Who used the joules: splits a meter's readings over the spans that were open, and keeps the rest as idle.

    attributed + idle == meter        exactly, in microjoules, after every event

Owns the split. Knows no sensor, no thread and no file: readings and times are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from bessemer.meter.energy import MICRO, Energy

IDLE_PIECES = 4096
"""How many pieces of idle time are told apart; beyond it neighbours are merged, so memory stays bounded."""


@dataclass(slots=True)
class _Span:
    energy: Energy
    shared: bool


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
    """Splits the energy between two readings equally over the spans open at the time.

    What an equal split leaves over (fewer microjoules than there are spans) and what falls where no span is open is
    idle. Equal shares, because a meter of a whole host cannot see which request kept it busy; an engine that batches
    serves its open requests side by side.

    Args:
        reading: the meter's reading at the beginning.
        at: when that was, Unix seconds.
    """

    def __init__(self, reading: Energy, at: float) -> None:
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

    def advance(self, reading: Energy, at: float) -> None:
        """Take the meter to a new reading and split what it counted since the last."""
        delta, self._last = reading - self._last, reading
        rest = delta
        if self._spans:
            share = delta.share(1, len(self._spans))
            for span in self._spans.values():
                span.energy += share
                span.shared = span.shared or len(self._spans) > 1
                rest -= share
            self.attributed += delta - rest
        if rest != Energy():
            self.idle += rest
            self._pieces.append(_Idle(min(self._at, at), at, rest))
            if len(self._pieces) > IDLE_PIECES:
                self._pieces = _merged(self._pieces)
        self._at = at

    def open(self, handle: str) -> None:
        """Begin a span at the last reading."""
        self._spans[handle] = _Span(Energy(), shared=False)

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
