"""Sends webhooks: signed, with patience, and to nobody inside.

Owns the sending and the guard on addresses. What is to be sent, and when again, says `webhooks`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2

from bessemer.core.errors import Unsupported
from bessemer.serve.webhooks import Delivery, WebhookStore, signed

logger = logging.getLogger("bessemer.serve")

TIMEOUT_SECONDS = 15.0
"""For one delivery from its connection to its status, however slowly the receiver talks."""
AT_ONCE = 8
"""How many are told at once, each endpoint one message: a slow one holds up the others for one delivery at most."""
LEASE_SECONDS = 120.0
"""Longer than one delivery may take, a slow name server included, so that two processes do not send it at once."""


def check_url(url: str, private: bool) -> None:
    """Raise unless a URL may be told.

    Args:
        url: of an endpoint.
        private: whether addresses of this machine and its own network are allowed, and plain HTTP.

    Raises:
        Unsupported: it is none that may be told; the message says why.
    """
    parts = urlsplit(url)
    if parts.scheme not in (("https", "http") if private else ("https",)) or not parts.hostname or parts.username:
        raise Unsupported("a webhook's URL is https://host/…, without a user name", hint="Use another URL.")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise Unsupported("the URL's port is no number up to 65535", hint="Use another URL.") from error
    try:
        httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise Unsupported("the URL has characters that no URL has", hint="Use another URL.") from error
    if private:
        return
    try:
        found = {info[4][0] for info in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise Unsupported("the URL's host is not known", hint="Use another URL.") from error
    if not all(ipaddress.ip_address(str(address).partition("%")[0]).is_global for address in found):
        raise Unsupported("the URL's host is inside this network", hint="Use an address of the public network.")


def _nothing() -> None:
    pass


class Sender:
    """Sends deliveries in a thread of its own, from `start` until it is closed.

    Args:
        store: what is to be sent.
        private: whether addresses inside this network may be told.
        clock: gives Unix seconds.
        pause_seconds: between two looks at what is due.
        first: called before each look, to hand over what others have kept.
    """

    def __init__(
        self,
        store: WebhookStore,
        private: bool = False,
        clock: Callable[[], float] = time.time,
        pause_seconds: float = 1.0,
        first: Callable[[], None] = _nothing,
    ) -> None:
        self._first = first
        self._store, self._private, self._clock, self._pause = store, private, clock, pause_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin to send what is due."""
        self._thread.start()

    def send(self, delivery: Delivery) -> int:
        """Send one message and return the receiver's status.

        Raises:
            Unsupported: the address may not be told any more.
            OSError: nobody answered.
        """
        check_url(delivery.url, self._private)  # again: what a name points to changes
        return asyncio.run(_post(delivery.url, delivery.body.encode(), signed(delivery, self._clock())))

    def send_due(self) -> int:
        """Send what is due now; return how many arrived."""
        arrived = 0
        with ThreadPoolExecutor(AT_ONCE, "webhooks") as pool:
            while not self._ended.is_set() and (due := self._store.claim(LEASE_SECONDS, AT_ONCE)):
                arrived += sum(pool.map(self._tell, due))
                self._first()
        return arrived

    def _tell(self, delivery: Delivery) -> bool:
        """Send a message and settle it; return whether it arrived."""
        try:
            arrived = 200 <= self.send(delivery) < 300
        except Exception as error:  # whatever one receiver brings about, the others are told
            logger.info("webhook %s to %s: %s", delivery.event, delivery.endpoint, type(error).__name__)
            arrived = False
        self._store.settle(delivery, arrived)
        return arrived

    def close(self) -> None:
        """End the thread; what was not sent stays kept."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_SECONDS + 5)

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            try:
                self._first()
                self.send_due()
            except Exception as error:  # a thread that ends would tell nobody anything any more
                logger.warning("webhooks wait: %s", type(error).__name__)


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Return the status of an answer, of which nothing else is read.

    Raises:
        OSError: there was none in time.
    """
    try:
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            return answer.status_code
    except httpx2.HTTPError as error:
        raise ConnectionError(f"{type(error).__name__}") from error
