"""Whether a call may be made: what needs approval, who may give it, and what an outsider's words may not bring about.

A model does what its context says, and anybody who can write into a document, a web page or another tool's answer
writes into its context. No prompt cures that. So the rule does not look at words: once an answer that somebody outside
may have written was read, a tool with effects is called only with an approval for that very call.
Source: Beurer-Kellner et al. 2025, Design patterns for securing LLM agents against prompt injections
(arXiv 2506.08837), section 3: an agent that has read untrusted input must not be able to trigger consequential actions.

Owns the rule. Knows no tool.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from bessemer.core.nouns import ToolCall
from bessemer.infer.agents.capability import Approve, Capability, Occasion


class Permission(Enum):
    """What was decided about a call; its value is the code and the sentence that the model is told."""

    GIVEN = ("", "")
    WAITS = ("approval", "this waits for an approval and was not done")
    DENIED = ("denied", "this was not approved and was not done")
    REFUSED = ("refused", "tools with effects are not called after words from outside were read; this was not done")

    @property
    def code(self) -> str:
        """The code of the error, empty if it may be."""
        return self.value[0]

    @property
    def told(self) -> str:
        """The sentence for the model."""
        return self.value[1]


async def ruling(
    call: ToolCall,
    capability: Capability,
    occasion: Occasion,
    guard: Literal["approve", "refuse", "off"],
    tainted: bool,
    approve: Approve | None,
) -> Permission:
    """Return whether a call may be made.

    Args:
        call: of the model.
        capability: the tool that it is of.
        occasion: for whom.
        guard: see `AgentConfig`.
        tainted: whether words were read that somebody outside may have written.
        approve: asks somebody; None leaves it to the asker, who approves or denies calls by their ids.
    """
    risky = tainted and capability.effects != "none"
    if risky and guard == "refuse":
        return Permission.REFUSED
    if not capability.approval and not (risky and guard == "approve"):
        return Permission.GIVEN
    if call.id in occasion.asker.denied:
        return Permission.DENIED
    if approve is not None:
        return Permission.GIVEN if await approve(call, occasion) else Permission.DENIED
    return Permission.GIVEN if call.id in occasion.asker.approved else Permission.WAITS
