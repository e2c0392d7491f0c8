"""Who may come in, asked once for each request and answered in microseconds.

Owns what the short way needs to know of keys, limits and budgets: three calls, none of which waits. Behind them are the
store of keys and the gate.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from bessemer.core.forwarding import Spent
from bessemer.serve.accounts.gate import Gate, likely_tokens
from bessemer.serve.accounts.standing import Permit as Held
from bessemer.serve.keys import Key, KeyRefusal, KeyStore
from bessemer.serve.refusals import Refusal, Refused

_REMEMBERED_AT_MOST = 10_000


class Identity:
    """Whose key it is, with what is asked of it for each request: its id, project, models and end."""

    def __init__(self, key: Key) -> None:
        self.key, self.key_id, self.project, self.models = key, key.id, key.project, key.models
        self.expires_at = key.expires_at


class Permit:
    """A request that was admitted.

    Attributes:
        headers: go with its answer, as they stand on the wire.
        held: of limits and budgets, until it is settled.
    """

    def __init__(self, headers: bytes = b"", held: Held | None = None) -> None:
        self.headers, self.held = headers, held


class Admission(Protocol):
    """Admits requests; all calls are made in the event loop and return at once."""

    def know(self, secret: str, /) -> Identity | None:
        """Return whose a key is, or None: then the application says why not."""
        ...

    def admit(self, who: Identity, spent: Spent, worst: tuple[int, int], /) -> Permit | Refusal | None:
        """Reserve what a request may take at worst: input and output tokens. None leaves it to the application."""
        ...

    def settle(self, permit: Permit, spent: Spent, /) -> None:
        """Put what was charged in the place of what was reserved; called once for each permit."""
        ...


class KeyAdmission:
    """Admits whoever has a key that is accepted, within limits and budgets, from what this process holds of them.

    What it does not hold enough of is left to the application, which asks the database.

    Args:
        keys: remembers keys that it verified, until somebody changes one.
        gate: knows limits and budgets; None has none.
    """

    def __init__(self, keys: KeyStore, gate: Gate | None = None) -> None:
        self._keys, self._gate = keys, gate
        self._permit = Permit()
        self._known: dict[bytes, Identity] = {}
        self._version = -1

    def know(self, secret: str, /) -> Identity | None:
        """Return whose a key is. What is remembered is a digest, and only until an administrator changes anything."""
        keys, version = self._keys, self._keys.version()
        if version != self._version:
            self._known, self._version = {}, version
        digest = hashlib.blake2s(secret.encode("utf-8", "surrogatepass")).digest()
        who = self._known.get(digest)  # of 256 bits: how long that takes tells nothing of a secret
        if who is not None and (who.expires_at is None or keys.now() < who.expires_at):
            return who
        key = keys.verify(secret)
        if isinstance(key, KeyRefusal):
            return None
        if len(self._known) >= _REMEMBERED_AT_MOST:
            self._known.clear()
        who = self._known[digest] = Identity(key)
        return who

    def admit(self, who: Identity, spent: Spent, worst: tuple[int, int], /) -> Permit | Refusal | None:
        """Return a permit, or why there is none; None if the application has to find out."""
        gate, model = self._gate, spent.model
        if who.models and not who.key.may_ask(model):
            return None
        try:
            rules = gate.rules((spent.project, spent.key_id, model, "", False)) if gate else None
        except Refused as refused:
            return refused.refusal
        if gate is None or rules is None:
            return self._permit
        read, written = worst
        found = gate.admit_now(rules, spent.id, likely_tokens(read, written), rules.tariff.worst(read, written))
        if found is None or isinstance(found, Refusal):
            return found
        return Permit(rules.standing.lines(), found)

    def settle(self, permit: Permit, spent: Spent, /) -> None:
        """Settle to what was charged. What could not be booked yet stays reserved; what never began is given back."""
        if permit.held is None or self._gate is None:
            return
        if spent.terms is None and spent.mark is not None:
            self._gate.settle_when_booked(permit.held, spent)
        else:
            self._gate.settle(permit.held, spent.charge_micros, spent.usage[0] + spent.usage[1])
