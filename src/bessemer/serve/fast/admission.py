"""Who may come in, asked once for each request and answered in microseconds.

Owns what the short way needs to know of keys, limits and budgets: three calls, none of which waits. Behind them is the
store of keys; a store with limits and budgets answers the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bessemer.serve.accounts.gate import Gate
from bessemer.serve.keys import Key, KeyRefusal, KeyStore
from bessemer.serve.refusals import Refusal


@dataclass(slots=True, eq=False)
class Identity:
    """Whose key it is."""

    key: Key

    @property
    def key_id(self) -> str:
        """Of the key."""
        return self.key.id

    @property
    def project(self) -> str:
        """Of the key."""
        return self.key.project


@dataclass(slots=True, eq=False)
class Permit:
    """A request that was admitted; `headers` go with its answer, as they stand on the wire."""

    headers: bytes = b""


class Admission(Protocol):
    """Admits requests; all calls are made in the event loop and return at once."""

    def know(self, secret: str, /) -> Identity | None:
        """Return whose a key is, or None: then the application says why not."""
        ...

    def admit(self, who: Identity, model: str, worst: tuple[int, int], /) -> Permit | Refusal | None:
        """Reserve what a request may take at worst: input and output tokens. None leaves it to the application."""
        ...

    def settle(self, permit: Permit, usage: tuple[int, int, int], /) -> None:
        """Give back what was reserved and was not used; called once for each permit."""
        ...


class KeyAdmission:
    """Admits whoever has a key that is accepted and that nothing limits; the rest is left to the application.

    Args:
        keys: remembers keys that it verified, until somebody changes one.
        gate: knows limits and budgets; None has none.
    """

    def __init__(self, keys: KeyStore, gate: Gate | None = None) -> None:
        self._keys, self._gate = keys, gate
        self._permit = Permit()

    def know(self, secret: str, /) -> Identity | None:
        """Return whose a key is."""
        key = self._keys.verify(secret)
        return None if isinstance(key, KeyRefusal) else Identity(key)

    def admit(self, who: Identity, model: str, worst: tuple[int, int], /) -> Permit | Refusal | None:
        """Return the one permit, for which nothing is reserved; None if there are limits."""
        if not who.key.may_ask(model):
            return None
        if self._gate and self._gate.limits(who.project, who.key_id, model):
            return None
        return self._permit

    def settle(self, permit: Permit, usage: tuple[int, int, int], /) -> None:
        """Do nothing: nothing was reserved."""
