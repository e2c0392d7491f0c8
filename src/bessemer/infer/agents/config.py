"""What is declared about the loop of an agent; its tools are declared by the product."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.infer.agents.budget import AgentBudget


class RetentionConfig(Config):
    """How long an agent's records of sessions and runs stay.

    Attributes:
        keep_days: after the last word of a session, or the last act of a run; a run that is asked for again later
            begins anew.
        names_per_project: sessions and runs of one project; beyond that, those that were written longest ago go.
    """

    keep_days: Annotated[float, Field(gt=0, le=36_500)] = 30.0
    names_per_project: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000


class AgentConfig(Config):
    """How an agent goes about it.

    Attributes:
        name: what it is called in traces and records.
        instructions: told to its model before everything else.
        budget: the most that an answer may take.
        guard: what happens when a tool with effects is to be called after a tool whose output somebody outside may
            have written: ``approve`` wants an approval then, ``refuse`` never does it, ``off`` trusts the model.
        remembered_turns: messages of a session that the model reads before a new question; older ones are not kept.
        tool_errors: calls that may go wrong in one answer before it ends; a model that cannot call a tool would
            spend its whole budget on trying.
    """

    name: str = "agent"
    instructions: str = ""
    budget: AgentBudget = AgentBudget()
    guard: Literal["approve", "refuse", "off"] = "approve"
    remembered_turns: Annotated[int, Field(ge=0, le=1000)] = 20
    tool_errors: Annotated[int, Field(ge=1, le=1000)] = 4
