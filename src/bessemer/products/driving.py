"""What works on clients' jobs beside a gateway: fine-tuning and datasets, each in a thread.

Owns which there are, and which of a factory's products jobs may name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from bessemer.products.counted import Counted
from bessemer.products.line import ProductConfig, copies
from bessemer.products.product import AnyEngine
from bessemer.products.synthetic.jobs import DatasetDriver, maker
from bessemer.products.synthetic.lending import Lending
from bessemer.products.tuning.driver import JobDriver, JobParts
from bessemer.products.tuning.line import TuningLine


def open_drivers(
    products: Mapping[str, ProductConfig],
    jobs: JobParts,
    line: TuningLine,
    served: tuple[Mapping[str, AnyEngine], Counted | None],
    stack: ExitStack,
) -> Callable[[], None]:
    """Return what starts the drivers, in the loop that the engines belong to.

    Args:
        products: of the factory, by name.
        jobs: of the home.
        line: makes flows of fine-tuning jobs.
        served: the engines, which may write texts, and what counts what they did; None where nobody here counts.
        stack: closes them.
    """
    engines, counted = served
    lending = Lending(engines, counted.lend if counted else lambda model, usage: None)
    jobs.work.datasets.maker = maker(jobs, frozenset(copies(products)), lending)
    drivers = JobDriver(jobs, line), DatasetDriver(jobs, lending)
    stack.callback(lending.close)
    for driver in drivers:
        stack.callback(driver.close)

    def start() -> None:
        lending.begin()
        for driver in drivers:
            driver.start()

    return start
