"""What works beside a gateway, each in a thread: on clients' fine-tuning jobs and datasets, and on retraining.

Owns which there are, and which of a factory's products jobs may name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bessemer.products.recommender.retraining import RetrainDriver
from bessemer.products.synthetic.config import SyntheticConfig
from bessemer.products.synthetic.jobs import DatasetDriver, maker
from bessemer.products.synthetic.lending import Lending
from bessemer.products.tuning.driver import JobDriver, JobParts
from bessemer.products.tuning.line import TuningLine

if TYPE_CHECKING:
    from bessemer.products.factory import Factory


def open_drivers(
    factory: Factory, jobs: JobParts, line: TuningLine, lending: Lending, stack: ExitStack
) -> Callable[[], None]:
    """Return what starts the drivers, in the loop that the engines belong to.

    Args:
        factory: whose gateway it is.
        jobs: of the home.
        line: makes flows of fine-tuning jobs.
        lending: the engines that may write texts.
        stack: closes them.
    """
    names = (name for name, made in factory.config.made.items() if isinstance(made, SyntheticConfig) and made.tables)
    jobs.work.datasets.maker = maker(jobs, frozenset(names), lending)
    drivers = JobDriver(jobs, line), DatasetDriver(jobs, lending), RetrainDriver(factory, jobs.meter, jobs.clock)
    stack.callback(lending.close)
    for driver in drivers:
        stack.callback(driver.close)

    def start() -> None:
        lending.begin()
        for driver in drivers:
            driver.start()

    return start
