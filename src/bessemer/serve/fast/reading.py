"""What has to be known of a body that goes through as bytes: a few fields of the request, the end of the answer.

A request is taken apart at its top level only; the messages stay the bytes that came. It is put together again from
what was read, so that a field given twice cannot mean one thing here and another to the server. Of an answer only the
tail is read.

Owns that reading. Knows no connection and no meter. Needs msgspec.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from bessemer.core.forwarding import Forward

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL = msgspec.Raw(b"null")
_JSON = json.JSONDecoder()

LIMITS = ("max_completion_tokens", "max_tokens")

Usage = tuple[int, int, int]
"""Input, output and cached tokens."""


@dataclass(slots=True, eq=False)
class Asked:
    """What is read of a request.

    Attributes:
        fields: all fields at the top level, as bytes.
        choices: how many answers are wanted.
        output_tokens: the most that each may have; None if the request does not say, -1 if it says nonsense.
        limit_field: the field that says so.
    """

    fields: dict[str, Any]
    model: str
    stream: bool
    wants_usage: bool
    choices: int
    output_tokens: int | None
    limit_field: str


def read_asked(body: bytes) -> Asked | None:
    """Return what is read of a request, or None if it is not one that could be sent on."""
    try:
        fields = _FIELDS.decode(body)
        model = msgspec.json.decode(fields["model"], type=str)
        stream = ("stream" in fields and msgspec.json.decode(fields["stream"], type=bool | None)) or False
        options = ("stream_options" in fields and msgspec.json.decode(fields["stream_options"])) or {}
        choices = ("n" in fields and msgspec.json.decode(fields["n"], type=int | None)) or 1
        limit, named = None, LIMITS[0]
        for field in LIMITS:
            if field in fields and (value := msgspec.json.decode(fields[field], type=int | None)) is not None:
                limit, named = (value, field) if limit in (None, value) and value > 0 else (-1, field)
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
        return None
    if "messages" not in fields or not isinstance(options, dict) or not 1 <= choices <= 128:
        return None
    return Asked(fields, model, stream, bool(options.get("include_usage")), choices, limit, named)


def to_send(asked: Asked, forward: Forward, output_tokens: int) -> bytes:
    """Return the body for the server: its name of the model, a limit on output, and usage at the end of a stream."""
    fields = asked.fields
    if asked.model != forward.model:
        fields["model"] = forward.model
    if asked.output_tokens is None or forward.limit_field not in fields:
        for name in LIMITS:
            fields.pop(name, None)
        fields[forward.limit_field] = output_tokens
    if asked.stream and not asked.wants_usage:
        options = msgspec.json.decode(fields.get("stream_options", _NULL)) or {}
        fields["stream_options"] = {**options, "include_usage": True}
    return msgspec.json.encode(fields)


_RUNNING = b'"finish_reason":null'
_END = re.compile(rb'"finish_reason":\s*"|data:\s*\[DONE\]|data:\s*\{"error":')
_REASON = re.compile(rb'"finish_reason":\s*"([a-z_]{1,40})"')
_DONE = re.compile(rb'data:\s*\[DONE\]|data:\s*\{"error":')


class Tail:
    """Follows a stream: lets events through, counts them, and keeps the end back until it has been booked.

    Attributes:
        events: pieces of answers that went through, each a token or a few.
        usage: as the server told it, None before.
        whole: the stream came to its end.
        failed: the server told an error instead of the end.
        reason: the finish reason that was told.
    """

    __slots__ = ("_held", "_rest", "_several", "events", "failed", "reason", "usage", "whole")

    def __init__(self, several: bool) -> None:
        self._several = several
        self._rest = b""
        self._held: bytes | None = None
        self.events = 0
        self.usage: Usage | None = None
        self.whole = False
        self.failed = False
        self.reason = ""

    def feed(self, data: bytes) -> bytes:
        """Return what may leave now: whole lines before the end."""
        if self._rest:
            data = self._rest + data
        if not data.endswith(b"\n"):
            cut = data.rfind(b"\n") + 1
            data, self._rest = data[:cut], data[cut:]
        else:
            self._rest = b""
        if self._held is not None:
            self._held += data
            return b""
        running = data.count(_RUNNING)
        if running and running == data.count(b"data:"):
            self.events += running
            return data
        return self._split(data)

    def _split(self, data: bytes) -> bytes:
        found = (_DONE if self._several else _END).search(data)
        if not found:
            self.events += data.count(_RUNNING) or data.count(b"data:")
            return data
        cut = data.rfind(b"\n", 0, found.start() + 1) + 1
        self.events += data.count(b"data:", 0, cut)
        self._held = data[cut:]
        return data[:cut]

    def close(self) -> list[bytes]:
        """Read the end and return its events; the one that only tells the usage comes last, before the end mark."""
        events: list[bytes] = []
        for line in ((self._held or b"") + self._rest).split(b"\n"):
            if not line.startswith(b"data:"):
                continue
            value = line[5:].strip()
            if value == b"[DONE]":
                self.whole = True
                continue
            try:
                chunk = json.loads(value)
            except ValueError:
                continue
            if chunk.get("error"):
                self.failed = True
                continue
            self.usage = usage_of(chunk.get("usage")) or self.usage
            if chunk.get("choices"):
                self.events += 1
                reasons = [str(choice["finish_reason"]) for choice in chunk["choices"] if choice.get("finish_reason")]
                self.whole, self.reason = self.whole or bool(reasons), (reasons or [self.reason])[0]
                events.append(b"data: %s\n\n" % value)
            elif chunk.get("usage"):
                events.append(b"usage" + value)
        return events


def usage_of(told: Any) -> Usage | None:
    """Return the tokens of a ``usage``, or None if it does not say them."""
    try:
        details = told.get("prompt_tokens_details") or {}
        usage = told["prompt_tokens"], told.get("completion_tokens", 0), details.get("cached_tokens") or 0
    except (AttributeError, KeyError, TypeError):
        return None
    fine = all(type(each) is int and each >= 0 for each in usage) and usage[2] <= usage[0]
    return usage if fine else None


def find_usage(body: bytes) -> tuple[Usage | None, int]:
    """Return the usage at the end of a whole answer, and where its object begins; quotes in texts are escaped."""
    at = body.rfind(b'"usage":')
    if at < 0:
        return None, -1
    begin = body.find(b"{", at)
    try:
        told, _ = _JSON.raw_decode(body[begin:].decode())
    except ValueError:
        return None, -1
    return usage_of(told), begin


def find_reason(body: bytes) -> str:
    """Return the first finish reason of a whole answer, or nothing."""
    found = _REASON.search(body)
    return found[1].decode() if found else ""


def count_written(body: bytes) -> int:
    """Return how many tokens a whole answer is taken to have of which the server told no usage: 4 bytes each."""
    try:
        texts = [(choice.get("message") or {}).get("content") or "" for choice in json.loads(body)["choices"]]
        return sum(len(text.encode()) for text in texts) // 4
    except (ValueError, KeyError, TypeError, AttributeError):
        return len(body) // 4
