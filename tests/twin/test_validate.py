"""The command that validates: what it cannot read it refuses with a reason, row by row, and never loses the rest."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from bessemer.core.errors import NotFound
from bessemer.twin.accelerators import accelerator
from bessemer.twin.validate import INFERENCE, OPERATIONS, TRAINING, main

PUBLISHED = dict.fromkeys(TRAINING[0].split(","), "") | {
    "id": "p", "model": "GPT", "kind": "dense", "params_b": "22", "layers": "48", "hidden": "6144", "heads": "64",
    "kv_heads": "64", "ffn": "24576", "vocab": "51200", "seq_len": "2048", "global_batch_seqs": "512",
    "micro_batch": "1", "gpu": "A100-SXM-80GB", "gpu_count": "64", "precision": "bf16", "tp": "8", "pp": "1",
    "dp": "8", "recompute": "full", "task": "pretrain", "metric": "step_time_s", "value": "9", "step_time_s": "9",
}  # fmt: skip
SIZES = "64,512,1,6144,64,48,2048,8,8,1,9000,A100-SXM-80GB,full"
VTRAIN = dict(zip(TRAINING[1].split(","), SIZES.split(","), strict=True))
SERVER = dict.fromkeys(INFERENCE[0].split(","), "") | {
    "id": "s", "model": "llama2-70b-99", "gpu": "NVIDIA B200-SXM-180GB", "gpu_count": "8", "precision": "FP4",
    "scenario": "MLPerf Offline", "metric": "tokens_per_s_total", "tokens_per_s_total": "100000",
    "power_w_system": "10000", "joules_per_token": "0.1",
}  # fmt: skip
LATENCY = dict.fromkeys(INFERENCE[1].split(","), "1") | {
    "id": "l", "silicon_data_source": "silicon_concurrency=64", "backend": "vllm", "model_path": "Qwen/Qwen3-32B",
    "system": "h100_sxm", "precision": "fp8", "mode": "agg", "isl": "1024", "osl": "1024", "tp_size": "4",
    "silicon_ttft_ms": "500", "silicon_tpot_ms": "15",
}  # fmt: skip
FAILURES = dict(
    zip(OPERATIONS[0].split(","), ("f", "a system", "16384", "54", "total interruptions", "419", ""), strict=True)
)
TABLES = [
    ("--training", PUBLISHED, "gpu gpu_count seq_len layers global_batch_seqs micro_batch tp"),
    ("--training", VTRAIN, "gpu|# GPUs|global batch|# layers|attention heads|iteration time (ms)"),
    ("--inference", SERVER, "gpu gpu_count isl tokens_per_s_total power_w_system"),
    ("--inference", LATENCY, "system isl osl tp_size silicon_ttft_ms silicon_tpot_ms"),
    ("--operations", FAILURES, "gpus days value"),
]


def write(path: Path, *lines: dict[str, str]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return str(path)


@pytest.mark.parametrize("odd", ["", "n/a", "0", "~3"])
@pytest.mark.parametrize(("kind", "line", "columns"), TABLES)
def test_an_odd_value_in_a_row_costs_no_other_row(
    kind: str, line: dict[str, str], columns: str, odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = columns.split("|" if "|" in columns else " ")
    path = write(tmp_path / "rows.csv", line, *(line | {name: odd} for name in names))
    assert main([kind, path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    told = [each for each in found["families"] if "anchored" not in each["family"] and "joules" not in each["family"]]
    measured = 2 if line is LATENCY else 1
    assert sum(each["rows"] for each in told) == (len(names) + 1) * measured
    assert sum(each["answered"] for each in told) >= measured
    assert sum(each["rows"] - each["answered"] for each in found["families"]) == len(found["unanswered"])
    assert all(each["reason"] for each in found["unanswered"])


@pytest.mark.parametrize("odd", ["-1", "inf", "nan", "1e308", "1e-300", "0.5", "7", "1,024", "H100"])
@pytest.mark.parametrize(("kind", "line"), [(kind, line) for kind, line, _ in TABLES])
def test_an_absurd_number_in_any_column_gives_a_number_or_a_reason(
    kind: str, line: dict[str, str], odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "rows.csv", *(line | {name: odd} for name in line))
    assert main([kind, path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda told: pytest.fail(f"{told} in the JSON"))
    assert sum(each["rows"] for each in found["families"]) >= len(line)
    assert all(each["mean"] is None or each["mean"] >= 0 for each in found["families"])
    assert all(each["reason"] for each in found["unanswered"])


@pytest.mark.parametrize("kind", ["--training", "--inference", "--operations"])
def test_a_table_of_something_else_is_one_clear_error(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([kind, write(tmp_path / "pue.csv", {"id": "x", "site": "y", "pue": "1.1"})]) == 1
    said = capsys.readouterr()
    assert "pue.csv has no column" in said.err and "what to do" in said.err and not said.out
    assert main([kind, str(tmp_path / "none.csv")]) == 1
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    assert main([kind, str(tmp_path / "b.csv")]) == 1
    assert "no UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("AMD Instinct MI300X-NPS1-SPX-192GB-750W", "MI300X"),
        ("Virtualized NVIDIA H200-SXM-141GB", "H200-SXM"),
        ("NVIDIA B200-SXM-180GB-CTS", "B200-SXM"),
        ("NVIDIA A100-SXM-40GB", "A100-SXM-40GB"),
        ("gb200_sxm", "GB200"),
        ("NVIDIA GH200-GraceHopper-Superchip-96GB", "GH200"),
    ],
)
def test_what_publications_add_to_a_name_is_no_other_accelerator(published: str, name: str) -> None:
    assert accelerator(published).name == name


@pytest.mark.parametrize("unknown", ["H100-SMX-80GB", "AMD Instinct MI300X (x32), AMD Instinct MI325X (x16)", "NVIDIA"])
def test_a_misspelt_or_mixed_name_is_not_guessed(unknown: str) -> None:
    with pytest.raises(NotFound):
        accelerator(unknown)
