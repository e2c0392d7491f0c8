"""Places of their own for requests that ask no model, so that they and answers never take each other's.

Owns how long such a request may take. Knows no endpoint; the count is `Traffic`'s.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bessemer.serve.refusals import TOO_SLOW
from bessemer.serve.traffic import Traffic


class Bounded:
    """ASGI application around one that gives no model's answers: bounds its requests in number and in time.

    The time runs until the answer begins, and anew with each piece of the request: a long upload that moves goes on.
    How long a client may take to read the answer is the connection's to bound.

    Args:
        app: what is bounded.
        traffic: counts its requests, and those of others that share the places.
        seconds: how long a request may take until its answer begins.
    """

    def __init__(self, app: ASGIApp, traffic: Traffic, seconds: float) -> None:
        self._app, self._traffic, self._seconds = app, traffic, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            Refused: there are too many, or this one took too long.
        """
        loop, answering = asyncio.get_running_loop(), False
        with self._traffic.visit() as visit:
            timer = loop.call_later(self._seconds, visit.interrupt, TOO_SLOW)

            async def heard() -> Message:
                nonlocal timer
                message = await receive()
                if not answering:
                    timer.cancel()
                    timer = loop.call_later(self._seconds, visit.interrupt, TOO_SLOW)
                return message

            async def said(message: Message) -> None:
                nonlocal answering
                answering = True
                timer.cancel()
                await send(message)

            try:
                await self._app(scope, heard, said)
            finally:
                timer.cancel()
