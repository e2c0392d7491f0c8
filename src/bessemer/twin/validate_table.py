"""The README's table of errors: goals, what was reached on what a fit had not seen, and the rows given now.

Owns the layout of that table. The goals and the left-out errors are ``catalogue/validation.csv``, as the two
benchmarks that fit the constants printed them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bessemer.twin.catalogue import Row as Line
from bessemer.twin.catalogue import number, table
from bessemer.twin.evidence import Row, errors

HEAD = "| prediction | left out | rows | mean / median | goal | met | these rows: mean / median |"
RULE = "|---|---|--:|--:|--:|---|--:|"


def as_markdown(rows: Iterable[Row]) -> str:
    """Return the table in Markdown, then one line on each miss.

    The column of these rows holds the error of the catalogue's constants on the rows given; where those are the rows
    of the fit, it is an error of the fit. What counts is the left-out one.
    """
    rows, lines = list(rows), table("validation")
    found = [HEAD, RULE, *(_line(line, rows) for line in lines), ""]
    found += [f"- **{line['prediction']}**{_apart(line)}: {line['miss']}" for line in lines if line["miss"]]
    return "\n".join(found) + "\n"


def _apart(line: Line) -> str:
    return "" if line["left_out"].startswith("nothing") else f", {line['left_out']} left out"


def is_met(line: Line) -> bool | None:
    """Return whether a left-out error is within its goal; None without a goal."""
    pairs = [(number(line, f"goal_{name}"), number(line, name)) for name in ("mean", "median")]
    told = [(goal, value) for goal, value in pairs if goal is not None]
    return all(value is not None and value <= goal for goal, value in told) if told else None


def _line(line: Line, rows: list[Row]) -> str:
    families = line["families"].split("|")
    here = errors(replace(row, family="one") for row in rows if row.family in families)
    now = f"{100 * here[0].mean:.1f} / {100 * here[0].median:.1f} %" if here and here[0].answered else "–"
    goal = " / ".join(line[f"goal_{name}"] or "–" for name in ("mean", "median"))
    met = {True: "yes", False: "**no**", None: ""}[is_met(line)]
    reached = f"{line['mean']} / {line['median']} %"
    told = f"{goal} %" if is_met(line) is not None else "–"
    return f"| {line['prediction']} | {line['left_out']} | {line['rows']} | {reached} | {told} | {met} | {now} |"
