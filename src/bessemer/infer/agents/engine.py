"""The agent: an Engine made of an Engine and tools, with who asks it bound to what it may do.

Owns what the outside sees: capabilities, the most that an answer may take, what was counted. How an answer is made
stands in `loop.py`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from bessemer.core.acting import ActedCompletion, Asker, acts_of
from bessemer.core.digest import canonical_json, digest
from bessemer.core.errors import ConfigError, Conflict, NotFound, Unsupported
from bessemer.core.nouns import ChatRequest, Delta, Message, Usage
from bessemer.infer.agents.budget import Purse, Rate
from bessemer.infer.agents.capability import Approve, Capability
from bessemer.infer.agents.config import AgentConfig
from bessemer.infer.agents.loop import Conversation, Run
from bessemer.infer.agents.records import record_name
from bessemer.infer.agents.speaking import ChatEngine
from bessemer.infer.agents.trajectory import Journal, Record, Trajectory
from bessemer.infer.engines import Counters, add, complete, minus

CAN = frozenset({"chat", "stream", "tools", "agent"})
"""Capabilities of every agent."""

PASSED_ON = frozenset({"seed", "json_object", "json_schema"})
"""Those that it has where the engine below has them."""


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What an agent is handed besides its model and its tools; all of it may be left out.

    Attributes:
        approve: asked before a tool that needs approval is called; without it, only the asker can approve.
        price: from tokens to millionths of a currency unit, for a budget of money.
        energy: from tokens to joules, for a budget of joules.
        journal: where runs and sessions are written down.
        clock: Unix time in seconds.
        asks: under which name the tokens of its engine are counted, too; empty if nobody else counts them.
        margin_tokens: that its engine may read besides what it is asked: a template's marks, passages that it looks up.
        owns: whether the engine is the agent's own, and closed with it.
        quotes: ids of documents that whatever its engine says may quote.
    """

    approve: Approve | None = None
    price: Rate | None = None
    energy: Rate | None = None
    journal: Journal | None = None
    clock: Callable[[], float] = time.time
    asks: str = ""
    margin_tokens: int = 256
    owns: bool = False
    quotes: frozenset[str] = frozenset()


class AgentEngine:
    """Answers by asking its engine, and by calling tools for it.

    Args:
        engine: any that can ``chat``; best with ``tools``, else with ``json_schema``.
        capabilities: the tools.
        config: how it goes about it.
        parts: what it is handed besides.

    Attributes:
        lent: what engines that are served under names of their own counted for this agent, by those names.

    Raises:
        ConfigError: two tools have one name, or a budget is in what nobody can measure.
    """

    def __init__(
        self,
        engine: ChatEngine,
        capabilities: Sequence[Capability],
        config: AgentConfig | None = None,
        parts: AgentParts | None = None,
    ) -> None:
        self.config, self.parts = config or AgentConfig(), parts or AgentParts()
        self.name = self.config.name
        self.engine = engine
        self.capabilities = CAN | (engine.capabilities & PASSED_ON)
        self.tools: Mapping[str, Capability] = {each.tool.name: each for each in capabilities}
        if len(self.tools) < len(capabilities):
            raise ConfigError(f"two tools of '{self.name}' have one name", hint="Give one of them another.")
        for limit, rate in (("cost_micros", self.parts.price), ("joules", self.parts.energy)):
            if getattr(self.config.budget, limit) is not None and rate is None:
                raise ConfigError(f"a budget in {limit} needs to know what tokens come to", hint="Hand in the rate.")
        self._counted = Counters()
        self.lent: dict[str, Usage] = {}
        self._under_way: set[str] = set()

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Keep a run to one answer at a time; another process that goes on with it is stopped by its records.

        Raises:
            Conflict: it is being answered.
        """
        if name in self._under_way:
            raise Conflict("this run is being answered already", hint="Wait for that answer, or name another run.")
        self._under_way |= {name} if name else set()
        try:
            yield
        finally:
            self._under_way.discard(name)

    @property
    def counters(self) -> Counters:
        """What its engine read and wrote for it; each piece was delivered as it came."""
        return self._counted

    def count(self, requests: int = 0, total: Usage | None = None, lender: str = "") -> None:
        """Add to what was counted, and to what the engine that serves a lender's name counted for this agent."""
        self._counted = self._counted.plus(requests, total or Usage())
        if lender and total:
            self.lent[lender] = add(self.lent.get(lender, Usage()), total)

    def lender(self, piece: Delta) -> str:
        """Return under which name the usage that a piece adds was counted, too."""
        called = [act.name for act in acts_of([piece]) if act.kind == "tool"]
        return self.tools[called[0]].asks if called and called[0] in self.tools else self.parts.asks

    def of(self, asker: Asker, /) -> AskedAgent:
        """Return the agent for somebody: with the tools, the memory and the runs that are theirs.

        Raises:
            NotFound: a tool was granted that the agent does not have.
        """
        return AskedAgent(self, asker)

    async def respond(self, request: ChatRequest, /) -> ActedCompletion:
        """Return the whole answer, to nobody in particular."""
        return await self.of(Asker()).respond(request)

    def stream(self, request: ChatRequest, /) -> AsyncGenerator[Delta, None]:
        """Yield the answer in pieces, to nobody in particular."""
        return self.of(Asker()).stream(request)

    def most(self, request: ChatRequest, /) -> Usage:
        """Return the most that an answer may take: what its budget allows."""
        units = max((tool.most.units for tool in self.tools.values()), default=0) * self.config.budget.calls
        return self.config.budget.most().model_copy(update={"units": units})

    async def close(self) -> None:
        """Release what the tools hold, and the engine below if it is the agent's own."""
        for capability in self.tools.values():
            if capability.close:
                await capability.close()
        if self.parts.owns:
            await self.engine.close()


class AskedAgent:
    """An agent for one asker."""

    def __init__(self, agent: AgentEngine, asker: Asker) -> None:
        self.name, self.capabilities = agent.name, agent.capabilities
        self._agent, self.asker = agent, asker
        granted = agent.tools if asker.tools is None else {name: agent.tools.get(name) for name in asker.tools}
        if missing := [name for name, tool in granted.items() if tool is None]:
            told = f"the key grants '{missing[0]}', which is no tool of '{agent.name}'"
            raise NotFound(told, hint=f"Its tools: {', '.join(agent.tools)}")
        self.tools = {name: tool for name, tool in granted.items() if tool is not None}
        self.last: Run | None = None

    @property
    def counters(self) -> Counters:
        """What the agent counted, for all askers."""
        return self._agent.counters

    def most(self, request: ChatRequest, /) -> Usage:
        """Return the most that an answer may take."""
        return self._agent.most(request)

    async def respond(self, request: ChatRequest, /) -> ActedCompletion:
        """Return the whole answer with its acts; see `stream` for what it raises."""
        pieces: list[Delta] = []

        async def kept() -> AsyncGenerator[Delta, None]:
            async with aclosing(self.stream(request)) as answer:
                async for piece in answer:
                    pieces.append(piece)
                    yield piece

        whole = await complete(kept(), time.perf_counter)
        return ActedCompletion(**dict(whole), acts=acts_of(pieces))

    async def stream(self, request: ChatRequest, /) -> AsyncGenerator[Delta, None]:
        """Yield acts as they end, and the answer; each piece has the usage so far.

        Raises:
            Conflict: the run is being worked on elsewhere, or was begun with another question.
            BudgetExceeded: not even one act of the model fits the budget.
            Unsupported: a tool of the client's has the name of one of the agent's; or no conversation is asked.
        """
        agent = self._agent
        if not isinstance(request, ChatRequest):
            raise Unsupported("an agent answers conversations only", hint="Ask its model for anything else.")
        conversation = self._conversation(request)
        purse = Purse(agent.config.budget, agent.parts.price, agent.parts.energy)
        run = self.last = Run(agent.engine, conversation, agent.config, agent.parts, purse)
        agent.count(requests=1)
        counted = Usage()
        with agent.alone(conversation.name):
            async with aclosing(run.pieces()) as pieces:
                async for piece in pieces:
                    if piece.usage:
                        agent.count(total=minus(piece.usage, counted), lender=agent.lender(piece))
                        counted = piece.usage
                    yield piece
        ended_before = bool(conversation.kept) and conversation.kept[-1].kind == "ended"
        most, journal = agent.config.remembered_turns, agent.parts.journal
        if self.asker.session and journal and most and run.text and not ended_before:
            said = (request.messages[-1], Message(role="assistant", content=run.text))
            bodies = (message.model_dump(mode="json") for message in said)
            journal.add(self._session, *bodies, quotes=run.quotes, keep=most, since=conversation.since)

    def forget(self) -> int:
        """Delete what is kept of the asker's session and of its run, and return how many records there were.

        Raises:
            Conflict: the run is being answered.
        """
        names = [self._session] if self.asker.session else []
        names += [self._run] if self.asker.run else []
        with self._agent.alone(self._run if self.asker.run else ""):
            return self._agent.parts.journal.forget(*names) if self._agent.parts.journal else 0

    def trajectory(self) -> Trajectory:
        """Return what happened in the latest answer.

        Raises:
            NotFound: there was none.
        """
        if self.last is None:
            raise NotFound("this agent was not asked anything yet", hint="Ask it, then look at what it did.")
        request = self.last.conversation.request
        return Trajectory(request=request, tools=tuple(self.tools), records=tuple(self.last.records))

    async def close(self) -> None:
        """Nothing: the agent is closed by its owner."""

    @property
    def _session(self) -> str:
        return record_name("session", self.asker.project, self.name, self.asker.session)

    @property
    def _run(self) -> str:
        return record_name("run", self.asker.project, self.name, self.asker.run)

    def _conversation(self, request: ChatRequest) -> Conversation:
        config, journal = self._agent.config, self._agent.parts.journal
        if clash := [tool.name for tool in request.tools if tool.name in self._agent.tools]:
            raise Unsupported(f"'{clash[0]}' is a tool of '{self.name}' already", hint="Call your own differently.")
        since = journal.erasures() if journal else 0  # before anything is read that may be erased meanwhile
        name = self._run if self.asker.run and journal else ""
        kept = tuple(Record.model_validate(each) for each in journal.read(name)) if name and journal else ()
        remembered = self._remembered(kept)
        system = [m.content for m in request.messages if m.role == "system"]
        rest = [m for m in request.messages if m.role != "system"]
        told = "\n\n".join(text for text in (config.instructions, *system) if text)
        opening = [Message(role="system", content=told)] if told else []
        tools = (*(each.tool for each in self.tools.values()), *request.tools)
        whole = request.model_copy(update={"messages": (*opening, *remembered, *rest), "tools": tools})
        form = [request.json_format] if request.json_format else []
        began = Record(
            kind="begun",
            digest=digest([told, rest, tools, request.sampling, request.tool_choice, *form]),
            text=canonical_json(remembered),
        )
        quotes = self._agent.parts.quotes
        if journal:
            for source in ([self._session] if self.asker.session else []) + ([name] if name else []):
                quotes |= journal.quoted(source)
        return Conversation(whole, self.tools, self.asker, name, uuid.uuid4().hex, began, kept, quotes, since)

    def _remembered(self, kept: Sequence[Record]) -> list[Message]:
        """Return what was said in the session before; of a run that goes on, what it knew when it began."""
        journal, most = self._agent.parts.journal, self._agent.config.remembered_turns
        if kept:
            return [Message.model_validate(each) for each in json.loads(kept[0].text or "[]")]
        if not (self.asker.session and journal and most):
            return []
        return [Message.model_validate(each) for each in journal.read(self._session, most)]
