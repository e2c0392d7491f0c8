"""How far off is the planner on runs of this machine, of sizes it has not seen, after it has watched three?

    uv run python benchmarks/bench_reconcile.py [--calibration 3] [--runs 10] [--work FOLDER]

A reduced default factory is run for real, in a fresh home each time, with documents, examples, epochs, questions and
the speed test's tokens drawn anew for each run. Before a run starts, what each of its stages will take is predicted
from the declaration and the runs before it and written down (`prediction.json`); afterwards it is compared with the
receipt. The first runs calibrate and are not counted; later ones stay in what the planner has seen, as they would. The
base model is imported to a folder once and training is in fp32 without a trial, so that a run takes one or two minutes
on two idle cores. Finished runs in `--work` are not run again. One line is appended to `results/reconcile.jsonl`.

Joules are the meter's: measured where there is a sensor, else modelled from the processor's time; the line says which.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bessemer.cli.environment import quiet_libraries
from bessemer.meter.processor import read_processor
from bessemer.models import import_base
from bessemer.products.config import FactoryConfig
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.products.overview import read_receipt
from bessemer.products.reconciliation import forecast, reconcile

HERE = Path(__file__).parent


def declared(draws: random.Random, base: Path, scale: float) -> FactoryConfig:
    """Return a reduced default factory of another size each time; `scale` below 1 makes it smaller still."""

    def drawn(low: int, high: int) -> int:
        return max(2, round(scale * draws.randint(low, high)))

    learnt, asked = drawn(8, 24), drawn(8, 32)
    product = {
        "kind": "llm",
        "base": str(base),
        "pairs": {
            "train_questions": learnt,
            "train_passages": max(1, learnt // 2),
            "heldout_questions": asked,
            "heldout_passages": max(1, asked // 2),
        },
        "train": {
            "max_tokens": 6_000,
            "precision": "fp32",
            "batch_tokens": 512,
            "epochs": draws.choice((1, 2)),
            "checkpoint_steps": 100,
        },
        "evaluation": {"max_output_tokens": 32},
        "gate": {"rules": [{"kind": "at_least", "metric": "token_f1", "value": 0.0}]},
        "speed": {"streams": (1, 2), "repeats": 1, "output_tokens": drawn(8, 48), "prompt_tokens": 64},
    }
    sources = [{"kind": "pydocs", "max_documents": draws.randint(1_000, 9_000)}]
    return FactoryConfig.model_validate({"name": "reduced", "sources": sources, "product": product})


def run_one(config: FactoryConfig, home: Home, before: list[Home]) -> None:
    """Predict a run, write that down, run it, and drop what it made but its receipt."""
    lines = forecast(before, config.sources, config.product, home.path)
    told = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "load": os.getloadavg()[0]}
    stages = [line.model_dump() for line in lines]
    (home.path / "prediction.json").write_text(json.dumps({**told, "stages": stages}, indent=2))
    (home.path / "factory.json").write_text(config.model_dump_json(indent=2))
    Factory(config, home.path, home).run()
    shutil.rmtree(home.artifacts)
    shutil.rmtree(home.lake_url)


def compared(home: Home) -> dict[str, Any]:
    """Return a run beside what was written down before it: seconds and joules of each stage and of all."""
    predicted = json.loads((home.path / "prediction.json").read_text())
    took = {line.stage: line for line in reconcile(home).stages}
    stages = {
        line["stage"]: {
            "amount": line["amount"],
            "seconds": (line["seconds"], took[line["stage"]].actual_seconds),
            "joules": (line["joules"], took[line["stage"]].actual_joules),
        }
        for line in predicted["stages"]
        if line["stage"] in took
    }
    whole = {
        unit: tuple(sum(s[unit][side] for s in stages.values()) for side in (0, 1)) for unit in ("seconds", "joules")
    }
    measured = {stage.bill.measurement.energy_class.value for stage in read_receipt(home, None).stages if stage.bill}
    return {"at": predicted["at"], "load": predicted["load"], "energy": sorted(measured), "stages": stages, **whole}


def away(pair: tuple[float, float]) -> float:
    """Return the absolute error of (predicted, actual) as a ratio of the actual."""
    return abs(pair[0] / pair[1] - 1) if pair[1] else 0.0


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median errors of time and energy, by stage and of whole runs."""
    names = list(runs[0]["stages"])
    return {
        "runs": len(runs),
        "whole": {unit: statistics.median(away(run[unit]) for run in runs) for unit in ("seconds", "joules")},
        "stages": {
            name: {u: statistics.median(away(run["stages"][name][u]) for run in runs) for u in ("seconds", "joules")}
            for name in names
        },
    }


def shown(index: int, run: dict[str, Any], is_calibration: bool) -> str:
    (guess, took), (joules, spent) = run["seconds"], run["joules"]
    return (
        f"run {index}{' (calibration)' if is_calibration else ''}: predicted {guess:.0f} s, took {took:.0f} s "
        f"({guess / took - 1:+.0%}); {joules:.0f} J, took {spent:.0f} J ({joules / spent - 1:+.0%}); "
        f"load {run['load']:.1f}"
    )


def main() -> None:
    """Run, compare, print, and append one line."""
    parser = argparse.ArgumentParser(description="Predict real runs before they start.")
    parser.add_argument("--calibration", type=int, default=3, help="runs that are watched first")
    parser.add_argument("--runs", type=int, default=10, help="runs that are predicted and counted")
    parser.add_argument("--seed", type=int, default=0, help="of the sizes")
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes; below 1 for a quick trial")
    parser.add_argument("--work", type=Path, help="where the homes are; finished runs there are not run again")
    parser.add_argument("--no-result", action="store_true", help="append nothing to results/reconcile.jsonl")
    options = parser.parse_args()
    if options.runs < 1 or options.calibration < 0 or options.scale <= 0:
        parser.error("--runs is at least 1, --calibration at least 0, --scale above 0")
    quiet_libraries()
    work = (options.work or Path(tempfile.mkdtemp(prefix="bessemer-reconcile-"))).absolute()
    base = work / "base"
    if not (base / "config.json").is_file():
        shutil.rmtree(base, ignore_errors=True)
        import_base("smollm2-135m-instruct", base)
    draws, homes, found = random.Random(options.seed), list[Home](), list[dict[str, Any]]()
    for index in range(options.calibration + options.runs):
        config, home = declared(draws, base, options.scale), Home(work / f"run-{index:02}")
        if not home.receipts() or home.artifacts.exists():
            shutil.rmtree(home.path)
            home = Home(home.path)
            run_one(config, home, homes)
        homes.append(home)
        found.append(compared(home))
        print(shown(index, found[-1], index < options.calibration), flush=True)
    result = summary(found[options.calibration :])
    for name, errors in {**result["stages"], "whole run": result["whole"]}.items():
        print(f"{name:14} median error: time {errors['seconds']:6.1%}, energy {errors['joules']:6.1%}")
    if not options.no_result:
        append(options, result, found)


def append(options: argparse.Namespace, result: dict[str, Any], found: list[dict[str, Any]]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    )
    line = {
        "question": "reconcile",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "versions": {
            "python": platform.python_version(),
            **{n: version(n) for n in ("torch", "openvino", "transformers")},
        },
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {read_processor().name}",
        "calibration": options.calibration,
        "seed": options.seed,
        "scale": options.scale,
        "median_errors": result,
        "lines": found,
    }
    path = HERE / "results" / "reconcile.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
