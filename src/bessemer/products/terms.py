"""What the planner is told of a factory: its price book, its graded answers, and how fast its lake grows.

Owns where each is read. What the factory's own runs measured wins over what is declared.
"""

from __future__ import annotations

from pathlib import Path

from bessemer.core.errors import IntegrityError
from bessemer.meter import load_price_book
from bessemer.products.config import FactoryConfig
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.products.receipt import MetricLine, load_receipt
from bessemer.twin.interval import Interval
from bessemer.twin.terms import Terms

GRADED = "exact_match"
"""The metric that says what share of held-out questions was answered right."""
LEAST_SECONDS = 86400.0
"""From its first file to its last that a lake must have seen before its pace counts as measured."""


def terms_of(config: FactoryConfig, base: Path, home: Home) -> Terms:
    """Return what is known of a factory's product.

    Args:
        config: the declaration.
        base: the folder that its relative paths start from.
        home: its receipts and, unless the declaration names another, its lake. The pace of a lake in an object store
            is not measured.

    Raises:
        ConfigError: the price book cannot be read.
    """
    ratio, accepted = _accepted(config, home)
    book = load_price_book(base / config.meter.price_book if config.meter.price_book else None)
    price, _ = book.price(config.name)
    lake = Factory(config, base, home).lake_url
    held, pace = (0.0, 0.0) if ":/" in lake else lake_growth(Path(lake))
    return Terms(
        accepted_ratio=ratio,
        accepted=accepted,
        input_usd_per_million_tokens=price.input / 1e6,
        output_usd_per_million_tokens=price.output / 1e6,
        prices=book.told if book.currency == "USD" else "",
        lake_bytes=held,
        lake_bytes_per_day=pace or config.plan.expected.lake_bytes_per_day,
        growth="measured: files of the factory's own lake" if pace else "assumed: the declaration's rate",
    )


def lake_growth(folder: Path) -> tuple[float, float]:
    """Return the bytes of a lake and the bytes a day that came after its first file; 0 a day within its first day."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    held = float(sum(file.st_size for file in files))
    times = [file.st_mtime for file in files] or [0.0]
    first, last = min(times), max(times)
    if last - first < LEAST_SECONDS:
        return held, 0.0
    return held, sum(file.st_size for file in files if file.st_mtime > first) * 86400.0 / (last - first)


def _accepted(config: FactoryConfig, home: Home) -> tuple[Interval, str]:
    """Return the share of answers that are accepted: graded in the factory's newest run, or as declared."""
    for path in reversed(home.receipts()):
        try:
            receipt = load_receipt(path)
        except IntegrityError:  # another version wrote it
            continue
        metrics = receipt.llm.metrics if receipt.llm else ()
        graded = [line for line in metrics if line.metric.split(".")[-1] == GRADED]
        if receipt.factory == config.name and graded:
            return _measured(graded[0], receipt.run)
    ratio = config.plan.expected.accepted_ratio
    told = "every answer is accepted" if ratio == 1 else f"{ratio:.0%} of the answers are accepted, as declared"
    return Interval.exactly(ratio), f"assumed: {told}"


def _measured(line: MetricLine, run: str) -> tuple[Interval, str]:
    told = f"measured: {line.after:.1%} of {line.samples} held-out questions passed {GRADED} in run {run}"
    return Interval(line.after, min(line.after_low, line.after), max(line.after_high, line.after)), told
