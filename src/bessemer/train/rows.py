"""Rows of tokens from examples, and the plan of batches: what is trained on, in which order, known before it starts.

Owns tokenisation with the chat template, which tokens count in the loss and how much, and length-bucketed batching.
Knows no network and no optimiser.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from bessemer.core.errors import Unsupported
from bessemer.core.marks import breaker
from bessemer.core.nouns import Example
from bessemer.train.config import RowsConfig, SftConfig
from bessemer.train.prompt import prompt_messages
from bessemer.train.talks import Talk

MAX_TURNS = 5
"""Questions in one row: more would be cheaper, and less like the single question that is asked later."""
WINDOW_BATCHES = 8
"""Batches that are sorted by length together: more would pad less and mix less."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence in tokens.

    Attributes:
        tokens: the whole sequence.
        spans: (first, end) of the tokens that are learnt; the others are only read. The first token is never learnt.
    """

    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    @property
    def learnt(self) -> int:
        """How many tokens count in the loss."""
        return sum(end - first for first, end in self.spans)


_NO_BUDGET = 2**63

Batch = tuple[int, ...]
"""Indices of rows that make one optimiser step."""


def make_rows(examples: Iterable[Example | Talk], tokenizer: Any, max_length_tokens: int) -> tuple[list[Row], int]:
    """Return the rows of examples, and how many questions and conversations were left out for being too long.

    Passages: the loss is on every token but the first; they are cut to length. Questions: on answers and end marks.
    Questions about one context share a row as the turns of a conversation, so that it is read once for all of them.
    Conversations: the loss is on what is to be learnt of them, and on its end marks.
    """
    rows, too_long = [], 0
    talks: dict[str, list[Example]] = {}
    for example in sorted(examples, key=lambda example: example.id):
        if isinstance(example, Talk):
            row = _talk(example, tokenizer)
            too_long += len(row.tokens) > max_length_tokens
            rows += [row] if len(row.tokens) <= max_length_tokens else []
            continue
        if not example.question:
            rows.append(_passage(example, tokenizer, max_length_tokens))
            continue
        talks.setdefault(example.context or example.id, []).append(example)
    for turns in talks.values():
        left = turns
        while left:
            row, taken = _conversation(left[:MAX_TURNS], tokenizer, max_length_tokens)
            too_long += taken == 0
            rows += [row] if taken else []
            left = left[max(1, taken) :]
    return [row for row in rows if row.learnt > 0], too_long


def plan_batches(rows: Sequence[Row], config: SftConfig) -> list[Batch]:
    """Return the batches of all steps, in order: each epoch shuffled, rows of like length together, budget kept.

    Of a `RowsConfig` a batch has so many rows, and there is no budget.

    A batch's size counts padding: its longest row times its rows. The last batch ends the plan before the budget
    would be exceeded; at least one batch is planned.
    """
    planned: list[Batch] = []
    left = config.max_tokens if not isinstance(config, RowsConfig) else _NO_BUDGET
    for epoch in range(config.epochs):
        for batch in _epoch(rows, config, random.Random(f"{config.seed}/{epoch}")):
            left -= padded(rows, batch)
            if left < 0 and planned:
                return planned
            planned.append(batch)
    return planned


def epoch_ends(batches: Sequence[Batch], rows: int) -> list[int]:
    """Return after how many steps each epoch ends that has all of its rows.

    >>> epoch_ends([(0, 2), (1,), (1, 2), (0,), (2, 0)], rows=3)
    [2, 4]
    """
    seen = accumulate(len(batch) for batch in batches)
    return [step for step, count in enumerate(seen, start=1) if count % rows == 0]


def padded(rows: Sequence[Row], batch: Batch) -> int:
    """Return how many tokens a batch takes, padding included."""
    return len(batch) * max(len(rows[index].tokens) for index in batch)


def _epoch(rows: Sequence[Row], config: SftConfig, chance: random.Random) -> list[Batch]:
    order = list(range(len(rows)))
    chance.shuffle(order)
    batches: list[Batch] = []
    while order:
        window, size = [], 0
        by_rows = config.batch_rows if isinstance(config, RowsConfig) else 0
        while order and size < WINDOW_BATCHES * (by_rows or config.batch_tokens):
            window.append(order.pop())
            size += 1 if by_rows else len(rows[window[-1]].tokens)
        window.sort(key=lambda index: (len(rows[index].tokens), index))
        cut = [tuple(window[at : at + by_rows]) for at in range(0, len(window), by_rows)] if by_rows else []
        cut = cut or _cut(rows, window, config.batch_tokens)
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


def _conversation(turns: Sequence[Example], tokenizer: Any, max_length_tokens: int) -> tuple[Row, int]:
    """Return questions on one context as one row, and how many of them fitted in, from the first on."""
    messages: list[dict[str, str]] = []
    tokens: list[int] = []
    spans: list[tuple[int, int]] = []
    text, plain = "", _plain(tokenizer)
    for example in turns:
        opening = prompt_messages(example.question, example.context)
        added = opening[-1:] if messages else opening
        messages += [{"role": message.role, "content": plain(message.content)} for message in added]
        if spans:
            messages[-1]["content"] = plain(example.question)  # the context was read before
        whole: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = _ids(tokenizer, whole[len(text) :])
        said = plain(example.answer)
        answer = [*_ids(tokenizer, said), tokenizer.eos_token_id]
        if len(tokens) + len(prompt) + len(answer) > max_length_tokens or not whole.startswith(text):
            break
        tokens += [*prompt, *answer]
        spans.append((len(tokens) - len(answer), len(tokens)))
        messages.append({"role": "assistant", "content": said})
        text = whole + said + tokenizer.eos_token
    return Row(tuple(tokens), tuple(spans)), len(spans)


def _talk(talk: Talk, tokenizer: Any) -> Row:
    """Return a conversation as one row, in the words of the chat template."""
    tokens: list[int] = []
    spans: list[tuple[int, int]] = []
    text, plain = "", _plain(tokenizer)
    messages: list[dict[str, str]] = []
    for message, learnt in zip(talk.messages, talk.learnt, strict=True):
        said = plain(message.content)
        if message.role == "assistant":
            whole: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            if not whole.startswith(text):
                raise Unsupported(
                    "the model's chat template writes earlier turns anew, so they cannot be learnt in one row",
                    hint="Make each turn a conversation of its own.",
                )
            tokens += _ids(tokenizer, whole[len(text) :])
            answer = [*_ids(tokenizer, said), tokenizer.eos_token_id]
            tokens += answer
            spans += [(len(tokens) - len(answer), len(tokens))] if learnt else []
            text = whole + said + tokenizer.eos_token
        messages.append({"role": message.role, "content": said})
    return Row(tuple(tokens), tuple(spans))


def _passage(example: Example, tokenizer: Any, max_length_tokens: int) -> Row:
    tokens = tuple(_ids(tokenizer, _plain(tokenizer)(example.answer))[:max_length_tokens])
    return Row(tokens, ((1, max(1, len(tokens))),))


def marks_of(tokenizer: Any) -> list[str]:
    """Return the special tokens of a tokenizer: the engine that answers later breaks them in texts, and so do rows."""
    added = (token for token in tokenizer.added_tokens_decoder.values() if token.special)
    return [str(token) for token in (*added, *tokenizer.all_special_tokens)]


def _plain(tokenizer: Any) -> Callable[[str], str]:
    return breaker(marks_of(tokenizer))


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
