"""What a fine-tuning job tells while it runs: the loss of each step, and when it is likely to end.

    likely end = now + training that is left, by its rate so far + merging and compiling

Merging and compiling are expected to take what they took in the newest run from the same base, a job's or the factory's
own. Where there was none, a rule says it: a fixed time, and one by the bytes of the base.

Owns the estimate and the words. Knows no trainer.
"""

from __future__ import annotations

from collections.abc import Callable

from bessemer.core import events
from bessemer.flow import Store
from bessemer.serve.work.tuning import JobStore

_EVENT_SECONDS = 1.0

FIXED_SECONDS = 10.0
BYTES_PER_SECOND = 20e6
"""Of the rule. Source: the run in README.md, where a base of 273 MB took 13 s on two idle threads; twice that, beside
answers."""


class Telling:
    """Takes a run's events into the job's own.

    Args:
        jobs: whose events and estimates.
        job: its project and id.
        after: returns how long merging and compiling are likely to take, from the key of the step `base`, and whether
            they once took that.
        clock: gives Unix seconds.
    """

    def __init__(
        self,
        jobs: JobStore,
        job: tuple[str, str],
        after: Callable[[str], tuple[float, bool]],
        clock: Callable[[], float],
    ) -> None:
        self._jobs, self._job, self._find_after, self._clock = jobs, job, after, clock
        self._after = 0.0, False
        self._began: tuple[float, float] | None = None
        self._estimated_at = float("-inf")

    def __call__(self, event: events.Event) -> None:
        """Tell of an event what a client wants to know."""
        if isinstance(event, events.StepFinished) and event.step == "base":
            self._after = self._find_after(event.key)
        elif isinstance(event, events.StepStarted) and event.step == "train":
            self._began = None
        elif isinstance(event, events.Progress) and event.step == "train":
            self._progress(event)
        elif isinstance(event, events.Measured) and event.step == "train":
            self._measured(event)
        elif isinstance(event, events.StepFinished) and event.step == "train":
            self._trained(event)

    def _progress(self, event: events.Progress) -> None:
        if self._began is None:
            self._began = (event.at, event.done)
            if event.note == "resumed":
                message = f"The job goes on at {event.done:.0f} of {event.total:.0f} tokens"
                self._jobs.report(*self._job, message)
            return
        at, done = self._began
        if event.done > done and event.at - self._estimated_at >= _EVENT_SECONDS:
            left = (event.total - event.done) * (event.at - at) / (event.done - done)
            if self._estimated_at < 0:
                self._say(left)
            self._jobs.estimate(*self._job, self._clock() + left + self._after[0])
            self._estimated_at = event.at

    def _say(self, left: float) -> None:
        after, known = self._after
        why = "as they took before" if known else "by the size of the base"
        training = f"Estimated: {left:.0f} s of training by its rate so far"
        message = f"{training}, then {after:.0f} s of merging and compiling {why}"
        self._jobs.report(*self._job, message)

    def _measured(self, event: events.Measured) -> None:
        loss, step = event.figures["loss"], int(event.figures["step"])
        data = {**event.figures, "step": step, "train_loss": loss}
        self._jobs.report(*self._job, f"Step {step}: training loss={loss:.2f}", data)

    def _trained(self, event: events.StepFinished) -> None:
        self._jobs.estimate(*self._job, self._clock() + self._after[0])
        left_out = event.meta.get("rows_too_long", 0)
        if left_out:
            message = f"{left_out} examples are longer than the trainer takes and were left out"
            self._jobs.report(*self._job, message, level="warn")


def seconds_after_training(store: Store, base: str) -> tuple[float, bool]:
    """Return how long merging and compiling are likely to take, and whether they took that before.

    Args:
        store: knows what earlier runs took.
        base: key of the step `base`, whose result is there.
    """
    for run in reversed(store.runs("finished")):
        keys = {step.name: step.key for step in store.steps(run.id)}
        for part in (name.removesuffix("base") for name, key in keys.items() if key == base):
            took = [store.result(keys.get(f"{part}{name}", "")) for name in ("merge", "compile")]
            if all(took):
                return sum(each.outcome.wall_seconds for each in took if each), True
    result = store.result(base)
    size = sum(count for count, _ in result.outcome.files.values()) if result else 0
    return FIXED_SECONDS + size / BYTES_PER_SECOND, False
