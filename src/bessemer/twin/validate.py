"""Holds the planner to published measurements: `python -m bessemer.twin.validate --training F.csv --inference G.csv`.

Owns the table of errors and its JSON. Fits nothing: the constants are the catalogue's, whatever rows it is given.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bessemer.core.errors import BessemerError, ConfigError, NotFound
from bessemer.twin import validate_facility, validate_inference, validate_operations, validate_training
from bessemer.twin.evidence import Errors, Row, errors, sound
from bessemer.twin.validate_table import as_markdown

TRAINING = (
    "id,model,kind,params_b,active_params_b,layers,hidden,heads,kv_heads,ffn,vocab,seq_len,global_batch_seqs,"
    "micro_batch,gpu,gpu_count,precision,tp,pp,dp,ep,cp,vpp,fsdp,recompute,task,metric,value,step_time_s,"
    "tokens_per_s_per_gpu,tflops_per_gpu,mfu_pct,gpu_hours,tokens_total,software,notes,source",
    "# GPUs,global batch,micro batch,hidden size,attention heads,# layers,sequence length,tensor parallelism,"
    "data parallelism,pipeline parallelism,iteration time (ms),gpu,recompute",
)
INFERENCE = (
    "id,model,gpu,gpu_count,precision,engine,parallelism,scenario,isl,osl,metric,tokens_per_s_total,power_w_system,"
    "joules_per_token",
    "id,silicon_data_source,backend,model_path,system,precision,mode,isl,osl,batch_size,tp_size,attention_dp_size,"
    "moe_tp_size,moe_ep_size,prefill_num_workers,decode_num_workers,silicon_ttft_ms,silicon_tpot_ms",
)
OPERATIONS = ("id,system,gpus,days,quantity,value,unit",)
POWER = ("id,system,workload_or_quantity,value,unit,gpus",)
PUE = ("id,site,pue",)
NETWORK = ("id,name,gpus,switch_radix,link,leaf,switches_total,notes",)
"""The columns that are read, of each kind of table."""

Rows = Callable[[Path], list[Row]]
KINDS: Mapping[str, tuple[Rows, Sequence[str]]] = {
    "training": (validate_training.rows, TRAINING),
    "inference": (validate_inference.rows, INFERENCE),
    "operations": (validate_operations.rows, OPERATIONS),
    "power": (validate_facility.power_rows, POWER),
    "pue": (validate_facility.pue_rows, PUE),
    "network": (validate_facility.network_rows, NETWORK),
}
"""What a table tells of -> how its rows are answered, and its columns."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, per family of rows, how far off the planner is; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bessemer.twin.validate", description=__doc__)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=Path, nargs="+", default=[], metavar="F.csv")
    parser.add_argument("--json", action="store_true", help="one JSON value instead of a table")
    parser.add_argument("--markdown", action="store_true", help="goals, left-out errors and misses, as in the README")
    asked = parser.parse_args(arguments)
    given = [(kind, path) for kind in KINDS for path in getattr(asked, kind)]
    if not given:
        parser.error("name a file: --training F.csv or --inference F.csv")
    try:
        with np.errstate(all="ignore"):  # an absurd number in a row overflows, and `sound` refuses what comes of it
            rows = [sound(row) for kind, path in given for row in KINDS[kind][0](_table(path, KINDS[kind][1]))]
    except BessemerError as error:
        sys.stderr.write(f"error: {error.message}\n  what to do: {error.hint}\n")
        return 1
    told = as_markdown if asked.markdown else as_table
    sys.stdout.write(as_json(rows) if asked.json else told(rows))
    return 0


def as_json(rows: Iterable[Row]) -> str:
    """Return families, and every row that could not be answered with its reason, as one JSON value."""
    rows = list(rows)
    families = [{name: _plain(value) for name, value in asdict(found).items()} for found in errors(rows)]
    refused = [{"family": row.family, "id": row.id, "reason": row.reason} for row in rows if row.predicted is None]
    return json.dumps({"families": families, "unanswered": refused}, ensure_ascii=False, indent=1) + "\n"


def as_table(rows: Iterable[Row]) -> str:
    """Return a Markdown table of the families, and what could not be answered by reason."""
    rows = list(rows)
    lines = ["| family | rows | answered | mean | median | bias | in interval |", "|---|--:|--:|--:|--:|--:|--:|"]
    lines += [_line(found) for found in errors(rows)]
    reasons: dict[str, int] = {}
    for row in rows:
        if row.predicted is None:
            reasons[row.reason] = reasons.get(row.reason, 0) + 1
    lines += (
        ["", *(f"- {count} not answered: {reason}" for reason, count in sorted(reasons.items()))] if reasons else []
    )
    return "\n".join(lines) + "\n"


def _line(found: Errors) -> str:
    numbers = (found.mean, found.median, found.bias, found.covered)
    mean, median, bias, covered = ("–" if math.isnan(number) else f"{100 * number:.1f} %" for number in numbers)
    return f"| {found.family} | {found.rows} | {found.answered} | {mean} | {median} | {bias} | {covered} |"


def _plain(value: str | int | float) -> str | int | float | None:
    return None if isinstance(value, float) and math.isnan(value) else value


def _table(path: Path, kinds: Sequence[str]) -> Path:
    """Return the path of a table that has all columns of one of these kinds."""
    advice = "Name a CSV file with the columns of the published rows."
    if not path.is_file():
        raise NotFound(f"there is no file {path}", hint=advice)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            given = set(next(csv.reader(file), []))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text", hint=advice) from error
    lacking = min((set(kind.split(",")) - given for kind in kinds), key=len)
    if lacking:
        raise ConfigError(f"{path} has no column {', '.join(sorted(lacking))}", hint=advice)
    return path


if __name__ == "__main__":
    sys.exit(main())
