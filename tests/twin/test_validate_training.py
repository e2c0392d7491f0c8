"""Validation answers, or says why not, and never sees a family that the rows do not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.twin import validate_training
from bessemer.twin.evidence import errors
from bessemer.twin.training_rows import LARGE, SMALL, stack_of

HEAD = (
    "id,model,kind,params_b,active_params_b,layers,hidden,heads,kv_heads,ffn,vocab,seq_len,global_batch_seqs,"
    "micro_batch,gpu,gpu_count,precision,tp,pp,dp,ep,cp,vpp,fsdp,recompute,task,metric,value,step_time_s,"
    "tokens_per_s_per_gpu,tflops_per_gpu,mfu_pct,gpu_hours,tokens_total,software,notes,source,provenance"
)
RATE = "x1,GPT,dense,22,,48,6144,64,64,24576,51200,2048,{batch},1,{gpu},{gpus},bf16,8,1,{data},1,1,1,,full,pretrain,"
ANSWERED = RATE + "tflops_per_gpu,150,,,150,,,,Megatron-LM,,here,made up"
BATCHLESS = RATE + "time_to_train_min,9,,,,,,,Megatron-LM,,here,made up"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "rows.csv"
    path.write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")
    return path


def line(template: str = ANSWERED, gpu: str = "A100-SXM-80GB", gpus: int = 64, batch: int = 512) -> str:
    return template.format(gpu=gpu, gpus=gpus, batch=batch, data=gpus // 8)


def test_a_row_gets_an_interval_in_seconds(tmp_path: Path) -> None:
    (row,) = validate_training.rows(written(tmp_path, line()))
    assert row.family == LARGE
    assert row.predicted is not None
    assert row.predicted.low < row.predicted.mid < row.predicted.high
    assert 0.5 < row.predicted.mid / row.measured < 2


def test_what_cannot_be_answered_says_why(tmp_path: Path) -> None:
    path = written(tmp_path, line(gpu="A101"), line(BATCHLESS), line(gpus=0))
    found = validate_training.rows(path)
    assert [row.predicted for row in found] == [None] * 3
    assert "A101" in found[0].reason
    assert "time_to_train_min" in found[1].reason
    assert "number of accelerators" in found[2].reason
    assert [each.answered for each in errors(found)] == [0] * len({row.family for row in found})


def test_a_dense_network_of_which_only_the_size_is_known_is_answered(tmp_path: Path) -> None:
    known, guessed = line(), line().replace(",48,6144,64,64,24576,51200,", ",,,,,,,").replace("GPT", "unheard-of")
    first, second = validate_training.rows(written(tmp_path, known, guessed))
    assert first.predicted is not None
    assert second.predicted is not None
    assert second.predicted.mid == pytest.approx(first.predicted.mid, rel=0.3)


def test_a_recipe_of_several_sizes_gives_anchored_rows(tmp_path: Path) -> None:
    path = written(tmp_path, line(gpus=32, batch=256), line(gpus=128, batch=1024))
    found = validate_training.rows(path)
    assert [row.family for row in found] == [SMALL, LARGE, validate_training.ANCHORED]
    anchored = found[-1].predicted
    assert anchored is not None
    assert anchored.mid == pytest.approx(found[0].measured, rel=0.1)


@pytest.mark.parametrize(
    ("software", "device", "stack"),
    [
        ("Megatron-Bridge 26.06 NeMo Container", "GB300", "megatron-bridge"),
        ("torchtitan FSDP+compile", "H100-SXM-80GB", "torchtitan"),
        ("Megatron-LM", "A100-SXM-80GB", "megatron-a100"),
        ("Megatron-LM", "H100-SXM-80GB", "megatron-core"),
        ("MLPerf Training v4.1 Google", "TPUv5p", "xla"),
        ("something new", "H100-SXM-80GB", "usual"),
    ],
)
def test_software_is_told_by_its_name(software: str, device: str, stack: str) -> None:
    assert stack_of(software, device) == stack
