"""A receipt is drawn from its own figures only, on a terminal and as a page."""

from datetime import date
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bessemer.cli.receipt_view import draw_receipt
from bessemer.core.nouns import Boundary, Carbon, EnergyClass, Interval, Measurement, RuleOutcome, Verdict
from bessemer.core.units import Money
from bessemer.products.config import load_factory
from bessemer.products.home import Home, write_whole
from bessemer.products.receipt import (
    Answer,
    Bill,
    DocumentsPart,
    Link,
    LlmPart,
    MetricLine,
    Receipt,
    ServingPart,
    SpeedLine,
    SpeedPart,
    StageLine,
    TrainingPart,
    added,
)
from bessemer.products.receipt_html import receipt_page
from bessemer.products.terms import terms_of
from bessemer.twin.plan import plan
from bessemer.twin.site import load_site
from bessemer.twin.workload import Serving


def bill(joules: float, kind: EnergyClass = EnergyClass.MODELLED) -> Bill:
    return Bill(
        measurement=Measurement(
            seconds=1.0,
            joules=joules,
            joules_low=joules / 2,
            joules_high=joules * 2,
            energy_class=kind,
            boundary=Boundary.HOST,
            source="a model",
        ),
        carbon=Carbon(
            grams=joules / 10,
            grams_low=0,
            grams_high=joules,
            grid="world",
            grams_per_kilowatt_hour=480,
            source="a table, 2023",
        ),
        energy_cost=Money(micros=round(joules)),
    )


def receipt(*, deployed: bool = True) -> Receipt:
    outcome = RuleOutcome(
        rule="better_than",
        metric="token_f1",
        passed=deployed,
        before=0.2,
        after=0.7,
        difference=Interval(value=0.5, low=0.4, high=0.6, confidence=0.95),
        sentence="token_f1 rose from 0.20 to 0.70 [0.40, 0.60]",
    )
    stages = (
        StageLine(step="train", cached=True, wall_seconds=100.0, bill=bill(1000.0)),
        StageLine(step="gate", cached=False, wall_seconds=0.2, bill=bill(2.0)),
    )
    return Receipt(
        factory="mine",
        run="r-1",
        created_at=1_800_000_000.0,
        wall_seconds=101.0,
        machine="Linux x86_64",
        deployed=deployed,
        products=(llm_part(deployed, outcome),),
        stages=stages,
        total=added([line.bill for line in stages if line.bill]),
        lineage=(Link(step="compile", key="a" * 64, what="int8 weights", made_from=("b" * 64,)),),
    )


def llm_part(deployed: bool, outcome: RuleOutcome) -> LlmPart:
    return LlmPart(
        name="mine",
        deployed=deployed,
        documents=DocumentsPart(
            sources=("docs/",),
            documents=1200,
            kept=1000,
            dropped={"too_short": 150, "duplicate": 50},
            characters=5,
            examples_train=400,
            examples_heldout=100,
            groups_heldout=9,
        ),
        training=TrainingPart(
            base="base-135m",
            method="LoRA rank 16",
            tokens=80_000,
            steps=80,
            seconds=160.0,
            tokens_per_second=500.0,
            precision="bf16",
            device="cpu",
            curve=tuple((step, 3.0 - step / 50) for step in range(1, 81)),
        ),
        metrics=(
            MetricLine(
                metric="token_f1",
                samples=100,
                higher_is_better=True,
                before=0.2,
                before_low=0.15,
                before_high=0.25,
                after=0.7,
                after_low=0.65,
                after_high=0.75,
            ),
        ),
        verdict=Verdict(passed=deployed, outcomes=(outcome,)),
        answers=(
            Answer(
                document_ids=("d",), question="What does <b> do?", reference="Bold & strong", before="?", after="Bold"
            ),
        ),
        speed=SpeedPart(
            engine="openvino",
            weights="int8",
            model_bytes=138_000_000,
            prompt_tokens=128,
            lines=(
                SpeedLine(
                    streams=1,
                    time_to_first_token_seconds=0.1,
                    time_per_output_token_seconds=0.009,
                    output_tokens_per_second=100.0,
                ),
            ),
        ),
        serving=ServingPart(
            input_tokens=3000, per_1000_tokens=bill(90.0), charge=Money(micros=700), price_version="example-1"
        ),
    )


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order."""

    void = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            assert not (name in ("src", "href") and value), f"{tag} asks for {value}"
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_whole_and_escapes_what_documents_say() -> None:
    page = Balanced()
    page.feed(receipt_page(receipt()))
    assert page.open == []
    said = " ".join(page.words)
    for words in ("What does <b> do?", "Bold & strong", "too_short", "modelled, host", "token_f1 rose", "deployed"):
        assert words in said
    assert "<script" not in receipt_page(receipt())


@pytest.mark.parametrize("deployed", [True, False])
def test_the_terminal_shows_every_part_in_80_columns(deployed: bool) -> None:
    text = StringIO()
    Console(file=text, width=80, color_system=None).print(draw_receipt(receipt(deployed=deployed)))
    said = text.getvalue()
    for words in ("1,200 read", "150 too_short", "80,000 tokens", "token_f1 rose", "modelled, host", "low – high"):
        assert words in said
    assert next(line for line in said.splitlines() if line.strip().startswith("train ")).split()[1] == "cached"
    assert ("not deployed" in said) is not deployed
    assert max(len(line) for line in said.splitlines()) <= 80
    assert "…" not in said, "something was cut off"
    assert len(said.splitlines()) <= 55


def test_where_joules_are_known_in_different_ways_each_stage_says_how() -> None:
    stages = (
        StageLine(step="train", cached=False, wall_seconds=1.0, bill=bill(9.0, EnergyClass.MEASURED)),
        StageLine(step="gate", cached=False, wall_seconds=1.0, bill=bill(2.0)),
    )
    text = StringIO()
    Console(file=text, width=100, color_system=None).print(
        draw_receipt(receipt().model_copy(update={"stages": stages}))
    )
    lines = text.getvalue().splitlines()
    assert any("train" in line and "measured, host" in line for line in lines)
    assert any("gate" in line and "modelled, host" in line for line in lines)


@pytest.mark.parametrize(
    ("unmetered", "label", "sentence"),
    [
        ((), "together", ""),
        (("merge",), "2 of 3 together", "1 stage has no figure and no part in the sum: merge."),
        (("merge", "speed"), "2 of 4 together", "2 stages have no figure and no part in the sum: merge, speed."),
    ],
)
def test_the_sum_says_how_many_stages_it_leaves_out(unmetered: tuple[str, ...], label: str, sentence: str) -> None:
    whole = receipt()
    more = tuple(StageLine(step=step, cached=False, wall_seconds=9.0, bill=None) for step in unmetered)
    made = whole.model_copy(update={"stages": (*whole.stages, *more)})
    text = StringIO()
    Console(file=text, width=80, color_system=None).print(draw_receipt(made))
    said, page = " ".join(text.getvalue().split()), receipt_page(made)
    assert f" {label} " in said and f">{label.capitalize()} " in page
    assert "…" not in said
    assert (sentence or "together 1") in said and sentence in page
    assert ("no figure" in said) == ("no figure" in page) == bool(unmetered)


def test_a_receipt_of_which_nothing_was_metered_says_so() -> None:
    stages = (StageLine(step="train", cached=False, wall_seconds=9.0, bill=None),)
    made = changed(receipt(), serving=None).model_copy(update={"stages": stages, "total": None})
    text = StringIO()
    Console(file=text, width=80, color_system=None).print(draw_receipt(made))
    for said in (text.getvalue(), receipt_page(made)):
        assert "1 stage has no figure" in said


def test_bills_add_and_keep_the_weakest_class() -> None:
    total = added([bill(10, EnergyClass.MEASURED), bill(5, EnergyClass.ASSUMED)])
    assert total is not None
    assert total.measurement.joules == 15
    assert total.measurement.energy_class is EnergyClass.ASSUMED
    assert total.energy_cost == Money(micros=15)
    assert added([]) is None


@pytest.mark.parametrize("after", [0.0, 0.625])
def test_what_a_run_graded_is_what_the_planner_counts_as_accepted(tmp_path: Path, after: float) -> None:
    config, home = load_factory(None)[0], Home(tmp_path / "home")
    line = receipt().products[0].metrics[0]
    found = {"metric": "exact_match", "samples": 64, "after": after, "after_low": after, "after_high": after + 0.1}
    graded = line.model_copy(update=found)
    for name, metrics in (("another", (line, graded)), (config.name, (line,))):
        write_whole(home.receipt(name) / "receipt.json", told(name, metrics))
        assert terms_of(config, tmp_path, home).accepted.startswith("assumed")
    write_whole(home.receipt("graded") / "receipt.json", told(config.name, (line, graded)))
    terms = terms_of(config, tmp_path, home)
    assert terms.accepted.startswith("measured") and "64" in terms.accepted and "exact_match" in terms.accepted
    assert (terms.accepted_ratio.mid, terms.accepted_ratio.high) == (after, after + 0.1)
    work = Serving(model="Llama-3.1-8B")
    answer = plan(load_site("dgx-h100"), work, date(2026, 11, 23), terms).answer["accepted_outputs_per_joule"]
    assert (answer.mid > 0) == (after > 0) and answer.high > 0


def told(factory: str, metrics: tuple[MetricLine, ...]) -> str:
    return changed(receipt(), metrics=metrics).model_copy(update={"factory": factory}).model_dump_json()


def changed(whole: Receipt, **changes: object) -> Receipt:
    """Return a receipt whose language model is another."""
    part = whole.products[0].model_copy(update=changes)
    return whole.model_copy(update={"products": (part,), "deployed": part.deployed})
