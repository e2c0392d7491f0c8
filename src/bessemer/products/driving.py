"""What works beside a gateway, each in a thread: on fine-tuning jobs and their checkpoints, datasets, retraining.

Owns which there are, and which of a factory's products jobs may name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bessemer.products.counted import Counted
from bessemer.products.line import copies
from bessemer.products.product import AnyEngine
from bessemer.products.recommender.retraining import RetrainDriver
from bessemer.products.synthetic.jobs import DatasetDriver, maker
from bessemer.products.synthetic.lending import Lending
from bessemer.products.tuning.driver import JobDriver, JobParts
from bessemer.products.tuning.line import TuningLine
from bessemer.products.tuning.making import CheckpointMaker

if TYPE_CHECKING:
    from bessemer.products.factory import Factory


def open_drivers(
    factory: Factory,
    jobs: JobParts,
    line: TuningLine,
    served: tuple[Mapping[str, AnyEngine], Counted | None],
    stack: ExitStack,
) -> Callable[[], None]:
    """Return what starts the drivers, in the loop that the engines belong to.

    Args:
        factory: whose gateway it is.
        jobs: of the home.
        line: makes flows of fine-tuning jobs.
        served: the engines, which may write texts, and what counts what they did; None where nobody here counts.
        stack: closes them.
    """
    engines, counted = served
    lending = Lending(engines, counted.lend if counted else lambda model, usage: None)
    jobs.work.datasets.maker = maker(jobs, frozenset(copies(factory.config.made)), lending)
    making = CheckpointMaker(jobs, line)
    if jobs.work.models:
        jobs.work.models.make = making.make
    drivers = JobDriver(jobs, line), DatasetDriver(jobs, lending), RetrainDriver(factory, jobs.meter, jobs.clock)
    stack.callback(lending.close)
    for driver in (*drivers, making):
        stack.callback(driver.close)
    for each in drivers:  # called before any is closed: one that waits for a checkpoint does not take its job again
        stack.callback(each.stop)

    def start() -> None:
        lending.begin()
        for driver in drivers:
            driver.start()

    return start
