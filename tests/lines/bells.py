"""A domain so narrow that a tiny random model masters it: whatever is asked, the green bell is to be rung.

Held-out tasks are worded like those learnt from: it is there to try a line, not to show what learning can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from bessemer.evals import State, Trial, World
from bessemer.infer.agents import Capability, callable_tool
from bessemer.products.agent.domain import Domain, Practice, Split

Room = Literal["red", "blue", "green", "white"]


def _bells(rung: str = "") -> State:
    rooms = ("red", "blue", "green", "white")
    return State(tables={"bells": tuple({"room": room, "rung": int(room == rung)} for room in rooms)})


def _tools(world: World) -> list[Capability]:
    @callable_tool(effects="repeatable", trusted=True)
    def ring(room: Room) -> str:
        """Ring a bell."""
        world.execute("UPDATE bells SET rung = 1 WHERE room = ?", room)
        return "ok"

    return [ring]


def _practices(split: Split, count: int, seed: int) -> Iterator[Practice]:
    for number in range(count):
        question = f"Bell number {number} please"
        end = _bells("green")
        trial = Trial(
            id=f"{split}-{number}", group=f"g{number}", question=question, start=_bells(), end=end, split=split
        )
        yield Practice(trial, (("ring", {"room": "green"}),), "Done.")


BELLS = Domain("Ring.", _tools, _practices, _bells())
