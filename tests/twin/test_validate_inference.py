"""Rows of published serving: what the columns mean, and reasons where nothing can be said."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from bessemer.twin import validate_inference
from bessemer.twin.accelerators import accelerator
from bessemer.twin.decode import BACKENDS, aggregated, decode_parts, fitted
from bessemer.twin.inference_rows import Latency, latency
from bessemer.twin.replica import Replica, points
from bessemer.twin.shape import shape
from bessemer.twin.validate_throughput import most, server

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


def test_untold_workers_fill_the_usual_pool() -> None:
    apart = LATENCY | APART | {"decode_num_workers": "", "decode_batch_size": ""}
    cases = [latency(apart | {"decode_tp_size": size}) for size in ("4", "8", "64")]
    assert [case.decode.sequences for case in cases if isinstance(case, Latency)] == [64 / 8, 64 / 4, 64]


def test_throughput_and_joules_are_answered_and_unknown_scenarios_have_a_reason(tmp_path: Path) -> None:
    odd = THROUGHPUT | {"id": "u", "scenario": "a festival", "joules_per_token": ""}
    rows = validate_inference.rows(write(tmp_path / "t.csv", THROUGHPUT, odd))
    assert [row.family for row in rows if row.predicted] == ["throughput", "joules per token, power known"]
    assert any("a festival" in row.reason for row in rows)
    assert all(row.predicted.low < row.predicted.mid < row.predicted.high for row in rows if row.predicted)


def test_the_same_rows_give_the_same_predictions(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", LATENCY)
    assert validate_inference.rows(path) == validate_inference.rows(path)


def test_watts_over_the_predicted_rate_meet_the_published_joules_of_a_token(tmp_path: Path) -> None:
    anchor = THROUGHPUT | {"precision": "fp4", "tokens_per_s_total": "102909", "power_w_system": "10401"}
    rows = validate_inference.rows(write(tmp_path / "t.csv", anchor | {"joules_per_token": "0.10107"}))
    joules = rows[-1].predicted
    assert joules is not None
    assert abs(joules.mid / 0.10107 - 1) < 0.25


def test_limits_on_nearly_all_requests_leave_room_above_the_mean() -> None:
    asked = server(THROUGHPUT | {"scenario": "MLPerf Interactive"})
    k, grid = fitted().constants, points(asked.replicas)
    rates = [
        most(grid, replace(k, tail=tail), asked.first_limit, asked.token_limit).max() for tail in (1.0, k.tail, 3.0)
    ]
    assert rates[0] > rates[1] > rates[2] > 0


def test_heads_that_cannot_be_cut_make_attention_data_parallel() -> None:
    wide = LATENCY | {
        "model_path": "deepseek-ai/DeepSeek-R1",
        "system": "gb200",
        "tp_size": "72.0",
        "moe_tp_size": "72",
    }
    case = latency(wide)
    assert isinstance(case, Latency)
    assert (case.decode.accelerators, case.decode.data, case.decode.expert) == (72, 72, 72)


def test_a_batch_below_the_requests_in_flight_is_that_of_one_replica() -> None:
    case = latency(LATENCY | {"batch_size": "4.0"})
    assert isinstance(case, Latency)
    assert case.decode.sequences == 4


def test_engines_differ_in_how_long_prompts_wait() -> None:
    firsts = {name: latency(LATENCY | {"backend": name}) for name in BACKENDS}
    grid = points([case.decode for case in firsts.values() if isinstance(case, Latency)])
    trtllm, vllm, sglang = aggregated(grid, fitted().constants)[1]
    assert vllm < trtllm < sglang


def test_products_of_narrow_experts_are_slower_than_those_of_wide_ones() -> None:
    k = fitted().constants
    network = shape("Mixtral-8x7B")
    grid = points([Replica(replace(network, ffn=ffn), accelerator("H100"), sequences=512.0) for ffn in (14336, 1792)])
    wide, narrow = decode_parts(grid, k, grid.sequences).arithmetic
    assert narrow > 2 * wide
