"""A model that writes rows: order, what is drawn, every way to be rejected, and shapes to train on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import pytest
from pydantic import ValidationError

from bessemer.core.errors import BackendError, ConfigError
from bessemer.core.nouns import ChatRequest, Completion, Delta, ToolCall, Usage
from bessemer.infer import EchoConfig, open_engine
from bessemer.lake.writing.columns import WritingConfig, filled, longest
from bessemer.lake.writing.shapes import shaped
from bessemer.lake.writing.writer import Writing, write_rows

TOOL = {"name": "weather", "parameters": {"type": "object", "required": ["city"]}}


class Scripted:
    """An engine that answers what a function of the request says."""

    name = "scripted"
    capabilities = frozenset({"chat", "seed", "tools", "json_schema"})

    def __init__(self, answer: Callable[[ChatRequest], str | tuple[ToolCall, ...]]) -> None:
        self._answer, self.asked = answer, list[ChatRequest]()

    async def respond(self, request: ChatRequest, /) -> Completion:
        self.asked.append(request)
        found = self._answer(request)
        usage = Usage(input_tokens=3, output_tokens=2)
        if isinstance(found, tuple):
            return Completion(text="", finish_reason="tool_calls", usage=usage, tool_calls=found)
        return Completion(text=found, finish_reason="stop", usage=usage)

    async def stream(self, request: ChatRequest, /) -> AsyncIterator[Delta]:
        yield Delta(text="", finish_reason="stop", usage=Usage())

    async def close(self) -> None: ...


def config(columns: dict[str, object], **more: object) -> WritingConfig:
    return WritingConfig.model_validate({"columns": columns, "rows": 6, **more})


def last(request: ChatRequest) -> str:
    return request.messages[-1].content


async def write(columns: dict[str, object], answer: Callable[[ChatRequest], object] = last, **more: object) -> Writing:
    return await write_rows(config(columns, **more), Scripted(answer))  # type: ignore[arg-type]


COLUMNS = {
    "answer": {"kind": "written", "prompt": "{question} ({number})"},
    "question": {"kind": "template", "text": "What is {topic}?"},
    "topic": {"kind": "drawn", "values": ["tea", "rain"], "weights": [1, 3]},
    "number": {"kind": "number", "low": 1, "high": 999},
}


async def test_columns_are_made_in_the_order_of_their_needs_and_told_in_that_of_the_declaration() -> None:
    found = await write(COLUMNS)
    assert len(found.rows) == 6 and not found.rejected
    for row in found.rows:
        assert list(row) == list(COLUMNS)
        assert row["answer"] == f"What is {row['topic']}? ({row['number']})"
    assert found.usage == Usage(input_tokens=18, output_tokens=12)


async def test_the_same_seed_draws_the_same_and_at_once_is_as_one_by_one() -> None:
    one, at_once, other = [await write(COLUMNS, **more) for more in ({"concurrency": 1}, {}, {"seed": 5})]
    assert one.rows == at_once.rows != other.rows


@pytest.mark.parametrize(
    ("columns", "answer", "more", "reason"),
    [
        ({"a": {"kind": "written", "prompt": "x"}}, lambda r: "  ", {}, "a: no answer (stop)"),
        ({"a": {"kind": "written", "prompt": "x"}}, lambda r: "Same  text", {}, "a: the same as in a row before"),
        (
            {"a": {"kind": "written", "prompt": "x", "json_schema": {"type": "object"}, "field": "q"}},
            lambda r: '{"p": 1}',
            {},
            "a: no JSON with 'q'",
        ),
        ({"m": {"kind": "judged", "prompt": "x"}}, lambda r: "2", {}, "m: marked below 3"),
        ({"m": {"kind": "judged", "prompt": "x"}}, lambda r: "wonderful", {}, "m: no mark from 1 to 5"),
        ({"m": {"kind": "judged", "prompt": "x"}}, lambda r: "9", {}, "m: no mark from 1 to 5"),
        ({"c": {"kind": "calls", "prompt": "x", "tools": [TOOL]}}, lambda r: "no", {}, "c: no tool was called"),
        (
            {"c": {"kind": "calls", "prompt": "x", "tools": [TOOL]}},
            lambda r: (ToolCall(id="1", name="weather", arguments='{"town": 1}'),),
            {},
            "c: 'city' is missing in a call of weather",
        ),
        (
            {"c": {"kind": "calls", "prompt": "x", "tools": [TOOL]}},
            lambda r: (ToolCall(id="1", name="delete", arguments="{}"),),
            {},
            "c: no such call",
        ),
        (
            {"one": {"kind": "drawn", "values": ["x"]}, "other": {"kind": "drawn", "values": ["y"]},
             "p": {"kind": "preferred", "prompt": "q"}},
            lambda r: "A", {}, "p: another is preferred in the other order",
        ),
        (
            {"a": {"kind": "written", "prompt": "x"}}, lambda r: "long text",
            {"validators": [{"kind": "length", "column": "a", "most": 3}]}, "a: length is not 1 to 3",
        ),
        (
            {"a": {"kind": "written", "prompt": "x"}}, lambda r: "as an AI",
            {"validators": [{"kind": "pattern", "column": "a", "pattern": "(?i)as an ai", "absent": True}]},
            "a: matches (?i)as an ai",
        ),
        (
            {"a": {"kind": "written", "prompt": "x"}, "b": {"kind": "drawn", "values": ["blue sky"]}},
            lambda r: "green grass",
            {"validators": [{"kind": "grounded", "column": "a", "within": "b"}]}, "a: not grounded in b",
        ),
        (
            {"a": {"kind": "template", "text": "X  y"}, "b": {"kind": "drawn", "values": ["x Y"]}}, last,
            {"validators": [{"kind": "differs", "columns": ["a", "b"]}]}, "a and b: the same",
        ),
    ],
)  # fmt: skip
async def test_every_row_that_is_not_accepted_says_why(columns, answer, more, reason) -> None:
    found = await write(columns, answer, attempts=2, **more)
    assert set(found.reasons) == {reason}
    assert len(found.rows) + len(found.rejected) == 12, "nothing vanishes"


async def test_a_model_that_fails_rejects_its_rows_and_not_the_rest() -> None:
    count = 0

    def answer(request: ChatRequest) -> str:
        nonlocal count
        count += 1
        if count % 2:
            raise BackendError("gone")
        return f"text {count}"

    found = await write({"a": {"kind": "written", "prompt": "x"}}, answer, concurrency=1)
    assert len(found.rows) == 6
    assert found.reasons == {"the model failed: backend_error": 6}


async def test_shapes_to_train_on() -> None:
    rows = {"question": "Q", "answer": "A", "other": "B", "preferred": "answer",
            "calls": json.dumps([{"name": "weather", "arguments": {"city": "Graz"}}])}  # fmt: skip
    columns: dict[str, object] = {name: {"kind": "drawn", "values": ["x"]} for name in ("question", "answer", "other")}
    columns |= {
        "preferred": {"kind": "preferred", "one": "answer", "other": "other", "prompt": "q"},
        "calls": {"kind": "calls", "prompt": "x", "tools": [TOOL]},
    }
    talk = shaped(rows, config(columns, shape={"kind": "talk", "system": "S"}))
    assert [m["role"] for m in talk["messages"]] == ["system", "user", "assistant"]
    better = shaped(rows, config(columns, shape={"kind": "preference"}))
    assert better["preferred_output"][0]["content"] == "A" and better["non_preferred_output"][0]["content"] == "B"
    calls = shaped(rows, config(columns, shape={"kind": "calls", "user": "question"}))
    assert json.loads(calls["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"city": "Graz"}
    assert shaped(rows, config(columns)) == rows


async def test_rows_that_are_given_are_taken_in_turn_and_braces_in_them_stay() -> None:
    columns = {"passage": {"kind": "given", "field": "text"}, "q": {"kind": "written", "prompt": "Ask of: {passage}"}}
    given = [{"text": "of {q} and {x}"}, {"text": "two"}]
    found = await write_rows(config(columns, rows=2), Scripted(last), given)
    assert [row["passage"] for row in found.rows] == ["of {q} and {x}", "two"]
    assert found.rows[0]["q"] == "Ask of: of {q} and {x}"
    with pytest.raises(ConfigError, match="takes the field 'text'"):
        await write_rows(config(columns), Scripted(last))


@pytest.mark.parametrize(
    ("columns", "more", "said"),
    [
        ({"a": {"kind": "template", "text": "{b}"}}, {}, "names '{b}', but the columns are: a"),
        ({"a": {"kind": "template", "text": "{b}"}, "b": {"kind": "template", "text": "{a}"}}, {}, "in a ring"),
        ({"a": {"kind": "drawn", "values": []}}, {}, "at least 1"),
        ({"a": {"kind": "drawn", "values": ["x"], "weights": [0]}}, {}, "one above zero"),
        ({"a": {"kind": "drawn", "values": ["x"]}}, {"validators": [{"kind": "length", "column": "z"}]}, "'z'"),
        ({"a": {"kind": "drawn", "values": ["x"]}}, {"shape": {"kind": "talk"}}, "names the column 'question'"),
        (
            {"a": {"kind": "drawn", "values": ["x"]}},
            {"shape": {"kind": "preference", "user": "a", "preferred": "a"}},
            "'a' is drawn, not preferred",
        ),
    ],
)
def test_mistakes_are_named(columns, more, said) -> None:
    with pytest.raises(ValidationError, match=said):
        config(columns, **more)


async def test_what_an_engine_cannot_do_is_said_before_it_is_asked() -> None:
    engine = Scripted(last)
    engine.capabilities = frozenset({"chat"})
    with pytest.raises(ConfigError, match="needs an engine that can do tools"):
        await write_rows(config({"c": {"kind": "calls", "prompt": "x", "tools": [TOOL]}}), engine)
    with pytest.raises(ConfigError, match="none is given"):
        await write_rows(config({"a": {"kind": "written", "prompt": "x"}}), None)
    assert engine.asked == []


async def test_the_house_s_own_engine_writes() -> None:
    engine = open_engine(EchoConfig())
    found = await write_rows(config(COLUMNS, rows=3), engine)  # type: ignore[arg-type]
    await engine.close()
    assert [row["answer"] for row in found.rows] == [f"What is {r['topic']}? ({r['number']})" for r in found.rows]
    assert found.usage.output_tokens > 0


def test_cells_and_prompts_that_grow_by_powers_are_refused() -> None:
    columns: dict[str, object] = {"t0": {"kind": "drawn", "values": ["x" * 1000]}}
    columns["t1"] = {"kind": "template", "text": "{t0}" * 90}
    config(columns)
    for bomb in (
        {"t2": {"kind": "template", "text": "{t1}" * 1000}},
        {"t2": {"kind": "written", "prompt": "{t1}", "system": "{t1}"}},
        {"t2": {"kind": "judged", "prompt": "{t1}{t1}"}},
        {"t2": {"kind": "preferred", "one": "t1", "other": "t1", "prompt": "?"}},
        {"w": {"kind": "written", "prompt": "x"}, "t2": {"kind": "template", "text": "{w}" * 100}},
    ):
        with pytest.raises(ValidationError, match=r"'t2' may have .* characters of 100,000 at most"):
            config(columns | bomb)


async def test_what_is_made_of_long_given_texts_is_refused() -> None:
    columns = {"g": {"kind": "given", "field": "text"}, "t": {"kind": "template", "text": "{g}{g}"}}
    assert len((await write_rows(config(columns, rows=1), None, [{"text": "x" * 50_000}])).rows) == 1
    with pytest.raises(ConfigError, match="a cell of 't' may have 100,002 characters"):
        await write_rows(config(columns), None, [{"text": "x"}, {"text": "x" * 50_001}])


def test_the_longest_are_no_shorter_than_what_is_made() -> None:
    columns = config(
        {
            "n": {"kind": "number", "low": -1e300, "high": 7, "decimals": 3},
            "t": {"kind": "template", "text": "{n}{no} {n}"},
        }
        | {"no": {"kind": "drawn", "values": ["a", "bcd"]}}
    ).columns
    row = {"n": -float("1234567890123456"), "no": "bcd"}
    assert longest(columns)["t"][0] >= len(filled("{n}{no} {n}", row | {"n": int(-1e300)}))


@pytest.mark.parametrize("bounds", [{"high": float("inf")}, {"low": float("nan")}, {"low": -1e308, "high": 1e308}])
def test_a_number_is_drawn_between_bounds_that_are_numbers(bounds: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        config({"n": {"kind": "number", **bounds}})


async def test_whoever_has_patience_ends_after_so_many_rejected_in_a_row() -> None:
    columns = {"text": {"kind": "written", "prompt": "x"}}
    never = {"validators": [{"kind": "length", "column": "text", "least": 1_000_000}], "rows": 100, "attempts": 10}
    engine = Scripted(last)
    written = await write_rows(config(columns, concurrency=1, **never), engine, patience=50)
    assert written.rows == [] and len(engine.asked) == 50
