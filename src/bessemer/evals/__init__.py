"""Floor 2: how good a model is, with confidence intervals, and whether that is good enough to be served.

Task, Sample and Scorer give a Report (`run_task`, `bits_per_byte`); a Gate over two models' reports gives a Verdict
(`decide`). Knows not where the engine runs. Needs numpy only when an interval is computed.
"""

from bessemer.evals.bootstrap import Column, difference_interval, mean_interval
from bessemer.evals.gate import AtLeast, BetterThan, GateConfig, NoWorse, decide
from bessemer.evals.nouns import Metric, Report, Sample, Score, Task
from bessemer.evals.run import bits_per_byte, run_task
from bessemer.evals.scorers import SCORERS, Scorer, contains, exact_match, rouge_l, token_f1
from bessemer.evals.trials import Attempt, Trial, TrialsConfig, Tried, grade, pass_hat, run_trials
from bessemer.evals.worlds import State, World, differences

__all__ = [
    "SCORERS",
    "AtLeast",
    "Attempt",
    "BetterThan",
    "Column",
    "GateConfig",
    "Metric",
    "NoWorse",
    "Report",
    "Sample",
    "Score",
    "Scorer",
    "State",
    "Task",
    "Trial",
    "TrialsConfig",
    "Tried",
    "World",
    "bits_per_byte",
    "contains",
    "decide",
    "difference_interval",
    "differences",
    "exact_match",
    "grade",
    "mean_interval",
    "pass_hat",
    "rouge_l",
    "run_task",
    "run_trials",
    "token_f1",
]
