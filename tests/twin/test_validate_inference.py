"""Rows of published serving: what the columns mean, and reasons where nothing can be said."""

from __future__ import annotations

import csv
from pathlib import Path

from bessemer.twin import validate_inference
from bessemer.twin.inference_rows import Latency, latency

LATENCY = {
    "id": "a_c64_x", "silicon_data_source": "silicon_concurrency=64", "backend": "vllm", "backend_version": "",
    "model_path": "Qwen/Qwen3-32B", "system": "h100_sxm", "precision": "fp8", "mode": "agg", "isl": "1024",
    "osl": "1024", "batch_size": "64.0", "tp_size": "4.0", "attention_dp_size": "1.0", "moe_tp_size": "1.0",
    "moe_ep_size": "1.0", "silicon_ttft_ms": "500", "silicon_tpot_ms": "15",
}  # fmt: skip
APART = {
    "mode": "disagg", "prefill_num_workers": "2.0", "prefill_tp_size": "4.0", "decode_num_workers": "4.0",
    "decode_tp_size": "8.0", "decode_batch_size": "16.0",
}  # fmt: skip
THROUGHPUT = {
    "id": "t", "model": "llama2-70b-99", "gpu": "NVIDIA B200-SXM-180GB", "gpu_count": "8", "precision": "FP4",
    "engine": "TensorRT 10.11", "parallelism": "", "scenario": "MLPerf Offline", "isl": "", "osl": "",
    "metric": "tokens_per_s_total", "tokens_per_s_total": "100000", "power_w_system": "10000",
    "joules_per_token": "0.1",
}  # fmt: skip


def write(path: Path, *lines: dict[str, str]) -> Path:
    names = list(dict.fromkeys(name for line in lines for name in line))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_latencies_of_both_modes_are_answered_and_unknown_parts_have_a_reason(tmp_path: Path) -> None:
    unknown = LATENCY | {"id": "b", "system": "abacus"}
    rows = validate_inference.rows(write(tmp_path / "a.csv", LATENCY, LATENCY | APART, unknown))
    families = {row.family for row in rows if row.predicted}
    assert families == {"tpot agg", "ttft agg", "tpot disagg", "ttft disagg"}
    assert {row.reason for row in rows if row.id == "b"} == {"there is no accelerator 'abacus' in the catalogue"}


def test_requests_in_flight_are_shared_by_the_workers() -> None:
    case = latency(LATENCY | APART)
    assert isinstance(case, Latency)
    assert case.decode.sequences == 16
    assert case.prefill is not None
    assert case.prefill.sequences == 32


def test_throughput_and_joules_are_answered_and_unknown_scenarios_have_a_reason(tmp_path: Path) -> None:
    odd = THROUGHPUT | {"id": "u", "scenario": "a festival", "joules_per_token": ""}
    rows = validate_inference.rows(write(tmp_path / "t.csv", THROUGHPUT, odd))
    assert [row.family for row in rows if row.predicted] == ["throughput", "joules per token, power known"]
    assert any("a festival" in row.reason for row in rows)
    assert all(row.predicted.low < row.predicted.mid < row.predicted.high for row in rows if row.predicted)


def test_the_same_rows_give_the_same_predictions(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", LATENCY)
    assert validate_inference.rows(path) == validate_inference.rows(path)
