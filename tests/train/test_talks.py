"""Conversations in OpenAI's chat format: read strictly, learnt where they should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from bessemer.core.errors import ConfigError, Unsupported
from bessemer.train import RowsConfig, fine_tune, read_talks
from bessemer.train.rows import Row, make_rows, plan_batches

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Tea?"},
    {"role": "assistant", "content": "Yes.", "weight": 0},
    {"role": "user", "content": "Milk?"},
    {"role": "assistant", "content": "No."},
]


def written(folder: Path, *talks: object) -> Path:
    path = folder / "talks.jsonl"
    path.write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    return path


def test_what_the_assistant_says_is_learnt_unless_its_weight_is_0(tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    (row,), too_long = make_rows(read_talks(written(tmp_path, {"messages": TALK})), tokenizer, 512)
    plain = [{"role": said["role"], "content": said["content"]} for said in TALK]
    assert tokenizer.decode(row.tokens) == tokenizer.apply_chat_template(plain, tokenize=False)
    assert [tokenizer.decode(row.tokens[first:end]) for first, end in row.spans] == ["No.<|end|>"]
    assert too_long == 0
    assert make_rows(read_talks(written(tmp_path, {"messages": TALK})), tokenizer, len(row.tokens) - 1) == ([], 1)


def test_a_template_that_writes_earlier_turns_anew_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = "{{ messages|length }}" + tokenizer.chat_template
    with pytest.raises(Unsupported, match="earlier turns"):
        make_rows(read_talks(written(tmp_path, {"messages": TALK})), tokenizer, 512)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"messages": [', "line 2 .*not valid JSON"),
        ("[]", "line 2 .*the line"),
        ("{}", "line 2 .*messages: Field required"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "line 2 .*messages"),
        (json.dumps({"messages": TALK[:2]}), "line 2 .*no message of the assistant"),
        (json.dumps({"messages": TALK[:3]}), "line 2 .*no message of the assistant"),
        (json.dumps({"messages": [*TALK[:2], {"role": "robot", "content": "x"}]}), r"messages\[2\].role"),
        (json.dumps({"messages": [*TALK[:2], {"role": "assistant", "content": None}]}), r"messages\[2\].content"),
        (json.dumps({"messages": [*TALK[:2], {"role": "assistant", "content": "x", "weight": 2}]}), "weight"),
        (json.dumps({"messages": [{**TALK[0], "weight": 1}, *TALK[1:]]}), r"messages\[0\].weight"),
        (json.dumps({"messages": TALK, "tools": []}), "tools: Extra"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps({"messages": TALK}) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match=said):
        list(read_talks(path))


@pytest.mark.parametrize(("count", "size", "epochs"), [(7, 3, 2), (20, 1, 1), (40, 4, 3)])
def test_batches_have_so_many_rows_and_no_budget(count: int, size: int, epochs: int) -> None:
    rows = [Row(tuple(range(50 + number)), ((1, 50),)) for number in range(count)]
    batches = plan_batches(rows, RowsConfig(batch_rows=size, epochs=epochs, batch_tokens=32, max_tokens=32))
    assert sorted(index for batch in batches for index in batch) == sorted([*range(count)] * epochs)
    assert {len(batch) for batch in batches} <= {size, (count % (8 * size)) % size or size}


def test_the_trainer_learns_talks(tiny_base: Path, tmp_path: Path, checkpoints) -> None:
    path = written(tmp_path, *[{"messages": TALK}] * 4)
    examples = [*read_talks(path), *read_talks(path, "heldout")]
    config = RowsConfig(batch_rows=2, epochs=12, precision="fp32")
    report = fine_tune(tiny_base, examples, tmp_path / "adapter", config, checkpoints)
    assert (report.steps, report.rows) == (24, 4)
    assert report.heldout_loss is not None and report.heldout_loss_before is not None
    assert report.heldout_loss < report.heldout_loss_before - 0.3
    one = len(AutoTokenizer.from_pretrained(tiny_base)("".join(
        f"<|{said['role']}|>{said['content']}<|end|>" for said in TALK))["input_ids"])  # fmt: skip
    assert report.read_tokens == 48 * one
