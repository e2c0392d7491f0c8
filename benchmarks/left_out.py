"""What were the left-out errors of catalogue/validation.csv made with, and is that still so?

    python benchmarks/left_out.py --operations F.csv --power P.csv --pue Q.csv --network N.csv

The errors that need no fit are made anew by the command above, those of training and inference by the two fits with
`--keep`. Each replaces its figures in ``catalogue/validation.csv`` and what they were made with in ``validation.toml``:
digests of the fitted constants, of the published tables and of the code that fits and reads rows, and what the models
say of work that is always the same, which moves when anything in the models does. `stale` names what has changed since;
a test fails then.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import hashlib
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bessemer.twin import cooling, decode, hazards, layout, operations, power, topology, training
from bessemer.twin.accelerators import accelerator
from bessemer.twin.evidence import errors
from bessemer.twin.replica import Replica, points
from bessemer.twin.shape import shape
from bessemer.twin.site import Cooling, Fabric, Nodes, Operations, Site
from bessemer.twin.training_rows import usual_links
from bessemer.twin.validate import KINDS
from bessemer.twin.validate_throughput import most
from bessemer.twin.workload import Training

ROOT = Path(__file__).parents[1]
TWIN = Path("src/bessemer/twin")
TABLE, MARKS = ROOT / TWIN / "catalogue/validation.csv", ROOT / TWIN / "catalogue/validation.toml"

FACTS = ("operations", "power", "pue", "network")
COMMANDS = {
    "training": "python benchmarks/fit_training.py training.csv training_vtrain_multi.csv training_vtrain_single.csv "
    "--check --keep",
    "inference": "python benchmarks/fit_inference.py inference_inferencex_silicon.csv inference.csv "
    "--leave model device --keep",
    "facts": "python benchmarks/left_out.py --operations reliability.csv --power power.csv --pue pue.csv "
    "--network network.csv",
}
"""What makes the errors of each group anew, run where the published tables lie. The two fits take long."""

FILES: Mapping[str, Sequence[Path]] = {
    "training": (
        TWIN / "catalogue/fitted_training.toml",
        TWIN / "catalogue/training_stacks.csv",
        TWIN / "training_rows.py",
        Path("benchmarks/fit_training.py"),
    ),
    "inference": (
        TWIN / "catalogue/fitted_inference.toml",
        TWIN / "catalogue/serving_tests.csv",
        TWIN / "inference_rows.py",
        TWIN / "validate_throughput.py",
        Path("benchmarks/fit_inference.py"),
    ),
    "facts": (
        TWIN / "catalogue/fitted_facility.toml",
        TWIN / "catalogue/fitted_operations.toml",
        TWIN / "catalogue/failure_rates.csv",
        TWIN / "catalogue/hazards.csv",
        TWIN / "catalogue/pue_facts.csv",
        TWIN / "validate_facility.py",
        TWIN / "validate_operations.py",
    ),
}

Figures = Mapping[tuple[str, str], Sequence[float]]
"""Families as in the table, and what was left out -> rows, and the mean and the median error in percent."""


def training_says() -> float:
    """Return the mean logarithm of the seconds of many layouts."""
    found = []
    for name, precision in (("Llama-3.1-405B", "fp8"), ("DeepSeek-V3", "fp4"), ("Nemotron-3-Nano", "bf16")):
        network, job = (
            shape(name),
            Training.model_validate(
                {"model": name, "precision": precision, "sequence_tokens": 8192, "batch_sequences": 1024}
            ),
        )
        for device, stack in (("A100-SXM-80GB", "megatron-2021"), ("H100-SXM-80GB", "usual"), ("GB200", "fsdp")):
            each, links = accelerator(device), usual_links(accelerator(device), stack)
            cuts = layout.candidates(network, job, 512, links)
            assert cuts is not None
            found.append(np.log(training.steps(network, job, cuts, each, links, stack).parts.seconds).mean())
    return float(np.mean(found))


def inference_says() -> float:
    """Return the mean logarithm of the times, and of the sequences that memory holds, of many replicas."""
    work = [
        Replica(shape(name), accelerator(device), precision, backend, 8, data, expert, sequences, 2048.0, 512.0)
        for name in ("Llama-3.1-70B", "DeepSeek-V3", "DeepSeek-V3.2", "gpt-oss-120b")
        for device in ("A100-SXM-80GB", "H200-SXM", "B200-SXM", "MI300X")
        for precision in ("bf16", "fp8", "fp4")
        for backend in decode.BACKENDS
        for data, expert in ((1, 1), (8, 8))
        for sequences in (1.0, 16.0, 256.0)
    ]
    p, k = points(work), decode.fitted().constants
    told = (*decode.aggregated(p, k), *decode.disaggregated(p, k, p), 1e-3 + np.maximum(decode.capacity(p), 0))
    told = (*told, 1e-3 + most(p, k, 2.0, 0.05) * k.tuned)
    return float(np.mean([np.log(each).mean() for each in told]))


def facts_say() -> float:
    """Return the mean logarithm of failures, effective time, watts, PUE and switches of a few sites."""
    nodes = Nodes(accelerator="H100-SXM-80GB", count=512, accelerators=8, nics=8, nic_bits_per_second=400e9)
    site = Site(name="always the same", nodes=(nodes,), fabric=Fabric(kind="rail", radix=64))
    found = [hazards.node_failures_per_day(leaving=name).mid for name in ("", *hazards.measured_rates())]
    found += [hazards.mttf_hours(Operations(), count) for count in (1.0, 128.0, 16384.0)]
    found += [operations.goodput(site, 4096, 1e12, 5.0).effective_ratio.mid, float(topology.bill(site).switches)]
    for name in ("H100-SXM-80GB", "B200-SXM"):
        each = nodes.model_copy(update={"accelerator": name})
        found += [power.node_watts(each, load).mid for load in (0.0, 1.0)] + [power.node_peak_watts(each).mid]
    for kind in ("air", "rear_door", "direct_liquid", "immersion"):
        for rejection in ("chiller", "wet", "dry"):
            plant = Cooling.model_validate({"kind": kind, "rejection": rejection})
            found.append(cooling.pue(site.model_copy(update={"cooling": plant})).mid - 1)
    return float(np.log(found).mean())


SAYS: Mapping[str, Callable[[], float]] = {
    "training": training_says,
    "inference": inference_says,
    "facts": facts_say,
}


def digest(path: Path) -> str:
    """Return a digest of a file; of code without its comments, docstrings and blanks."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        text = re.sub(r"\s+", "", re.sub(r'(?s:""".*?""")|(?m:^\s*#.*$)', "", text))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stale(group: str) -> list[str]:
    """Return what has changed since the left-out errors of a group were made."""
    kept = tomllib.loads(MARKS.read_text("utf-8"))[group]
    changed = [str(path) for path in FILES[group] if kept["files"].get(str(path)) != digest(ROOT / path)]
    changed += sorted(set(kept["files"]) - set(map(str, FILES[group])))
    return changed + ["what the models say"] * (abs(kept["says"] - SAYS[group]()) > 1e-7)


def keep(group: str, figures: Figures, tables: Iterable[Path]) -> None:
    """Replace the left-out errors of a group, and what they were made with; nothing if the tables lack some of them."""
    today, script = f"{datetime.date.today()}", COMMANDS[group].split()[1]
    lines = list(csv.DictReader(TABLE.read_text("utf-8").splitlines()))
    for line in lines:
        if not line["source"].startswith(script):
            continue
        count, mean, median = figures.get((line["families"], line["left_out"]), (0, 0, 0))
        if not count:
            raise SystemExit(f"nothing was filed: these tables have no rows of '{line['families']}'")
        line.update(rows=f"{count:.0f}", mean=f"{mean:.1f}", median=f"{median:.1f}", source=f"{script}, {today}")
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    TABLE.write_text(out.getvalue(), "utf-8")
    mark(group, tables, today)


def mark(group: str, tables: Iterable[Path], day: str) -> None:
    """Replace what the errors of a group were made with."""
    kept = tomllib.loads(MARKS.read_text("utf-8")) if MARKS.exists() else {}
    kept[group] = {
        "made": day,
        "source": COMMANDS[group],
        "says": SAYS[group](),
        "tables": {path.name: digest(path) for path in tables},
        "files": {str(path): digest(ROOT / path) for path in FILES[group]},
    }
    text = ["# Written by benchmarks/left_out.py; do not edit. What the figures of validation.csv were made with."]
    for name, each in sorted(kept.items()):
        text += ["", f"[{name}]", *(f"{key} = {json.dumps(each[key])}" for key in ("made", "source", "says"))]
        for part in ("tables", "files"):
            text += ["", f"[{name}.{part}]", *(f'"{key}" = "{value}"' for key, value in each[part].items())]
    MARKS.write_text("\n".join(text) + "\n", "utf-8")


def main() -> None:
    """Make the errors that need no fit anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in FACTS:
        parser.add_argument(f"--{kind}", type=Path, required=True)
    asked = vars(parser.parse_args())
    rows = [row for kind in FACTS for row in KINDS[kind][0](asked[kind])]
    figures: dict[tuple[str, str], Sequence[float]] = {}
    for line in csv.DictReader(TABLE.read_text("utf-8").splitlines()):
        one = errors(replace(row, family="one") for row in rows if row.family in line["families"].split("|"))
        if one:
            figures[line["families"], line["left_out"]] = one[0].answered, 100 * one[0].mean, 100 * one[0].median
    keep("facts", figures, [asked[kind] for kind in FACTS])
    for (family, _), (count, mean, median) in figures.items():
        print(f"{family:50s} {count:4.0f} {mean:6.1f} {median:6.1f}")


if __name__ == "__main__":
    main()
