"""What a run was predicted to take, from the runs before it, beside what it took.

Owns what is kept of each run for it: the amounts that were known before, and the residuals. Knows no equation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.errors import IntegrityError, NotFound
from bessemer.core.nouns import Noun
from bessemer.lake import SourceConfig
from bessemer.products.home import Home, write_whole
from bessemer.products.llm.amounts import amounts
from bessemer.products.llm.config import LlmConfig
from bessemer.products.product import CURATE, INGEST
from bessemer.products.receipt import Receipt, load_receipt
from bessemer.twin.reconcile import Residual, Stage, kinds, predict, replay, running_error

AMOUNTS = "amounts.json"


class StageForecast(Noun):
    """What a stage of the next run is predicted to take, with 80 % bounds; nothing of it is taken from the cache."""

    stage: str
    amount: float
    seconds: float
    low_seconds: float
    high_seconds: float
    joules: float
    low_joules: float
    high_joules: float


class StageResidual(Noun):
    """A stage: what was predicted before it ran (80 % bounds), and what it took."""

    stage: str
    amount: float
    predicted_seconds: float
    low_seconds: float
    high_seconds: float
    actual_seconds: float
    predicted_joules: float
    actual_joules: float
    error_ratio: float
    energy_error_ratio: float | None


class KindError(Noun):
    """How far off the planner is for one kind of stage, over all runs here: medians of the absolute errors."""

    stage: str
    runs: int
    median_error_ratio: float
    median_energy_error_ratio: float | None


class Reconciliation(Noun):
    """A run beside its prediction, from the runs before it alone.

    Attributes:
        run: its id.
        stages: those that really ran; cached ones took nothing.
        predicted_seconds: of these together.
        actual_seconds: of these together.
        error_ratio: predicted over actual seconds, less one.
        predicted_joules: of these together.
        actual_joules: of these together.
        energy_error_ratio: predicted over actual joules, less one.
        errors: by kind, over all runs here.
    """

    run: str
    stages: tuple[StageResidual, ...]
    predicted_seconds: float
    actual_seconds: float
    error_ratio: float
    predicted_joules: float
    actual_joules: float
    energy_error_ratio: float | None
    errors: tuple[KindError, ...]


@dataclass(frozen=True, slots=True)
class _Done:
    """A run's id and its stages that really ran, with the amounts known before."""

    run: str
    stages: tuple[Stage, ...]


def reconcile(home: Home, run: str | None = None) -> Reconciliation:
    """Return what was predicted of a run and what happened; the newest run that did something, if none is named.

    Raises:
        NotFound: there is no such run, or it found everything in the cache.
    """
    done = _runs(home)
    if not done:
        raise NotFound("no run has done anything yet", hint="Run the factory first: bessemer run")
    wanted = run or done[-1].run
    owners = [each.run for each in done for _ in each.stages]
    residuals = replay([stage for each in done for stage in each.stages])
    mine = [residual for owner, residual in zip(owners, residuals, strict=True) if owner == wanted]
    if not mine:
        known = ", ".join(dict.fromkeys(owners))
        raise NotFound(f"run '{wanted}' did nothing, or is not here", hint=f"Runs that did something: {known}.")
    predicted, actual = sum(r.seconds.mid for r in mine), sum(r.stage.seconds for r in mine)
    joules, actual_joules = sum(r.joules.mid for r in mine), sum(r.stage.joules for r in mine)
    errors = running_error(residuals)
    return Reconciliation(
        run=wanted,
        stages=tuple(_line(residual) for residual in mine),
        predicted_seconds=predicted,
        actual_seconds=actual,
        error_ratio=predicted / actual - 1,
        predicted_joules=joules,
        actual_joules=actual_joules,
        energy_error_ratio=joules / actual_joules - 1 if actual_joules else None,
        errors=tuple(
            KindError(stage=kind, runs=count, median_error_ratio=error, median_energy_error_ratio=_known(energy))
            for kind, (count, error, energy) in errors.items()
        ),
    )


def forecast(
    homes: Sequence[Home], sources: Sequence[SourceConfig], product: LlmConfig | None, base: Path
) -> list[StageForecast]:
    """Return what each stage of the next run is predicted to take, from the runs of these homes on this machine.

    Only of a language model's line; nothing else can be predicted yet.

    Args:
        homes: the oldest first.
        sources: of the factory that is going to run.
        product: the language model of that factory, if it makes one.
        base: the folder that its relative paths start from.

    Raises:
        NotFound: a folder of the sources does not exist.
        ConfigError: a source has nothing to read.
    """
    if product is None:
        return []
    known = amounts(sources, product, base)
    history = [stage for home in homes for run in _runs(home) for stage in run.stages]
    return [_forecast(predict(Stage(kind, known.get(kind, 1.0)), history)) for kind in kinds()]


def keep_residuals(home: Home, run: str, known: Mapping[str, float]) -> None:
    """Write beside a run's receipt the amounts that were known before it, what was predicted and what happened.

    Args:
        home: where the run's receipt is.
        run: its id.
        known: of `bessemer.products.llm.amounts.amounts`, counted before the run.
    """
    write_whole(home.receipt(run) / AMOUNTS, json.dumps(dict(known)))
    try:
        found = reconcile(home, run)
    except NotFound:  # all of it was in the cache
        return
    write_whole(home.receipt(run) / "reconciliation.json", found.model_dump_json(indent=2))


def stages(receipt: Receipt, known: Mapping[str, float]) -> tuple[Stage, ...]:
    """Return the stages of a run that really ran, with their amounts of work."""
    done = ((_kind(line.step, receipt), line) for line in receipt.stages)
    return tuple(
        Stage(kind, known.get(kind, 1.0), line.wall_seconds, line.bill.measurement.joules)
        for kind, line in done
        if not line.cached and line.bill and kind in kinds()
    )


def _kind(step: str, receipt: Receipt) -> str:
    """Return what kind of stage a step is: the steps of a language model, and those of all, are called so."""
    owner, _, name = step.rpartition(".")
    found = [part.kind for part in receipt.products if part.name == owner or len(receipt.products) == 1]
    return name if step in (INGEST, CURATE) or found == ["llm"] else f"{''.join(found)}.{name}"


def _runs(home: Home) -> list[_Done]:
    """Return the runs that did something, oldest first; one that an older version wrote otherwise is left out."""
    found: list[tuple[float, _Done]] = []
    for path in home.receipts():
        try:
            receipt = load_receipt(path)
            known = json.loads((path.parent / AMOUNTS).read_text("utf-8"))
        except (FileNotFoundError, IntegrityError):
            continue
        found.append((receipt.created_at, _Done(receipt.run, stages(receipt, known))))
    return [done for _, done in sorted(found, key=lambda item: item[0]) if done.stages]


def _known(ratio: float) -> float | None:
    return None if math.isnan(ratio) else ratio


def _forecast(found: Residual) -> StageForecast:
    return StageForecast(
        stage=found.stage.kind,
        amount=found.stage.amount,
        seconds=found.seconds.mid,
        low_seconds=found.seconds.low,
        high_seconds=found.seconds.high,
        joules=found.joules.mid,
        low_joules=found.joules.low,
        high_joules=found.joules.high,
    )


def _line(residual: Residual) -> StageResidual:
    stage = residual.stage
    return StageResidual(
        stage=stage.kind,
        amount=stage.amount,
        predicted_seconds=residual.seconds.mid,
        low_seconds=residual.seconds.low,
        high_seconds=residual.seconds.high,
        actual_seconds=stage.seconds,
        predicted_joules=residual.joules.mid,
        actual_joules=stage.joules,
        error_ratio=residual.error_ratio,
        energy_error_ratio=_known(residual.energy_error_ratio),
    )
