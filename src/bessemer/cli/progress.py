"""Draws the event stream: live bars on a terminal, plain lines elsewhere.

Owns the look of progress. An estimate is shown once a step has run for two seconds and knows its total; it is the
step's own speed so far, nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from bessemer.core import events
from bessemer.core.units import show_seconds

_LINE_EVERY_SECONDS = 10.0


@contextmanager
def shown(console: Console) -> Iterator[events.Sink]:
    """Give a sink that draws on a console while the block runs."""
    if console.is_terminal:
        bars = _Bars(console)
        with bars.progress:
            yield bars.take
    else:
        yield _Lines(console).take


class _Left(ProgressColumn):
    """Time left by the step's own speed so far."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        if task.finished or not task.total or not task.completed or elapsed < 2:
            return Text("")
        left = elapsed * (task.total - task.completed) / task.completed
        return Text(f"{show_seconds(round(left))} left", style="cyan")


class _Bars:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            TextColumn("[dim]{task.fields[amount]:>22}[/]"),
            TimeElapsedColumn(),
            _Left(),
            console=console,
        )
        self._tasks: dict[str, int] = {}

    def take(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self.console.print(f"[bold]{escape(event.flow)}[/] [dim]run {event.run}, {len(event.steps)} steps[/]")
        elif isinstance(event, events.StepStarted):
            again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
            if event.step in self._tasks:
                self.progress.remove_task(self._tasks[event.step])  # type: ignore[arg-type]
            self._tasks[event.step] = self.progress.add_task(event.step + again, total=None, amount="")
        elif isinstance(event, events.Progress) and event.step in self._tasks:
            self.progress.update(
                self._tasks[event.step],  # type: ignore[arg-type]
                completed=event.done,
                total=event.total or None,
                amount=_amount(event),
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
            self.progress.update(task, completed=1, total=1, amount="")  # type: ignore[arg-type]
            self.progress.stop_task(task)  # type: ignore[arg-type]


class _Lines:
    def __init__(self, console: Console) -> None:
        self.console = console
        self._said: dict[str, float] = {}
        self._began: dict[str, float] = {}

    def take(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self.console.print(f"{event.flow}: run {event.run}, {len(event.steps)} steps", soft_wrap=True)
        elif isinstance(event, events.StepStarted):
            self._said[event.step] = self._began[event.step] = time.monotonic()
            self.console.print(f"  {event.step} …")
        elif isinstance(event, events.Progress):
            self._progress(event)
        elif isinstance(event, events.StepFinished):
            took = "from the cache" if event.cached else show_seconds(event.wall_seconds)
            self.console.print(f"  {event.step} done, {took}")
        elif isinstance(event, events.StepFailed):
            self.console.print(_failed(event), soft_wrap=True)

    def _progress(self, event: events.Progress) -> None:
        now = time.monotonic()
        if now - self._said.get(event.step, now) < _LINE_EVERY_SECONDS or not event.total:
            return
        self._said[event.step] = now
        gone = now - self._began[event.step]
        left = f", {show_seconds(round(gone * (event.total - event.done) / event.done))} left" if event.done else ""
        self.console.print(f"  {event.step} {_amount(event)}{left}", soft_wrap=True)


def _amount(event: events.Progress) -> str:
    total = f"/{event.total:,.0f}" if event.total else ""
    note = f" {event.note}" if event.note else ""
    return f"{event.done:,.0f}{total} {event.unit}{note}"


def _failed(event: events.StepFailed) -> str:
    again = "; it is tried again" if event.will_retry else ""
    return f"[red]✗[/] {event.step} failed{again}: {escape(event.error)}"
