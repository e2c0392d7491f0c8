"""A synthetic dataset as a product of the factory.

Owns the tie between this kind's parts and the factory. Each part has its own module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Artifact
from bessemer.core.units import show_seconds
from bessemer.evals import Metric
from bessemer.evals.tables.judging import TableReport
from bessemer.flow import Step
from bessemer.products.home import Deployment
from bessemer.products.product import AnyEngine, Finished, LakeState, Opening, Place
from bessemer.products.receipt import FactsPart, MetricLine
from bessemer.products.synthetic.config import SyntheticConfig
from bessemer.products.synthetic.steps import read_verdict, synthetic_steps
from bessemer.products.synthetic.text_steps import text_part, text_steps

_SHOWN = ("column_shapes", "pair_trends", "learnt", "exact_copies", "closest_record", "neighbour_ratio")


class SyntheticProduct:
    """A synthetic dataset of a factory; see `bessemer.products.product.Product`."""

    kind = "synthetic"

    def __init__(self, config: SyntheticConfig, place: Place) -> None:
        texts = config.texts
        for name in (*config.tables, *((name for name in (texts.given, texts.heldout) if name) if texts else ())):
            if name not in place.tables:
                known = ", ".join(place.tables) or "none"
                raise ConfigError(
                    f"'{place.name}' takes the table '{name}', which is not declared",
                    hint=f"Declared tables: {known}.",
                )
        if texts and texts.model and texts.model not in place.products:
            known = ", ".join(place.products) or "none"
            raise ConfigError(
                f"'{place.name}' is written by '{texts.model}', which is not declared before it",
                hint=f"Declared before it: {known}.",
            )
        self.config, self.place = config, place
        self.served = place.step("judge")

    def steps(self, lake: LakeState) -> tuple[Step, ...]:
        """Return the steps that make it from the factory's tables."""
        if self.config.texts:
            return text_steps(self.place, self.config.texts, lake)
        return synthetic_steps(self.place, self.config, lake)

    def part(self, done: Finished) -> FactsPart:
        """Return its part of the receipt."""
        made = done.made(self.place)
        verdict = read_verdict(made["judge"].path)
        if self.config.texts:
            return text_part(self.place.name, made, verdict)
        reports = _reports(made["judge"].path, self.config.tables)
        return FactsPart(
            name=self.place.name,
            deployed=verdict.passed,
            metrics=tuple(_lines(reports)),
            verdict=verdict,
            kind="synthetic",
            compared="held out",
            facts=tuple(self._facts(made, reports)),
        )

    def _facts(self, made: Mapping[str, Artifact], reports: Mapping[str, TableReport]) -> Iterator[tuple[str, str]]:
        fitted, sampled = made["fit"].meta, made["sample"].meta
        for name, rows in sampled["made"].items():
            learnt, held = fitted["learnt_from"][name], fitted["held_out"][name]
            yield name, f"{rows:,} rows made, learnt from {learnt:,}, {held:,} held out"
            if rejected := sampled["rejected"][name]:
                yield "rejected", ", ".join(f"{count:,} {reason}" for reason, count in rejected.items())
        yield (
            "took",
            f"{show_seconds(fitted['seconds'])} to fit, {show_seconds(sampled['seconds'])} to sample (measured)",
        )
        privacy = self.config.fit.privacy
        yield (
            "privacy",
            f"({privacy.epsilon:g}, {privacy.delta:g})-differentially private"
            if privacy
            else "no guarantee; measured against rows held out",
        )
        for name, report in reports.items():
            for which in ("membership", "nearer_to_data"):
                metric = report.report.metric(which)
                if metric.interval:
                    told = f"{metric.value:.3f} [{metric.interval.low:.3f}, {metric.interval.high:.3f}], 0.5 is ideal"
                    yield which, told if len(reports) == 1 else f"{name}: {told}"
        yield "card", str(Path(made["judge"].path) / "card.md")

    def what(self, step: str, artifact: Artifact) -> str:
        """Say what a step of it made."""
        return str(artifact.meta.get("what", step))

    def deployment(self, done: Finished) -> Deployment | None:
        """Return the model, from which jobs may make more rows."""
        made = done.made(self.place)
        if not read_verdict(made["judge"].path).passed:
            return None
        fitted = made["write" if self.config.texts else "fit"]
        path = str(Path(fitted.path) / ("texts" if self.config.texts else "model"))
        return Deployment(name=self.place.name, run=done.run, key=fitted.key, path=path, deployed_at=done.ended)

    def open(self, deployment: Deployment | None, opening: Opening) -> Mapping[str, AnyEngine]:
        """Return nothing: a dataset is fetched, not asked."""
        return {}


def _reports(folder: str, tables: tuple[str, ...]) -> dict[str, TableReport]:
    return {
        name: TableReport.model_validate_json((Path(folder) / f"{name}.json").read_text(encoding="utf-8"))
        for name in tables
    }


def _lines(reports: Mapping[str, TableReport]) -> Iterator[MetricLine]:
    for table, report in reports.items():
        known = {metric.name: metric for metric in report.real.metrics}
        for metric in report.report.metrics:
            if metric.name in _SHOWN and metric.name in known:
                name = metric.name if len(reports) == 1 else f"{table}.{metric.name}"
                yield _line(name, known[metric.name], metric)


def _line(name: str, before: Metric, after: Metric) -> MetricLine:
    ends = [(each.interval.low, each.interval.high) if each.interval else (each.value,) * 2 for each in (before, after)]
    return MetricLine(
        metric=name, samples=after.samples, higher_is_better=after.better == "higher", before=before.value,
        before_low=ends[0][0], before_high=ends[0][1], after=after.value, after_low=ends[1][0], after_high=ends[1][1],
    )  # fmt: skip
