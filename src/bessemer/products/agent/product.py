"""The agent as a product of the factory.

Owns the tie between this kind's parts and the factory: which steps make it, what the receipt says of it, and how it is
opened with the products that were declared before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bessemer.core.config import Config
from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Artifact, Usage, Verdict
from bessemer.core.units import show_joules, show_seconds
from bessemer.flow import Step
from bessemer.products.agent import steps
from bessemer.products.agent.config import AgentProductConfig, LearnConfig, PracticeConfig
from bessemer.products.agent.vectors import vector_steps
from bessemer.products.home import Deployment
from bessemer.products.llm import steps as llm
from bessemer.products.product import AnyEngine, Finished, LakeState, Opening, Place
from bessemer.products.receipt import FactsPart, MetricLine

_CODE = {
    "teach": ("bessemer.infer.agents", "bessemer.infer.calling", "bessemer.evals", "bessemer.products.agent"),
    "models": ("bessemer.models",),
    "train": ("bessemer.train", "bessemer.models"),
    "compile": (*(f"bessemer.infer.{name}" for name in ("compile", "llama", "network", "runtime")), "bessemer.models"),
    "tries": ("bessemer.infer", "bessemer.evals", "bessemer.products.agent"),
    "gate": ("bessemer.evals",),
}
"""For each kind of step, the code whose change makes its results stale."""


class AgentProduct:
    """An agent of a factory; see `bessemer.products.product.Product`.

    Raises:
        ConfigError: its model is no product that is declared before it.
    """

    kind = "agent"

    def __init__(self, config: AgentProductConfig, place: Place) -> None:
        self.config, self.place = config, place
        if config.model and config.model not in place.products:
            known = ", ".join(place.products) or "none"
            told = f"the agent '{place.name}' asks '{config.model}', which is no product declared before it"
            raise ConfigError(told, hint=f"Declared before it: {known}")
        self.served = place.step("compile" if config.learn else "card")

    def steps(self, lake: LakeState) -> tuple[Step, ...]:
        """Return the steps that make it, and those that try it."""
        config = self.config
        made = [_step("card", steps.CardConfig(declared=config.model_dump_json()), (), "gate")]
        made += vector_steps(config, self.place, lake)
        if config.learn and config.practice:
            made += self._learning(config.learn, config.practice)
        elif config.practice:
            made.append(self._tries("trials", self.place.products[config.model].served, config.practice))
        return self.place.named(made)

    def part(self, done: Finished) -> FactsPart:
        """Return its part of the receipt."""
        made, config = done.made(self.place), self.config
        tools = ", ".join(tool.kind for tool in config.tools) or "none"
        facts = [
            ("model", config.model or f"its own, from {config.learn.base if config.learn else ''}"),
            ("tools", tools),
        ]
        if not config.practice:
            facts.append(("trials", "none: nobody knows what it can do"))
            return FactsPart(kind="agent", name=self.place.name, deployed=True, facts=tuple(facts))
        if not config.learn:
            facts += _tried(done, made["trials"])
            report = steps.read_report(made["trials"].path)
            lines = tuple(_line(metric, metric) for metric in report.metrics)
            return FactsPart(kind="agent", name=self.place.name, deployed=True, facts=tuple(facts), metrics=lines)
        taught = made["teach"].meta
        facts.append(
            (
                "learnt from",
                f"{taught['talks']} verified trajectories, {taught['refused']} thrown away; "
                f"{made['train'].meta['tokens']:,} tokens in {show_seconds(made['train'].meta['seconds'])}",
            )
        )
        facts += _tried(done, made["trials"])
        before, after = (steps.read_report(made[step].path) for step in ("trials_base", "trials"))
        verdict = _verdict(made["gate"])
        return FactsPart(
            kind="agent",
            name=self.place.name,
            deployed=verdict.passed,
            compared="base",
            metrics=tuple(_line(before.metric(metric.name), metric) for metric in after.metrics),
            verdict=verdict,
            facts=tuple(facts),
        )

    def what(self, step: str, artifact: Artifact) -> str:
        """Say what a step of it made."""
        meta = artifact.meta
        match step:
            case "teach":
                return f"{meta['talks']} conversations that solve their tasks"
            case "base":
                return f"{meta['name']} from {meta['source']} ({meta['licence']})"
            case "train":
                return f"adapter, {meta['tokens']:,} tokens"
            case "merge":
                return "the fine-tuned model as a Hugging Face folder"
            case "compile":
                return f"{meta['weights']} weights for {meta['kind']}"
            case _:
                return str(meta.get("what", "the agent's declaration"))

    def deployment(self, done: Finished) -> Deployment | None:
        """Return the agent; its model is its own if it learnt."""
        made = done.made(self.place)
        if self.config.learn and not _verdict(made["gate"]).passed:
            return None
        served = made["compile" if self.config.learn else "card"]
        path = Path(served.path) / "engine" if self.config.learn else Path(served.path)
        return Deployment(name=self.place.name, run=done.run, key=served.key, path=str(path), deployed_at=done.ended)

    def open(self, deployment: Deployment | None, opening: Opening) -> Mapping[str, AnyEngine]:
        """Return the agent, made of its model and its tools."""
        from bessemer.products.agent.serving import open_agent

        if deployment is None:
            raise NotFound(f"no agent '{self.place.name}' is deployed", hint="`bessemer run` says why.")
        return {self.place.name: open_agent(self.config, self.place, deployment, opening)}

    def _learning(self, learn: LearnConfig, practice: PracticeConfig) -> list[Step]:
        from bessemer.models import resolve_base

        weights = resolve_base(learn.base, self.place.base).fingerprint
        taught = steps.TeachConfig(agent=self.config.agent, practice=practice, tasks=learn.tasks)
        compiled = {name: llm.CompileStepConfig(compile=learn.compile, source=name) for name in ("base", "merge")}
        decided = steps.GateStepConfig(gate=self.config.gate, before="trials_base", after="trials")
        run = llm.__name__
        return [
            _step("teach", taught, (), "teach"),
            _step("base", llm.BaseConfig(base=learn.base), (), "models", f"{run}:base", inputs={"weights": weights}),
            _step("compile_base", compiled["base"], ("base",), "compile", f"{run}:compile_weights"),
            self._tries("trials_base", "compile_base", practice),
            _step("train", steps.TrainConfig(train=learn.train), ("base", "teach"), "train"),
            _step("merge", None, ("base", "train"), "train", f"{run}:merge"),
            _step("compile", compiled["merge"], ("merge",), "compile", f"{run}:compile_weights"),
            self._tries("trials", "compile", practice),
            _step("gate", decided, ("trials_base", "trials"), "gate"),
        ]

    def _tries(self, name: str, source: str, practice: PracticeConfig) -> Step:
        config = steps.TryConfig(agent=self.config.agent, practice=practice, source=source.rsplit(".", 1)[-1])
        return _step(name, config, (source,), "tries", f"{steps.__name__}:try_out")


def _step(
    name: str,
    config: Config | None,
    needs: tuple[str, ...],
    code: str,
    run: str = "",
    *,
    inputs: dict[str, str] | None = None,
) -> Step:
    run = run or f"{steps.__name__}:{name}"
    return Step(name, run=run, config=config, needs=needs, code=_CODE[code], inputs=inputs or {})


def _verdict(gate: Artifact) -> Verdict:
    return Verdict.model_validate_json((Path(gate.path) / "verdict.json").read_text(encoding="utf-8"))


def _line(before: Any, after: Any) -> MetricLine:
    def low(metric: Any) -> float:
        return float(metric.interval.low if metric.interval else metric.value)

    def high(metric: Any) -> float:
        return float(metric.interval.high if metric.interval else metric.value)

    return MetricLine(
        metric=after.name,
        samples=after.samples,
        higher_is_better=True,
        before=before.value,
        before_low=low(before),
        before_high=high(before),
        after=after.value,
        after_low=low(after),
        after_high=high(after),
    )


def _tried(done: Finished, trials: Artifact) -> Iterable[tuple[str, str]]:
    """Yield what trials took: by attempt, and by solved task, with all that the unsolved ones took."""
    meta, bill = trials.meta, done.bill(trials.key)
    solved, usage = meta["solved"], Usage.model_validate(meta["usage"])
    yield (
        "trials",
        f"{solved} of {meta['attempts']} attempts solved their task, {meta['steps'] / meta['attempts']:.1f} acts of "
        f"the model each; {usage.input_tokens:,} tokens read and {usage.output_tokens:,} written",
    )
    if bill and solved:
        took = bill.measurement
        joules = f"{show_joules(took.joules / solved)} ({took.energy_class.value}, {took.boundary.value})"
        charged = done.prices.quote(usage, done.factory).charge
        yield (
            "a solved task",
            f"{joules}, {show_seconds(took.seconds / solved)} and {charged.micros / solved:.0f} millionths of a "
            f"{charged.currency} by the price book, unsolved ones included",
        )
