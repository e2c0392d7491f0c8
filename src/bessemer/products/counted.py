"""What engines counted themselves, by the names under which they were served; the meter writes it down at its end.

Owns the sums. Knows no entry.
"""

from __future__ import annotations

import threading

from bessemer.core.nouns import Usage
from bessemer.infer.agents import AgentEngine
from bessemer.infer.engines import Counters, add, minus
from bessemer.products.llm.grounded import ChatEngine
from bessemer.serve.work.models import TunedModels


class Counted:
    """The tokens that closed engines read and delivered.

    Args:
        tuned: whose engines are counted too, if there are any.
    """

    def __init__(self, tuned: TunedModels | None = None) -> None:
        self._tokens: dict[str, Usage] = {}
        self._lock = threading.Lock()
        if tuned:
            tuned.closed = self.closed

    def closed(self, name: str, engine: ChatEngine) -> None:
        """Add what an engine counted until it was closed; one that does not count is left out."""
        counters = getattr(engine, "counters", None)
        if isinstance(counters, Counters):
            delivered = minus(counters.total, counters.undelivered)
            with self._lock:
                self._tokens[name] = add(self._tokens.get(name, Usage()), delivered)
            # What engines did for an agent they counted themselves, too; it is billed as the agent's.
            for lender, lent in (engine.lent if isinstance(engine, AgentEngine) else {}).items():
                self.lend(lender, lent)

    def lend(self, name: str, usage: Usage) -> None:
        """Leave out what an engine did for others than clients: an agent's entry has it, a job's is of rows."""
        with self._lock:
            self._tokens[name] = minus(self._tokens.get(name, Usage()), usage)

    def __call__(self) -> dict[str, Usage]:
        """Return them, by name."""
        return dict(self._tokens)
