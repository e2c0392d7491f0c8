"""Verdicts: which differences pass which rule, and how they are put in words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bessemer.core.errors import ConfigError
from bessemer.evals import AtLeast, BetterThan, GateConfig, NoWorse, decide

LOW = [0.1, 0.3, 0.2, 0.25, 0.15, 0.2, 0.1, 0.3, 0.2, 0.2]
GAINS = [0.5, 0.6, 0.4, 0.55, 0.45, 0.5, 0.6, 0.4, 0.5, 0.5]
HIGH = [a + b for a, b in zip(LOW, GAINS, strict=True)]
NOISE = [0.2, -0.2, 0.1, -0.1, 0.15, -0.15, 0.05, -0.05, 0.2, -0.1]


def gate(*rules) -> GateConfig:
    return GateConfig(rules=rules, resamples=2_000)


def outcome(rule, before, after):
    verdict = decide(gate(rule), [before], [after])
    assert verdict.passed == verdict.outcomes[0].passed
    return verdict.outcomes[0]


def test_a_clear_rise_in_plain_words(report) -> None:
    found = outcome(BetterThan(metric="token_f1"), report(LOW), report(HIGH))
    assert found.passed
    assert (found.rule, found.metric) == ("better_than", "token_f1")
    assert (found.before, found.after) == pytest.approx((0.2, 0.7))
    assert found.difference.low <= found.difference.value <= found.difference.high
    shown = f"[{found.difference.low:.2f}, {found.difference.high:.2f}]"
    assert found.sentence == f"token_f1 rose from 0.20 to 0.70, +0.50 {shown} at 95 %: better than base"


def test_what_noise_can_explain_does_not_pass(report) -> None:
    after = report([a + b for a, b in zip(LOW, NOISE, strict=True)])
    found = outcome(BetterThan(metric="token_f1"), report(LOW), after)
    assert not found.passed
    assert found.after > found.before, "a higher mean alone does not pass"
    assert found.sentence.endswith("at 95 %: not shown to be better than base")


def test_a_margin_must_be_beaten_by_the_whole_interval(report) -> None:
    assert outcome(BetterThan(metric="token_f1", margin=0.4), report(LOW), report(HIGH)).passed
    found = outcome(BetterThan(metric="token_f1", margin=0.49), report(LOW), report(HIGH))
    assert not found.passed
    assert found.sentence.endswith("not shown to be better than base by 0.49")


def test_lower_is_better_for_bits_per_byte(report) -> None:
    bits = {"metric": "bits_per_byte", "better": "lower", "weights": [float(100 + 50 * i) for i in range(10)]}
    base, model = report([1.0 + v for v in HIGH], **bits), report([1.0 + v for v in LOW], **bits)
    found = outcome(BetterThan(metric="bits_per_byte"), base, model)
    assert found.passed
    assert found.difference.high < 0
    assert "fell from" in found.sentence
    assert not outcome(BetterThan(metric="bits_per_byte"), model, base).passed
    assert not outcome(NoWorse(metric="bits_per_byte", tolerance=0.1), model, base).passed
    assert outcome(NoWorse(metric="bits_per_byte", tolerance=0.1), base, model).passed


def test_no_worse_allows_the_tolerance_and_no_more(report) -> None:
    after = report([value - 0.05 + noise / 10 for value, noise in zip(HIGH, NOISE, strict=True)])
    assert outcome(NoWorse(metric="token_f1", tolerance=0.1), report(HIGH), after).passed
    assert not outcome(NoWorse(metric="token_f1", tolerance=0.05), report(HIGH), after).passed
    assert outcome(NoWorse(metric="token_f1"), report(HIGH), report(HIGH)).passed


def test_at_least_is_a_floor_or_a_ceiling(report) -> None:
    assert outcome(AtLeast(metric="token_f1", value=0.7 - 1e-9), report(LOW), report(HIGH)).passed
    found = outcome(AtLeast(metric="token_f1", value=0.8), report(LOW), report(HIGH))
    assert not found.passed
    assert found.sentence == "token_f1 is 0.7, at least 0.8 is asked: not reached"
    bits = report([1.5, 1.7], metric="bits_per_byte", better="lower")
    assert outcome(AtLeast(metric="bits_per_byte", value=1.7), bits, bits).passed
    assert not outcome(AtLeast(metric="bits_per_byte", value=1.5), bits, bits).passed


def test_all_rules_must_pass(report) -> None:
    rules = (BetterThan(metric="token_f1"), AtLeast(metric="token_f1", value=0.9))
    verdict = decide(gate(*rules), [report(LOW)], [report(HIGH)])
    assert [found.passed for found in verdict.outcomes] == [True, False]
    assert not verdict.passed


def test_order_of_the_samples_does_not_matter(report) -> None:
    after = report(HIGH)
    turned = after.model_copy(update={"scores": after.scores[::-1]})
    rule = BetterThan(metric="token_f1")
    assert outcome(rule, report(LOW), turned) == outcome(rule, report(LOW), after)


def test_one_group_shows_nothing_and_says_so(report) -> None:
    same = {"groups": ["os"] * 10}
    found = outcome(BetterThan(metric="token_f1"), report(LOW, **same), report(HIGH, **same))
    assert not found.passed
    assert found.difference is None
    assert "one group" in found.sentence


def test_few_groups_are_a_caveat(report) -> None:
    few = {"groups": [f"g{i % 3}" for i in range(10)]}
    assert "only 3 groups" in outcome(BetterThan(metric="token_f1"), report(LOW, **few), report(HIGH, **few)).sentence


def test_a_sample_without_a_value_from_one_model_is_left_out_and_counted(report) -> None:
    after = report(HIGH)
    broken = after.scores[0].model_copy(update={"weight": 0.0, "values": {"token_f1": 0.0}, "error": "lost"})
    after = after.model_copy(update={"scores": (broken, *after.scores[1:])})
    found = outcome(BetterThan(metric="token_f1"), report(LOW), after)
    assert found.before == pytest.approx(sum(LOW[1:]) / 9)
    assert found.sentence.endswith("(1 samples left out: no score to compare; at 1 of them this model alone failed)")
    assert not found.passed, "what it failed at is no merit either"
    both = outcome(
        BetterThan(metric="token_f1"), report(LOW).model_copy(update={"scores": _first_lost(report(LOW))}), after
    )
    assert both.passed


def test_a_ceiling_is_not_reached_by_failing_at_what_is_hard(report) -> None:
    bits = {"metric": "bits_per_byte", "better": "lower"}
    rule, base, model = (
        AtLeast(metric="bits_per_byte", value=1.0),
        report([0.5] * 10, **bits),
        report([0.4] * 10, **bits),
    )
    assert outcome(rule, base, model).passed
    lost = model.scores[0].model_copy(update={"weight": 0.0, "error": "lost"})
    harmed = model.model_copy(update={"scores": (lost, *model.scores[1:])})
    found = outcome(rule, base, harmed)
    assert not found.passed
    assert found.sentence.endswith("at most 1 is asked: not shown, 1 samples failed")
    assert not decide(gate(rule), [], [harmed]).passed
    assert outcome(rule, harmed, harmed).passed, "what neither could be scored at says nothing of this model"


def _first_lost(made):
    lost = made.scores[0].model_copy(update={"weight": 0.0, "values": {"token_f1": 0.0}, "error": "lost"})
    return (lost, *made.scores[1:])


def test_what_the_base_failed_at_is_no_merit_of_the_model(report) -> None:
    before, after = report(HIGH), report(HIGH)
    lost = [s.model_copy(update={"values": {"token_f1": 0.0}, "error": "lost"}) for s in before.scores[:6]]
    harmed = before.model_copy(update={"scores": (*lost, *before.scores[6:])})
    found = outcome(BetterThan(metric="token_f1"), harmed, after)
    assert not found.passed
    assert found.before == found.after
    assert "6 samples left out" in found.sentence
    assert not outcome(NoWorse(metric="token_f1"), before, harmed).passed, "what the model failed at counts"


def test_an_unknown_metric_names_the_known(report) -> None:
    with pytest.raises(ConfigError, match="no report has the metric 'blue'") as caught:
        decide(gate(BetterThan(metric="blue")), [report(LOW)], [report(HIGH)])
    assert caught.value.hint == "Known: questions.token_f1"


def test_a_metric_of_two_tasks_needs_its_task(report) -> None:
    before = [report(LOW), report(LOW, task="more")]
    after = [report(HIGH), report(LOW, task="more")]
    with pytest.raises(ConfigError, match="more than one"):
        decide(gate(BetterThan(metric="token_f1")), before, after)
    verdict = decide(gate(BetterThan(metric="questions.token_f1"), BetterThan(metric="more.token_f1")), before, after)
    assert [found.passed for found in verdict.outcomes] == [True, False]


def test_models_that_answered_different_samples_are_not_compared(report) -> None:
    with pytest.raises(ConfigError, match="'s9' only in one"):
        decide(gate(BetterThan(metric="token_f1")), [report(LOW[:9])], [report(HIGH)])
    with pytest.raises(ConfigError, match="other groups"):
        decide(gate(BetterThan(metric="token_f1")), [report(LOW, groups=["g"] * 10)], [report(HIGH)])
    with pytest.raises(ConfigError, match=r"questions\.token_f1"):
        decide(gate(BetterThan(metric="token_f1")), [], [report(HIGH)])


def test_the_declaration_is_strict() -> None:
    rules = [{"kind": "better_than", "metric": "token_f1"}, {"kind": "at_least", "metric": "token_f1", "value": 0.5}]
    assert GateConfig.model_validate({"rules": rules}).rules == (
        BetterThan(metric="token_f1"),
        AtLeast(metric="token_f1", value=0.5),
    )
    for wrong in ([], [{"kind": "at_least", "metric": "token_f1"}], [{"kind": "bettr", "metric": "token_f1"}]):
        with pytest.raises(ValidationError):
            GateConfig.model_validate({"rules": wrong})


values = st.lists(st.floats(0, 1, width=32), min_size=8, max_size=8)


@settings(max_examples=30, deadline=None)
@given(values, values)
def test_never_better_both_ways_and_better_is_no_worse(before, after) -> None:
    # Built by hand: hypothesis repeats the test, fixtures would not be made anew.
    old, new = _report(before), _report(after)
    forward = decide(gate(BetterThan(metric="m"), NoWorse(metric="m")), [old], [new])
    backward = decide(gate(BetterThan(metric="m"), NoWorse(metric="m")), [new], [old])
    assert not (forward.outcomes[0].passed and backward.outcomes[0].passed)
    for verdict in (forward, backward):
        assert verdict.outcomes[1].passed or not verdict.outcomes[0].passed


def _report(values: list[float]):
    from bessemer.evals import Metric, Report, Score

    scores = tuple(Score(sample_id=str(i), group=str(i), values={"m": v}) for i, v in enumerate(values))
    metric = Metric(name="m", better="higher", value=sum(values) / 8, interval=None, samples=8, groups=8)
    return Report(task="t", model="m", metrics=(metric,), scores=scores, seconds=0)
