"""What is kept of runs: amounts known before, residuals of time and energy, and forecasts that follow the amounts."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Boundary, Carbon, EnergyClass, Measurement, Verdict
from bessemer.core.units import Money
from bessemer.lake.folder import FolderSource
from bessemer.lake.pydocs.source import PydocsSource
from bessemer.products.config import FactoryConfig, load_factory
from bessemer.products.home import Home
from bessemer.products.llm.amounts import amounts
from bessemer.products.llm.config import LlmConfig
from bessemer.products.receipt import Bill, DocumentsPart, LlmPart, Receipt, SpeedPart, StageLine, TrainingPart
from bessemer.products.receipt_html import write_receipt
from bessemer.products.reconciliation import forecast, keep_residuals, reconcile
from bessemer.twin.catalogue import table


def bill(seconds: float) -> Bill:
    joules = 20.0 * seconds
    return Bill(
        measurement=Measurement(
            seconds=seconds,
            joules=joules,
            joules_low=joules,
            joules_high=joules,
            energy_class=EnergyClass.MODELLED,
            boundary=Boundary.HOST,
            source="test",
        ),
        carbon=Carbon(grams=1, grams_low=1, grams_high=1, grid="world", grams_per_kilowatt_hour=400, source="test"),
        energy_cost=Money(micros=10),
    )


def ran(run: str, at: float, seconds: dict[str, float], cached: tuple[str, ...] = ()) -> Receipt:
    lines = tuple(
        StageLine(step=name, cached=name in cached, wall_seconds=took, bill=bill(took))
        for name, took in seconds.items()
    )
    return Receipt(
        factory="mine",
        run=run,
        created_at=at,
        wall_seconds=sum(seconds.values()),
        machine="test",
        deployed=True,
        products=(llm_part(),),
        stages=lines,
        total=None,
        lineage=(),
    )


def llm_part() -> LlmPart:
    return LlmPart(
        name="pydocs",
        deployed=True,
        documents=DocumentsPart(
            sources=("here",),
            documents=100,
            kept=90,
            dropped={},
            characters=9000,
            examples_train=40,
            examples_heldout=20,
            groups_heldout=5,
        ),
        training=TrainingPart(
            base="b",
            method="LoRA",
            tokens=1,
            steps=1,
            seconds=1,
            tokens_per_second=1,
            precision="fp32",
            device="cpu",
            curve=(),
        ),
        metrics=(),
        verdict=Verdict(passed=True, outcomes=()),
        answers=(),
        speed=SpeedPart(engine="e", weights="int8", model_bytes=1, prompt_tokens=1, lines=()),
        serving=None,
    )


def product(tokens: int) -> LlmConfig:
    pairs = {"train_questions": 300, "train_passages": 100}
    return LlmConfig.model_validate({"pairs": pairs, "train": {"max_tokens": tokens}})


def keep(home: Home, receipt: Receipt, known: dict[str, float]) -> None:
    write_receipt(home.receipt(receipt.run), receipt)
    keep_residuals(home, receipt.run, known)


def test_amounts_follow_the_declaration(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x" * 3_100)
    (tmp_path / "b.md").write_text("x" * 10)
    found = amounts([FolderSource(path=".")], product(8_000), tmp_path)
    assert found["ingest"] == found["curate"] == 3 + 1
    assert found["train"] == 8_000
    assert amounts([FolderSource(path=".")], product(10**9), tmp_path)["train"] == 400 * 99
    assert found["evaluate"] == 120 + 60
    assert amounts([PydocsSource(max_documents=70)], product(32), tmp_path)["ingest"] == 70
    with pytest.raises(NotFound):
        amounts([FolderSource(path="gone")], product(32), tmp_path)


def test_a_run_keeps_its_residuals_of_time_and_energy(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for index, tokens in enumerate((2_000, 4_000, 6_000, 5_000)):
        took = 3 * (17.0 + 0.0066 * tokens)
        keep(home, ran(f"r{index}", index, {"train": took, "merge": 20.0}), {"train": float(tokens)})
    first = json.loads((home.receipt("r0") / "reconciliation.json").read_text())
    last = reconcile(home)
    assert first["predicted_seconds"] == pytest.approx(17.0 + 0.0066 * 2_000 + 8.5)
    assert first["error_ratio"] < -0.5, "the first run knows only the catalogue"
    assert first["energy_error_ratio"] < -0.5
    assert last.run == "r3"
    assert abs(last.error_ratio) < 0.05
    assert last.energy_error_ratio == pytest.approx(0.0, abs=0.05)
    assert {error.stage: error.runs for error in last.errors} == {"train": 4, "merge": 4}
    assert all(error.median_energy_error_ratio is not None for error in last.errors)


def test_a_forecast_follows_the_amounts_and_the_machine(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for index, tokens in enumerate((2_000, 4_000, 6_000)):
        keep(home, ran(f"r{index}", index, {"train": 3 * (17.0 + 0.0066 * tokens)}), {"train": float(tokens)})
    config, base = load_factory(None)
    found = {line.stage: line for line in forecast([home], config.sources, product(30_000), base)}
    assert found["train"].amount == 30_000
    assert found["train"].seconds == pytest.approx(3 * (17.0 + 0.0066 * 30_000), rel=0.05)
    assert found["train"].low_seconds < found["train"].seconds < found["train"].high_seconds
    assert found["merge"].seconds == pytest.approx(8.5), "the catalogue's, until one ran here"


def test_what_is_cached_or_of_an_older_version_teaches_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    keep(home, ran("r0", 0, {"train": 50.0}), {"train": 2_000.0})
    keep(home, ran("r1", 1, {"train": 50.0}, cached=("train",)), {"train": 2_000.0})
    assert not (home.receipt("r1") / "reconciliation.json").exists()
    old = home.receipt("r2")
    old.mkdir(parents=True)
    (old / "receipt.json").write_text('{"factory": "mine"}')
    assert reconcile(home).errors[0].runs == 1
    with pytest.raises(NotFound, match="r1"):
        reconcile(home, "r1")


def load_benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "bench_reconcile.py"
    spec = importlib.util.spec_from_file_location("bench_reconcile", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_predicts_before_it_runs_and_counts_what_was_not_calibrated_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in for the machine: overheads 1.7 times, rates 0.6 times the catalogue's, and 5 % of noise."""
    bench, noise = load_benchmark(), random.Random(7)

    class Machine:
        def __init__(self, config: FactoryConfig, base: Path, home: Home) -> None:
            self.config, self.base, self.home = config, base, home

        def run(self) -> None:
            assert (self.home.path / "prediction.json").is_file(), "predicted before"
            known = amounts(self.config.sources, self.config.product, self.base)
            took = {
                row["kind"]: noise.lognormvariate(0, 0.05)
                * (
                    1.7 * float(row["overhead_seconds"])
                    + 0.6 * float(row["seconds_per_unit"]) * known.get(row["kind"], 1.0)
                )
                for row in table("stages")
            }
            for folder in (self.home.artifacts, Path(self.home.lake_url)):
                folder.mkdir()
            keep(self.home, ran(self.home.path.name, time.time(), took), known)

    def imported(name: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(bench, "Factory", Machine)
    monkeypatch.setattr(bench, "import_base", imported)
    monkeypatch.setattr(sys, "argv", ["bench", "--work", str(tmp_path / "work"), "--no-result"])
    bench.main()
    first = capsys.readouterr().out
    assert first.count("(calibration)") == 3
    whole = next(line for line in first.splitlines() if line.startswith("whole run"))
    errors = [float(word.rstrip("%,")) for word in whole.split() if word.rstrip(",").endswith("%")]
    assert len(errors) == 2
    assert max(errors) < 15
    assert max(errors) > 0
    bench.main()
    assert capsys.readouterr().out == first, "finished runs are not run again"
