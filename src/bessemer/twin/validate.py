"""Holds the planner to published measurements: `python -m bessemer.twin.validate --training F.csv --inference G.csv`.

Owns the table of errors and its JSON. Fits nothing: the constants are the catalogue's, whatever rows it is given.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from bessemer.core.errors import BessemerError, NotFound
from bessemer.twin import validate_inference, validate_operations, validate_training
from bessemer.twin.evidence import Errors, Row, errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, per family of rows, how far off the planner is; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bessemer.twin.validate", description=__doc__)
    parser.add_argument("--training", type=Path, nargs="+", default=[], metavar="F.csv")
    parser.add_argument("--inference", type=Path, nargs="+", default=[], metavar="F.csv")
    parser.add_argument("--operations", type=Path, nargs="+", default=[], metavar="F.csv")
    parser.add_argument("--json", action="store_true", help="one JSON value instead of a table")
    asked = parser.parse_args(arguments)
    if not (asked.training or asked.inference or asked.operations):
        parser.error("name a file: --training F.csv or --inference F.csv")
    try:
        rows = [row for path in asked.training for row in validate_training.rows(_there(path))]
        rows += [row for path in asked.inference for row in validate_inference.rows(_there(path))]
        rows += [row for path in asked.operations for row in validate_operations.rows(_there(path))]
    except BessemerError as error:
        sys.stderr.write(f"error: {error.message}\n  what to do: {error.hint}\n")
        return 1
    sys.stdout.write(as_json(rows) if asked.json else as_table(rows))
    return 0


def as_json(rows: Iterable[Row]) -> str:
    """Return families, and every row that could not be answered with its reason, as one JSON value."""
    rows = list(rows)
    families = [{name: _plain(value) for name, value in asdict(found).items()} for found in errors(rows)]
    refused = [{"family": row.family, "id": row.id, "reason": row.reason} for row in rows if row.predicted is None]
    return json.dumps({"families": families, "unanswered": refused}, ensure_ascii=False, indent=1) + "\n"


def as_table(rows: Iterable[Row]) -> str:
    """Return a Markdown table of the families, and what could not be answered by reason."""
    rows = list(rows)
    lines = ["| family | rows | answered | mean | median | bias | in interval |", "|---|--:|--:|--:|--:|--:|--:|"]
    lines += [_line(found) for found in errors(rows)]
    reasons: dict[str, int] = {}
    for row in rows:
        if row.predicted is None:
            reasons[row.reason] = reasons.get(row.reason, 0) + 1
    lines += (
        ["", *(f"- {count} not answered: {reason}" for reason, count in sorted(reasons.items()))] if reasons else []
    )
    return "\n".join(lines) + "\n"


def _line(found: Errors) -> str:
    numbers = (found.mean, found.median, found.bias, found.covered)
    mean, median, bias, covered = ("–" if math.isnan(number) else f"{100 * number:.1f} %" for number in numbers)
    return f"| {found.family} | {found.rows} | {found.answered} | {mean} | {median} | {bias} | {covered} |"


def _plain(value: str | int | float) -> str | int | float | None:
    return None if isinstance(value, float) and math.isnan(value) else value


def _there(path: Path) -> Path:
    if not path.is_file():
        raise NotFound(f"there is no file {path}", hint="Name a CSV file with the columns of the published rows.")
    return path


if __name__ == "__main__":
    sys.exit(main())
