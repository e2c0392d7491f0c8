"""Writes rows with a model: each column in the order of its needs, each row for itself, some at once.

Nothing vanishes: a row that is not accepted is kept with the reason and the columns that it had. Owns the loop; knows
the engine by its protocol only.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from bessemer.core.errors import BessemerError, Cancelled, ConfigError
from bessemer.core.nouns import ChatRequest, Completion, Delta, JsonFormat, Message, Sampling, Usage
from bessemer.core.protocols import Engine
from bessemer.lake.writing.columns import (
    Calls,
    Drawn,
    Given,
    Judged,
    Number,
    Preferred,
    Template,
    WritingColumn,
    WritingConfig,
    Written,
    filled,
    ordered,
    too_long,
)
from bessemer.lake.writing.validators import normal, wrong_with

ChatEngine = Engine[ChatRequest, Completion, Delta]
Row = dict[str, Any]
_MARK = re.compile(r"\d+")
_LETTERS = re.compile(r"\b([AB])\b")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not accepted: why, and what there was of it."""

    reason: str
    row: Row


@dataclass(slots=True)
class Writing:
    """What came of writing; `usage` is of all rows, also those that were rejected."""

    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were rejected for which reason, the commonest first."""
        return dict(Counter(each.reason for each in self.rejected).most_common())


class _RejectedError(Exception):
    """A row cannot go on; internal to this module."""


async def write_rows(
    config: WritingConfig,
    engine: ChatEngine | None,
    given: Sequence[Mapping[str, Any]] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
    patience: int | None = None,
) -> Writing:
    """Return rows that a model wrote; fewer than wanted where too many are rejected, and then the reasons say why.

    Args:
        config: the columns, what is accepted, how many.
        engine: writes and judges; None where no column needs it.
        given: rows to write about, for columns of kind ``given``; taken in turn.
        progress: takes how many rows are accepted, and how many are wanted.
        patience: after so many rejected rows in a row no other is tried; None goes on to the end of all attempts.

    Raises:
        ConfigError: a column needs an engine or rows that are not there, or may be too long.
    """
    check(config, engine, given)
    result, seen, in_a_row = Writing(), set[str](), 0
    order = ordered(config.columns)
    next_number, most = 0, config.rows * config.attempts
    while len(result.rows) < config.rows and next_number < most and (patience is None or in_a_row < patience):
        wave = min(config.concurrency, config.rows - len(result.rows), most - next_number)
        numbers = range(next_number, next_number + wave)
        next_number += wave
        tried = await asyncio.gather(*(_Try(config, engine, given, number).run(order) for number in numbers))
        for row, reason, usage in tried:  # in the order of their numbers, whichever was done first
            result.usage = added(result.usage, usage)
            reason = reason or wrong_with(row, config.validators) or _repeats(config, row, seen)  # noqa: PLW2901
            in_a_row = in_a_row + 1 if reason else 0
            if reason:
                result.rejected.append(Rejected(reason, row))
            else:
                result.rows.append(row)
        progress(len(result.rows), config.rows)
    return result


def added(one: Usage, other: Usage) -> Usage:
    """Return the sum of two usages."""
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in Usage.model_fields})


def check(config: WritingConfig, engine: ChatEngine | None, given: Sequence[Mapping[str, Any]]) -> None:
    """Raise what `write_rows` raises before it asks anything."""
    for name, column in config.columns.items():
        if isinstance(column, Written | Calls | Judged | Preferred) and engine is None:
            raise ConfigError(f"column '{name}' is {column.kind} by a model, and none is given")
        if isinstance(column, Given) and (not given or column.field not in given[0]):
            known = ", ".join(given[0]) if given else "there are no rows"
            raise ConfigError(f"column '{name}' takes the field '{column.field}' of given rows: {known}")
        lacking = {"calls": "tools"} | ({"written": "json_schema"} if getattr(column, "json_schema", None) else {})
        if (wanted := lacking.get(column.kind)) and engine is not None and wanted not in engine.capabilities:
            raise ConfigError(f"column '{name}' needs an engine that can do {wanted}", hint="Choose another model.")
    if told := too_long(config.columns, longest_of(config, given)):
        raise ConfigError(told[1], hint="Put fewer or shorter columns into it.")


def longest_of(config: WritingConfig, given: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many characters the longest text has of each field of given rows that columns take."""
    fields = {column.field for column in config.columns.values() if isinstance(column, Given)}
    return {field: max((len(str(row.get(field))) for row in given), default=0) for field in fields}


def _repeats(config: WritingConfig, row: Row, seen: set[str]) -> str:
    names = config.unique or tuple(n for n, c in config.columns.items() if isinstance(c, Written | Calls))
    if not names:
        return ""
    key = json.dumps([normal(str(row[name])) for name in names])
    if key in seen:
        return f"{', '.join(names)}: the same as in a row before"
    seen.add(key)
    return ""


class _Try:
    """One row on its way; what is drawn depends on the seed and the row's number alone."""

    def __init__(
        self, config: WritingConfig, engine: ChatEngine | None, given: Sequence[Mapping[str, Any]], number: int
    ) -> None:
        self._config, self._engine, self._number = config, engine, number
        self._given = given[number % len(given)] if given else {}
        self._random = random.Random(f"{config.seed} {number}")
        self._usage = Usage()

    async def run(self, order: Sequence[str]) -> tuple[Row, str, Usage]:
        """Return the row, why it is rejected (or an empty string), and what it took."""
        row: Row = {}
        try:
            for name in order:
                row[name] = await self._value(name, self._config.columns[name], row)
        except _RejectedError as error:
            return row, str(error), self._usage
        except Cancelled:  # nothing is wrong with the row: all of the work ends
            raise
        except BessemerError as error:
            return row, f"the model failed: {error.code}", self._usage
        return {name: row[name] for name in self._config.columns}, "", self._usage

    async def _value(self, name: str, column: WritingColumn, row: Row) -> Any:
        if isinstance(column, Drawn):
            return self._random.choices(column.values, column.weights or None)[0]
        if isinstance(column, Number):
            drawn = round(self._random.uniform(column.low, column.high), column.decimals)
            return drawn if column.decimals else int(drawn)
        if isinstance(column, Given):
            return self._given[column.field]
        if isinstance(column, Template):
            return filled(column.text, row)
        return await self._asked(name, column, row)

    async def _asked(self, name: str, column: Written | Calls | Judged | Preferred, row: Row) -> Any:
        if isinstance(column, Written):
            return await self._written(name, column, row)
        if isinstance(column, Calls):
            return await self._calls(name, column, row)
        if isinstance(column, Judged):
            return await self._judged(name, column, row)
        if isinstance(column, Preferred):
            return await self._preferred(name, column, row)
        assert_never(column)

    async def _written(self, name: str, column: Written, row: Row) -> Any:
        format = JsonFormat(json_schema=column.json_schema) if column.json_schema else None
        sampling = Sampling(
            max_output_tokens=column.max_output_tokens, temperature=column.temperature, seed=self._seed()
        )
        answer = await self._ask(column.prompt, column.system, row, sampling=sampling, json_format=format)
        text = answer.text.strip()
        if answer.finish_reason not in ("stop", "length") or not text:
            raise _RejectedError(f"{name}: no answer ({answer.finish_reason})")
        if not column.json_schema:
            return text
        try:
            found = json.loads(text)
            return found[column.field] if column.field else json.dumps(found, ensure_ascii=False)
        except (ValueError, KeyError, TypeError):
            raise _RejectedError(f"{name}: no JSON with '{column.field}'") from None

    async def _calls(self, name: str, column: Calls, row: Row) -> str:
        sampling = Sampling(max_output_tokens=column.max_output_tokens, seed=self._seed())
        answer = await self._ask(column.prompt, column.system, row, sampling=sampling, tools=column.tools)
        if not answer.tool_calls:
            raise _RejectedError(f"{name}: no tool was called")
        told = []
        for call in answer.tool_calls:
            tool = next((each for each in column.tools if each.name == call.name), None)
            try:
                arguments = json.loads(call.arguments)
            except ValueError:
                raise _RejectedError(f"{name}: arguments are no JSON") from None
            if tool is None or not isinstance(arguments, dict):
                raise _RejectedError(f"{name}: no such call")
            if lost := [each for each in tool.parameters.get("required", ()) if each not in arguments]:
                raise _RejectedError(f"{name}: '{lost[0]}' is missing in a call of {tool.name}")
            told.append({"name": call.name, "arguments": arguments})
        return json.dumps(told, ensure_ascii=False)

    async def _judged(self, name: str, column: Judged, row: Row) -> int:
        scale = f"\n\nAnswer with one number from 1 (worst) to {column.best} (best) and nothing else."
        answer = await self._ask(column.prompt + scale, "", row, sampling=Sampling(max_output_tokens=8))
        found = _MARK.search(answer.text)
        mark = int(found[0]) if found and len(found[0]) < 4 else 0
        if not 1 <= mark <= column.best:
            raise _RejectedError(f"{name}: no mark from 1 to {column.best}")
        if mark < column.at_least:
            raise _RejectedError(f"{name}: marked below {column.at_least}")
        return mark

    async def _preferred(self, name: str, column: Preferred, row: Row) -> str:
        found = []
        for first, second in ((column.one, column.other), (column.other, column.one)):
            told = f"\n\nA: {row[first]}\n\nB: {row[second]}\n\nWhich answer is better? Answer with A or B only."
            prompt = filled(column.prompt, row) + told.replace("{", "(").replace("}", ")")
            answer = await self._ask(prompt, "", {}, sampling=Sampling(max_output_tokens=8))
            letter = _LETTERS.search(answer.text)
            if letter is None:
                raise _RejectedError(f"{name}: neither is preferred")
            found.append(first if letter[1] == "A" else second)
        if found[0] != found[1]:
            raise _RejectedError(f"{name}: another is preferred in the other order")
        return found[0]

    async def _ask(self, prompt: str, system: str, row: Row, **more: Any) -> Completion:
        assert self._engine is not None  # `check` saw to it
        first = (Message(role="system", content=filled(system, row)),) if system else ()
        messages = (*first, Message(role="user", content=filled(prompt, row)))
        answer = await self._engine.respond(ChatRequest(messages=messages, **more))
        self._usage = added(self._usage, answer.usage)
        return answer

    def _seed(self) -> int | None:
        can = self._engine is not None and "seed" in self._engine.capabilities
        return self._random.randrange(2**31) if can else None
