"""Trials: worlds that are made anew, ends that are compared, and pass^k as it was defined."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from bessemer.core.acting import Act, ActedDelta
from bessemer.core.errors import BackendError, ConfigError
from bessemer.core.nouns import ChatRequest, Delta, Usage
from bessemer.evals import State, Trial, TrialsConfig, World, differences, grade, pass_hat, run_trials

START = State(tables={"orders": ({"id": "A1", "n": 1}, {"id": "A2", "n": 2})}, files={"notes/a.txt": "x"})
END = State(tables={"orders": ({"id": "A2", "n": 2}, {"id": "A1", "n": 5})}, files={"notes/a.txt": "x"})


class Doer:
    """An agent that does what it was told, as often as its chance says."""

    name, capabilities = "doer", frozenset({"chat", "stream", "seed"})

    def __init__(self, world: World, chance: float) -> None:
        self.world, self.chance = world, chance

    async def respond(self, request: ChatRequest, /) -> Any:
        raise NotImplementedError

    async def stream(self, request: ChatRequest, /) -> AsyncGenerator[Delta, None]:
        if request.messages[0].content == "break":
            raise BackendError("the engine failed")
        act = Act(number=0, kind="tool", name="set", arguments="{}")
        if random.Random(f"{request.sampling.seed}/{request.messages[0].content}").random() < self.chance:
            self.world.execute("UPDATE orders SET n = ? WHERE id = ?", 5, "A1")
        yield ActedDelta(acts=(act,), usage=Usage(input_tokens=3))
        yield Delta(text="Order A1 has 5.", finish_reason="stop", usage=Usage(input_tokens=3, output_tokens=4))

    async def close(self) -> None:
        pass


def trial(number: int = 0, **fields: Any) -> Trial:
    return Trial(id=f"t{number}", group=f"g{number % 10}", question=f"q{number}", start=START, end=END, **fields)


def test_a_world_is_what_it_was_made_and_what_was_done_in_it() -> None:
    with World(START) as world:
        assert differences(START, world.state()) == []
        world.execute("UPDATE orders SET n = 5 WHERE id = 'A1'")
        assert differences(END, world.state()) == [], "the order of rows is nothing"
        (world.folder / "b.txt").write_text("new")
        assert differences(END, world.state()) == ["the file 'b.txt' is not as wanted"]
        folder = world.folder
    assert not folder.exists()
    with pytest.raises(ConfigError, match="outside"):
        World(State(files={"../a": "x"}))
    with pytest.raises(ConfigError, match="columns"):
        World(State(tables={"t": ({"a": 1}, {"b": 1})}))


def test_grading_looks_at_the_end_the_words_and_the_calls() -> None:
    good = (Act(number=0, kind="tool", name="find"), Act(number=1, kind="tool", name="set"))
    asked = trial(says=("5",), calls=("find", "set"), never=("drop",))
    assert grade(asked, END, "Order A1 has 5.", good) == []
    assert grade(asked, START, "Order A1 has 5.", good) == ["the rows of 'orders' are not as wanted"]
    assert grade(asked, END, "Done.", good) == ["the answer does not say '5'"]
    assert grade(asked, END, "It is 1234567.", good), "a number within a number says nothing"
    assert grade(asked, END, "5", good[::-1]) == ["'set' was not called in its place"]
    dropped = (*good, Act(number=2, kind="tool", name="drop", error="denied"))
    assert grade(asked, END, "5", dropped) == ["'drop' was called"]
    unchanged = Trial(id="u", group="g", question="q", start=START)
    assert grade(unchanged, START, "", ()) == []


async def test_pass_hat_k_is_the_chance_that_k_attempts_all_succeed() -> None:
    assert [pass_hat(3, 5, k) for k in (1, 2, 3, 4)] == [0.6, 0.3, 0.1, 0.0]
    config = TrialsConfig(attempts=6, k=3, temperature=1.0)
    tried = await run_trials(lambda world: Doer(world, 0.7), [trial(n) for n in range(50)], config)
    solved, hat = tried.report.metric("solved"), tried.report.metric("pass^3")
    assert solved.interval.low < 0.7 < solved.interval.high
    assert hat.interval.low < 0.7**3 < hat.interval.high
    assert len({attempt.solved for attempt in tried.attempts["t0"] + tried.attempts["t1"]}) == 2, "all attempts alike"
    assert tried.report.usage == Usage(input_tokens=3 * 300, output_tokens=4 * 300)


async def test_never_in_few_trials_is_not_known_to_be_never() -> None:
    for chance, ends in ((0.0, (0.0, 0.308)), (1.1, (0.692, 1.0))):
        tried = await run_trials(lambda world, chance=chance: Doer(world, chance), [trial(n) for n in range(30)])
        found = tried.report.metric("solved").interval
        assert (found.low, found.high) == pytest.approx(ends, abs=0.001)  # 1 - 0.025 ** (1 / 10), of ten groups


async def test_an_engine_that_fails_solves_nothing_and_the_reason_is_kept() -> None:
    broken = Trial(id="b", group="g", question="break", start=START)
    tried = await run_trials(lambda world: Doer(world, 1.0), [broken, trial(1)])
    assert tried.attempts["b"][0].wrong == ("backend_error: the engine failed",)
    assert tried.attempts["t1"][0].solved
    with pytest.raises(ConfigError, match=r"pass\^2"):
        await run_trials(lambda world: Doer(world, 1.0), [trial()], TrialsConfig(k=2))
    with pytest.raises(ConfigError, match="every id once"):
        await run_trials(lambda world: Doer(world, 1.0), [trial(), trial()])
