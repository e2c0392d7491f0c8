"""What a gateway may have beside its engines, its keys and its meter.

Owns the list. Each part has its own module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bessemer.core.experiments import Experiments
from bessemer.core.nouns import Entry
from bessemer.core.usage import Billing, UsageSource
from bessemer.serve.accounts.gate import Gate
from bessemer.serve.accounts.office import Accounts
from bessemer.serve.events import EventStore
from bessemer.serve.feedback import FeedbackStore
from bessemer.serve.observing import Watcher
from bessemer.serve.rankings import RankingStore
from bessemer.serve.webhooks import WebhookStore
from bessemer.serve.wire.store import AnswerStore
from bessemer.serve.work.office import Work


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """Optional parts; those that are missing have no paths.

    Attributes:
        name: of the factory, for the page at ``/``.
        clock: gives Unix seconds.
        watchers: are told of every request, beside the metrics at ``/metrics``.
        feedback: keeps what users say of answers.
        webhooks: keeps who is to be told of what.
        accounts: is what administrators' keys administer under ``/v1/organization``.
        answers: keeps answers whose clients ask for it (`store`).
        work: keeps what clients leave to be done: files, jobs, batches.
        booked: says what was booked of a request, by its id; batches need it.
        events: keeps what users did with items, for engines that learn from it.
        rankings: keeps what was shown where something is tried.
        experiments: says what experiments found.
        billing: tells projects their prices and invoices.
        usage: says what was used and charged, to administrators; and to projects what they took of energy.
        gate: keeps requests within their limits and budgets; without it there are none.
    """

    name: str = "Bessemer"
    clock: Callable[[], float] = time.time
    watchers: Sequence[Watcher] = ()
    feedback: FeedbackStore | None = None
    webhooks: WebhookStore | None = None
    accounts: Accounts | None = None
    gate: Gate | None = None
    usage: UsageSource | None = None
    billing: Billing | None = None
    answers: AnswerStore | None = None
    work: Work | None = None
    booked: Callable[[str], Entry | None] | None = None
    events: EventStore | None = None
    rankings: RankingStore | None = None
    experiments: Experiments | None = None
