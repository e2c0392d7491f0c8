"""Ids of requests: the time first, so that the books append to their index of ids and need not look all over it.

As in a UUID of version 7 (RFC 9562, section 5.7) 48 bits are Unix milliseconds; all 80 others are random.

Owns their form. Knows no request.
"""

from __future__ import annotations

import hashlib
import os
import time

_BLOCK_BYTES = 4090
_BYTES = 10

_ahead: list[bytes] = []
"""Random bytes of the system's for ids to come: nobody who has seen ids can tell the next."""
os.register_at_fork(after_in_child=_ahead.clear)


def new_id() -> str:
    """Return an id for a request: the milliseconds and 80 random bits, without asking the system for each."""
    try:
        drawn = _ahead.pop()  # at once, so that no two threads have the same
    except IndexError:
        drawn = _drawn()
    return "req_" + (int(time.time() * 1000).to_bytes(6, "big") + drawn).hex()


def _drawn() -> bytes:
    """Ask the system for a block, and return its first bytes; the rest is for the ids that follow."""
    block = os.urandom(_BLOCK_BYTES)
    _ahead.extend([block[at : at + _BYTES] for at in range(_BYTES, _BLOCK_BYTES, _BYTES)])
    return block[:_BYTES]


def batch_request_id(batch: str, number: int, attempt: int) -> str:
    """Return the id of an attempt at a batch's line: always the same, so that the books know it after a restart.

    Those of one batch begin alike, and lie together in the books.
    """
    beginning = hashlib.sha256(batch.encode()).hexdigest()[:12]
    return f"req_{beginning}{hashlib.sha256(f'{batch}/{number}/{attempt}'.encode()).hexdigest()[:20]}"


def earlier_batch_request_id(batch: str, number: int, attempt: int) -> str:
    """Return the id that an attempt had before ids of a batch began alike: it may be in the books."""
    return f"req_{hashlib.sha256(f'{batch}/{number}/{attempt}'.encode()).hexdigest()[:32]}"
