"""The receipt of a run: one noun that says what went in, what came out, what it took and where it all came from.

Owns the receipt's shape. How it is filled stands with each product, how it looks in `receipt_html.py` and the
command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from bessemer.core.errors import IntegrityError
from bessemer.core.nouns import Boundary, Carbon, EnergyClass, Measurement, Noun, RuleOutcome, Verdict
from bessemer.core.units import Money


class DocumentsPart(Noun):
    """Documents in, dropped and why, and the examples made from the rest."""

    sources: tuple[str, ...]
    documents: int
    kept: int
    dropped: dict[str, int]
    characters: int
    examples_train: int
    examples_heldout: int
    groups_heldout: int
    fitness: str = ""


class TrainingPart(Noun):
    """What training did; `curve` is (optimizer step, mean loss in nats per token)."""

    base: str
    method: str
    tokens: int
    steps: int
    seconds: float
    tokens_per_second: float
    precision: str
    device: str
    curve: tuple[tuple[int, float], ...]


class MetricLine(Noun):
    """One metric of the base and of the new model on the same held-out data, each with its 95 % interval."""

    metric: str
    samples: int
    higher_is_better: bool
    before: float
    before_low: float
    before_high: float
    after: float
    after_low: float
    after_high: float


class Answer(Noun):
    """One held-out question with both models' answers, for a person to judge; with any of its documents, it goes."""

    document_ids: tuple[str, ...]
    question: str
    reference: str
    before: str
    after: str


class SpeedLine(Noun):
    """Speed with a number of streams at once: medians, measured on this machine."""

    streams: int
    time_to_first_token_seconds: float
    time_per_output_token_seconds: float
    output_tokens_per_second: float


class SpeedPart(Noun):
    """How fast the new model answers here."""

    engine: str
    weights: str
    model_bytes: int
    prompt_tokens: int
    lines: tuple[SpeedLine, ...]


class Bill(Noun):
    """Energy, carbon and money of something."""

    measurement: Measurement
    carbon: Carbon
    energy_cost: Money


class StageLine(Noun):
    """One step of the run. A cached one shows what it took when it was made; it took nothing now.

    Attributes:
        wall_seconds: of the attempt that made it.
        bill: of that attempt, and of those of the same run that failed, were stopped or were killed before it.
        lost_attempts: how many those were.
    """

    step: str
    cached: bool
    wall_seconds: float
    bill: Bill | None
    lost_attempts: int = 0

    @property
    def told(self) -> str:
        """The step, and whether its bill holds lost attempts."""
        return f"{self.step} (+{self.lost_attempts} lost)" if self.lost_attempts else self.step


class ServingPart(Noun):
    """What 1,000 generated tokens take with their prompts, and what the price book asks for them."""

    input_tokens: int
    per_1000_tokens: Bill
    charge: Money
    price_version: str


class Link(Noun):
    """One link of the lineage: an artefact, what it is, and the keys of what it was made from."""

    step: str
    key: str
    what: str
    made_from: tuple[str, ...] = ()


class Part(Noun):
    """What every product says of itself.

    Attributes:
        name: of the product.
        deployed: its gate let it through to be served.
        metrics: of what it is compared with and of the new one, on the same held-out data.
        verdict: of its gate; None if it has none.
    """

    name: str
    deployed: bool
    metrics: tuple[MetricLine, ...] = ()
    verdict: Verdict | None = None


class LlmPart(Part):
    """A language model: its documents, its training, some of its answers, its speed and what serving takes."""

    kind: Literal["llm"] = "llm"
    documents: DocumentsPart
    training: TrainingPart
    answers: tuple[Answer, ...]
    speed: SpeedPart
    serving: ServingPart | None


class FactsPart(Part):
    """Any other product.

    Attributes:
        kind: of the product.
        compared: what the metrics' first value is of, such as ``popularity``.
        facts: what a person wants to know, as (what, sentence with figures and how they are known).
    """

    kind: Literal["recommender", "agent", "synthetic"]
    compared: str = ""
    facts: tuple[tuple[str, str], ...]


AnyPart = Annotated[LlmPart | FactsPart, Field(discriminator="kind")]


class Receipt(Noun):
    """All of it. `deployed`: all products are. `prices`: where all money comes from."""

    factory: str
    run: str
    created_at: float
    wall_seconds: float
    machine: str
    deployed: bool
    products: tuple[AnyPart, ...]
    stages: tuple[StageLine, ...]
    total: Bill | None
    prices: str = "prices of an older version"
    lineage: tuple[Link, ...]

    @property
    def outcomes(self) -> tuple[RuleOutcome, ...]:
        """What the rules of all gates found."""
        return tuple(outcome for part in self.products if part.verdict for outcome in part.verdict.outcomes)

    @property
    def llm(self) -> LlmPart | None:
        """The first language model."""
        return next((part for part in self.products if isinstance(part, LlmPart)), None)

    @property
    def together(self) -> str:
        """What the total is the sum of, for people: `together`, or how many stages of how many have a figure."""
        metered = sum(line.bill is not None for line in self.stages)
        return "together" if metered == len(self.stages) else f"{metered} of {len(self.stages)} together"

    @property
    def unmetered(self) -> str:
        """Which stages have no figure and are in no sum, as a sentence; empty if all have one."""
        names = [line.step for line in self.stages if line.bill is None]
        verb = "stage has" if len(names) == 1 else "stages have"
        return f"{len(names)} {verb} no figure and no part in the sum: {', '.join(names)}." if names else ""


def load_receipt(path: Path) -> Receipt:
    """Return a receipt from its JSON file.

    Raises:
        IntegrityError: the file is no receipt of this version.
        FileNotFoundError: there is no such file.
    """
    try:
        return Receipt.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise IntegrityError(
            f"{path} is no receipt that this version of bessemer can read",
            hint="Read it with the version that wrote it, or move its folder out of the way.",
        ) from error


def provenance(measurement: Measurement) -> str:
    """Return how the joules are known and what they include, for people."""
    return f"{measurement.energy_class.value}, {measurement.boundary.value}"


def added(bills: list[Bill]) -> Bill | None:
    """Return the sum of bills, or None for none.

    The bounds add (errors of one model on one machine go the same way); the class is the weakest one in the sum.
    """
    if not bills:
        return None
    measurements = [bill.measurement for bill in bills]
    carbons = [bill.carbon for bill in bills]
    weakest = max((m.energy_class for m in measurements), key=list(EnergyClass).index)
    widest = max((m.boundary for m in measurements), key=list(Boundary).index)
    cost = Money(currency=bills[0].energy_cost.currency)
    for bill in bills:
        cost += bill.energy_cost
    first = measurements[0]
    return Bill(
        measurement=Measurement(
            seconds=sum(m.seconds for m in measurements),
            joules=sum(m.joules for m in measurements),
            joules_low=sum(m.joules_low for m in measurements),
            joules_high=sum(m.joules_high for m in measurements),
            energy_class=weakest,
            boundary=widest,
            source=first.source,
        ),
        carbon=carbons[0].model_copy(
            update={name: sum(getattr(c, name) for c in carbons) for name in ("grams", "grams_low", "grams_high")}
        ),
        energy_cost=cost,
    )
