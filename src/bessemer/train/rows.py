"""Rows of tokens from examples, and the plan of batches: what is trained on, in which order, known before it starts.

Owns tokenisation with the chat template, which tokens count in the loss and how much, and length-bucketed batching.
Knows no network and no optimiser.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bessemer.core.nouns import Example
from bessemer.train.config import SftConfig
from bessemer.train.prompt import prompt_messages

WINDOW_BATCHES = 8
"""Batches that are sorted by length together: more would pad less and mix less."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example in tokens.

    Attributes:
        tokens: the whole sequence.
        prompt: how many tokens at its start are only read, not learnt; at least 1.
    """

    tokens: tuple[int, ...]
    prompt: int

    @property
    def learnt(self) -> int:
        """How many tokens count in the loss."""
        return len(self.tokens) - self.prompt


Batch = tuple[int, ...]
"""Indices of rows that make one optimiser step."""


def make_rows(examples: Iterable[Example], tokenizer: Any, max_length_tokens: int) -> tuple[list[Row], int]:
    """Return the rows of examples, and how many questions were left out for being too long.

    Questions: the loss is on the answer and the end mark. Passages: on every token but the first, cut to length.
    """
    rows, too_long = [], 0
    for example in examples:
        row = _question(example, tokenizer) if example.question else _passage(example, tokenizer, max_length_tokens)
        if len(row.tokens) > max_length_tokens:
            too_long += 1
        elif row.learnt > 0:
            rows.append(row)
    return rows, too_long


def plan_batches(rows: Sequence[Row], config: SftConfig) -> list[Batch]:
    """Return the batches of all steps, in order: each epoch shuffled, rows of like length together, budget kept.

    A batch's size counts padding: its longest row times its rows. The last batch ends the plan before the budget
    would be exceeded; at least one batch is planned.
    """
    planned: list[Batch] = []
    left = config.max_tokens
    for epoch in range(config.epochs):
        for batch in _epoch(rows, config, random.Random(f"{config.seed}/{epoch}")):
            left -= padded(rows, batch)
            if left < 0 and planned:
                return planned
            planned.append(batch)
    return planned


def padded(rows: Sequence[Row], batch: Batch) -> int:
    """Return how many tokens a batch takes, padding included."""
    return len(batch) * max(len(rows[index].tokens) for index in batch)


def _epoch(rows: Sequence[Row], config: SftConfig, chance: random.Random) -> list[Batch]:
    order = list(range(len(rows)))
    chance.shuffle(order)
    batches: list[Batch] = []
    while order:
        window, size = [], 0
        while order and size < WINDOW_BATCHES * config.batch_tokens:
            window.append(order.pop())
            size += len(rows[window[-1]].tokens)
        window.sort(key=lambda index: (len(rows[index].tokens), index))
        cut = _cut(rows, window, config.batch_tokens)
        chance.shuffle(cut)
        batches += cut
    return batches


def _cut(rows: Sequence[Row], window: Sequence[int], batch_tokens: int) -> list[Batch]:
    """Cut rows, shortest first, into batches; a row longer than a batch stands alone."""
    batches: list[Batch] = []
    batch: list[int] = []
    for index in window:
        if batch and (len(batch) + 1) * len(rows[index].tokens) > batch_tokens:
            batches.append(tuple(batch))
            batch = []
        batch.append(index)
    return [*batches, tuple(batch)] if batch else batches


def _question(example: Example, tokenizer: Any) -> Row:
    messages = [message.model_dump() for message in prompt_messages(example.question, example.context)]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt = _ids(tokenizer, text)
    answer = [*_ids(tokenizer, example.answer), tokenizer.eos_token_id]
    return Row((*prompt, *answer), len(prompt))


def _passage(example: Example, tokenizer: Any, max_length_tokens: int) -> Row:
    return Row(tuple(_ids(tokenizer, example.answer)[:max_length_tokens]), 1)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
