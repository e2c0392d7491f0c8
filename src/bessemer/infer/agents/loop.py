"""How an answer is made: ask the model, call what it asks for, tell it what came of it, until it answers.

Each act is written down before the next begins; a run that was killed finds its records and goes on behind them. A tool
that must not be called twice is written down before it is called, too: if a run dies in between, nobody knows whether
it was done, the model is told so, and it is not done again.

Owns the order of acts. What a tool may do is decided in `permission.py`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bessemer.core.acting import Act, ActedDelta, Asker
from bessemer.core.digest import digest
from bessemer.core.errors import BudgetExceeded, ConfigError, Conflict
from bessemer.core.nouns import (
    ChatRequest,
    Completion,
    Delta,
    FinishReason,
    Message,
    Noun,
    ToolCall,
    ToolCallPiece,
    Usage,
)
from bessemer.infer.agents.budget import Purse
from bessemer.infer.agents.capability import Capability, Occasion, Said
from bessemer.infer.agents.config import AgentConfig
from bessemer.infer.agents.permission import Permission, ruling
from bessemer.infer.agents.speaking import ChatEngine, say
from bessemer.infer.agents.trajectory import AS_JSON, Record, model_act, tool_act
from bessemer.infer.engines import add

if TYPE_CHECKING:
    from bessemer.infer.agents.engine import AgentParts

_CALLING = re.compile(r'\s*\{\s*"tool_calls"')
"""How a call begins that a small model writes as text: cut off, it is neither a call nor an answer."""
_CUT = "I stopped: a call of a tool was longer than an act of the model may be."
_UNHEARD = Said("the record has no such call", "not_recorded")
_UNKNOWN = "it is not known whether this was done before a restart; it was not done again"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What an answer is made to.

    Attributes:
        request: with instructions, memory and all tools that the asker may use.
        tools: of the agent's own, by name; what the request has besides, the client calls itself.
        asker: who asks.
        name: of its records; empty keeps none.
        began: its first record.
        kept: its records from before a restart.
        quotes: ids of documents that what it remembers, or whatever its model says, may quote.
        since: how many times documents had been erased when it began.
        mocked: what calls say instead of being made; None makes them.
        nonce: stands for the name where there is none, so that its idempotency keys are its own.
    """

    request: ChatRequest
    tools: Mapping[str, Capability]
    asker: Asker
    name: str
    nonce: str
    began: Record
    kept: tuple[Record, ...] = ()
    quotes: frozenset[str] = frozenset()
    since: int = 0
    mocked: Mapping[ToolCall, Said] | None = None


class Run:
    """One answer while it is made.

    Attributes:
        records: what happened so far.
        quotes: ids of documents that it may quote.
        text: the answer, once it is there.
    """

    def __init__(
        self, engine: ChatEngine, conversation: Conversation, config: AgentConfig, parts: AgentParts, purse: Purse
    ) -> None:
        self.conversation, self.records, self.text = conversation, list[Record](), ""
        self.quotes = conversation.quotes
        self._engine, self._config, self._parts, self._purse = engine, config, parts, purse
        self._kept: list[Record] = []
        self._messages = list(conversation.request.messages)
        self._unread = _size(self._messages) + _size(conversation.request.tools)
        self._tainted = any(message.role == "tool" for message in self._messages)
        self._shown = ""
        self._read, self._acts, self._errors, self._began = 0, 0, 0, time.perf_counter()
        self._answers = self._callable = False

    async def pieces(self) -> AsyncGenerator[Delta, None]:
        """Yield acts and the answer; closing this cancels the model's act that is under way."""
        self._open()
        while True:
            if stopped := self._over():
                yield self._end("length", stopped)
                return
            async with aclosing(self._ask()) as asking:
                async for piece in asking:
                    yield piece
            said = self.records[-1]
            if self._formless(said):
                continue
            if not said.calls:
                cut = said.finish_reason == "length" and _CALLING.match(said.text)
                yield self._end(said.finish_reason or "stop", _CUT if cut else said.text)
                return
            theirs = [
                call for call in said.calls if call.name not in self.conversation.tools and self._is_clients(call)
            ]
            for call in said.calls:
                if call in theirs:
                    continue
                act, waits = await self._call(call)
                yield self._piece(act)
                if waits:
                    yield self._wait(call)
                    return
            if theirs:
                yield self._hand_over(theirs)
                return

    def _open(self) -> None:
        """Check the records of this run, or begin them."""
        began, self._kept = self.conversation.began, list(self.conversation.kept)
        if self._kept and self._kept[0].digest != began.digest:
            told = f"the run '{self.conversation.asker.run}' was begun with another question"
            raise Conflict(told, hint="Ask the same, with the same tools; or name another run.")
        self._note(began, self.quotes)

    def _note(self, record: Record, quotes: frozenset[str] = frozenset()) -> Record:
        """Return a record when it is written down; where it was written before, what was written then."""
        number = len(self.records)
        if number < len(self._kept):
            record = self._kept[number]
        elif self.conversation.name and self._parts.journal:
            name, since = self.conversation.name, self.conversation.since
            self._parts.journal.append(name, number, record.model_dump(mode="json"), quotes, since)
        self.records.append(record)
        return record

    @property
    def _known(self) -> Record | None:
        """What was written down of what comes next, if it was."""
        return self._kept[len(self.records)] if len(self.records) < len(self._kept) else None

    # --- the model --------------------------------------------------------------------------------------------------

    async def _ask(self) -> AsyncGenerator[Delta, None]:
        """Ask the model for its next act; yield its usage as it grows, then the act."""
        began, clock, whole = self._parts.clock(), time.perf_counter(), None
        before, self._purse.steps = self._purse.usage, self._purse.steps + 1
        asked = self._request()
        self._callable = bool(asked.callable_tools())
        if (known := self._known) is None or known.kind != "model":
            async with aclosing(say(self._engine, asked)) as saying:
                async for piece in saying:
                    if isinstance(piece, Completion):
                        whole = piece
                        continue
                    self._purse.usage = add(before, piece.usage or Usage())
                    self._shown += piece.text
                    yield Delta(text=piece.text, usage=self._purse.usage)
        record = self._note(self._said(whole) if whole else known or Record(kind="model"))
        self._messages.append(Message(role="assistant", content=record.text, tool_calls=record.calls))
        self._read, self._unread = record.usage.input_tokens, _size(self._messages[-1:])
        act = model_act(self._number(), self._engine.name, record, began, time.perf_counter() - clock)
        yield self._piece(act)

    def _request(self) -> ChatRequest:
        """Return what the model is asked next; when it may call nothing more, it is told of no tools."""
        request, budget = self.conversation.request, self._config.budget
        last = self._answers or self._purse.steps >= budget.steps or self._purse.calls >= budget.calls
        first = self._purse.steps == 1
        most = min(budget.step_tokens, request.sampling.max_output_tokens)
        update = {
            "messages": tuple(self._messages),
            "tools": () if last else request.tools,
            "tool_choice": request.tool_choice if first and not last else "auto",
            "sampling": request.sampling.model_copy(update={"max_output_tokens": most}),
        }
        asked = request.model_copy(update=update)
        # Few servers take tools and a form of the answer at once, and some then never call: the form is the last act's.
        return asked.model_copy(update={"json_format": None}) if asked.callable_tools() else asked

    def _formless(self, said: Record) -> bool:
        """Return whether the model gave a free answer where JSON is wanted; it is asked for that next, with no tools.

        An answer that was cut off is no better in another form.
        """
        free = self._callable and not self._answers and self.conversation.request.json_format is not None
        if said.calls or said.finish_reason != "stop" or not free:
            return False
        self._answers = True
        self._messages.append(AS_JSON)
        self._unread += _size([AS_JSON])
        return True

    def _said(self, whole: Completion) -> Record:
        """Return what the model said; its calls get ids of the run's own, the same whenever the same is said."""
        calls = tuple(
            ToolCall(id=f"call_{self._purse.steps}_{number}", name=call.name, arguments=_plain(call.arguments))
            for number, call in enumerate(whole.tool_calls)
        )
        return Record(kind="model", text=whole.text, calls=calls, finish_reason=whole.finish_reason, usage=whole.usage)

    def _over(self) -> str:
        """Return why the model is not asked again, in words; empty if it is.

        Raises:
            BudgetExceeded: nothing was said yet, so there is no answer at all.
        """
        if (known := self._known) is not None and known.kind == "model":
            return ""
        most = min(self._config.budget.step_tokens, self.conversation.request.sampling.max_output_tokens)
        worst = Usage(input_tokens=self._read + self._unread + self._parts.margin_tokens, output_tokens=most)
        limit = self._purse.refuses(worst, time.perf_counter() - self._began)
        if not limit and self._errors >= self._config.tool_errors:
            limit = "tool_errors"
        if limit and not self._purse.steps:
            told = f"the budget of '{self._config.name}' in {limit} is too small for this question"
            raise BudgetExceeded(told, hint="Shorten the conversation, or raise the budget.")
        return f"I stopped: the budget in {limit} of this answer is used up." if limit else ""

    # --- tools ------------------------------------------------------------------------------------------------------

    async def _call(self, call: ToolCall) -> tuple[Act, bool]:
        """Return the act that a call became, and whether it waits for an approval instead of being done."""
        began, clock = self._parts.clock(), time.perf_counter()
        capability = self.conversation.tools.get(call.name)
        said, waits = await self._done(call, capability)
        self._purse.usage = add(self._purse.usage, said.usage)
        record = Record(kind="tool", call=call, text=said.output, error=said.error, usage=said.usage)
        if not waits:
            self.quotes |= said.quotes
            record = self._note(record, said.quotes)
            self._purse.calls += 1
            self._errors += bool(record.error)
            self._tainted = self._tainted or (not (capability and capability.trusted) and not record.error)
            self._messages.append(Message(role="tool", content=_shown(record), tool_call_id=call.id))
            self._unread += _size(self._messages[-1:])
        return tool_act(self._number(), record, began, time.perf_counter() - clock), waits

    async def _done(self, call: ToolCall, capability: Capability | None) -> tuple[Said, bool]:
        """Return what came of a call, and whether it waits for approval."""
        known = self._known
        if known and known.kind == "tool":
            return Said(known.text, known.error), False
        if (mocked := self.conversation.mocked) is not None:
            return mocked.get(call, _UNHEARD), False
        values = self._checked(call, capability)
        if capability is None or isinstance(values, Said):
            return values if isinstance(values, Said) else Said(""), False
        occasion = Occasion(self.conversation.asker, self._idempotency_key(call))
        if known and known.kind == "meant":
            return await self._resumed(known, capability, values, occasion), False
        permission = await ruling(call, capability, occasion, self._config.guard, self._tainted, self._parts.approve)
        if permission is not Permission.GIVEN:
            waits = permission is Permission.WAITS and bool(self.conversation.name)
            return Said(permission.told, permission.code), waits
        if capability.effects != "none":
            self._note(Record(kind="meant", call=call))
        return await capability.perform(values, occasion), False

    def _checked(self, call: ToolCall, capability: Capability | None) -> Mapping[str, Any] | Said:
        """Return the arguments of a call, or why it is not made."""
        if capability is None:
            return Said(f"there is no tool '{call.name}' here", "not_found")
        if self._purse.calls >= self._config.budget.calls:
            return Said("no calls are left in the budget of this answer", "budget_exceeded")
        if limit := self._purse.lacks(capability.most):
            return Said(f"not enough {limit} are left in the budget of this answer", "budget_exceeded")
        try:
            return capability.read(call.arguments)
        except ConfigError as error:
            return Said(capability.shown(error.message), error.code)

    async def _resumed(
        self, meant: Record, capability: Capability, values: Mapping[str, Any], occasion: Occasion
    ) -> Said:
        """Return what came of a call that was begun before a restart."""
        self._note(meant)
        if known := self._known:  # what came of it was written down, too
            return Said(known.text, known.error)
        if capability.effects == "once":
            return Said(_UNKNOWN, "unknown")
        return await capability.perform(values, occasion)

    def _idempotency_key(self, call: ToolCall) -> str:
        return digest([self.conversation.name or self.conversation.nonce, call.model_dump()])

    def _is_clients(self, call: ToolCall) -> bool:
        known = {tool.name for tool in self.conversation.request.tools}
        return call.name in known and call.name not in self.conversation.tools

    # --- the end ----------------------------------------------------------------------------------------------------

    def _end(self, reason: FinishReason, text: str) -> Delta:
        record = self._note(Record(kind="ended", text=text, finish_reason=reason))
        self.text = record.text
        left = record.text.removeprefix(self._shown)  # of what was told while it was made
        return Delta(text=left, finish_reason=record.finish_reason, usage=self._purse.usage)

    def _hand_over(self, calls: list[ToolCall]) -> Delta:
        """End with calls of tools that are the client's own."""
        pieces = tuple(
            ToolCallPiece(index=number, id=call.id, name=call.name, arguments=call.arguments)
            for number, call in enumerate(calls)
        )
        return Delta(finish_reason="tool_calls", usage=self._purse.usage, tool_calls=pieces)

    def _wait(self, call: ToolCall) -> Delta:
        """End without an answer: the run goes on when it is asked for again with an approval."""
        told = f"I need your approval to call {call.name} with {call.arguments} ({call.id})."
        return Delta(text=told, finish_reason="stop", usage=self._purse.usage)

    def _piece(self, act: Act) -> Delta:
        return ActedDelta(usage=self._purse.usage, acts=(act,))

    def _number(self) -> int:
        self._acts += 1
        return self._acts - 1


def _size(things: Iterable[Noun]) -> int:
    """Return the bytes of messages or tools as JSON, which are never fewer than their tokens."""
    return sum(len(each.model_dump_json().encode()) for each in things)


def _shown(record: Record) -> str:
    """Return what the model is told of a call."""
    return f"Error: {record.text}" if record.error else record.text


def _plain(arguments: str) -> str:
    """Return arguments in one form, if they are JSON: how they were spaced says nothing."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments
