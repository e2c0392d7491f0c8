"""The short way in: ``POST /v1/chat/completions`` for a model behind another server, bytes in and bytes out.

Whatever is not plain (no accepted key, too many requests, a model of another engine, a body that is no request) is
left to the application, which says in its own words what is wrong or answers it. A request is taken in one of two ways:
`answer` is asked when its head was parsed; `quick` before that, when it came whole and with a head of a form that was
parsed before. Both end in the same `Relay`.

Owns who is let onto the short way. What becomes of a request is the relay's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bessemer.core.errors import BessemerError
from bessemer.serve.fast.admission import Identity
from bessemer.serve.fast.desk import Desk
from bessemer.serve.fast.exchange import Answerer, Exchange
from bessemer.serve.fast.reading import read_asked
from bessemer.serve.fast.relay import Relay

if TYPE_CHECKING:
    from bessemer.serve.fast.http import Connection

PATH = b"/v1/chat/completions"


def answer(desk: Desk, exchange: Exchange) -> Answerer:
    """Return who answers a request of which the head has come."""
    if exchange.target == PATH and exchange.method == b"POST" and (who := _who(desk, exchange)):
        relay = Relay(desk, exchange, who)
        if desk.traffic.enter(relay):
            if exchange.keep_alive and exchange.raw:
                desk.shapes.learn(exchange.raw, exchange.headers)
            exchange.deadline = desk.loop.time() + desk.config.body_timeout_seconds
            exchange.go_on()
            return relay
    return desk.otherwise(exchange)


def quick(desk: Desk, connection: Connection, data: bytes) -> bool:
    """Take a request that came whole, with a head of a form that is known; if not, nothing was done."""
    if (shape := desk.shapes.find(data)) is None or len(data) - shape.size > desk.config.max_body_bytes:
        return False
    try:
        who = desk.admission.know(data[shape.secret_from : shape.secret_to].decode("latin-1"))
    except BessemerError:  # the application says what is wrong
        return False
    asked = read_asked(data[shape.size :]) if who else None
    way = desk.ways.get(asked.model) if asked else None
    if who is None or asked is None or way is None:
        return False
    exchange = Exchange(connection, b"POST", PATH, "1.1", [], True)
    relay, taken = Relay(desk, exchange, who), False
    if desk.traffic.enter(relay):
        exchange.received, exchange.answerer, connection.exchange = True, relay, exchange
        try:
            taken = relay.begin(asked, way, len(data) - shape.size)
        except Exception as error:  # in here, and not in the event loop that calls
            relay.failed(error)
            return True
        if not taken:
            connection.exchange = exchange.answerer = None
            desk.traffic.leave(relay)
    return taken


def _who(desk: Desk, exchange: Exchange) -> Identity | None:
    given, length = b"", b"0"
    for name, value in exchange.headers:
        if name == b"authorization":
            if given:
                return None
            given = value
        elif name == b"content-length":
            length = value
    if given[:7].lower() != b"bearer " or int(length) > desk.config.max_body_bytes:
        return None
    try:
        return desk.admission.know(given[7:].strip().decode("latin-1"))
    except BessemerError:  # the application says what is wrong
        return None
