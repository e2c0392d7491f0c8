"""Plays a run again with the answers of its tools taken from the record: nothing is done, and every word is compared.

An engine that says the same to the same request plays the same run to the last bit. So a changed model, prompt or
library shows in which act it first does something else, without a tool being touched.

Owns the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bessemer.core.acting import Asker
from bessemer.core.errors import IntegrityError
from bessemer.core.nouns import Tool
from bessemer.infer.agents.budget import Purse
from bessemer.infer.agents.capability import Capability, Occasion, Said
from bessemer.infer.agents.config import AgentConfig
from bessemer.infer.agents.engine import AgentParts
from bessemer.infer.agents.loop import Conversation, Run
from bessemer.infer.agents.speaking import ChatEngine
from bessemer.infer.agents.trajectory import Record, Trajectory, differing


@dataclass(frozen=True, slots=True)
class Replayed:
    """A run that was played again.

    Attributes:
        trajectory: of this time.
        differs_at: number of the first record that is another; None if all are the same to the last bit.
    """

    trajectory: Trajectory
    differs_at: int | None


async def replay(trajectory: Trajectory, engine: ChatEngine, config: AgentConfig) -> Replayed:
    """Return a run played again.

    Args:
        trajectory: of the run.
        engine: is asked anew; the same one should say the same.
        config: of the agent; its instructions are in the record already.
    """
    before = done(trajectory.records)
    mocked = {
        each.call: Said(each.text, each.error, each.usage) for each in before if each.kind == "tool" and each.call
    }
    began = trajectory.records[0]
    tools = {name: _untouched(name) for name in trajectory.tools}
    conversation = Conversation(trajectory.request, tools, Asker(), "", "replay", began, mocked=mocked)
    run = Run(engine, conversation, config, AgentParts(), Purse(config.budget.model_copy(update=_ENOUGH)))
    async for _ in run.pieces():
        pass
    after = done(tuple(run.records))
    return Replayed(trajectory.model_copy(update={"records": after}), differing(before, after))


def _untouched(name: str) -> Capability:
    def call(arguments: Mapping[str, Any], occasion: Occasion) -> str:
        raise IntegrityError(f"'{name}' was called in a replay")

    return Capability(Tool(name=name), call)


_ENOUGH = {"cost_micros": None, "joules": None, "seconds": 86_400.0}
"""Budgets that a replay does not have: they stop a run by what it costs, not by what happens."""


def done(records: tuple[Record, ...]) -> tuple[Record, ...]:
    """Return records without those that only say that something was about to be done."""
    return tuple(record for record in records if record.kind != "meant")
