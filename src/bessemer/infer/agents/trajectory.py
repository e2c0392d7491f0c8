"""What is written down of a run, so that it can go on after a kill, be played again, and be learnt from.

A record says what happened and never when: two runs in which the same happened have the same records to the last bit.

Owns the shape of records. Knows neither the loop nor where records are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from bessemer.core.acting import Act
from bessemer.core.digest import digest
from bessemer.core.nouns import ChatRequest, FinishReason, Message, Noun, ToolCall, Usage

AS_JSON = Message(role="user", content="Give this answer as JSON of the form that was asked for, and nothing else.")
"""What a model is told that answered freely where a form is wanted; it is held to the form then."""


class Record(Noun):
    """One thing that happened in a run.

    Attributes:
        kind: the run ``begun``; the ``model`` said something; a tool is ``meant`` to be called that must not be called
            twice; a ``tool`` was called; the run ``ended``.
        digest: of what was asked, where the run began.
        text: what the model or the tool said.
        calls: that the model asked for, with the ids that the run gave them.
        call: that a tool's record is about.
        error: code of what went wrong with a tool.
        finish_reason: of the model, or of the run.
        usage: of the model, or of the engines that a tool asked.
    """

    kind: Literal["begun", "model", "meant", "tool", "ended"]
    digest: str = ""
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    call: ToolCall | None = None
    error: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage = Usage()


class Trajectory(Noun):
    """A whole run: what was asked, and what happened.

    Attributes:
        request: what the model saw before its first act, instructions and tools included.
        tools: of the request, which are the agent's own; the client calls the others.
        records: in their order.
    """

    request: ChatRequest
    tools: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of all of it: equal only if the same was asked and the same happened."""
        return digest(self)

    def messages(self) -> tuple[Message, ...]:
        """Return the conversation of the run to its end, as its model would read it: what a fine-tuning learns from."""
        said = list(self.request.messages)
        for record in self.records:
            if record.kind == "model":
                if said[-1].role == "assistant" and not said[-1].tool_calls:
                    said.append(AS_JSON)
                said.append(Message(role="assistant", content=record.text, tool_calls=record.calls))
            elif record.kind == "tool" and record.call:
                said.append(Message(role="tool", content=record.text, tool_call_id=record.call.id))
        return tuple(said)


class Recalled(Protocol):
    """What was kept, as it can be read."""

    def read(self, name: str, last: int | None = None) -> list[object]:
        """Return the records of a name in their order, or the newest of them."""
        ...

    def quoted(self, name: str) -> frozenset[str]:
        """Return the ids of the documents that the records of a name may quote."""
        ...

    def erasures(self) -> int:
        """Return how many times documents were erased."""
        ...


class Journal(Recalled, Protocol):
    """Where records are kept; `bessemer.infer.agents.records.Records` is one."""

    def append(
        self, name: str, number: int, body: object, quotes: Iterable[str] = (), since: int | None = None
    ) -> None:
        """Write one record durably, with the ids of documents that it may quote, unless they were erased `since`.

        Raises:
            Conflict: somebody else wrote that number first, or what came before it was erased.
        """
        ...

    def add(
        self,
        name: str,
        *bodies: object,
        quotes: Iterable[str] = (),
        keep: int | None = None,
        since: int | None = None,
    ) -> None:
        """Write records behind the last one; with `keep`, no more than so many of the newest stay."""
        ...

    def forget(self, *names: str) -> int:
        """Delete the records of names; return how many there were."""
        ...


def model_act(number: int, name: str, record: Record, began: float, seconds: float) -> Act:
    """Return the act that a model's record is."""
    return Act(
        number=number, kind="model", name=name, output=record.text, usage=record.usage, began=began, seconds=seconds
    )


def tool_act(number: int, record: Record, began: float, seconds: float) -> Act:
    """Return the act that a tool's record is."""
    call = record.call or ToolCall(id="", name="", arguments="")
    return Act(
        number=number,
        kind="tool",
        name=call.name,
        call_id=call.id,
        arguments=call.arguments,
        output=record.text,
        error=record.error,
        usage=record.usage,
        began=began,
        seconds=seconds,
    )


def differing(one: Sequence[Record], other: Sequence[Record]) -> int | None:
    """Return the number of the first record in which two runs differ, or None if they are the same."""
    for number in range(max(len(one), len(other))):
        if number >= len(one) or number >= len(other) or one[number] != other[number]:
            return number
    return None
