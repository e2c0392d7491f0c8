"""Draws the event stream: live bars on a terminal, plain lines elsewhere.

Owns the look of progress and the estimate: the step's own speed since its first progress, so that the time that loading
a model takes is not counted as work. A step that has not told how far it is shows what such a step usually takes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from bessemer.core import events
from bessemer.core.units import show_seconds

_LINE_EVERY_SECONDS = 10.0


@contextmanager
def shown(console: Console, usual_seconds: Mapping[str, float] | None = None) -> Iterator[events.Sink]:
    """Give a sink that draws on a console while the block runs; `usual_seconds` is what steps usually take here."""
    if console.is_terminal:
        bars = _Bars(console, usual_seconds or {})
        with bars.progress:
            yield bars.take
    else:
        yield _Lines(console, usual_seconds or {}).take


class Estimate:
    """How long a step still takes."""

    def __init__(self, first: events.Progress) -> None:
        self._first = first

    def left_seconds(self, now: events.Progress) -> float | None:
        """Return the seconds left, or None while there is nothing to tell it by."""
        done, spent = now.done - self._first.done, now.at - self._first.at
        if not now.total or done <= 0 or spent < 1:
            return None
        return spent * (now.total - now.done) / done


class _Left(ProgressColumn):
    """The estimate of the step's last report; before the first, what such a step usually takes."""

    def render(self, task: Task) -> Text:
        told, usual = task.fields["left"], task.fields["usual"]
        if not told and usual and task.total is None:
            left = usual - (task.elapsed or 0.0)
            told = f"about {show_seconds(round(left))} left" if left > 0 else "longer than usual"
        return Text("" if task.finished else told, style="cyan")


class _Bars:
    def __init__(self, console: Console, usual_seconds: Mapping[str, float]) -> None:
        self.console, self._usual = console, usual_seconds
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            TextColumn("[dim]{task.fields[amount]:>22}[/]"),
            TimeElapsedColumn(),
            _Left(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._estimates: dict[str, Estimate] = {}

    def take(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self.console.print(f"[bold]{escape(event.flow)}[/] [dim]run {event.run}, {len(event.steps)} steps[/]")
        elif isinstance(event, events.StepStarted):
            again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
            if event.step in self._tasks:
                self.progress.remove_task(self._tasks[event.step])
            self._estimates.pop(event.step, None)
            self._tasks[event.step] = self.progress.add_task(
                event.step + again, total=None, amount="", left="", usual=self._usual.get(event.step, 0.0)
            )
        elif isinstance(event, events.Progress) and event.step in self._tasks:
            self.progress.update(
                self._tasks[event.step],
                completed=event.done,
                total=event.total or None,
                amount=_amount(event),
                left=_left(self._estimates.setdefault(event.step, Estimate(event)), event),
            )
        elif isinstance(event, events.StepFinished):
            self._finish(event)
        elif isinstance(event, events.StepFailed):
            self.console.print(_failed(event))

    def _finish(self, event: events.StepFinished) -> None:
        if event.cached:
            self.console.print(f"[green]✓[/] {event.step:<14} [dim]from the cache[/]")
            return
        task = self._tasks.get(event.step)
        if task is not None:
            self.progress.update(task, completed=1, total=1, amount="")
            self.progress.stop_task(task)


class _Lines:
    def __init__(self, console: Console, usual_seconds: Mapping[str, float]) -> None:
        self.console, self._usual = console, usual_seconds
        self._said: dict[str, float] = {}
        self._estimates: dict[str, Estimate] = {}

    def take(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self.console.print(f"{event.flow}: run {event.run}, {len(event.steps)} steps", soft_wrap=True)
        elif isinstance(event, events.StepStarted):
            self._said[event.step] = event.at
            self._estimates.pop(event.step, None)
            usual = self._usual.get(event.step, 0.0)
            self.console.print(f"  {event.step} …" + (f" usually {show_seconds(usual)}" if usual > 2 else ""))
        elif isinstance(event, events.Progress):
            self._progress(event)
        elif isinstance(event, events.StepFinished):
            took = "from the cache" if event.cached else show_seconds(event.wall_seconds)
            self.console.print(f"  {event.step} done, {took}")
        elif isinstance(event, events.StepFailed):
            self.console.print(_failed(event), soft_wrap=True)

    def _progress(self, event: events.Progress) -> None:
        estimate = self._estimates.setdefault(event.step, Estimate(event))
        if event.at - self._said.get(event.step, event.at) < _LINE_EVERY_SECONDS or not event.total:
            return
        self._said[event.step] = event.at
        left = _left(estimate, event)
        self.console.print(f"  {event.step} {_amount(event)}{', ' if left else ''}{left}", soft_wrap=True)


def _left(estimate: Estimate, event: events.Progress) -> str:
    left = estimate.left_seconds(event)
    return "" if left is None else f"{show_seconds(round(left))} left"


def _amount(event: events.Progress) -> str:
    total = f"/{event.total:,.0f}" if event.total else ""
    note = f" {event.note}" if event.note else ""
    return f"{event.done:,.0f}{total} {event.unit}{note}"


def _failed(event: events.StepFailed) -> str:
    again = "; it is tried again" if event.will_retry else ""
    mark, how = ("[yellow]–[/]", "stopped") if event.code == "cancelled" else ("[red]✗[/]", "failed")
    return f"{mark} {event.step} {how}{again}: {escape(event.error)}"
