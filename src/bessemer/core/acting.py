"""The nouns of agents: what an agent did on its way to an answer, who asks it, and what an answer may take at most.

An agent is an ``Engine[ChatRequest, Completion, Delta]``. Its pieces are Deltas that may carry acts; whoever does not
look for them sees an answer like any model's. Knows no loop and no tool.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol, runtime_checkable

from bessemer.core.nouns import ChatRequest, Completion, Delta, Noun, Usage
from bessemer.core.protocols import Engine

Effects = Literal["none", "repeatable", "once"]
"""What a tool does to the world: nothing; something that may be done twice with the same key; something that may not.
"""


class Act(Noun):
    """One thing that an agent did: it asked its model, or called a tool.

    Attributes:
        number: in the order of the answer, from 0.
        kind: ``model`` or ``tool``.
        name: of the model or the tool.
        call_id: of a tool's call; the same whenever the same conversation is answered in the same way.
        arguments: of a tool's call, JSON as it was called with.
        output: what the tool told the model, or what the model said.
        error: empty, or the code of what went wrong; `output` then says it in words.
        began: Unix time in seconds.
        seconds: how long it took.
        usage: of the model, or of the engines that a tool asked.
    """

    number: int
    kind: Literal["model", "tool"]
    name: str
    call_id: str = ""
    arguments: str = ""
    output: str = ""
    error: str = ""
    began: float = 0.0
    seconds: float = 0.0
    usage: Usage = Usage()


class ActedDelta(Delta):
    """A piece of an agent's answer, with the acts that ended since the piece before."""

    acts: tuple[Act, ...] = ()


class ActedCompletion(Completion):
    """A whole answer of an agent; its usage is the sum over the acts of its model."""

    acts: tuple[Act, ...] = ()


class Asker(Noun):
    """Who asks an agent, as far as it matters to what it may do.

    Attributes:
        project: whose memory and runs it sees.
        key_id: of the key that was used.
        tools: the only tools that it may use; None leaves all that the agent has.
        session: name of a conversation that is remembered; empty remembers nothing.
        run: name of a run that goes on where it was if it is asked for again; empty begins a new one.
        approved: ids of calls that may be made, in a run that waits for that.
        denied: ids of calls that may not.
    """

    project: str = ""
    key_id: str = ""
    tools: tuple[str, ...] | None = None
    session: str = ""
    run: str = ""
    approved: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@runtime_checkable
class Personal(Protocol):
    """An engine that answers by who asks."""

    def of(self, asker: Asker, /) -> Engine[ChatRequest, Completion, Delta]:
        """Return the engine for somebody."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """An engine for somebody that keeps something of them."""

    def forget(self) -> int:
        """Delete what is kept of the session and the run of whoever asks; return how many records there were.

        Raises:
            Conflict: the run is being answered.
        """
        ...


@runtime_checkable
class Bounded(Protocol):
    """An engine whose answers may take more than one reading of the request and one answer of its length."""

    def most(self, request: ChatRequest, /) -> Usage:
        """Return the most that an answer may take: never less than the engine will count."""
        ...


def acts_of(pieces: Iterable[Delta]) -> tuple[Act, ...]:
    """Return the acts that the pieces of an answer carry."""
    return tuple(act for piece in pieces if isinstance(piece, ActedDelta) for act in piece.acts)
