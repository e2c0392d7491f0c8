"""The README's table of errors: goals, what was reached on what a fit had not seen, and the rows given now.

Owns the layout of that table. The goals and the left-out errors are ``catalogue/validation.csv``, as the two
benchmarks that fit the constants printed them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bessemer.twin.catalogue import Row as Line
from bessemer.twin.catalogue import number, table
from bessemer.twin.evidence import Errors, Row, errors

HEAD = (
    "| prediction | left out | rows | mean / median | goal | met | these rows | mean / median | bias | within bounds |"
)
RULE = "|---|---|--:|--:|--:|---|--:|--:|--:|--:|"


def as_markdown(rows: Iterable[Row]) -> str:
    """Return the table in Markdown, then one line on each miss.

    The last four columns tell of the rows given: how many of them were answered, the error of the catalogue's constants
    on these, its mean with its sign, and the share of them within the bounds of their prediction. Where those are the
    rows of the fit, it is an error of the fit; what counts is the left-out one. Families without a left-out error come
    last.
    """
    rows, lines = list(rows), table("validation")
    told = {family for line in lines for family in line["families"].split("|")}
    found = [HEAD, RULE, *(_line(line, rows) for line in lines)]
    found += [
        f"| {each.family} | – | – | – | – |  | {_here(each)} |" for each in errors(rows) if each.family not in told
    ]
    found += ["", *(f"- **{line['prediction']}**{_apart(line)}: {line['miss']}" for line in lines if line["miss"])]
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
    goal = " / ".join(line[f"goal_{name}"] or "–" for name in ("mean", "median"))
    met = {True: "yes", False: "**no**", None: ""}[is_met(line)]
    reached = f"{line['mean']} / {line['median']} %"
    told = f"{goal} %" if is_met(line) is not None else "–"
    now = _here(here[0]) if here else "– | – | – | –"
    return f"| {line['prediction']} | {line['left_out']} | {line['rows']} | {reached} | {told} | {met} | {now} |"


def _here(found: Errors) -> str:
    answered = f"{found.answered:,} of {found.rows:,}"
    if not found.answered:
        return f"{answered} | – | – | –"
    mean, median, bias, covered = (100 * value for value in (found.mean, found.median, found.bias, found.covered))
    return f"{answered} | {mean:.1f} / {median:.1f} % | {bias:+.1f} % | {covered:.0f} %"
