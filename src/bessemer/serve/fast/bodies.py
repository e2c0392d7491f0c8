"""The fields that are read of bodies, and what reads them; all others are passed over.

Owns the shapes. Needs msgspec.
"""

from __future__ import annotations

import msgspec


class _Options(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _Request(msgspec.Struct, gc=False):
    model: str
    messages: msgspec.Raw
    stream: bool | None = None
    stream_options: _Options | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    store: bool | None = None
    service_tier: str | None = None


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Answer(msgspec.Struct, gc=False):
    usage: _Usage | None = None
    choices: list[_Choice] = []


FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
REQUEST = msgspec.json.Decoder(_Request)
ANSWER = msgspec.json.Decoder(_Answer)
NULL = msgspec.Raw(b"null")
