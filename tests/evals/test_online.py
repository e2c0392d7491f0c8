"""A/B, interleaving and off-policy estimates: against simulated users of whom the truth is known."""

from __future__ import annotations

from random import Random

import pytest

from bessemer.core.errors import ConfigError
from bessemer.evals.interleaving import Interleaved, arm_of, judge_halves, judge_interleaving, team_draft
from bessemer.evals.offpolicy import Logged, estimate, softmax_propensities

GOOD, POOR = [f"g{n}" for n in range(10)], [f"p{n}" for n in range(10)]


def test_a_draft_takes_turns_and_is_the_same_again() -> None:
    made = team_draft(["a", "b", "c"], ["b", "d", "a"], 4, "rec_1")
    assert made == team_draft(["a", "b", "c"], ["b", "d", "a"], 4, "rec_1")
    assert len(set(made.items)) == 4 and sum(made.teams) == 2
    firsts = [team_draft(GOOD, POOR, 10, str(seed)).teams[0] for seed in range(400)]
    assert sum(firsts) / 400 == pytest.approx(0.5, abs=0.08)
    assert team_draft(["a"], ["a"], 5, "x").items == ("a",)


def clicked(random: Random, items, chance_of_good: float) -> list[str]:
    return [item for item in items if random.random() < (chance_of_good if item[0] == "g" else 0.1)]


@pytest.mark.parametrize(("chance", "passed"), [(0.2, True), (0.1, False)])
def test_interleaving_finds_what_users_prefer_and_nothing_where_they_do_not(chance, passed) -> None:
    random, shown = Random(4), []
    for user in range(300):
        made = team_draft(POOR, GOOD, 10, str(user))
        shown.append((f"u{user}", made, clicked(random, made.items, chance)))
    outcome = judge_interleaving(shown, resamples=2_000)
    assert outcome.passed is passed and outcome.difference.low <= outcome.after <= outcome.difference.high
    backwards = [(user, Interleaved(m.items, tuple(1 - t for t in m.teams)), c) for user, m, c in shown]
    assert judge_interleaving(backwards, resamples=2_000).after == pytest.approx(-outcome.after)
    with pytest.raises(ConfigError, match="clicked"):
        judge_interleaving([(user, m, []) for user, m, _ in shown])


def test_interleaving_is_seldom_wrong_where_there_is_no_difference() -> None:
    wrong = 0
    for trial in range(100):
        random = Random(trial)
        shown = []
        for user in range(40):
            made = team_draft(POOR, GOOD, 6, f"{trial} {user}")
            shown.append((str(user), made, clicked(random, made.items, 0.1)))
        wrong += judge_interleaving(shown, resamples=1_000).passed
    assert wrong <= 8  # 2.5 are expected


def test_halves_are_stable_even_and_judged() -> None:
    users = [f"u{n}" for n in range(4_000)]
    arms = [arm_of("autumn", user, 0.25) for user in users]
    assert sum(arms) / 4_000 == pytest.approx(0.25, abs=0.03)
    assert arms == [arm_of("autumn", user, 0.25) for user in users]
    both = sum(arm_of("autumn", user) and arm_of("winter", user) for user in users) / 4_000
    assert both == pytest.approx(0.25, abs=0.03)
    random = Random(1)
    better = {user: random.gauss(1 + 0.2 * arm_of("autumn", user), 1) for user in users[:1_000]}
    same = {user: random.gauss(1, 1) for user in users[:1_000]}
    assert judge_halves(better, "autumn", resamples=2_000).passed
    assert not judge_halves(same, "autumn", resamples=2_000).passed
    with pytest.raises(ConfigError, match="fewer than two"):
        judge_halves({"u1": 1.0}, "autumn")


def logs(trial: int, wrong_model: float = 0.0) -> tuple[list[Logged], float]:
    """Return a log of a softmax policy, and what the target policy (always the best item) truly earns."""
    random, log = Random(trial), []
    for number in range(600):
        chances = [random.uniform(0, 0.6) for _ in range(4)]  # of a click on each item
        logged = softmax_propensities([chance + random.gauss(0, 0.3) for chance in chances], 0.5)
        wanted = max(range(4), key=chances.__getitem__)
        item = random.choices(range(4), logged)[0]
        log.append(
            Logged(
                user=f"u{number % 200}",
                reward=float(random.random() < chances[item]),
                logged=logged[item],
                target=float(item == wanted),
                predicted=chances[item] + wrong_model,
                expected=chances[wanted] + wrong_model,
            )
        )
    return log, 0.48  # mean of the largest of four uniform draws up to 0.6


@pytest.mark.parametrize("wrong_model", [0.0, 0.3])
def test_estimates_are_right_in_the_mean_and_their_intervals_cover(wrong_model) -> None:
    found, covered = {"ips": [], "snips": [], "dr": []}, {"ips": 0, "snips": 0, "dr": 0}
    for trial in range(60):
        log, truth = logs(trial, wrong_model)
        told = estimate(log, resamples=300)
        for name, values in found.items():
            interval = getattr(told, name)
            values.append(interval.value)
            covered[name] += interval.low <= truth <= interval.high
    for name, values in found.items():
        assert sum(values) / 60 == pytest.approx(truth, abs=0.012), name
        assert covered[name] >= 50, (name, covered)  # 57 are expected
    spread = {name: sum((value - truth) ** 2 for value in values) for name, values in found.items()}
    assert spread["snips"] < spread["ips"]
    if not wrong_model:
        assert spread["dr"] < spread["snips"]
    assert 0 < told.effective < 600 and told.logged.value < truth


def test_a_log_that_says_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="probability 0"):
        estimate([Logged("a", 1, 0, 1)])
    with pytest.raises(ConfigError, match="two users"):
        estimate([Logged("a", 1, 0.5, 1)])
    with pytest.raises(ConfigError, match="would have done nothing"):
        estimate([Logged("a", 1, 0.5, 0), Logged("b", 1, 0.5, 0)])
