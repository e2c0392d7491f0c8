"""Meter: joules with provenance, tokens, money and grams for every answer and every step; a journal that cannot lie.

Owns sensors, attribution, prices, carbon, the journal and the ledger. Knows no stage that it meters.
"""

from bessemer.meter.attribution import Books
from bessemer.meter.carbon import Grid, find_grid, grids
from bessemer.meter.config import MeterConfig
from bessemer.meter.cut import under_way
from bessemer.meter.journal import Journal, JournalReport, verify
from bessemer.meter.ledger import GROUPS, Booked, Ledger, open_ledger
from bessemer.meter.local import LocalMeter
from bessemer.meter.occupancy import Share, occupancy
from bessemer.meter.opening import open_meter
from bessemer.meter.pricing import (
    Hardware,
    Price,
    PriceBook,
    PriceHistory,
    Quote,
    Rates,
    load_price_book,
    load_price_history,
    mispriced,
)
from bessemer.meter.readings import compare as compare_readings
from bessemer.meter.sensors import SensorInfo, SensorPaths, detect_sensors
from bessemer.meter.shares import StepCost
from bessemer.meter.taking_in import SyncReport
from bessemer.meter.totals import Amount, PerThousandTokens, Total, per_thousand_tokens

__all__ = [
    "GROUPS",
    "Amount",
    "Booked",
    "Books",
    "Grid",
    "Hardware",
    "Journal",
    "JournalReport",
    "Ledger",
    "LocalMeter",
    "MeterConfig",
    "PerThousandTokens",
    "Price",
    "PriceBook",
    "PriceHistory",
    "Quote",
    "Rates",
    "SensorInfo",
    "SensorPaths",
    "Share",
    "StepCost",
    "SyncReport",
    "Total",
    "compare_readings",
    "detect_sensors",
    "find_grid",
    "grids",
    "load_price_book",
    "load_price_history",
    "mispriced",
    "occupancy",
    "open_ledger",
    "open_meter",
    "per_thousand_tokens",
    "under_way",
    "verify",
]
