"""An assessment: the stage follows the books, what is missing follows the stage, money obeys the decision tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bessemer.cli.app import app
from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import RuleOutcome, Subject, Usage, Verdict
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.assessment import Asked, Assessment, assess, assessment_page
from bessemer.products.config import FactoryConfig
from bessemer.products.home import Deployment, Home
from bessemer.products.receipt import MetricLine, Receipt
from bessemer.products.receipt_html import write_receipt

from .test_reconciliation import ran

NOW = 1_795_000_000.0
DAY = 86_400.0
BOOK = 'version = "mine-1"\n[default]\ninput = 1_000_000\noutput = 10_000_000\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nText.\n")
    (tmp_path / "prices.toml").write_text(BOOK)
    return tmp_path


def declared(**parts: object) -> FactoryConfig:
    return FactoryConfig.model_validate({"name": "mine", "sources": [{"kind": "folder", "path": "docs"}], **parts})


PRICED = {"meter": {"price_book": "prices.toml"}}


def receipt(questions: int, half: float, *, passed: bool = True, groups: int = 20) -> Receipt:
    line = MetricLine(
        metric="exact_match",
        samples=questions,
        higher_is_better=True,
        before=0.1,
        before_low=0.1,
        before_high=0.1,
        after=0.6,
        after_low=0.6 - half,
        after_high=0.6 + half,
    )
    outcome = RuleOutcome(rule="better_than", metric="token_f1", passed=passed, after=0.6, sentence="token_f1 rose")
    made = ran("r0", NOW - DAY, {"train": 60.0})
    assert made.llm
    documents = made.llm.documents.model_copy(update={"groups_heldout": groups})
    verdict = Verdict(passed=passed, outcomes=(outcome,))
    changes = {"metrics": (line,), "verdict": verdict, "documents": documents, "deployed": passed}
    return made.model_copy(update={"products": (made.llm.model_copy(update=changes),), "deployed": passed})


def home_with(folder: Path, found: Receipt | None, *, deployed: bool = True) -> Home:
    home = Home(folder / "state")
    if found:
        write_receipt(home.receipt(found.run), found)
    if found and deployed:
        home.deploy(Deployment(name="mine", run="r0", key="k", path="p", deployed_at=NOW))
    return home


def serve(home: Home, answered: int, failed: int, days: int) -> None:
    """Book requests to the factory's model, spread evenly over the last days."""
    at = [0.0]
    meter = open_meter(MeterConfig(durability="interval", sensors="model"), home.books, lambda: at[0])
    for index in range(answered + failed):
        at[0] = NOW - days * DAY + 60 + index * days * DAY / (answered + failed)
        handle = meter.start(Subject(kind="request", id=f"q{index}", project="p", model="mine"))
        meter.stop(handle, Usage(input_tokens=400, output_tokens=40), "ok" if index < answered else "error")
    meter.close()


def assessed(home: Home, config: FactoryConfig, folder: Path, **asked: object) -> Assessment:
    return assess(home, config, folder, Asked.model_validate({"sites": ("dgx-h100",), **asked}), NOW)


def test_a_fresh_factory_has_run_nothing_and_all_is_assumed(folder: Path) -> None:
    home = Home(folder / "state", make=False)
    found = assessed(home, declared(), folder)
    assert found.standing.stage == "nothing run"
    assert [need.name for need in found.missing] == ["a run", "budget"]
    facts = {fact.name: fact for fact in found.standing.facts}
    assert facts["requests_per_day"].provenance == facts["accepted_ratio"].provenance == "assumed"
    assert len(found.prospects[0].stages) == 3
    assert not home.path.exists(), "looking makes nothing"


@pytest.mark.parametrize(
    ("found", "deployed", "missing"),
    [
        (receipt(200, 0.06, passed=False), False, {"gate passed", "deployed"}),
        (receipt(24, 0.2), True, {"held-out questions"}),
        (receipt(5, 0.0), True, {"held-out questions"}),
        (receipt(200, 0.06, groups=3), True, {"held-out groups"}),
    ],
)
def test_a_proof_of_concept_says_what_a_pilot_lacks(
    folder: Path, found: Receipt, deployed: bool, missing: set[str]
) -> None:
    at = assessed(home_with(folder, found, deployed=deployed), declared(), folder)
    assert at.standing.stage == "proof of concept"
    assert {need.name for need in at.missing} == missing | {"budget"}
    assert all(need.advice for need in at.missing)


def test_a_pilot_becomes_production_by_its_books(folder: Path) -> None:
    home = home_with(folder, receipt(200, 0.06))
    pilot = assessed(home, declared(), folder, budget_usd=1e9)
    assert pilot.standing.stage == "pilot"
    assert {n.name for n in pilot.missing} == {"price book", "held-out questions", "served traffic", "few failures"}
    write_receipt(home.receipt("r0"), receipt(400, 0.045))
    serve(home, answered=1200, failed=4, days=8)
    done = assessed(home, declared(**PRICED), folder)
    assert done.standing.stage == "production"
    assert done.missing == ()
    facts = {fact.name: fact for fact in done.standing.facts}
    assert facts["requests_per_day"].value == pytest.approx(150, rel=0.01)
    assert facts["output_tokens_per_request"].value == 40
    assert facts["requests_per_day"].provenance == "measured"
    assert facts["joules_per_answer"].provenance == "modelled", "there is no sensor in this test"
    assert done.demand.usd_per_accepted == pytest.approx((400 * 1.0 + 40 * 10.0) / 1e6)
    assert done.prospects[0].stages == (), "nothing is left to grow through"


def test_many_failures_keep_a_pilot_where_it_is(folder: Path) -> None:
    home = home_with(folder, receipt(400, 0.045))
    serve(home, answered=1000, failed=100, days=8)
    found = assessed(home, declared(**PRICED), folder, budget_usd=1e9)
    assert {need.name for need in found.missing} == {"few failures"}


def test_money_follows_what_an_answer_is_worth(folder: Path) -> None:
    home = home_with(folder, receipt(200, 0.06))
    worth = {}
    for usd in (0.0, 0.05, 0.5):
        found = assessed(home, declared(), folder, answer_usd=usd, requests_per_day=200_000)
        worth[usd] = {each.scenario: each for each in found.prospects}
        for each in found.prospects:
            assert each.option_usd == pytest.approx(each.staged_usd - each.committed_usd)
            assert each.option_usd >= 0
            assert each.cash_flow[0] == (0.0, -each.stages[0].estimated_usd)
    assert worth[0.0]["middle"].staged_usd == 0.0
    assert worth[0.0]["middle"].committed_usd < 0
    assert 0 < worth[0.05]["high"].staged_usd < worth[0.5]["high"].staged_usd
    assert worth[0.5]["low"].staged_usd < worth[0.5]["middle"].staged_usd < worth[0.5]["high"].staged_usd
    assert [stage.stage for stage in worth[0.5]["low"].stages] == ["production"], "the pilot is reached, so it is paid"


def test_a_site_that_does_not_hold_it_says_so(folder: Path) -> None:
    found = assessed(home_with(folder, None), declared(), folder, requests_per_day=1e12)
    assert all("replicas" in each.problem for each in found.prospects)
    page = assessment_page(found)
    assert "replicas" in page
    assert "nothing run" in page


def test_bad_input_is_one_clear_error(folder: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        assessed(home_with(folder, None), declared(), folder, sites=("nowhere",))
    with pytest.raises(ConfigError, match="price book"):
        assessed(home_with(folder, None), declared(meter={"price_book": "gone.toml"}), folder)
    (folder / "prices.toml").write_text('currency = "EUR"\n' + BOOK)
    with pytest.raises(ConfigError, match="EUR") as caught:
        assessed(home_with(folder, None), declared(**PRICED), folder)
    assert "--answer-usd" in caught.value.hint


def test_the_verb_speaks_to_people_and_to_machines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BESSEMER_HOME", str(folder / "state"))
    (folder / "factory.yaml").write_text("name: mine\nsize: tiny\nsources:\n  - {kind: folder, path: docs}\n")
    said = CliRunner().invoke(app, ["assess", "-f", "factory.yaml", "--html", "page.html"])
    assert said.exit_code == 0, said.output
    assert "nothing run" in said.output
    assert "missing before proof of concept" in said.output
    assert "assumed" in said.output
    assert "<table>" in (folder / "page.html").read_text()
    done = CliRunner().invoke(app, ["assess", "-f", "factory.yaml", "--site", "dgx-h100", "--json"])
    found = Assessment.model_validate(json.loads(done.stdout))
    assert {each.site for each in found.prospects} == {"dgx-h100"}
    assert found.next_run
