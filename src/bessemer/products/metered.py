"""Books what each attempt at a step took, and remembers what each step came to, while passing the events on.

Owns the tie between the event stream and the meter. Knows neither what a step does nor where joules come from.
"""

from __future__ import annotations

from bessemer.core import events
from bessemer.core.nouns import EntryStatus, Subject
from bessemer.meter import LocalMeter

_NOBODY = Subject(kind="step", id="")


class MeteredSink:
    """A sink that books steps.

    Args:
        sink: takes every event after it was booked.
        meter: books one entry for each attempt: ``<key>/<run>`` when it published, ``<run>/<step>/<attempt>`` when
            it failed, was stopped, or was killed with this process (then the next meter of the folder books it).
        whose: project, key and model that the steps are for; empty for the factory's own line.
    """

    def __init__(self, sink: events.Sink, meter: LocalMeter, whose: Subject = _NOBODY) -> None:
        self.finished: dict[str, events.StepFinished] = {}
        self._sink = sink
        self._meter = meter
        self._whose = whose

    def __call__(self, event: events.Event) -> None:
        """Book the event if it ends an attempt, then pass it on."""
        if isinstance(event, events.StepStarted):
            self._meter.begin_step(self._subject(event, _attempt(event)), event.at)
        elif isinstance(event, events.StepFinished):
            self.finished[event.step] = event
            if not event.cached:
                self._book(event, f"{event.key}/{event.run}", "ok")
        elif isinstance(event, events.StepFailed):
            self._book(event, _attempt(event), "cancelled" if event.code == "cancelled" else "error")
        self._sink(event)

    def _book(self, event: events.StepFinished | events.StepFailed, name: str, status: EntryStatus) -> None:
        began = event.at - event.wall_seconds
        self._meter.book_step(self._subject(event, name), began, event.wall_seconds, event.cpu_seconds, status)

    def _subject(self, event: events.StepStarted | events.StepFinished | events.StepFailed, name: str) -> Subject:
        return self._whose.model_copy(update={"id": name, "name": event.step, "run": event.run})


def _attempt(event: events.StepStarted | events.StepFailed) -> str:
    return f"{event.run}/{event.step}/{event.attempt}"
