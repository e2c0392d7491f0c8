"""The steps of texts that a model writes: write them, judge them.

Owns what goes from room to room. Knows no prompt.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.core.config import Config
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Usage, Verdict
from bessemer.evals import decide
from bessemer.evals.nouns import Report
from bessemer.flow import Step, StepContext
from bessemer.infer import OpenVinoConfig, open_engine
from bessemer.lake import open_lake
from bessemer.lake.writing.columns import Calls, WritingConfig, Written
from bessemer.lake.writing.shapes import shaped
from bessemer.lake.writing.writer import ChatEngine, Writing, write_rows
from bessemer.products.llm.config import ServerConfig
from bessemer.products.product import LakeState, Place
from bessemer.products.receipt import FactsPart
from bessemer.products.rows import find_rows, rows_tag, written
from bessemer.products.synthetic.config import SyntheticConfig, TextsConfig

Meta = Mapping[str, Any]
_CODE = ("bessemer.lake.writing", "bessemer.evals.texts", "bessemer.products.rows")
_SHOWN = 3


class TextStepConfig(Config):
    """What is written: by the model of which step or server, about which step's rows, held against which step's."""

    name: str = ""
    texts: TextsConfig = TextsConfig()
    table: str = ""
    model: str = ""
    server: ServerConfig | None = None
    given: str = ""
    heldout: str = ""


def write(ctx: StepContext, config: TextStepConfig) -> Meta:
    """Write the rows, into the lake and as a file of the shape that was declared; rejected ones with their reasons."""
    given = list(_rows(ctx, config.given)) if config.given else []
    dataset = config.texts.dataset

    async def all_rows() -> Writing:
        engine = open_model(ctx, config) if config.model or config.server else None
        try:
            return await write_rows(dataset, engine, given, lambda done, total: ctx.progress(done, total, "rows"))
        finally:
            if engine:
                await engine.close()

    found = asyncio.run(all_rows())
    if not found.rows:
        told = ", ".join(f"{count} {reason}" for reason, count in found.reasons.items())
        raise ConfigError(f"no row was accepted of {len(found.rejected)}: {told}", hint="Loosen what rejects them.")
    folder = ctx.out / "texts"
    folder.mkdir()
    write_lines(folder / "rows.jsonl", (shaped(row, dataset) for row in found.rows))
    write_lines(folder / "rejected.jsonl", ({"reason": each.reason, "row": each.row} for each in found.rejected))
    lake = open_lake(ctx.resources["lake"])
    lake.put(config.table, ({"number": at, **_plain(row)} for at, row in enumerate(found.rows)), tag=rows_tag(ctx.key))
    return {
        **written(ctx, lake, config.table),
        "made": len(found.rows),
        "wanted": dataset.rows,
        "rejected": found.reasons,
        "usage": found.usage.model_dump(),
        "shown": [_plain(row) for row in found.rows[:_SHOWN]],
        "what": f"{len(found.rows):,} rows that a model wrote",
    }


def open_model(ctx: StepContext, config: TextStepConfig) -> ChatEngine:
    """Return the engine of the model that a step compiled, or of the server that is declared in its place."""
    if config.server:
        return open_engine(config.server.opened_with(ctx.resources.get(key_of(config.server.api_key_variable), "")))
    return open_engine(OpenVinoConfig(path=str(Path(ctx.inputs[config.model].path) / "engine")))


def key_of(variable: str) -> str:
    """Return under which name the resources of a run have a server's key, whose variable is declared."""
    return f"secret {variable}"


def keys_of(made: Mapping[str, Config], secret: Callable[[str], str]) -> dict[str, str]:
    """Return the keys of the servers whose models write texts, as steps are handed them.

    Args:
        made: what a factory makes, by name.
        secret: from the name of a variable, which a declaration has, to the secret in it.
    """
    writers = (made.get(each.texts.model) for each in made.values() if isinstance(each, SyntheticConfig) and each.texts)
    servers = (engine for each in writers if isinstance(engine := getattr(each, "engine", None), ServerConfig))
    return {key_of(v): secret(v) for v in {server.api_key_variable for server in servers} if v}


def judge(ctx: StepContext, config: TextStepConfig) -> Meta:
    """Judge how varied and new the texts are, and write the card."""
    lake, table, tag = find_rows(ctx, "write")
    rows = sorted(lake.get(table, version=tag), key=lambda row: row["number"])
    heldout = [str(row[config.texts.heldout_field]) for row in _rows(ctx, config.heldout)] if config.heldout else []
    report, verdict = judged(config.texts, rows, heldout)
    (ctx.out / "texts.json").write_text(report.model_dump_json(), encoding="utf-8")
    (ctx.out / "verdict.json").write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
    write_card(text_card(config.name, config.texts, ctx.inputs["write"].meta, report, verdict), ctx.out)
    return {"passed": verdict.passed, "what": f"what {config.name} came to"}


def judged(texts: TextsConfig, rows: Sequence[Mapping[str, Any]], heldout: Sequence[str]) -> tuple[Report, Verdict]:
    """Return how varied and new texts are, and whether they may leave."""
    from bessemer.evals.texts.variety import judge_texts

    names = judged_columns(texts.dataset)
    report = judge_texts(["\n".join(str(row[name]) for name in names) for row in rows], heldout)
    return report, decide(texts.gate, [report], [report])


def judged_columns(dataset: WritingConfig) -> tuple[str, ...]:
    """Return the columns that are judged: those that a model wrote, or all where it wrote none."""
    return tuple(n for n, c in dataset.columns.items() if isinstance(c, Written | Calls)) or tuple(dataset.columns)


def text_card(name: str, texts: TextsConfig, made: Meta, report: Report, verdict: Verdict) -> dict[str, Any]:
    """Return the card of texts as JSON values."""
    from bessemer.evals.texts.variety import MOST_CANDIDATES

    return {
        "name": name,
        "rows": made["made"],
        "written_by": texts.model or "no model",
        "columns": {name: column.kind for name, column in texts.dataset.columns.items()},
        "shape": texts.dataset.shape.kind,
        "seed": texts.dataset.seed,
        "rejected": made["rejected"],
        "usage": made["usage"],
        "figures": {metric.name: metric.value for metric in report.metrics},
        "held_against_each_other": f"the first {MOST_CANDIDATES} rows that it may be like, at most",
        "held_against": texts.heldout or "nothing: contamination says nothing",
        "passed": verdict.passed,
        "verdict": [outcome.sentence for outcome in verdict.outcomes],
    }


def write_card(card: Mapping[str, Any], folder: Path) -> None:
    """Write the card of texts as ``card.md`` and ``card.json``."""
    (folder / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False), encoding="utf-8")
    (folder / "card.md").write_text(card_markdown(card), encoding="utf-8")


def card_markdown(card: Mapping[str, Any]) -> str:
    """Return a card as Markdown."""
    lines = [f"# {card['name']}", "", f"{card['rows']:,} rows written by {card['written_by']}, as {card['shape']}.", ""]
    lines += [f"- `{name}`: {kind}" for name, kind in card["columns"].items()]
    lines += ["", f"Seed {card['seed']}. Held against: {card['held_against']}.", "", "| figure | value |", "|---|--:|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in card["figures"].items()]
    lines += ["", f"Near-duplicates: each row was held against {card['held_against_each_other']}."]
    lines += ["", *(f"- {count:,} rows were rejected: {reason}" for reason, count in card["rejected"].items())]
    return "\n".join([*lines, "", "## Verdict", "", *(f"- {sentence}" for sentence in card["verdict"]), ""])


def text_steps(place: Place, texts: TextsConfig, lake: LakeState) -> tuple[Step, ...]:
    """Return the steps of texts that a model writes."""
    server = server_of(place, texts)
    served = place.products[texts.model].served if texts.model and not server else ""
    tables = {what: place.tables[name] for what, name in (("given", texts.given), ("heldout", texts.heldout)) if name}
    table = place.table("texts")
    config = TextStepConfig(
        name=place.name, texts=texts, table=table, model=served.rpartition(".")[2], server=server,
        given=tables.get("given", ""), heldout=tables.get("heldout", ""),
    )  # fmt: skip
    own = ("write", *((tables["heldout"],) if texts.heldout else ()))
    needs = tuple(dict.fromkeys(each for each in (served, tables.get("given", "")) if each))
    steps = (
        Step("write", run=f"{__name__}:write", config=config, needs=needs, code=(*_CODE, "bessemer.infer"),
             inputs={"table": lake.of(table)}),
        Step("judge", run=f"{__name__}:judge", config=config, needs=own, code=_CODE),
    )  # fmt: skip
    return place.named(steps)


def server_of(place: Place, texts: TextsConfig) -> ServerConfig | None:
    """Return the server that answers for the product which writes, if one does."""
    engine = getattr(getattr(place.products.get(texts.model), "config", None), "engine", None)
    return engine if isinstance(engine, ServerConfig) else None


def text_part(name: str, made: Mapping[str, Any], verdict: Verdict) -> FactsPart:
    """Return the part of the receipt of texts."""
    meta = made["write"].meta
    report = Report.model_validate_json((Path(made["judge"].path) / "texts.json").read_text(encoding="utf-8"))
    usage = Usage.model_validate(meta["usage"])
    rejected = Counter(meta["rejected"])
    facts = [
        (
            "rows",
            f"{meta['made']:,} accepted of {meta['made'] + rejected.total():,} written, {meta['wanted']:,} wanted",
        ),
        ("rejected", ", ".join(f"{count:,} {reason}" for reason, count in rejected.items()) or "none"),
        ("tokens", f"{usage.input_tokens:,} read, {usage.output_tokens:,} written (measured)"),
        ("card", str(Path(made["judge"].path) / "card.md")),
    ]
    facts += [(metric.name, f"{metric.value:.3f}") for metric in report.metrics]
    return FactsPart(
        name=name, deployed=verdict.passed, metrics=(), verdict=verdict, kind="synthetic", facts=tuple(facts)
    )


def _rows(ctx: StepContext, step: str) -> list[dict[str, Any]]:
    lake, table, tag = find_rows(ctx, step)
    return lake.get(table, version=tag)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, (int, float)) else str(value) for name, value in row.items()}


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write values as JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
