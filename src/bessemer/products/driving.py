"""What works on clients' jobs beside a gateway: fine-tuning and datasets, each in a thread.

Owns which there are, and which of a factory's products jobs may name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from bessemer.products.line import ProductConfig
from bessemer.products.synthetic.config import SyntheticConfig
from bessemer.products.synthetic.jobs import DatasetDriver, maker
from bessemer.products.synthetic.lending import Lending
from bessemer.products.tuning.driver import JobDriver, JobParts
from bessemer.products.tuning.line import TuningLine


def open_drivers(
    products: Mapping[str, ProductConfig], jobs: JobParts, line: TuningLine, lending: Lending, stack: ExitStack
) -> Callable[[], None]:
    """Return what starts the drivers, in the loop that the engines belong to.

    Args:
        products: of the factory, by name.
        jobs: of the home.
        line: makes flows of fine-tuning jobs.
        lending: the engines that may write texts.
        stack: closes them.
    """
    names = (name for name, made in products.items() if isinstance(made, SyntheticConfig) and made.tables)
    jobs.work.datasets.maker = maker(jobs, frozenset(names), lending)
    drivers = JobDriver(jobs, line), DatasetDriver(jobs, lending)
    stack.callback(lending.close)
    for driver in drivers:
        stack.callback(driver.close)

    def start() -> None:
        lending.begin()
        for driver in drivers:
            driver.start()

    return start
