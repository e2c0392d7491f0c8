"""Ids of requests: the time first, so that the books append to their index of ids and need not look all over it.

As in a UUID of version 7 (RFC 9562, section 5.7) 48 bits are Unix milliseconds; all 80 others are random.

Owns their form. Knows no request.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import time

_RANDOM = random.Random(secrets.randbits(256))
os.register_at_fork(after_in_child=lambda: _RANDOM.seed(secrets.randbits(256)))


def new_id() -> str:
    """Return an id for a request: the milliseconds and 80 random bits, without asking the system for each."""
    return "req_" + (int(time.time() * 1000) << 80 | _RANDOM.getrandbits(80)).to_bytes(16, "big").hex()


def batch_request_id(batch: str, number: int, attempt: int) -> str:
    """Return the id of an attempt at a batch's line: always the same, so that the books know it after a restart.

    Those of one batch begin alike, and lie together in the books.
    """
    beginning = hashlib.sha256(batch.encode()).hexdigest()[:12]
    return f"req_{beginning}{hashlib.sha256(f'{batch}/{number}/{attempt}'.encode()).hexdigest()[:20]}"


def earlier_batch_request_id(batch: str, number: int, attempt: int) -> str:
    """Return the id that an attempt had before ids of a batch began alike: it may be in the books."""
    return f"req_{hashlib.sha256(f'{batch}/{number}/{attempt}'.encode()).hexdigest()[:32]}"
