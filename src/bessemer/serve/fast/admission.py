"""Who may come in, asked once for each request and answered in microseconds.

Owns what the short way needs to know of keys, limits and budgets: three calls, none of which waits. Behind them is the
store of keys; a store with limits and budgets answers the same calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bessemer.serve.keys import KeyRefusal, KeyStore
from bessemer.serve.refusals import Refusal

FRESH_SECONDS = 0.01
"""How soon a key is refused that another process revoked."""
_MAX_KNOWN = 65_536


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose key it is."""

    key_id: str
    project: str


@dataclass(slots=True, eq=False)
class Permit:
    """A request that was admitted; `headers` go with its answer, as they stand on the wire."""

    headers: bytes = b""


class Admission(Protocol):
    """Admits requests; all calls are made in the event loop and return at once."""

    def know(self, secret: str, /) -> Identity | None:
        """Return whose a key is, or None: then the application says why not."""
        ...

    def admit(self, who: Identity, model: str, worst: tuple[int, int], /) -> Permit | Refusal:
        """Reserve what a request may take at worst: input and output tokens."""
        ...

    def settle(self, permit: Permit, usage: tuple[int, int, int], /) -> None:
        """Give back what was reserved and was not used; called once for each permit."""
        ...


class KeyAdmission:
    """Admits whoever has a key that is accepted, without limits.

    Accepted secrets are kept by their hash for as long as nothing changes in the store. A key that is revoked here is
    refused at once, one that another process revokes within ten milliseconds.
    """

    def __init__(self, keys: KeyStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._known: dict[bytes, tuple[Identity, float | None]] = {}
        self._changes = self._others = -1
        self._looked_at = float("-inf")
        self._permit = Permit()

    def know(self, secret: str, /) -> Identity | None:
        """Return whose a key is."""
        if self._keys.changes != self._changes:
            self._changes = self._keys.changes
            self._known.clear()
        now = self._clock()
        if now - self._looked_at > FRESH_SECONDS:
            self._looked_at, others = now, self._keys.others()
            if others != self._others:
                self._others = others
                self._known.clear()
        hashed = self._keys.hashed(secret)
        found = self._known.get(hashed)
        if found and (found[1] is None or found[1] > self._keys.now()):
            return found[0]
        key = self._keys.verify(secret)
        if isinstance(key, KeyRefusal):
            self._known.pop(hashed, None)
            return None
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        identity = Identity(key.id, key.project)
        self._known[hashed] = identity, key.expires_at
        return identity

    def admit(self, who: Identity, model: str, worst: tuple[int, int], /) -> Permit | Refusal:
        """Return the one permit: nothing is reserved."""
        return self._permit

    def settle(self, permit: Permit, usage: tuple[int, int, int], /) -> None:
        """Do nothing: nothing was reserved."""
