"""Who comes in, and what they carry: the key of a request and its body, read no further than allowed.

Owns both checks. Knows no endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Receive, Scope

from bessemer.serve.keys import Key, KeyRefusal, KeyStore
from bessemer.serve.refusals import (
    ARCHIVED_PROJECT,
    CLIENT_GONE,
    EXPIRED_KEY,
    NO_ADMIN,
    NO_KEY,
    REVOKED_KEY,
    SLOW_BODY,
    WRONG_KEY,
    Refusal,
    Refused,
    too_large,
)

_REASONS: Mapping[KeyRefusal, Refusal] = {
    KeyRefusal.UNKNOWN: WRONG_KEY,
    KeyRefusal.REVOKED: REVOKED_KEY,
    KeyRefusal.EXPIRED: EXPIRED_KEY,
    KeyRefusal.ARCHIVED: ARCHIVED_PROJECT,
}


def authenticate(keys: KeyStore, scope: Scope) -> Key:
    """Return the key of a request.

    Raises:
        Refused: there is none, or not exactly one, or it is not accepted.
    """
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, secret = given[0].decode("latin-1").partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Refused(NO_KEY)
    found = keys.verify(secret.strip())
    if isinstance(found, KeyRefusal):
        raise Refused(refusal_of(found))
    return found


def refusal_of(reason: KeyRefusal) -> Refusal:
    """Return what is told to whoever has such a key."""
    return _REASONS[reason]


def authenticate_admin(keys: KeyStore, scope: Scope) -> Key:
    """Return the key of a request that only administrators may make.

    Raises:
        Refused: as `authenticate`, or the key is no administrator's.
    """
    key = authenticate(keys, scope)
    if not key.admin:
        raise Refused(NO_ADMIN)
    return key


async def read_body(scope: Scope, receive: Receive, limit_bytes: int, seconds: float) -> bytes:
    """Return the body of a request; of one that is too large, no more than the limit is ever held.

    Raises:
        Refused: it is too large, too slow, or its client went away.
    """
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if len(declared) > 18 or int(declared) > limit_bytes:
        raise Refused(too_large(limit_bytes))
    pieces: list[bytes] = []
    held_bytes = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(CLIENT_GONE)
                pieces.append(message.get("body", b""))
                held_bytes += len(pieces[-1])
                if held_bytes > limit_bytes:
                    raise Refused(too_large(limit_bytes))
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        raise Refused(SLOW_BODY) from None
