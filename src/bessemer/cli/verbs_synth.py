"""The verbs over synthetic datasets: fit, preview, create.

Owns their arguments and exit statuses; how a report looks stands in `synth_view.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bessemer.cli import environment
from bessemer.cli.output import emit, err
from bessemer.core.errors import ConfigError

if TYPE_CHECKING:
    from bessemer.products.synthetic.quick import Wanted

GATE_FAILED = 3

app = typer.Typer(
    name="synth",
    help="Make a synthetic copy of tables: it looks like the data and tells of none of its rows.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Tables = Annotated[
    list[Path], typer.Argument(help="CSV, JSON Lines or Parquet files; or a factory.yaml with a synthetic product.")
]
Rows = Annotated[int | None, typer.Option(min=1, help="How many; as many as there are unless given.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed makes the same rows.")]
Target = Annotated[str, typer.Option(help="The column that a learner predicts, to say what the copy is worth.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]


@app.command()
def create(
    tables: Tables,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file, or a folder; NAME.synthetic.csv.")] = None,
    rows: Rows = None,
    target: Target = "",
    seed: Seed = 0,
    anyway: Annotated[bool, typer.Option("--anyway", help="Write it even if its gate says no.")] = False,
    as_json: Json = False,
) -> None:
    """Make a synthetic copy, judge it, and write it if it passes its gate."""
    from bessemer.cli.synth_view import draw_made
    from bessemer.products.synthetic import quick

    asked = _wanted(tables, rows=rows, target=target, seed=seed)
    place = out or _beside(tables, asked)
    if len(asked.tables) > 1 and place.suffix:
        raise ConfigError(f"{place} is one file, but there are {len(asked.tables)} tables", hint="Name a folder.")
    made = quick.make(asked)
    written = quick.write(made, place) if made.verdict.passed or anyway else []
    emit({"card": made.card, "written": written}, as_json, lambda: draw_made(made))
    if not as_json:
        for path in written:
            err.print(f"[dim]wrote[/] {escape(str(path))}", soft_wrap=True)
    if not made.verdict.passed:
        if not as_json:
            err.print("its gate did not let it through" + ("" if anyway else "; nothing was written (see --anyway)"))
        raise SystemExit(GATE_FAILED)


@app.command()
def preview(tables: Tables, rows: Rows = 5, seed: Seed = 0, as_json: Json = False) -> None:
    """Show what kind each column is taken for, and a few rows; nothing is judged or written."""
    from bessemer.cli.synth_view import draw_preview, draw_texts
    from bessemer.lake.tabular.writing import rows_of, to_arrow
    from bessemer.products.synthetic import quick
    from bessemer.products.synthetic.asking import DECLARATIONS, preview_texts

    declared = tables[0].suffix.lower() in DECLARATIONS
    if declared and (texts := preview_texts(tables[0], environment.home(), rows or 5, environment.secret)):
        told_of = {"rows": texts.rows, "rejected": texts.reasons}
        emit(told_of, as_json, lambda: draw_texts(texts))
        return
    asked = _wanted(tables, rows=None, target="", seed=seed)
    made = quick.preview(asked, rows or 5)
    shown = {name: list(rows_of(to_arrow(each.table)))[:rows] for name, each in made.items()}
    kinds = {name: {c: config.kind for c, config in each.schema.columns.items()} for name, each in asked.tables.items()}
    told = {name: [{k: v if isinstance(v, (int, float, str, bool)) or v is None else str(v) for k, v in row.items()}
                   for row in found] for name, found in shown.items()}  # fmt: skip
    emit({"kinds": kinds, "rows": told}, as_json, lambda: draw_preview(asked.tables, told))


@app.command()
def fit(
    tables: Tables,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model and its card.")],
    target: Target = "",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Learn a model of tables, judge what it makes, and keep it if it passes its gate."""
    from bessemer.cli.synth_view import draw_made
    from bessemer.products.synthetic import quick

    made = quick.make(_wanted(tables, rows=None, target=target, seed=seed))
    if made.verdict.passed:
        quick.keep(made, out)
    emit({"card": made.card, "written": [out] if made.verdict.passed else []}, as_json, lambda: draw_made(made))
    if not made.verdict.passed:
        raise SystemExit(GATE_FAILED)


def _wanted(tables: list[Path], *, rows: int | None, target: str, seed: int) -> Wanted:
    from bessemer.products.synthetic.asking import wanted

    changed: dict[str, Any] = {}
    if rows is not None:
        changed["rows"] = rows
    if seed:
        changed["seed"] = seed
    if target and len(tables) > 1:
        raise ConfigError("--target is of one table", hint="Declare several tables in a factory.yaml.")
    if target:
        changed["judge"] = {"target": {tables[0].stem: target}}
    return wanted(tables, changed)


def _beside(tables: list[Path], asked: Wanted) -> Path:
    first = tables[0]
    if len(asked.tables) == 1 and first.suffix.lower() not in (".yaml", ".yml"):
        return first.with_name(f"{first.stem}.synthetic{first.suffix}")
    return first.with_name(f"{asked.name}.synthetic")
