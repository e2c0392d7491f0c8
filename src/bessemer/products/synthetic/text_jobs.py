"""Jobs that write texts: what is asked of a served model is checked, written, judged, and told in a card.

Owns what a client may ask of it, and the way from a job's declaration to files. Knows no thread and no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bessemer.core.config import explain
from bessemer.core.errors import Cancelled, ConfigError
from bessemer.flow import StepContext
from bessemer.lake.tabular.reading import read_arrow
from bessemer.lake.writing.columns import Calls, Judged, Pattern, Preferred, WritingConfig, Written, longest
from bessemer.lake.writing.shapes import shaped
from bessemer.lake.writing.writer import Writing, check, longest_of, write_rows
from bessemer.products.synthetic.config import TextsConfig
from bessemer.products.synthetic.lending import Lending, lender
from bessemer.products.synthetic.text_steps import judged, text_card, write_card, write_lines

if TYPE_CHECKING:
    from bessemer.serve.work.config import JobsConfig
    from bessemer.serve.work.datasets import Dataset

_Awaited = Callable[[Coroutine[Any, Any, Writing]], Writing]
CODE = ("bessemer.lake.writing", "bessemer.evals.texts", "bessemer.products.synthetic.text_steps")
_MOST_COLUMNS, _MOST_ATTEMPTS = 20, 10
_MOST_CHARACTERS = 1_000_000_000
"""Of all rows that a job may try: they are held in memory until they are judged."""

_PATIENCE = 50
"""Rejected rows in a row after which a client's texts end: the model works for them, and nobody pays for them."""

_PREVIEW_SECONDS = 60.0
"""That a preview may take: it holds a thread of the gateway's."""

_LOOK_SECONDS = 0.1
"""Between two looks whether anybody waits for a preview."""

_AT_ONCE = 4
"""Rows that are written at once: those who wait for answers come first."""

_MARK_TOKENS = 8
"""Of a mark or a preference; see `bessemer.lake.writing.writer`."""


def texts_of(job: Dataset) -> TextsConfig:
    """Return the declaration of a job's texts, with its own number of rows and seed, and few rows at once.

    Raises:
        ConfigError: it is not valid; the message names the field.
    """
    try:
        texts = TextsConfig.model_validate(job.texts)
    except ValidationError as error:
        where, sentence = explain(error, TextsConfig)[0]
        raise ConfigError(f"texts.{'.'.join(map(str, where))}: {sentence}") from error
    dataset = texts.dataset
    update = {
        "rows": job.rows or dataset.rows,
        "seed": job.seed or dataset.seed,
        "concurrency": min(dataset.concurrency, _AT_ONCE),
    }
    return texts.model_copy(update={"dataset": dataset.model_copy(update=update)})


def check_texts(job: Dataset, given: Mapping[str, Path], lending: Lending, config: JobsConfig) -> int:
    """Return how many rows a job makes at most.

    Raises:
        ConfigError: no such model is served or it cannot do what is asked, a table or a column is not given, or more is
            asked than a job may take.
    """
    if job.declaration or job.format != "jsonl":
        raise ConfigError("texts are declared by 'texts' alone and come as 'jsonl'", hint="Leave the others out.")
    texts = texts_of(job)
    _check_size(texts.dataset, config)
    engine = lending.engine(texts.model) if texts.model else None
    used = {name for name in (texts.given, texts.heldout) if name}
    if wrong := used ^ given.keys():
        raise ConfigError(
            f"the table '{min(wrong)}' is {'not given' if min(wrong) in used else 'not used'}",
            hint="Name tables of 'tables' as 'given' or 'heldout'.",
        )
    about = _rows(given, texts.given)
    check(texts.dataset, engine, about)
    row = sum(cell for cell, _ in longest(texts.dataset.columns, longest_of(texts.dataset, about)).values())
    if (most := row * texts.dataset.rows * texts.dataset.attempts) > _MOST_CHARACTERS:
        raise ConfigError(
            f"all rows together may have {most:,} characters of {_MOST_CHARACTERS:,} at most",
            hint="Ask for fewer rows or attempts, or for shorter columns.",
        )
    _rows(given, texts.heldout, texts.heldout_field)
    return texts.dataset.rows


def _check_size(dataset: WritingConfig, config: JobsConfig) -> None:
    """Refuse what costs more than rows are charged for, and what may never end."""
    if dataset.rows > config.max_written_rows:
        raise ConfigError(f"{dataset.rows:,} rows are wanted of {config.max_written_rows:,} at most")
    if dataset.attempts > _MOST_ATTEMPTS or len(dataset.columns) > _MOST_COLUMNS:
        raise ConfigError(f"at most {_MOST_ATTEMPTS} attempts a row and {_MOST_COLUMNS} columns are taken")
    if (tokens := _tokens(dataset)) > config.max_row_tokens:
        raise ConfigError(
            f"a row may take {tokens:,} tokens of {config.max_row_tokens:,} at most",
            hint="Lower the columns' max_output_tokens.",
        )
    if any(isinstance(each, Pattern) for each in dataset.validators):
        raise ConfigError(
            "validators of kind 'pattern' are not taken here: some patterns never end",
            hint="Use length, differs or grounded; or check the rows when you have them.",
        )


def _tokens(dataset: WritingConfig) -> int:
    found = 0
    for column in dataset.columns.values():
        if isinstance(column, Written | Calls):
            found += column.max_output_tokens
        elif isinstance(column, Judged | Preferred):
            found += _MARK_TOKENS * (1 + isinstance(column, Preferred))
    return found


def make_texts(ctx: StepContext, name: str, texts: TextsConfig, format: str) -> Mapping[str, Any]:
    """Write a job's texts and judge them; the files are rows of the declared shape, and the card."""
    folder = Path(ctx.resources["datasets"]) / name
    given = {path.stem: path for path in folder.glob("*")}
    found = _written(texts, given, lender(ctx.resources["engines"]), lambda done, of: ctx.progress(done, of, "rows"))
    heldout = [str(row[texts.heldout_field]) for row in _rows(given, texts.heldout, texts.heldout_field)]
    report, verdict = judged(texts, found.rows, heldout)
    made = {"made": len(found.rows), "rejected": found.reasons, "usage": found.usage.model_dump()}
    write_card(text_card("texts", texts, made, report, verdict), ctx.out)
    write_lines(ctx.out / f"rows.{format}", (shaped(row, texts.dataset) for row in found.rows))
    return {
        "files": {"card": "card.md", "rows": f"rows.{format}"},
        "rows": len(found.rows),
        "rejected": found.reasons,
        "figures": {"rows": {metric.name: metric.value for metric in report.metrics}},
        "passed": verdict.passed,
        "failed": [outcome.sentence for outcome in verdict.outcomes if not outcome.passed],
    }


def preview_texts(
    job: Dataset, given: Mapping[str, Path], rows: int, lending: Lending, gone: Event
) -> Mapping[str, Any]:
    """Return a few rows as they would be written, and why others were rejected.

    Raises:
        Cancelled: nobody waits for them any more.
        ConfigError: none was accepted.
        TimeoutError: it took longer than a preview may.
    """
    texts = texts_of(job)
    few = texts.model_copy(update={"dataset": texts.dataset.model_copy(update={"rows": rows})})
    found = _written(few, given, lending, lambda done, of: None, partial(_awaited, gone=gone))
    return {
        "kinds": {"rows": {name: column.kind for name, column in texts.dataset.columns.items()}},
        "rows": {"rows": [shaped(row, texts.dataset) for row in found.rows]},
        "rejected": found.reasons,
    }


def _written(
    texts: TextsConfig, given: Mapping[str, Path], lending: Lending, progress: Any, awaited: _Awaited = asyncio.run
) -> Writing:
    rows = _rows(given, texts.given)
    engine = lending.engine(texts.model) if texts.model else None
    found = awaited(write_rows(texts.dataset, engine, rows, progress, _PATIENCE))
    if not found.rows:
        told = ", ".join(f"{count} {reason}" for reason, count in found.reasons.items())
        raise ConfigError(f"no row was accepted of {len(found.rejected)}: {told}", hint="Loosen what rejects them.")
    return found


def _awaited(writing: Coroutine[Any, Any, Writing], gone: Event) -> Writing:
    """Return what is written, unless it takes too long or nobody waits any more."""

    async def written() -> Writing:
        work = asyncio.ensure_future(writing)
        async with asyncio.timeout(_PREVIEW_SECONDS):
            while not (await asyncio.wait({work}, timeout=_LOOK_SECONDS))[0]:
                if gone.is_set():
                    raise Cancelled("nobody waits for this preview any more")
        return work.result()

    return asyncio.run(written())  # which ends the work, too


def _rows(given: Mapping[str, Path], table: str, field: str = "") -> Sequence[dict[str, Any]]:
    if not table:
        return []
    found: list[dict[str, Any]] = read_arrow(given[table]).to_pylist()
    if field and found and field not in found[0]:
        raise ConfigError(f"the table '{table}' has no column '{field}'", hint=f"It has: {', '.join(found[0])}.")
    return found
