"""Heads that were parsed before, known again by their bytes, so that the parser is not asked about each anew.

A head that the strict parser took whole is remembered with its places left open: the digits of its length and, of a
request, the secret. Another that has the same bytes everywhere else and as many in the open places means the same to
the parser: its length is as many digits, its secret is one that was given out. Whatever differs in any other byte is
parsed. So nothing here decides what is valid; two lengths, chunks, an upgrade or a close are never remembered.

Owns that memory. Knows no connection.
"""

from __future__ import annotations

import re
from collections.abc import Collection

MAX_HEAD_BYTES = 4_096
"""Of a head that is remembered."""

_OF_ONE_SIZE = 4
_SIZES = 256
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
_SECRET = re.compile(rb"\r\nauthorization:[ \t]*bearer ([-_A-Za-z0-9]+)(?=\r\n)", re.IGNORECASE)
_NEVER = (b"transfer-encoding", b"upgrade", b"expect", b"trailer", b"traceparent")
"""Headers that say more about how to go on than is remembered, or differ with each request anyway."""


def _plain(name: bytes, value: bytes) -> bool:
    return name not in _NEVER and (name != b"connection" or value.lower() == b"keep-alive")


class Shape:
    """One head with its places left open.

    Attributes:
        size: of the head, with the empty line that ends it.
        length_from, length_to: where the digits of the body's length stand.
        secret_from, secret_to: where it stands; empty if a head has none.
        kind: the content type.
    """

    __slots__ = (
        "first", "kind", "length_from", "length_to", "second", "second_at", "second_to", "secret_from", "secret_to",
        "size", "third", "third_at",
    )  # fmt: skip

    def __init__(self, head: bytes, length: tuple[int, int], secret: tuple[int, int], kind: bytes) -> None:
        (a, b), (c, d) = sorted((length, secret))
        self.first, self.second, self.third = head[:a], head[b:c], head[d:]
        self.second_at, self.second_to, self.third_at = b, c, d
        self.length_from, self.length_to = length
        self.secret_from, self.secret_to = secret
        self.size, self.kind = len(head), kind


class Shapes:
    """The heads that are remembered, by their size.

    Args:
        start: what they begin with.
        secret: whether they must have a bearer's secret.
    """

    def __init__(self, start: bytes, secret: bool = False) -> None:
        self._start, self._secret = start, secret
        self._by_size: dict[int, list[Shape]] = {}

    def find(self, data: bytes) -> Shape | None:
        """Return the shape of data that is one whole message, not a byte less or more, with a head that is known."""
        shapes = self._by_size.get(data.find(b"\r\n\r\n"))
        if shapes is None:
            return None
        for shape in shapes:
            if (
                data.startswith(shape.first)
                and data[shape.second_at : shape.second_to] == shape.second
                and data[shape.third_at : shape.size] == shape.third
                and (digits := data[shape.length_from : shape.length_to]).isdigit()
                and int(digits) == len(data) - shape.size
            ):
                return shape
        return None

    def learn(self, data: bytes, headers: Collection[tuple[bytes, bytes]]) -> None:
        """Remember the head that data begins with, if it is plain. The parser took it and kept the connection alive.

        Args:
            data: as it came.
            headers: that the parser found in it, names in lower case.
        """
        at = data.find(b"\r\n\r\n")
        head = data[: at + 4]
        if not 0 < at <= MAX_HEAD_BYTES - 4 or not head.startswith(self._start):
            return
        if not all(_plain(name, value) for name, value in headers):
            return
        lengths, secrets = [*_LENGTH.finditer(head)], [*_SECRET.finditer(head)]
        if len(lengths) != 1 or len(secrets) != self._secret:
            return
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        shape = Shape(head, lengths[0].span(1), secrets[0].span(1) if secrets else (0, 0), kind)
        if len(self._by_size) >= _SIZES:
            self._by_size.clear()
        known = self._by_size.setdefault(at, [])
        known.insert(0, shape)  # the newest first: of a server that tells the time, only it will fit again
        del known[_OF_ONE_SIZE:]
