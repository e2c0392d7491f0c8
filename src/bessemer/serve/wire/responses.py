"""``/v1/responses``: answers made of items, whole or as typed events; stored, continued, read and deleted.

A response is stored only with `store: true`, and only then can another one continue it.

Owns the endpoints and the answer's schema. Source: the published OpenAPI description of OpenAI's API, responses.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.acting import Act, acts_of
from bessemer.core.errors import NotFound
from bessemer.core.nouns import Delta, Entry, ToolCallPiece
from bessemer.serve.askers import keeps_words
from bessemer.serve.door import authenticate
from bessemer.serve.refusals import Refusal, Refused, invalid, unsupported
from bessemer.serve.serving import Answer, Caller, Floor, Order, Read
from bessemer.serve.telling import ToldUsage
from bessemer.serve.wire.responses_asking import AskedResponse, read_response, renamed
from bessemer.serve.wire.store import AnswerStore, Stored
from bessemer.serve.wire.stored import asked, page, page_of, permitted

_NAMES = {"max_completion_tokens": "max_output_tokens", "response_format": "text.format", "messages": "input"}


def response_reader(store: AnswerStore | None) -> Read:
    """Return what reads the endpoint's bodies; without a store, nothing can be stored or continued."""

    async def read(body: bytes, caller: Caller) -> Order:
        wish = read_response(body)
        for field, value in (("store", wish.store), ("previous_response_id", wish.previous_response_id)):
            if value and store is None:
                raise Refused(unsupported(field, f"This gateway keeps no answers; leave '{field}' out."))
        if wish.store and store:
            await permitted(store, caller.key.project)
        items = list(wish.input)
        if wish.previous_response_id and store:
            before = await _before(store, caller.key.project, wish.previous_response_id)
            items = [*before.said, *_output_items(before.body), *items]
        chat, engine = wish.to_chat(items), await caller.talker(wish.model, wish.metadata)
        if store is not None and keeps_words(engine):
            await run_in_threadpool(store.permit_whole, caller.key.project)
        try:
            request = chat.to_request(engine.capabilities, caller.config)
        except Refused as error:
            raise renamed(error, _NAMES) from None
        teller = _ResponseTeller(wish, caller, items, store if wish.store else None)
        return Order(wish.model, engine, (request,), teller, bool(wish.stream), wish.service_tier, _NAMES)

    return read


async def _before(store: AnswerStore, project: str, id: str) -> Stored:
    """Return the response that another one goes on from; clients know by the code that they must send all anew."""
    try:
        return await run_in_threadpool(store.get, project, "response", id)
    except NotFound as error:
        message = "There is no such stored response; only those asked with 'store': true are kept."
        raise Refused(Refusal(400, message, "previous_response_not_found", "previous_response_id")) from error


def _output_items(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what an answer said, as items of an input."""
    kept = {"message": ("type", "role", "content"), "function_call": ("type", "call_id", "name", "arguments")}
    said = (item for item in body["output"] if item["type"] in kept)  # an agent's own acts are not said
    return [{name: item[name] for name in kept[item["type"]]} for item in said]


class _ResponseTeller:
    """Tells an answer item by item, and stores it if the client wants that."""

    def __init__(
        self, wish: AskedResponse, caller: Caller, items: list[dict[str, Any]], store: AnswerStore | None
    ) -> None:
        self._wish, self._caller, self._items, self._store = wish, caller, items, store
        self._unique = caller.id("")
        self._output: list[dict[str, Any]] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._events = 0
        self._end: bytes | None = None
        self.keeps = store is not None

    def first(self) -> bytes:
        told = self._response("in_progress")
        return self._event("response.created", response=told) + self._event("response.in_progress", response=told)

    def piece(self, index: int, piece: Delta) -> bytes:
        events = b""
        for act in acts_of([piece]) if "acts" in (self._wish.include or ()) else ():
            events += self._act(act)
        if piece.text:
            events += self._open_message() if not self._is_open("message") else b""
            part = self._output[-1]["content"][0]
            part["text"] += piece.text
            events += self._item_event("response.output_text.delta", content_index=0, delta=piece.text, logprobs=[])
        for call in piece.tool_calls:
            events += self._call(call)
        return events

    def last(self, answers: list[Answer], entry: Entry) -> bytes:
        events, status = self._ended(answers), _status(answers)
        told = self._response(status, ToldUsage.of(entry))
        return events + self._event(f"response.{status}", response=told)

    def whole(self, answers: list[Answer], entry: Entry) -> bytes:
        self._ended(answers)
        return json.dumps(self._response(_status(answers), ToldUsage.of(entry))).encode()

    async def keep(self, answers: list[Answer]) -> None:
        """Store the answer for the project of the key, with the tokens that it took."""
        assert self._store is not None
        self._ended(answers)
        stored = Stored(
            id=self._caller.id("resp_"),
            kind="response",
            model=self._wish.model,
            created=self._caller.created,
            metadata=self._wish.metadata or {},
            body=self._response(_status(answers), ToldUsage.of_tokens(answers)),
            said=self._items,
        )
        await run_in_threadpool(partial(self._store.add, self._caller.key.project, stored))

    def _ended(self, answers: list[Answer]) -> bytes:
        """Return the events that end the items, once; those of a whole answer are made first."""
        if self._end is None:
            for piece in () if self._wish.stream else answers[0].deltas:
                self.piece(0, piece)
            self._end = self._close(_status(answers))
        return self._end

    def _is_open(self, kind: str) -> bool:
        return bool(self._output) and self._output[-1]["type"] == kind and self._output[-1]["status"] == "in_progress"

    def _open_message(self) -> bytes:
        events = self._close()
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item = {"id": f"msg_{self._unique}", "type": "message", "role": "assistant", "status": "in_progress"}
        events += self._added({**item, "content": []})
        events += self._item_event("response.content_part.added", content_index=0, part=part)
        self._output[-1]["content"] = [dict(part)]
        return events

    def _call(self, piece: ToolCallPiece) -> bytes:
        events = b""
        if piece.index not in self._calls:
            events = self._close()
            item = {"id": f"fc_{self._unique}_{piece.index}", "type": "function_call", "status": "in_progress"}
            events += self._added({**item, "call_id": piece.id, "name": piece.name, "arguments": ""})
            self._calls[piece.index] = self._output[-1]
        self._calls[piece.index]["arguments"] += piece.arguments
        if piece.arguments:
            events += self._item_event("response.function_call_arguments.delta", delta=piece.arguments)
        return events

    def _act(self, act: Act) -> bytes:
        """Tell a tool that an agent called by itself, as the wire tells those of a server."""
        if act.kind != "tool":
            return b""
        item = {
            "id": f"mcp_{self._unique}_{act.number}",
            "type": "mcp_call",
            "status": "completed",
            "server_label": self._wish.model,
            "name": act.name,
            "arguments": act.arguments,
            "output": None if act.error else act.output,
            "error": f"{act.error}: {act.output}" if act.error else None,
            "approval_request_id": None,
        }
        events = self._close() + self._added(item)
        return events + self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _added(self, item: dict[str, Any]) -> bytes:
        self._output.append(item)
        return self._event("response.output_item.added", output_index=len(self._output) - 1, item=item)

    def _close(self, status: str = "completed") -> bytes:
        """End the item that is open, if one is."""
        if not self._output or self._output[-1]["status"] != "in_progress":
            return b""
        item = self._output[-1]
        item["status"] = status
        if item["type"] == "message":
            part = item["content"][0]
            text = {"content_index": 0, "text": part["text"], "logprobs": []}
            events = self._item_event("response.output_text.done", **text)
            events += self._item_event("response.content_part.done", content_index=0, part=part)
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            events = self._item_event("response.function_call_arguments.done", **done)
        return events + self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _item_event(self, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=self._output[-1]["id"], output_index=len(self._output) - 1, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        if not self._wish.stream:
            return b""
        self._events += 1
        data = json.dumps({"type": kind, "sequence_number": self._events - 1} | fields)
        return f"event: {kind}\ndata: {data}\n\n".encode()

    def _response(self, status: str, usage: ToldUsage | None = None) -> dict[str, Any]:
        wish = self._wish
        return {
            "id": self._caller.id("resp_"),
            "object": "response",
            "created_at": self._caller.created,
            "status": status,
            "model": wish.model,
            "output": self._output,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": wish.instructions,
            "previous_response_id": wish.previous_response_id,
            "metadata": wish.metadata or {},
            "service_tier": wish.service_tier or "default",
            "store": bool(wish.store),
            "max_output_tokens": wish.max_output_tokens,
            "temperature": wish.temperature,
            "top_p": wish.top_p,
            "parallel_tool_calls": wish.parallel_tool_calls is not False,
            "tool_choice": wish.tool_choice or "auto",
            "tools": [tool.told() for tool in wish.tools or ()],
            "text": {"format": (wish.text and wish.text.format) or {"type": "text"}},
            "usage": _usage(usage) if usage else None,
        }


def _status(answers: list[Answer]) -> str:
    return "incomplete" if answers[0].finish_reason == "length" else "completed"


def _usage(usage: ToldUsage) -> dict[str, Any]:
    told = usage.model_dump(mode="json")
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.prompt_tokens_details.cached_tokens,
            "cache_write_tokens": 0,  # of no price of its own here
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
        "energy": told["energy"],
        "cost": told["cost"],
    }


def _listed(number: int, item: dict[str, Any]) -> dict[str, Any]:
    """Return an item that a response was made from as lists show it; those of the assistant are whole."""
    told = {"id": f"item_{number}", "status": "completed", **item}
    if item.get("role") == "assistant":
        told["content"] = [{"annotations": [], **part} for part in item["content"]]
    return told


class ResponseDesk:
    """The endpoints of stored responses; each sees the key's own project only."""

    def __init__(self, floor: Floor, store: AnswerStore) -> None:
        self._floor, self._store = floor, store

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("/v1/responses/{id}", self.get, methods=["GET"]),
            Route("/v1/responses/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/responses/{id}/input_items", self.items, methods=["GET"]),
            Route("/v1/responses/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def get(self, request: Request) -> Response:
        """Return one response, whole: what is stored is over, so there is nothing to stream."""
        if request.query_params.get("stream", "false").lower() != "false":
            raise Refused(unsupported("stream", "Stored responses are not streamed again; leave 'stream' out."))
        return Response(json.dumps((await self._stored(request)).body), media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        """Say that a stored response is over: none is made in the background."""
        await self._stored(request)
        raise Refused(invalid("response_id", "Only responses that are made in the background can be cancelled."))

    async def delete(self, request: Request) -> Response:
        """Forget one response."""
        key, id = authenticate(self._floor.keys, request.scope), request.path_params["id"]
        await asked(self._store.delete, key.project, "response", id)
        told = {"id": id, "object": "response", "deleted": True}
        return Response(json.dumps(told), media_type="application/json")

    async def items(self, request: Request) -> Response:
        """Return the items that one response was made from, the whole conversation's; the newest first."""
        stored = await self._stored(request)
        limit, _ = page_of(request)
        items = [_listed(number, item) for number, item in enumerate(stored.said)]
        oldest_first = request.query_params.get("order", "desc") == "asc"
        return page(items if oldest_first else items[::-1], request.query_params.get("after", ""), limit)

    async def _stored(self, request: Request) -> Stored:
        key = authenticate(self._floor.keys, request.scope)
        found: Stored = await asked(self._store.get, key.project, "response", request.path_params["id"])
        return found
