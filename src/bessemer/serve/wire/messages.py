"""``POST /v1/messages``: the same answers for Anthropic's clients, whole or as their events, and errors in their form.

Owns the endpoint and the answer's words, and ``/count_tokens`` below it. Source: Anthropic's API reference, messages,
streaming, errors and token counting.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from bessemer.core.nouns import ChatRequest, Delta, Entry, Subject, Usage
from bessemer.core.protocols import counting
from bessemer.serve.accounts.gate import let_in
from bessemer.serve.door import authenticate, read_body
from bessemer.serve.envelope import respond
from bessemer.serve.refusals import Refusal, Refused
from bessemer.serve.serving import Answer, Caller, ChatEngine, Floor, Order
from bessemer.serve.telling import ToldUsage
from bessemer.serve.wire.messages_asking import NAMES, AskedCount, AskedMessages, read_messages
from bessemer.serve.wire.responses_asking import renamed

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_ERRORS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class AnthropicDoor:
    """ASGI middleware: takes keys as ``x-api-key``, and has errors told in Anthropic's form.

    Args:
        app: an endpoint.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope["state"]["write_refusal"] = error_body
        scope["state"]["error_event"] = b"event: error\n"
        headers = scope["headers"]
        if not any(name == b"authorization" for name, _ in headers):
            given = [(b"authorization", b"Bearer " + value) for name, value in headers if name == b"x-api-key"]
            scope = {**scope, "headers": [*headers, *given]}
        await self._app(scope, receive, send)


def error_body(refusal: Refusal) -> bytes:
    """Return the JSON that an Anthropic client gets."""
    kind = _ERRORS.get(refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": refusal.message}}).encode()


async def read_anthropic(body: bytes, caller: Caller) -> Order:
    """Return the order in a body.

    Raises:
        Refused: a field is wrong, or the engine cannot do what it asks.
    """
    wish = read_messages(body, AskedMessages)
    engine, request = await _conversation(wish, caller)
    return Order(wish.model, engine, (request,), _MessageTeller(wish, caller), bool(wish.stream))


class TokenCount:
    """ASGI application that says how many tokens a conversation has. Nothing is answered, so nothing is booked.

    Args:
        floor: what it shares with the endpoints that answer: places, limits of requests, and which key may ask what.
    """

    def __init__(self, floor: Floor) -> None:
        self._floor = floor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Refused: it gets no answer.
        """
        floor, config = self._floor, self._floor.config
        key, id = authenticate(floor.keys, scope), scope["state"]["request_id"]
        with floor.traffic.visit() as visit:
            body = await read_body(scope, receive, config.max_body_bytes, config.body_timeout_seconds)
            wish = read_messages(body, AskedCount)
            engine, request = await _conversation(wish, floor.caller(key, id))
            subject = Subject(kind="request", id=id, project=key.project, key_id=key.id, model=wish.model)
            held = let_in(floor.gate, key, subject, Usage())
            with visit.watched(receive, config.request_timeout_seconds):
                async with held:
                    scope["state"]["headers"] = held.headers
                    count = await counting(engine).count_tokens(request)
        await respond(send, json.dumps({"input_tokens": count}).encode())


async def _conversation(wish: AskedCount, caller: Caller) -> tuple[ChatEngine, ChatRequest]:
    """Return who is asked, and what."""
    chat, engine = wish.to_chat(), await caller.talker(wish.model)
    try:
        return engine, chat.to_request(engine.capabilities, caller.config)
    except Refused as error:
        raise renamed(error, NAMES) from None


class _MessageTeller:
    """Tells an answer block by block."""

    keeps = False

    def __init__(self, wish: AskedMessages, caller: Caller) -> None:
        self._wish, self._id = wish, caller.id("msg_")
        self._open = ""
        self._blocks = 0

    def first(self) -> bytes:
        message = self._message([], None, {"input_tokens": 0, "output_tokens": 0})
        return _event("message_start", message=message)

    def piece(self, index: int, piece: Delta) -> bytes:
        events = b""
        if piece.text:
            events = self._begin("text", {"type": "text", "text": ""})
            events += self._delta({"type": "text_delta", "text": piece.text})
        for call in piece.tool_calls:
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            events += self._begin(f"call {call.index}", block)
            if call.arguments:
                events += self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        return events

    def last(self, answers: list[Answer], entry: Entry) -> bytes:
        delta = {"stop_reason": _REASONS[answers[0].finish_reason], "stop_sequence": None}
        return self._end() + _event("message_delta", delta=delta, usage=_usage(entry)) + _event("message_stop")

    def whole(self, answers: list[Answer], entry: Entry) -> bytes:
        answer = answers[0]
        blocks: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.text else []
        for call in answer.tool_calls:
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": _value(call.arguments)})
        return json.dumps(self._message(blocks, _REASONS[answer.finish_reason], _usage(entry))).encode()

    async def keep(self, answers: list[Answer]) -> None:
        """Store nothing: the wire has no such wish."""

    def _begin(self, name: str, block: dict[str, Any]) -> bytes:
        """Begin a block, unless it is the one that is open."""
        if self._open == name:
            return b""
        events = self._end() + _event("content_block_start", index=self._blocks, content_block=block)
        self._open, self._blocks = name, self._blocks + 1
        return events

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _end(self) -> bytes:
        events = _event("content_block_stop", index=self._blocks - 1) if self._open else b""
        self._open = ""
        return events

    def _message(self, blocks: list[dict[str, Any]], reason: str | None, usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._wish.model,
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }


def _usage(entry: Entry) -> dict[str, Any]:
    told = ToldUsage.of(entry).model_dump(mode="json")
    return {
        "input_tokens": entry.usage.input_tokens - entry.usage.cached_tokens,
        "cache_read_input_tokens": entry.usage.cached_tokens,
        "output_tokens": entry.usage.output_tokens,
        "energy": told["energy"],
        "cost": told["cost"],
    }


def _value(arguments: str) -> Any:
    """Return a call's arguments as a value; what is no JSON object, the client cannot be given."""
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"invalid_json": arguments}


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode()
