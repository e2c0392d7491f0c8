"""From solved tasks to conversations that a model learns from: made by a teacher, kept only if they end as wanted.

Owns the loop from trials to talks. Knows no optimiser.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass

from bessemer.core.acting import Asker
from bessemer.core.nouns import ChatRequest, Completion, Delta, Message, Sampling, ToolCallPiece, Usage
from bessemer.evals import World, grade
from bessemer.infer import calling
from bessemer.infer.agents import AgentConfig, AgentEngine, Capability
from bessemer.infer.agents.trajectory import Trajectory
from bessemer.infer.engines import complete
from bessemer.products.agent.domain import Call, Practice
from bessemer.train.talks import Talk

Tools = Callable[[World], Sequence[Capability]]


@dataclass(frozen=True, slots=True)
class Taught:
    """What was learnt from: conversations of tasks that were solved, and how many trajectories were thrown away."""

    talks: tuple[Talk, ...]
    refused: int


class Teacher:
    """An engine that makes the calls which it was told, then gives its answer: it knows the solution."""

    name = "teacher"
    capabilities = frozenset({"chat", "stream", "tools"})

    def __init__(self, calls: Sequence[Call], answer: str) -> None:
        self._calls, self._answer = list(calls), answer

    async def respond(self, request: ChatRequest, /) -> Completion:
        """Return the next call, or the answer."""
        return await complete(self.stream(request), lambda: 0.0)

    async def stream(self, request: ChatRequest, /) -> AsyncGenerator[Delta, None]:
        """Yield the next call, or the answer."""
        if not self._calls:
            yield Delta(text=self._answer, finish_reason="stop", usage=Usage())
            return
        name, arguments = self._calls.pop(0)
        piece = ToolCallPiece(index=0, id="call_0", name=name, arguments=json.dumps(arguments, ensure_ascii=False))
        yield Delta(finish_reason="tool_calls", usage=Usage(), tool_calls=(piece,))

    async def close(self) -> None:
        """Nothing."""


async def teach(practices: Iterable[Practice], tools: Tools, config: AgentConfig) -> Taught:
    """Return the conversations of tasks that their own solution really solves, each tried in its world."""
    talks, refused = [], 0
    for practice in practices:
        with World(practice.trial.start) as world:
            agent = AgentEngine(Teacher(practice.calls, practice.answer), tools(world), config)
            asked = agent.of(Asker())
            question = Message(role="user", content=practice.trial.question)
            answer = await asked.respond(ChatRequest(messages=(question,), sampling=Sampling()))
            if grade(practice.trial, world.state(), answer.text, answer.acts):
                refused += 1
                continue
            talks.append(talk_of(asked.trajectory(), practice.trial.id))
    return Taught(tuple(talks), refused)


def talk_of(trajectory: Trajectory, id: str) -> Talk:
    """Return a run as a conversation in the very words that the embedded engine's model reads and writes.

    Args:
        trajectory: of a run that was solved.
        id: of the conversation.
    """
    told = calling.spoken(trajectory.request.model_copy(update={"messages": trajectory.messages()}))
    last = told[-1]
    said = (*told[:-1], last.model_copy(update={"content": calling.written_answer(last.content)}))
    return Talk(id=id, messages=said, learnt=tuple(message.role == "assistant" for message in said))
