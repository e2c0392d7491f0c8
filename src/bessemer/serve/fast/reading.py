"""What has to be known of a body that goes through as bytes: a few fields of the request, the end of the answer.

A request is taken apart at its top level only; the messages stay the bytes that came. It is put together again from
what was read, so that a field given twice cannot mean one thing here and another to the server. Of an answer only the
tail is read.

Owns that reading. Knows no connection and no meter. Needs msgspec.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from bessemer.core.forwarding import Forward
from bessemer.core.usage import MOST_TOKENS
from bessemer.serve.fast.bodies import ANSWER, FIELDS, NULL, REQUEST

MAX_CHOICES = 128
LIMITS = ("max_completion_tokens", "max_tokens")

Usage = tuple[int, int, int]
"""Input, output and cached tokens."""


class Asked:
    """What is read of a request.

    Attributes:
        fields: all fields at the top level, as bytes.
        choices: how many answers are wanted.
        output_tokens: the most that each may have; None if the request does not say, -1 if it says nonsense.
    """

    def __init__(
        self,
        fields: dict[str, Any],
        model: str,
        stream: bool,
        wants_usage: bool,
        choices: int,
        output_tokens: int | None,
    ) -> None:
        self.fields, self.model, self.stream, self.wants_usage = fields, model, stream, wants_usage
        self.choices, self.output_tokens = choices, output_tokens


_STANDARD = (None, "auto", "default")


def read_asked(body: bytes) -> Asked | None:
    """Return what is read of a request; None if it could not be sent on, is to be kept or has a price of its own."""
    try:
        fields = FIELDS.decode(body)
        read = REQUEST.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    choices = 1 if read.n is None else read.n
    if not 1 <= choices <= MAX_CHOICES or read.store or read.service_tier not in _STANDARD:
        return None
    limit, old = read.max_completion_tokens, read.max_tokens
    if old is not None:
        limit = old if limit in (None, old) else -1
    wants = read.stream_options is not None and bool(read.stream_options.include_usage)
    return Asked(fields, read.model, bool(read.stream), wants, choices, limit)


def to_send(asked: Asked, forward: Forward, output_tokens: int) -> bytes:
    """Return the body for the server: its name of the model, a limit on output, and usage at the end of a stream."""
    fields = asked.fields
    if asked.model != forward.model:
        fields["model"] = forward.model
    for name in LIMITS:
        fields.pop(name, None)
    fields[forward.limit_field] = output_tokens
    if asked.stream and not asked.wants_usage:
        options = msgspec.json.decode(fields.get("stream_options", NULL)) or {}
        fields["stream_options"] = {**options, "include_usage": True}
    return msgspec.json.encode(fields)


_RUNNING = b'"finish_reason":null'
_END = re.compile(rb'(?m)"finish_reason":\s*"|^data:\s*\[DONE\]|^data:\s*\{"error":')
_NO_CHOICES = re.compile(rb'"choices":\s*\[\s*\]')
_DONE = re.compile(rb'(?m)^data:\s*\[DONE\]|^data:\s*\{"error":')


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
            self.events += data.count(_RUNNING) or _lines(data)
            return data
        cut = data.rfind(b"\n", 0, found.start() + 1) + 1
        self.events += _lines(data[:cut])
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
            if value.startswith((b'{"error":{', b'{"error": {')):
                self.failed = True
                continue
            usage, reason = read_answer(value)
            self.usage, self.reason = usage or self.usage, self.reason or reason
            self.whole = self.whole or bool(reason)
            if reason or not _NO_CHOICES.search(value):
                self.events += 1
                events.append(b"data: %s\n\n" % value)
            elif usage:
                events.append(b"usage" + value)
        return events


def _lines(data: bytes) -> int:
    """Return how many lines of data stand in whole lines."""
    return data.startswith(b"data:") + data.count(b"\ndata:")


def read_answer(body: bytes) -> tuple[Usage | None, str]:
    """Return the usage of a whole answer or of a stream's chunk, and the first finish reason.

    The usage is None if there is none, or if it cannot be: it does not add up, or has more than `MOST_TOKENS`.
    """
    try:
        answer = ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, ""
    reason = ""
    for choice in answer.choices:
        if choice.finish_reason:
            reason = choice.finish_reason
            break
    if (told := answer.usage) is None:
        return None, reason
    cached = (told.prompt_tokens_details and told.prompt_tokens_details.cached_tokens) or 0
    usage = told.prompt_tokens, told.completion_tokens, cached
    return (usage if 0 <= cached <= usage[0] <= MOST_TOKENS and 0 <= usage[1] <= MOST_TOKENS else None), reason


def count_written(body: bytes) -> int:
    """Return how many tokens a whole answer is taken to have of which the server told no usage: 4 bytes each."""
    try:
        texts = [(choice.get("message") or {}).get("content") or "" for choice in json.loads(body)["choices"]]
        return sum(len(text.encode()) for text in texts) // 4
    except (ValueError, KeyError, TypeError, AttributeError):
        return len(body) // 4
