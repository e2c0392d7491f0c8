"""The gate: rules over the reports of two models, and a verdict in plain sentences.

Owns what "better" and "no worse" mean. Knows no model; a failed gate is a value, and who asked decides what follows.

A comparing rule passes when the whole confidence interval of the paired difference lies on its right side. All rules
must pass, so adding rules only makes a gate stricter and needs no correction for asking several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Interval, RuleOutcome, Verdict
from bessemer.evals.bootstrap import FEW_GROUPS, RESAMPLES, Column, difference_interval
from bessemer.evals.nouns import Better, Metric, Report, Score

Confidence = Annotated[float, Field(gt=0.5, lt=1)]


class BetterThan(Config):
    """The model is better than the base, beyond chance.

    Attributes:
        metric: its name, or ``task.metric`` where two tasks have it.
        than: what it is compared with.
        margin: by how much it is better at least, in the metric's unit.
        confidence: of the interval that must lie beyond the margin.
    """

    kind: Literal["better_than"] = "better_than"
    metric: str
    than: Literal["base"] = "base"
    margin: Annotated[float, Field(ge=0)] = 0.0
    confidence: Confidence = 0.95


class NoWorse(Config):
    """The model is not worse than the base by more than a tolerance, beyond chance.

    Attributes:
        metric: its name, or ``task.metric`` where two tasks have it.
        than: what it is compared with.
        tolerance: by how much it may be worse, in the metric's unit.
        confidence: of the interval that must lie within the tolerance.
    """

    kind: Literal["no_worse"] = "no_worse"
    metric: str
    than: Literal["base"] = "base"
    tolerance: Annotated[float, Field(ge=0)] = 0.01
    confidence: Confidence = 0.95


class AtLeast(Config):
    """The model's own value is good enough; for a metric that is better when lower, `value` is the most it may be.

    Attributes:
        metric: its name, or ``task.metric`` where two tasks have it.
        value: what must be reached, in the metric's unit.
    """

    kind: Literal["at_least"] = "at_least"
    metric: str
    value: float


Rule = Annotated[BetterThan | NoWorse | AtLeast, Field(discriminator="kind")]


class GateConfig(Config):
    """What must hold before a model replaces its base.

    Attributes:
        rules: all of them must pass.
        resamples: draws of the bootstrap.
        seed: of the draws; the same reports get the same verdict.
    """

    rules: Annotated[tuple[Rule, ...], Field(min_length=1)] = (
        BetterThan(metric="token_f1"),
        BetterThan(metric="bits_per_byte"),
    )
    resamples: Annotated[int, Field(ge=1_000, le=1_000_000)] = RESAMPLES
    seed: Annotated[int, Field(ge=0)] = 0


def decide(gate: GateConfig, before: Sequence[Report], after: Sequence[Report]) -> Verdict:
    """Return whether a model may replace its base, with what each rule found.

    Args:
        gate: the rules.
        before: the base's reports, one per task.
        after: the model's reports on the same samples.

    Raises:
        ConfigError: no report has a rule's metric, two have it, or the two models answered different samples.
    """
    outcomes = tuple(_outcome(rule, gate, before, after) for rule in gate.rules)
    return Verdict(passed=all(outcome.passed for outcome in outcomes), outcomes=outcomes)


def _outcome(rule: Rule, gate: GateConfig, before: Sequence[Report], after: Sequence[Report]) -> RuleOutcome:
    report, metric = _find(rule.metric, after)
    if isinstance(rule, AtLeast):
        return _reached(rule, metric, len(_failed(_base(report, before), report)))
    base, _ = _find(f"{report.task}.{metric.name}", before)
    pairs = _paired(metric, base, report)
    if not pairs.groups:
        raise ConfigError(f"no sample of '{report.task}' has a score of both models: {rule.metric} cannot be compared")
    difference = difference_interval(
        pairs.before,
        pairs.after,
        pairs.groups,
        confidence=rule.confidence,
        resamples=gate.resamples,
        seed=gate.seed,
    )
    return _compared(rule, metric, pairs, difference)


def _find(name: str, reports: Sequence[Report]) -> tuple[Report, Metric]:
    """Return the one report that has a metric, given by its own name or as ``task.metric``."""
    known = [(report, metric) for report in reports for metric in report.metrics]
    found = [(report, metric) for report, metric in known if name in (metric.name, f"{report.task}.{metric.name}")]
    if len(found) == 1:
        return found[0]
    full = ", ".join(f"{report.task}.{metric.name}" for report, metric in known)
    wrong = f"no report has the metric '{name}'" if not found else f"more than one report has the metric '{name}'"
    raise ConfigError(wrong, hint=f"Known: {full}")


@dataclass(frozen=True, slots=True)
class _Pairs:
    """One metric of both models, sample by sample.

    `unscored` samples have no value to compare; at `failed` of them the model failed and the base did not.
    """

    before: Column
    after: Column
    groups: list[str]
    unscored: int
    failed: int


def _paired(metric: Metric, before: Report, after: Report) -> _Pairs:
    old, new = ({score.sample_id: score for score in report.scores} for report in (before, after))
    if {key: score.group for key, score in old.items()} != {key: score.group for key, score in new.items()}:
        alone = sorted(old.keys() ^ new.keys())
        which = f"for example '{alone[0]}' only in one" if alone else "in other groups"
        raise ConfigError(
            f"the two reports of '{after.task}' are on different samples, {which}",
            hint="Ask both models the same task.",
        )
    # Where the base failed nothing can be compared.
    both = [key for key in sorted(new) if old[key].weight and new[key].weight and not old[key].error]
    return _Pairs(
        before=_column(metric.name, [old[key] for key in both]),
        after=_column(metric.name, [new[key] for key in both]),
        groups=[new[key].group for key in both],
        unscored=len(new) - len(both),
        failed=len(_failed(before, after)),
    )


def _base(report: Report, before: Sequence[Report]) -> Report | None:
    return next((each for each in before if each.task == report.task), None)


def _failed(before: Report | None, after: Report) -> list[str]:
    """Return the samples that the model alone failed at, where nothing can stand for what a failure scores.

    They may be the ones that it is worst at: it is not shown to be anything.
    """
    able = {score.sample_id for score in before.scores if score.weight and not score.error} if before else None
    lost = [score.sample_id for score in after.scores if score.error and not score.weight]
    return [name for name in lost if able is None or name in able]


def _column(metric: str, scores: Sequence[Score]) -> Column:
    return Column([score.values[metric] for score in scores], [score.weight for score in scores])


def _reached(rule: AtLeast, metric: Metric, failed: int) -> RuleOutcome:
    upward = metric.better == "higher"
    passed = (metric.value >= rule.value if upward else metric.value <= rule.value) and not failed
    bound = "at least" if upward else "at most"
    verdict = "reached" if passed else f"not shown, {failed} samples failed" if failed else "not reached"
    return RuleOutcome(
        rule=rule.kind,
        metric=rule.metric,
        passed=passed,
        after=metric.value,
        sentence=f"{rule.metric} is {metric.value:.3g}, {bound} {rule.value:g} is asked: {verdict}",
    )


def _compared(rule: BetterThan | NoWorse, metric: Metric, pairs: _Pairs, difference: Interval | None) -> RuleOutcome:
    before, after = pairs.before.mean(), pairs.after.mean()
    gain = _worst_gain(difference, metric.better) if difference is not None else None
    # An identical model is no worse, but not better.
    passed = gain is not None and (gain > _bar(rule) or (isinstance(rule, NoWorse) and gain == _bar(rule)))
    passed = passed and not pairs.failed
    return RuleOutcome(
        rule=rule.kind,
        metric=rule.metric,
        passed=passed,
        before=before,
        after=after,
        difference=difference,
        sentence=f"{rule.metric} {_movement(before, after, difference)}: {_conclusion(rule, passed)}{_caveats(pairs)}",
    )


def _worst_gain(difference: Interval, better: Better) -> float:
    """Return the end of the interval that speaks least for the model, as an improvement."""
    return difference.low if better == "higher" else -difference.high


def _bar(rule: BetterThan | NoWorse) -> float:
    return rule.margin if isinstance(rule, BetterThan) else -rule.tolerance


def _movement(before: float, after: float, difference: Interval | None) -> str:
    if difference is None:
        moved = f"went from {before:.3g} to {after:.3g}"
        return f"{moved}, but all samples are of one group, which gives no confidence interval"
    places = _places(difference)
    verb = "rose" if difference.value > 0 else "fell" if difference.value < 0 else "stayed"
    signed = f"{difference.value:+.{places}f} [{difference.low:.{places}f}, {difference.high:.{places}f}]"
    return f"{verb} from {before:.{places}f} to {after:.{places}f}, {signed} at {difference.confidence * 100:g} %"


def _places(difference: Interval) -> int:
    """Return how many decimals, from two to five, show the interval's width as 6 to 63 of the last one."""
    width = difference.high - difference.low
    return min(5, max(2, round(1.3 - log10(width)))) if width else 3


def _conclusion(rule: BetterThan | NoWorse, passed: bool) -> str:
    if isinstance(rule, BetterThan):
        claim = f"better than {rule.than}" + (f" by {rule.margin:g}" if rule.margin else "")
    else:
        claim = f"no worse than {rule.than} within {rule.tolerance:g}"
    return claim if passed else f"not shown to be {claim}"


def _caveats(pairs: _Pairs) -> str:
    groups = len(set(pairs.groups))
    said = []
    if 1 < groups < FEW_GROUPS:
        said.append(f"only {groups} groups: the interval is rough")
    if pairs.unscored:
        said.append(f"{pairs.unscored} samples left out: no score to compare")
    if pairs.failed:
        said.append(f"at {pairs.failed} of them this model alone failed")
    return f" ({'; '.join(said)})" if said else ""
