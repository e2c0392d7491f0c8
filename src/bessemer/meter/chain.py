"""The chain of a journal's records: a line ends in the hash of all that stands before it, which the next one repeats.

Owns positions in the chain and the bytes of its lines. Knows no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from bessemer.core.digest import digest_bytes


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a segment: after how many bytes and records, and the hash of the last of them."""

    segment: str
    offset: int
    seq: int
    hash: str


def beginning(segment: str) -> Position:
    """Return the position before a segment's first record; the chain starts from the segment's name."""
    return Position(segment, 0, 0, digest_bytes(segment.encode()))


def chained(after: Position, bodies: Sequence[str]) -> tuple[bytes, Position]:
    """Return the lines of records that follow a position, and the position after them."""
    seq, hashed, lines = after.seq, after.hash, []
    for body in bodies:
        seq += 1
        text = f'{{"body":{body},"prev":"{hashed}","seq":{seq}'.encode()
        hashed = sha256(text).hexdigest()
        lines.append(b'%s,"hash":"%s"}\n' % (text, hashed.encode()))
    data = b"".join(lines)
    return data, Position(after.segment, after.offset + len(data), seq, hashed)
