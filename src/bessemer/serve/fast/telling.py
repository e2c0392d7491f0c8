"""What the short way adds to an answer: energy and cost beside the tokens, and what went wrong in the wire's words.

Owns those bytes. The application's own answers are told by `bessemer.serve.telling`, with the same fields.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

from bessemer.core.forwarding import Spent, Terms
from bessemer.serve.refusals import (
    ENGINE_LIMIT,
    OVERLOADED,
    Refusal,
    again_after,
    failed,
    shorten,
)
from bessemer.serve.telling import event

_TOO_LONG = (b"context_length", b"context length", b"maximum context", b"exceed_context_size")
"""How servers say that a prompt is too long: OpenAI and vLLM, SGLang, vLLM, llama.cpp."""


@lru_cache(maxsize=4096)
def _energy(terms: Terms, value: int, low: int, high: int) -> bytes:
    """Return an energy in the wire's words; many requests that were open together have the same."""
    told = {
        "joules": value / 1e6,
        "joules_low": low / 1e6,
        "joules_high": high / 1e6,
        "class": terms.energy_class,
        "boundary": terms.boundary,
        "source": terms.source,
    }
    return b'"energy":' + json.dumps(told, separators=(",", ":")).encode()


@lru_cache(maxsize=256)
def _cost(terms: Terms) -> bytes:
    currency, version = (json.dumps(text).replace("%", "%%") for text in (terms.currency, terms.price_version))
    return f',"cost":{{"micros":%d,"currency":{currency},"price_version":{version}}}'.encode()


def with_usage(body: bytes, spent: Spent) -> bytes:
    """Return a body with more in its last ``usage``, which is an object and not empty."""
    assert spent.terms is not None, "it was booked"
    at = body.find(b"{", body.rfind(b'"usage":'))  # quotes in texts are escaped
    energy = _energy(spent.terms, *spent.microjoules)
    cost = _cost(spent.terms) % spent.charge_micros if spent.charge_micros else b""
    return b"%s{%s%s,%s" % (body[:at], energy, cost, body[at + 1 :])


def usage_event(chunk: bytes, spent: Spent) -> bytes:
    """Return the event that tells a stream's usage."""
    return b"data: %s\n\n" % with_usage(chunk, spent)


def event_of(refusal: Refusal) -> bytes:
    """Return the event that tells within a stream what went wrong."""
    return event(refusal.body().decode())


def of_server(status: int, body: bytes, retry_after: bytes, request_id: str) -> Refusal:
    """Return what a server's error says about the request or the moment; what it says about itself is not told."""
    if status in (429, 503):
        refusal = ENGINE_LIMIT if status == 429 else OVERLOADED
        seconds = int(retry_after) if retry_after.isdigit() and len(retry_after) < 8 else 0
        return replace(refusal, headers=again_after(seconds))
    if status == 413 or (status < 500 and any(words in body.lower() for words in _TOO_LONG)):
        return Refusal(400, "The prompt is too long for the model.", "context_length_exceeded", "messages")
    if status in (400, 422):
        return Refusal(400, f"The model's server refuses the request: {_message(body)}", "unsupported_value")
    return failed(request_id)


def _message(body: bytes) -> str:
    try:
        said = json.loads(body)
    except ValueError:
        return shorten(body.decode("utf-8", "replace"))
    error = said.get("error", said) if isinstance(said, dict) else said
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
