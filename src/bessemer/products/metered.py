"""Books what each attempt at a step took, and remembers what each step came to, while passing the events on.

Owns the tie between the event stream and the meter. Knows neither what a step does nor where joules come from.
"""

from __future__ import annotations

from bessemer.core import events
from bessemer.core.nouns import EntryStatus, Subject
from bessemer.meter import LocalMeter


class MeteredSink:
    """A sink that books steps.

    Args:
        sink: takes every event after it was booked.
        meter: books one entry for each attempt: ``<key>/<run>`` when it published, ``<run>/<step>/<attempt>`` when
            it failed.
    """

    def __init__(self, sink: events.Sink, meter: LocalMeter) -> None:
        self.finished: dict[str, events.StepFinished] = {}
        self._sink = sink
        self._meter = meter

    def __call__(self, event: events.Event) -> None:
        """Book the event if it ends an attempt, then pass it on."""
        if isinstance(event, events.StepFinished):
            self.finished[event.step] = event
            if not event.cached:
                self._book(event, f"{event.key}/{event.run}", "ok")
        elif isinstance(event, events.StepFailed):
            self._book(event, f"{event.run}/{event.step}/{event.attempt}", "error")
        self._sink(event)

    def _book(self, event: events.StepFinished | events.StepFailed, name: str, status: EntryStatus) -> None:
        subject = Subject(kind="step", id=name, name=event.step, run=event.run)
        self._meter.book_step(subject, event.at - event.wall_seconds, event.wall_seconds, event.cpu_seconds, status)
