"""The steps of an agent's line: solved tasks to learn from, fine-tuning, trials before and after, the gate.

Owns what goes from room to room. The base model, merging and compiling are the language model's own steps. Heavy rooms
are imported where a step runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.core.config import StepConfig
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Usage
from bessemer.evals import GateConfig, Report, decide, run_trials
from bessemer.flow import StepContext
from bessemer.infer import OpenVinoConfig, open_engine
from bessemer.infer.agents import AgentConfig, AgentEngine
from bessemer.products.agent.config import PracticeConfig
from bessemer.products.agent.domain import find_domain
from bessemer.train import LoraTrainer, TrainReport
from bessemer.train.config import SftConfig
from bessemer.train.talks import Talk

Meta = Mapping[str, Any]
_TALKS = "talks.jsonl"


class TeachConfig(StepConfig):
    """Of how many tasks the solutions are tried and kept."""

    agent: AgentConfig
    practice: PracticeConfig
    tasks: int


def teach(ctx: StepContext, config: TeachConfig) -> Meta:
    """Make trajectories of tasks with their solutions, and keep those that end as wanted."""
    from bessemer.products.agent.learning import teach as taught_by

    domain = find_domain(config.practice.domain)
    tasks = domain.practices("train", config.tasks, config.practice.seed)
    taught = asyncio.run(taught_by(tasks, domain.tools, told(config.agent, domain.instructions)))
    if not taught.talks:
        raise ConfigError(f"no solution of {config.tasks} tasks solves its task", hint="Mend the domain's practices.")
    (ctx.out / _TALKS).write_text("".join(f"{talk.model_dump_json()}\n" for talk in taught.talks), encoding="utf-8")
    return {"talks": len(taught.talks), "refused": taught.refused}


class TrainConfig(StepConfig):
    """How the base is fine-tuned."""

    train: SftConfig


def train(ctx: StepContext, config: TrainConfig) -> Meta:
    """Fine-tune an adapter on the conversations; a restart goes on at the last checkpoint."""
    lines = (Path(ctx.inputs["teach"].path) / _TALKS).read_text(encoding="utf-8").splitlines()
    talks = [Talk.model_validate_json(line) for line in lines]
    trainer = LoraTrainer(config.train, ctx.progress, ctx.measured)
    base = Path(ctx.inputs["base"].path) / "model"
    report: TrainReport = trainer.train(base, talks, ctx.out / "adapter", ctx.checkpoints)
    return report.model_dump(mode="json")


class TryConfig(StepConfig):
    """Which step's compiled model is tried, in what, and how."""

    agent: AgentConfig
    practice: PracticeConfig
    source: str


def try_out(ctx: StepContext, config: TryConfig) -> Meta:
    """Let an agent with a compiled model do the held-out tasks, each in a world of its own."""
    practice, domain = config.practice, find_domain(config.practice.domain)
    trials = [each.trial for each in domain.practices("heldout", practice.heldout, practice.seed)]
    settings = told(config.agent, domain.instructions)

    async def tried() -> Any:
        path = str(Path(ctx.inputs[config.source].path) / "engine")
        engine = open_engine(OpenVinoConfig(path=path, prefix_caching=True))  # all tasks begin with the same tools
        try:
            return await run_trials(
                lambda world: AgentEngine(engine, domain.tools(world), settings),
                trials,
                practice.trials,
                lambda done, total: ctx.progress(done, total, "attempts"),
                model=config.source,
            )
        finally:
            await engine.close()

    began = time.monotonic()
    found = asyncio.run(tried())
    report: Report = found.report
    (ctx.out / "trials.json").write_text(report.model_dump_json(), encoding="utf-8")
    attempts = [attempt for each in found.attempts.values() for attempt in each]
    used = report.usage
    return {
        "trials": len(trials),
        "attempts": len(attempts),
        "solved": sum(attempt.solved for attempt in attempts),
        "steps": sum(attempt.steps for attempt in attempts),
        "usage": Usage(input_tokens=used.input_tokens, output_tokens=used.output_tokens).model_dump(),
        "seconds": time.monotonic() - began,
    }


class GateStepConfig(StepConfig):
    """What must hold, and which steps tried the agent before and after."""

    gate: GateConfig
    before: str
    after: str


def gate(ctx: StepContext, config: GateStepConfig) -> Meta:
    """Decide whether the agent may be served."""
    before, after = (read_report(ctx.inputs[step].path) for step in (config.before, config.after))
    verdict = decide(config.gate, [before], [after])
    (ctx.out / "verdict.json").write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
    return {"passed": verdict.passed}


class CardConfig(StepConfig):
    """What the agent is: its declaration, so that a changed one is another agent."""

    declared: str


def card(ctx: StepContext, config: CardConfig) -> Meta:
    """Write down what the agent is."""
    (ctx.out / "agent.json").write_text(config.declared, encoding="utf-8")
    return {}


def read_report(folder: str) -> Report:
    """Return the report of trials that a step wrote."""
    return Report.model_validate_json((Path(folder) / "trials.json").read_text(encoding="utf-8"))


def told(agent: AgentConfig, instructions: str) -> AgentConfig:
    """Return an agent's settings with a domain's instructions, unless it has its own."""
    return agent if agent.instructions else agent.model_copy(update={"instructions": instructions})
