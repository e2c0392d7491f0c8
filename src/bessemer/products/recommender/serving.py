"""What a gateway was told earlier, told again to the engines that learn: their memory ends with the process.

Owns the replay. The events are in the gateway's store.
"""

from __future__ import annotations

from collections.abc import Mapping

from bessemer.products.product import AnyEngine
from bessemer.serve import EventStore


def tell_again(events: EventStore | None, engines: Mapping[str, AnyEngine]) -> int:
    """Tell engines all events that are kept, the first told first, and return how many there were."""
    learning = [engine for engine in engines.values() if "learn" in engine.capabilities]
    count = 0
    if events and learning:
        for project, told in events.all():
            count += len(told)
            for engine in learning:
                engine.learn(project, told)  # type: ignore[attr-defined]
    return count
