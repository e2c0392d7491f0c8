"""What months of operation are played under: the scheduler's policy, the load, cuts of power, windows of maintenance.

Owns the declaration and its reading. Plays nothing.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from bessemer.core.config import Config, explain
from bessemer.core.errors import ConfigError, NotFound
from bessemer.twin.power import capped_ratio, cut_cost_ratio
from bessemer.twin.scheduling import Policy
from bessemer.twin.site import Site

Array = NDArray[np.float64]
Hour = Annotated[int, Field(ge=0)]
Hours = Annotated[int, Field(ge=1)]
Part = Annotated[float, Field(gt=0, lt=1)]


class Cut(Config):
    """Demand response: the grid asks for less, and all boards are clocked down alike.

    Attributes:
        start_hour: from the start of the months.
        hours: how long.
        every_days: 0: once; else again after so many days.
        power_ratio: of the power that the facility would draw then, how much less.
    """

    start_hour: Hour = 0
    hours: Hours = 1
    every_days: Annotated[int, Field(ge=0)] = 0
    power_ratio: Part = 0.1


class Window(Config):
    """Planned work on servers: jobs write a checkpoint, leave, and wait for room again.

    Attributes:
        start_hour: from the start of the months.
        hours: how long.
        servers_ratio: of the servers that jobs can have, how many are out.
    """

    start_hour: Hour = 0
    hours: Hours = 8
    servers_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1


class Scenario(Config):
    """Months of operation.

    Attributes:
        policy: of the scheduler.
        load_ratio: accelerator-hours that jobs ask for, over those of the site.
        service_ratio: share of the accelerators that the served model takes at its busiest hour; none is served
            where that is less than half of one.
        cuts: of power.
        windows: of maintenance, beside the share that the site's operations keep out all the time.
    """

    policy: Policy = Policy()
    load_ratio: Annotated[float, Field(ge=0, le=10)] = 0.7
    service_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    cuts: tuple[Cut, ...] = ()
    windows: tuple[Window, ...] = ()


def load_scenario(path: Path) -> Scenario:
    """Return the scenario that a TOML file declares.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is no TOML, or no scenario; says which key, and the nearest valid one.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}", hint="Name a TOML file with [policy], [[cuts]] or [[windows]].")
    try:
        return Scenario.model_validate(tomllib.loads(path.read_text("utf-8")))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text", hint="Save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}", hint="Mend that line.") from error
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, place))}: {said}" for place, said in explain(error, Scenario))
        raise ConfigError(f"{path}: {told}", hint="See the how-to on months of operation.") from error


def cut_ratios(cuts: tuple[Cut, ...], hours: int) -> Array:
    """Return by how much power is cut in each hour; where cuts meet, the deeper one holds. Shape: (hours,).

    >>> cut_ratios((Cut(start_hour=1, hours=2, every_days=1, power_ratio=0.2),), 28).nonzero()[0].tolist()
    [1, 2, 25, 26]
    """
    found = np.zeros(hours)
    for cut in cuts:
        starts = range(cut.start_hour, hours, 24 * cut.every_days) if cut.every_days else (cut.start_hour,)
        for start in starts:
            part = slice(start, start + cut.hours)
            found[part] = np.maximum(found[part], cut.power_ratio)
    return found


def speeds(site: Site, cuts: Array) -> Array:
    """Return how fast boards run in each hour, over uncapped ones: under the site's cap, and under cuts of power.

    Work is taken to follow the clock, which is hard on what waits for memory or links. Shape: (hours,).

    Raises:
        ConfigError: a cut asks for more than boards can give.
    """
    slowed = {ratio: 1 - cut_cost_ratio(site, ratio) if ratio else 1.0 for ratio in set(cuts.tolist())}
    return capped_ratio(site) * np.array([slowed[ratio] for ratio in cuts.tolist()])
