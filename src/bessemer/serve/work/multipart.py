"""``multipart/form-data``, read as it comes: fields are held, a file goes to the disk, nothing is held twice.

Owns the form's grammar. Source: RFC 7578 and RFC 2046, section 5.1.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from bessemer.serve.refusals import CLIENT_GONE, SLOW_BODY, Refusal, Refused, too_large

_MAX_HEAD_BYTES = 8192
_MAX_FIELDS = 64
_MAX_FIELD_BYTES = 65_536
_WRITE_BYTES = 1 << 18
BROKEN = Refusal(400, "The request is no well-formed multipart/form-data.", "invalid_multipart")

Event = tuple[str, str, str, bytes]
"""``part`` with a field's name and a file's name, ``data`` with bytes, ``end``."""


class Parser:
    """Reads a form piece by piece, however it is cut.

    Args:
        boundary: as the header says.
    """

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"\r\n--" + boundary
        self._held = bytearray(b"\r\n")
        self._state = "preamble"

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what is complete with this piece.

        Raises:
            Refused: this is no form.
        """
        self._held += data
        while self._state != "ended" and (event := self._next()) is not None:
            if event[0]:
                yield event

    @property
    def ended(self) -> bool:
        """Whether the closing mark was read."""
        return self._state == "ended"

    def _next(self) -> Event | None:
        """Return the next event, ("", …) if only the state changed, or None when more is needed."""
        if self._state == "head":
            return self._head()
        if self._state == "mark":
            return self._after_mark()
        at = self._held.find(self._mark)
        keep = len(self._mark) - 1
        if at < 0:
            data = bytes(self._held[: max(0, len(self._held) - keep)])
            del self._held[: len(data)]
            return ("data", "", "", data) if data and self._state == "data" else None
        data, was = bytes(self._held[:at]), self._state
        del self._held[: at + len(self._mark)]
        self._state = "mark"
        return ("data", "", "", data) if data and was == "data" else ("", "", "", b"")

    def _after_mark(self) -> Event | None:
        if len(self._held) < 2:
            return None
        follows = bytes(self._held[:2])
        if follows not in (b"--", b"\r\n"):
            raise Refused(BROKEN)
        del self._held[:2]
        self._state = "ended" if follows == b"--" else "head"
        return ("end", "", "", b"") if self._state == "ended" else ("", "", "", b"")

    def _head(self) -> Event | None:
        at = self._held.find(b"\r\n\r\n")
        if at < 0 or at > _MAX_HEAD_BYTES:
            if len(self._held) > _MAX_HEAD_BYTES:
                raise Refused(BROKEN)
            return None
        head = bytes(self._held[:at]).decode("utf-8", "replace")
        del self._held[: at + 4]
        self._state = "data"
        line = re.search(r"(?im)^content-disposition: *form-data *;(.*?)\r?$", head)
        name = re.search(r'[; ]name="([^"\r\n]*)"', line[1]) if line else None
        if not line or not name:
            raise Refused(BROKEN)
        file = re.search(r'[; ]filename="([^"\r\n]*)"', line[1])
        return "part", unquote(name[1]), unquote(file[1]) or "file" if file else "", b""


@dataclass(slots=True)
class Form:
    """What a form said.

    Attributes:
        fields: by name.
        file_field: name of the field whose content went to the disk; empty if there was none.
        filename: that the client gave it.
    """

    fields: dict[str, str] = field(default_factory=dict)
    file_field: str = ""
    filename: str = ""


async def read_form(request: Request, out: BinaryIO, limit_bytes: int, silence_seconds: float) -> Form:
    """Return the fields of a form; its one file is written to `out`.

    Args:
        request: whose body it is.
        out: takes the file's bytes.
        limit_bytes: of the file.
        silence_seconds: how long the client may send nothing.

    Raises:
        Refused: it is no form, too large or too slow, or its client went away.
    """
    kind = request.headers.get("content-type", "")
    found = re.search(r'boundary="?([^";,\s]{1,200})"?', kind)
    if not kind.lower().startswith("multipart/form-data") or not found:
        raise Refused(Refusal(400, "Send this as multipart/form-data.", "invalid_multipart"))
    if _declared(request) > limit_bytes + _MAX_FIELD_BYTES:
        raise Refused(too_large(limit_bytes))
    reader = _Reader(Parser(found[1].encode("latin-1")), out, limit_bytes)
    more = True
    while more:
        try:
            async with asyncio.timeout(silence_seconds):
                message = await request.receive()
        except TimeoutError:
            raise Refused(SLOW_BODY) from None
        if message["type"] == "http.disconnect":
            raise Refused(CLIENT_GONE)
        more = message.get("more_body", False)
        await reader.take(message.get("body", b""))
    if not reader.parser.ended:
        raise Refused(BROKEN)
    await reader.flush()
    return reader.form


def _declared(request: Request) -> int:
    given = request.headers.get("content-length", "0")
    return int(given) if given.isdecimal() and len(given) < 19 else 0


class _Reader:
    """Sorts the events of a parser into a form."""

    def __init__(self, parser: Parser, out: BinaryIO, limit_bytes: int) -> None:
        self.parser, self.form = parser, Form()
        self._out, self._limit = out, limit_bytes
        self._name, self._in_file = "", False
        self._held: list[bytes] = []
        self._held_bytes = self._file_bytes = 0
        self._values: dict[str, bytes] = {}

    async def take(self, data: bytes) -> None:
        for kind, name, filename, piece in self.parser.feed(data):
            if kind == "part":
                self._begin(name, filename)
            elif kind == "data" and self._in_file:
                self._keep(piece)
            elif kind == "data":
                self._values[self._name] += piece
                if len(self._values[self._name]) > _MAX_FIELD_BYTES:
                    raise Refused(too_large(_MAX_FIELD_BYTES))
        if self._held_bytes >= _WRITE_BYTES:
            await self._write()

    async def flush(self) -> None:
        await self._write()
        await run_in_threadpool(self._out.flush)
        self.form.fields = {name: value.decode("utf-8", "replace") for name, value in self._values.items()}

    def _begin(self, name: str, filename: str) -> None:
        self._name, self._in_file = name, bool(filename)
        if self._in_file:
            if self.form.file_field:
                raise Refused(Refusal(400, "Send one file at a time.", "invalid_multipart"))
            self.form.file_field, self.form.filename = name, filename
            return
        if len(self._values) >= _MAX_FIELDS or name in self._values:
            raise Refused(BROKEN)
        self._values[name] = b""

    def _keep(self, piece: bytes) -> None:
        self._held.append(piece)
        self._held_bytes += len(piece)
        self._file_bytes += len(piece)
        if self._file_bytes > self._limit:
            raise Refused(too_large(self._limit))

    async def _write(self) -> None:
        if self._held:
            pieces, self._held, self._held_bytes = self._held, [], 0
            await run_in_threadpool(_write_all, self._out.write, pieces)


def _write_all(write: Callable[[bytes], int], pieces: list[bytes]) -> None:
    for piece in pieces:
        write(piece)
