"""Opens the meter of this machine: the declared sensors, prices and grid, or one clear error.

Owns the wiring. Counts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bessemer.core.errors import ConfigError
from bessemer.meter.carbon import find_grid
from bessemer.meter.config import MeterConfig
from bessemer.meter.local import LocalMeter
from bessemer.meter.pricing import load_price_history
from bessemer.meter.processor import memory_bytes, power_model, read_processor
from bessemer.meter.sensors import SensorPaths, open_sensors


def open_meter(
    config: MeterConfig,
    folder: Path,
    clock: Callable[[], float] = time.time,
    paths: SensorPaths = SensorPaths(),  # noqa: B008 (frozen)
) -> LocalMeter:
    """Return a meter of this machine that books into a folder (``journal/``; the ledger is `open_ledger`'s).

    Args:
        clock: gives Unix seconds.
        paths: where sensors are looked for.

    Raises:
        ConfigError: the region, the price book or the sensors do not exist.
    """
    prices = load_price_history(Path(config.price_book) if config.price_book else None)
    find_grid(config.region)
    sensors = open_sensors(paths, measured_only=config.sensors == "measured", model_only=config.sensors == "model")
    if not sensors:
        raise ConfigError(
            "no hardware counter of energy can be read here",
            hint="detect_sensors() says why; sensors: auto models what cannot be measured.",
        )
    model = power_model(read_processor(paths.proc), memory_bytes(paths.proc))
    return LocalMeter(config, sensors, model, prices, folder, clock)
