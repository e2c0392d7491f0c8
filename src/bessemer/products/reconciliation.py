"""What a run was predicted to take, from the runs before it, beside what it took.

Owns the translation of receipts into stages, and the residuals that are kept with each run. Knows no equation.
"""

from __future__ import annotations

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Noun
from bessemer.products.home import Home, write_whole
from bessemer.products.receipt import Receipt
from bessemer.twin.reconcile import Residual, Stage, kinds, predict, replay, running_error, unit_kinds


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


class KindError(Noun):
    """How far off the planner is for one kind of stage, over all runs here."""

    stage: str
    runs: int
    median_error_ratio: float


class Reconciliation(Noun):
    """A run beside its prediction, from the runs before it alone.

    Attributes:
        run: its id.
        stages: those that really ran; cached ones took nothing.
        predicted_seconds: of these together.
        actual_seconds: of these together.
        error_ratio: predicted over actual, less one.
        errors: by kind, over all runs here.
    """

    run: str
    stages: tuple[StageResidual, ...]
    predicted_seconds: float
    actual_seconds: float
    error_ratio: float
    errors: tuple[KindError, ...]


def reconcile(home: Home, run: str | None = None) -> Reconciliation:
    """Return what was predicted of a run and what happened; the newest run that did something, if none is named.

    Raises:
        NotFound: there is no such run, or it found everything in the cache.
    """
    receipts = _receipts(home)
    done = [(receipt, stage) for receipt in receipts for stage in stages(receipt)]
    if not done:
        raise NotFound("no run has done anything yet", hint="Run the factory first: bessemer run")
    wanted = run or done[-1][0].run
    residuals = replay([stage for _, stage in done])
    mine = [residual for (receipt, _), residual in zip(done, residuals, strict=True) if receipt.run == wanted]
    if not mine:
        known = ", ".join(dict.fromkeys(receipt.run for receipt, _ in done))
        raise NotFound(f"run '{wanted}' did nothing, or is not here", hint=f"Runs that did something: {known}.")
    predicted, actual = sum(r.seconds.mid for r in mine), sum(r.stage.seconds for r in mine)
    errors = running_error(residuals)
    return Reconciliation(
        run=wanted,
        stages=tuple(_line(residual) for residual in mine),
        predicted_seconds=predicted,
        actual_seconds=actual,
        error_ratio=predicted / actual - 1,
        errors=tuple(KindError(stage=k, runs=n, median_error_ratio=e) for k, (n, e) in errors.items()),
    )


def usual_seconds(home: Home) -> dict[str, float]:
    """Return what each kind of step usually takes on this machine, by the amounts of the last run that did it.

    Before the first run, the catalogue's figure for the kinds whose amount is always one.
    """
    done = [stage for receipt in _receipts(home) for stage in stages(receipt)]
    last = {stage.kind: stage for stage in done}
    once = {kind: Stage(kind, 1.0) for kind in unit_kinds()}
    return {kind: predict(stage, done).seconds.mid for kind, stage in {**once, **last}.items()}


def keep_residuals(home: Home, run: str) -> None:
    """Write what was predicted of a run and what happened beside its receipt; nothing if all of it was cached."""
    try:
        found = reconcile(home, run)
    except NotFound:
        return
    write_whole(home.receipt(run) / "reconciliation.json", found.model_dump_json(indent=2))


def stages(receipt: Receipt) -> list[Stage]:
    """Return the stages of a run that really ran, with their amounts of work."""
    documents, samples = receipt.documents, sum(line.samples for line in receipt.metrics if line.metric != "token_f1")
    amounts = {
        "ingest": documents.documents,
        "curate": documents.documents,
        "pairs": documents.examples_train + documents.examples_heldout,
        "train": receipt.training.tokens,
        "evaluate": samples,
        "evaluate_base": samples,
    }
    return [
        Stage(line.step, float(amounts.get(line.step, 1)), line.wall_seconds, line.bill.measurement.joules)
        for line in receipt.stages
        if not line.cached and line.bill and line.step in kinds()
    ]


def _receipts(home: Home) -> list[Receipt]:
    found = (home.path / "runs").glob("*/receipt.json")
    receipts = [Receipt.model_validate_json(path.read_text("utf-8")) for path in found]
    return sorted(receipts, key=lambda receipt: receipt.created_at)


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
    )
