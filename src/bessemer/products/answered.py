"""What a factory's gateway has beside its engines, over the state of one home.

Owns which files they use, and the tie between an answer's id and its entry in the ledger.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Entry
from bessemer.meter import open_ledger
from bessemer.products.home import Home
from bessemer.serve import (
    Accounts,
    AnswerStore,
    EventStore,
    FeedbackStore,
    GatewayParts,
    WebhookStore,
    Work,
    open_traces,
)
from bessemer.serve.privacy import keep_all

logger = logging.getLogger("bessemer.products")

_ANSWER = re.compile(r"(?:chatcmpl-|cmpl-|resp_|msg_|rec_|req_)(\w+)")


class Answered:
    """Looks answers up in the ledger; for several threads at once.

    Args:
        books: the folder of journal and ledger.
        url: of the Postgres where the ledger is instead.
    """

    def __init__(self, books: Path, url: str = "") -> None:
        self._ledger = open_ledger(books, url)

    def project_of(self, answer: str) -> str | None:
        """Return the project whose request an answer is; None if it is nobody's.

        Args:
            answer: the id that its wire gave it, such as ``chatcmpl-…`` or ``resp_…``, or its ``x-request-id``, which
                is all there is where the id is that of the model's server.
        """
        named = _ANSWER.fullmatch(answer)
        entry = self.booked(f"req_{named[1]}") if named else None
        return entry.subject.project if entry else None

    def booked(self, request: str) -> Entry | None:
        """Return the entry of a request, by its id such as ``req_…``; None if it was never booked."""
        self._ledger.sync()
        try:
            return self._ledger.entry(f"request:{request}")
        except NotFound:
            return None

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


def gateway_parts(
    home: Home,
    name: str,
    clock: Callable[[], float],
    traced: str,
    work: Work,
    stack: ExitStack,
    accounts: Accounts | None = None,
) -> GatewayParts:
    """Return the parts of a home's gateway; they are closed with the stack.

    Args:
        home: its state.
        name: of the factory.
        clock: gives Unix seconds.
        traced: what the service is called in OpenTelemetry's spans; empty sends none.
        work: what clients leave to be done.
        stack: closes them.
        accounts: say what may be kept of a project's words; without them all that a client asks for.

    Raises:
        MissingDependency: spans are wanted and OpenTelemetry's SDK is not installed.
    """
    watchers = []
    if traced:
        watchers.append(open_traces(traced))
        stack.callback(watchers[0].close)
    answered = Answered(home.books, home.ledger_url)
    stack.callback(answered.close)
    capture = accounts.capture.of if accounts else keep_all
    feedback = FeedbackStore(home.feedback, answered.project_of, clock, capture)
    webhooks, answers = WebhookStore(home.webhooks, clock), AnswerStore(home.answers, capture=capture)
    events = EventStore(home.events)
    if earlier := home.left_behind():
        logger.warning("what is in %s is not seen: Postgres has this home's rows", ", ".join(map(str, earlier)))
    for each in (feedback, webhooks, answers, events, work):
        stack.callback(each.close)
    return GatewayParts(
        name,
        clock,
        watchers,
        feedback,
        webhooks,
        accounts,
        answers=answers,
        work=work,
        booked=answered.booked,
        events=events,
    )
