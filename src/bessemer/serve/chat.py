"""``POST /v1/chat/completions``: a conversation in, a metered answer out, whole or as a stream.

Owns how a body becomes an order. The order of things is `serving`'s, the schemas are `asking`'s and `telling`'s.
"""

from __future__ import annotations

from functools import partial

from starlette.concurrency import run_in_threadpool

from bessemer.core.nouns import ChatRequest
from bessemer.serve.askers import keeps_words
from bessemer.serve.asking import Asked, read_asked
from bessemer.serve.refusals import Refused, unsupported
from bessemer.serve.serving import Answer, Caller, Order, Read
from bessemer.serve.telling import Teller, ToldUsage
from bessemer.serve.wire.store import AnswerStore, Stored
from bessemer.serve.wire.stored import permitted


def chat_reader(store: AnswerStore | None) -> Read:
    """Return what reads the endpoint's bodies; without a store, nothing can be stored."""

    async def read(body: bytes, caller: Caller) -> Order:
        asked = read_asked(body)
        if asked.store and store is None:
            raise Refused(unsupported("store", "This gateway keeps no answers; leave 'store' out."))
        if asked.store and store:
            await permitted(store, caller.key.project)
        engine = await caller.talker(asked.model, asked.metadata)
        if store is not None and keeps_words(engine):
            await run_in_threadpool(store.permit_whole, caller.key.project)
        request = asked.to_request(engine.capabilities, caller.config)
        wanted = tuple(_numbered(request, number) for number in range(asked.n or 1))
        teller = _ChatTeller(asked, caller, store if asked.store else None)
        return Order(asked.model, engine, wanted, teller, bool(asked.stream), asked.service_tier)

    return read


def _numbered(request: ChatRequest, number: int) -> ChatRequest:
    """Return the request for the answer of that number: with a seed, each has its own, so that they differ."""
    if not number or request.sampling.seed is None:
        return request
    sampling = request.sampling.model_copy(update={"seed": request.sampling.seed + number})
    return request.model_copy(update={"sampling": sampling})


class _ChatTeller(Teller):
    """Tells an answer, and stores it if the client wants that."""

    def __init__(self, asked: Asked, caller: Caller, store: AnswerStore | None) -> None:
        super().__init__(caller.id("chatcmpl-"), caller.created, asked.model, asked.wants_usage, bool(asked.logprobs))
        self.with_acts = bool(asked.include)
        self.service_tier = asked.service_tier or "default"
        self._asked, self._project, self._store = asked, caller.key.project, store
        self.keeps = store is not None

    async def keep(self, answers: list[Answer]) -> None:
        """Store the answer for the project of the key, with the tokens that it took."""
        assert self._store is not None
        metadata = self._asked.metadata or {}
        told = self.completion(answers, ToldUsage.of_tokens(answers))
        body = told.model_dump(mode="json", exclude={"usage": {"energy", "cost"}})
        said = [message.model_dump(mode="json", exclude_none=True) for message in self._asked.messages]
        stored = Stored(
            id=self.id,
            kind="chat.completion",
            model=self._asked.model,
            created=self.created,
            metadata=metadata,
            body=body | {"metadata": metadata},
            said=said,
        )
        await run_in_threadpool(partial(self._store.add, self._project, stored))
