"""A small, durable, content-addressed runner: a finished step is never redone, a killed one goes on where it was.

    flow = Flow("line", (Step("make", run="mine.steps:make"), Step("use", run="mine.steps:use", needs=("make",))))
    with open_store("sqlite:///.bessemer/flow.sqlite") as store:
        runner = Runner(store, Path(".bessemer/artifacts"))
        result = runner.run(runner.submit(flow))

Owns order, durability and the cache. Knows not what a step computes.
"""

from bessemer.flow.attempt import StepContext
from bessemer.flow.coordinator import RunnerConfig
from bessemer.flow.declare import Flow, Step
from bessemer.flow.runner import Runner, RunResult
from bessemer.flow.schedule import Trigger
from bessemer.flow.store import RunRecord, StepRecord, Store, open_store

__all__ = ["Flow", "RunRecord", "RunResult", "Runner", "RunnerConfig"]
__all__ += ["Step", "StepContext", "StepRecord", "Store", "Trigger", "open_store"]
