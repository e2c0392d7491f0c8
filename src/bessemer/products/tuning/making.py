"""Makes what is served of a checkpoint, when it is first asked: its adapter merged and compiled, by steps of a flow.

Most checkpoints are never asked, and a merge takes the memory of a model: so nothing is made before, and one at a time.
What was made stays, and another gateway of the home finds it.

Owns the order of that. Knows neither HTTP nor an engine.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from bessemer.core import events
from bessemer.core.errors import BackendError, Cancelled
from bessemer.core.nouns import Subject
from bessemer.flow import Runner, open_store
from bessemer.products.metered import MeteredSink
from bessemer.products.tuning.driver import JobParts
from bessemer.products.tuning.line import TuningLine, here
from bessemer.products.watching import run_watched, sentence, yield_to_answers
from bessemer.serve.work.models import TunedModel

logger = logging.getLogger("bessemer.products")


class CheckpointMaker:
    """Makes checkpoints in a thread of its own, until it is closed.

    Args:
        parts: of the home; time and energy are booked to the project.
        line: says how.
    """

    def __init__(self, parts: JobParts, line: TuningLine) -> None:
        self._parts, self._line = parts, line
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._pool = ThreadPoolExecutor(1, "making checkpoints", initializer=yield_to_answers)
        self._asked: dict[str, Future[TunedModel]] = {}

    def make(self, project: str, model: TunedModel) -> Future[TunedModel]:
        """Return a checkpoint with `path` and `source`, once for all who wait; what failed is tried again.

        The future raises BackendError if it cannot be made, Unsupported if its adapter is another gateway's, and
        Cancelled if this closes before it is.

        Raises:
            Cancelled: this is closed.
        """
        with self._lock:
            if self._stop.is_set():
                raise Cancelled("the gateway closes", hint="Ask again.")
            found = self._asked.get(model.id)
            if found is None or (found.done() and found.exception()):
                found = self._asked[model.id] = self._pool.submit(self._make, project, model)
            return found

    def close(self) -> None:
        """Stop; what is under way is made anew by the next who asks."""
        with self._lock:  # whoever asks later is told, and finds no pool that is gone
            self._stop.set()
        self._pool.shutdown()

    def _make(self, project: str, model: TunedModel) -> TunedModel:
        home, work = self._parts.home, self._parts.work
        here(model.adapter)
        key_id = work.jobs.get(project, model.job).key_id
        whose = Subject(kind="step", id="", project=project, key_id=key_id, model=model.id)
        sink = MeteredSink(events.ignore, self._parts.meter, whose)
        with home.results(), open_store(home.database_url) as store:
            home.claim_artifacts()
            runner = Runner(store, home.artifacts, sink=sink)
            result = None
            while result is None or result.status == "cancelled":  # another gateway that closes ends a run for all
                if self._stop.is_set():
                    raise Cancelled("the gateway closes", hint="Ask again.")
                result = run_watched(runner, runner.submit(self._line.checkpoint(model)), self._stop.is_set)
        if result.status != "finished":
            logger.error("the checkpoint %s cannot be made: %s", model.id, sentence(result.error, result.hint))
            raise BackendError(f"the checkpoint cannot be made: {result.error}", hint=result.hint)
        made = model.model_copy(update=self._line.places(result.artifacts))
        if work.models:
            work.models.made(project, made)
        return made
