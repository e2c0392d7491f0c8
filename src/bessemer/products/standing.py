"""Where a factory stands, from its own books: facts, each measured, modelled or assumed, and what is missing.

Owns the stages and what each asks for. Knows no price of growing; that is in `prospects.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bessemer.core.errors import IntegrityError, NotFound
from bessemer.core.nouns import EnergyClass, Noun
from bessemer.lake import open_lake
from bessemer.meter import load_price_book, open_ledger
from bessemer.products.config import FactoryConfig
from bessemer.products.home import Home
from bessemer.products.receipt import MetricLine, Receipt, load_receipt
from bessemer.products.terms import lake_growth

STAGES = ("nothing run", "proof of concept", "pilot", "production")
DAY = 86_400.0
WINDOW_DAYS = 30
"""Traffic is looked at over so many days."""

LEAST_GROUPS = 8
"""Of held-out documents; with fewer the interval is rough (`bessemer.evals.bootstrap`)."""

HALF_WIDTHS = {"pilot": 0.10, "production": 0.05}
"""How narrow the 95 % interval of the share of right answers must be, either way."""

LEAST_QUESTIONS = 20
"""An interval of fewer says little: when all are right or wrong it has no width."""

LEAST_REQUESTS, LEAST_DAYS, MOST_FAILED = 1_000, 7, 0.01
"""Of a pilot's traffic, before it may become production."""

ASSUMED = {
    "documents_per_day": 0.0,
    "requests_per_day": 0.0,
    "input_tokens_per_request": 300.0,
    "output_tokens_per_request": 50.0,
}
"""What is taken until the books know better."""

Provenance = Literal["measured", "modelled", "assumed"]


class Fact(Noun):
    """One figure of the factory, its unit last in the name; `source` says where it is from."""

    name: str
    value: float
    provenance: Provenance
    source: str


class Need(Noun):
    """One thing that a stage asks for; `advice` says what to do when it is not met."""

    stage: str
    name: str
    met: bool
    detail: str
    advice: str = ""


class Standing(Noun):
    """Where a factory stands.

    Attributes:
        factory: its name.
        stage: the furthest whose needs are met, with those of all before.
        facts: from the books.
        needs: of all stages, in order.
    """

    factory: str
    stage: str
    facts: tuple[Fact, ...]
    needs: tuple[Need, ...]

    @property
    def missing(self) -> tuple[Need, ...]:
        """What the next stage asks for and does not have."""
        later = STAGES[STAGES.index(self.stage) + 1 :][:1]
        return tuple(need for need in self.needs if need.stage in later and not need.met)

    def value(self, name: str) -> float:
        """Return a fact's value."""
        return next(fact.value for fact in self.facts if fact.name == name)


@dataclass(frozen=True, slots=True)
class _Traffic:
    """Requests of the last days: how many were answered and were not, over how many days, and what they took."""

    answered: int = 0
    failed: int = 0
    days: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    joules: float = 0.0
    energy: tuple[EnergyClass, ...] = ()


def standing(home: Home, config: FactoryConfig, base: Path, now: float) -> Standing:
    """Return where a factory stands.

    Args:
        home: its state; nothing is written to it.
        config: the factory.
        base: the folder that its relative paths start from.
        now: Unix time in seconds.

    Raises:
        ConfigError: its price book cannot be read.
    """
    receipt, traffic = _receipt(home, config.name), _traffic(home, config.name, now)
    needs = (*_proof(receipt), *_pilot(home, config, receipt), *_production(config, base, receipt, traffic))
    stage = STAGES[0]
    for later in STAGES[1:]:
        if not all(need.met for need in needs if need.stage == later):
            break
        stage = later
    facts = (*_lake(home, config), *_served(traffic), *_graded(config, receipt), *_taken(receipt, traffic))
    return Standing(factory=config.name, stage=stage, facts=facts, needs=needs)


def _receipt(home: Home, factory: str) -> Receipt | None:
    """Return the newest receipt of a factory that this version can read."""
    for path in reversed(home.receipts()):
        try:
            found = load_receipt(path)
        except IntegrityError:
            continue
        if found.factory == factory:
            return found
    return None


def _traffic(home: Home, model: str, now: float) -> _Traffic:
    if not (home.books.exists() or home.ledger_url):
        return _Traffic()
    since = [now - day * DAY for day in range(WINDOW_DAYS + 1)]
    with closing(open_ledger(home.books, home.ledger_url)) as ledger:
        found = {t.group["status"]: t for t in ledger.totals(("status",), kind="request", model=model, since=since[-1])}
        counts = [sum(t.entries for t in ledger.totals((), kind="request", model=model, since=at)) for at in since]
    ok, failed = found.get("ok"), found.get("error")
    days = max((day for day in range(1, len(counts)) if counts[day] > counts[day - 1]), default=0)
    return _Traffic(
        answered=ok.entries if ok else 0,
        failed=failed.entries if failed else 0,
        days=days,
        input_tokens=ok.usage.input_tokens if ok else 0,
        output_tokens=ok.usage.output_tokens if ok else 0,
        joules=ok.joules.value if ok else 0.0,
        energy=tuple(ok.joules_by_class) if ok else (),
    )


def _lake(home: Home, config: FactoryConfig) -> Iterator[Fact]:
    """Yield documents and bytes in the lake, and how they grow from version to version."""
    url = home.lake_of(config.name)
    folder = Path(url)
    if "://" not in url:
        held, pace = lake_growth(folder)
        told = f"files under {url}"
        yield Fact(name="lake_bytes", value=held, provenance="measured", source=told)
        if pace:
            yield Fact(name="lake_bytes_per_day", value=pace, provenance="measured", source=told)
        else:
            declared, told = config.plan.expected.lake_bytes_per_day, "the declaration's `plan: expected`"
            yield Fact(name="lake_bytes_per_day", value=declared, provenance="assumed", source=told)
    versions = []
    if "://" in url or folder.exists():
        try:
            versions = open_lake(url).history(f"{config.name}.documents")
        except NotFound:
            versions = []
    rows = versions[-1].rows if versions else 0
    yield Fact(name="documents", value=rows, provenance="measured", source="newest version of the table of documents")
    days = (versions[-1].at - versions[0].at) / DAY if versions else 0.0
    if days < 1:
        yield _assumed("documents_per_day", "no two versions of the table lie a day apart")
        return
    grown = (rows - versions[0].rows) / days
    told = f"{len(versions)} versions over {days:.0f} days"
    yield Fact(name="documents_per_day", value=grown, provenance="measured", source=told)


def _served(traffic: _Traffic) -> Iterator[Fact]:
    """Yield the traffic of the last days."""
    if not traffic.answered:
        for name in ("requests_per_day", "input_tokens_per_request", "output_tokens_per_request"):
            yield _assumed(name, f"no request was answered in {WINDOW_DAYS} days")
        return
    told = f"{traffic.answered:,} answered requests of the last {traffic.days:g} days"
    for name, value in (
        ("requests_per_day", traffic.answered / traffic.days),
        ("input_tokens_per_request", traffic.input_tokens / traffic.answered),
        ("output_tokens_per_request", traffic.output_tokens / traffic.answered),
    ):
        yield Fact(name=name, value=value, provenance="measured", source=told)


def _graded(config: FactoryConfig, receipt: Receipt | None) -> Iterator[Fact]:
    """Yield the share of answers that the examination accepts; users' own verdicts are not captured."""
    line = _exact(receipt)
    if line is None:
        told = "no examination yet: the declaration's `plan: expected`"
        yield Fact(name="accepted_ratio", value=config.plan.expected.accepted_ratio, provenance="assumed", source=told)
        return
    told = f"exact match on {line.samples} held-out questions, {line.after_low:.0%} to {line.after_high:.0%}"
    yield Fact(name="accepted_ratio", value=line.after, provenance="measured", source=told)


def _taken(receipt: Receipt | None, traffic: _Traffic) -> Iterator[Fact]:
    """Yield what an answer and a run take."""
    if traffic.answered:
        known: Provenance = "measured" if set(traffic.energy) <= {EnergyClass.MEASURED} else "modelled"
        told = f"the ledger's requests ({', '.join(each.value for each in traffic.energy)})"
        yield Fact(name="joules_per_answer", value=traffic.joules / traffic.answered, provenance=known, source=told)
    elif receipt and receipt.llm and receipt.llm.serving:
        found = receipt.llm.serving.per_1000_tokens.measurement
        tokens = ASSUMED["output_tokens_per_request"]
        told = f"the receipt's speed test ({found.energy_class.value}), for {tokens:g} assumed tokens"
        yield Fact(name="joules_per_answer", value=found.joules * tokens / 1000, provenance="modelled", source=told)
    if receipt and receipt.total:
        spent = receipt.total.measurement
        known = "measured" if spent.energy_class is EnergyClass.MEASURED else "modelled"
        told = f"receipt of run {receipt.run} ({spent.energy_class.value})"
        yield Fact(name="run_joules", value=spent.joules, provenance=known, source=told)


def _assumed(name: str, why: str) -> Fact:
    return Fact(name=name, value=ASSUMED[name], provenance="assumed", source=why)


def _exact(receipt: Receipt | None) -> MetricLine | None:
    found = [line for line in receipt.llm.metrics if line.metric == "exact_match"] if receipt and receipt.llm else []
    return found[0] if found else None


def _proof(receipt: Receipt | None) -> Iterator[Need]:
    told = f"run {receipt.run} has a receipt" if receipt else "no run has finished"
    yield Need(stage=STAGES[1], name="a run", met=receipt is not None, detail=told, advice="bessemer run")


def _pilot(home: Home, config: FactoryConfig, receipt: Receipt | None) -> Iterator[Need]:
    stage = STAGES[2]
    passed = bool(receipt and receipt.deployed)
    failed = [o.sentence for o in receipt.outcomes if not o.passed] if receipt else ["nothing was examined"]
    yield Need(
        stage=stage,
        name="gate passed",
        met=passed,
        detail="all rules hold" if passed else "; ".join(failed),
        advice="More or better documents, or more training (product.train.max_tokens).",
    )
    deployed = {each.name for each in home.deployments()} >= set(config.made)
    told = "a model is deployed" if deployed else "no model is deployed"
    yield Need(stage=stage, name="deployed", met=deployed, detail=told, advice="A run that passes its gate deploys.")
    yield _interval(stage, receipt)
    groups = receipt.llm.documents.groups_heldout if receipt and receipt.llm else 0
    yield Need(
        stage=stage,
        name="held-out groups",
        met=groups >= LEAST_GROUPS,
        detail=f"{groups} groups of documents are held out, {LEAST_GROUPS} are asked",
        advice="Add documents from other files or modules, or raise product.pairs.heldout_ratio.",
    )


def _production(config: FactoryConfig, base: Path, receipt: Receipt | None, traffic: _Traffic) -> Iterator[Need]:
    stage, named = STAGES[3], config.meter.price_book
    book = load_price_book(base / named if named else None)
    yield Need(
        stage=stage,
        name="price book",
        met=not book.example,
        detail=book.told,
        advice="Copy the shipped price.toml, put in your prices, and name it as meter.price_book.",
    )
    yield _interval(stage, receipt)
    yield Need(
        stage=stage,
        name="served traffic",
        met=traffic.answered >= LEAST_REQUESTS and traffic.days >= LEAST_DAYS,
        detail=f"{traffic.answered:,} requests answered over {traffic.days:g} days; {LEAST_REQUESTS:,} over "
        f"{LEAST_DAYS} are asked",
        advice="Let users try it: bessemer up",
    )
    share = traffic.failed / (traffic.failed + traffic.answered) if traffic.answered else 1.0
    yield Need(
        stage=stage,
        name="few failures",
        met=share <= MOST_FAILED,
        detail=f"{share:.1%} of the requests failed, {MOST_FAILED:.0%} is the most"
        if traffic.answered
        else "no traffic",
        advice="The console and the journal say which failed and why.",
    )


def _interval(stage: str, receipt: Receipt | None) -> Need:
    """Return whether enough questions are held out for the share of right answers to be known well enough."""
    line, wanted = _exact(receipt), HALF_WIDTHS[stage]
    half = (line.after_high - line.after_low) / 2 if line else 1.0
    count = line.samples if line else 0
    share = min(max(line.after, 0.1), 0.9) if line else 0.5
    # Of a share p of n independent answers the 95 % interval is 1.96 sqrt(p (1 - p) / n) either way.
    asked = max(math.ceil(share * (1 - share) * (1.96 / wanted) ** 2), math.ceil(count * (half / wanted) ** 2))
    return Need(
        stage=stage,
        name="held-out questions",
        met=line is not None and half <= wanted and count >= LEAST_QUESTIONS,
        detail=f"{count} questions give ± {half:.0%}; ± {wanted:.0%} is asked, about {asked:,} questions",
        advice=f"product.pairs.heldout_questions: {asked}",
    )
