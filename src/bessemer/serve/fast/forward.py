"""The short way: ``POST /v1/chat/completions`` for a model behind another server, bytes in and bytes out.

Whatever is not plain (no accepted key, too many requests, a model of another engine, a body that is no request) is
handed to the application, which says in its own words what is wrong or answers it. What is taken here is metered from
its admission, sent on at once, and booked before its last byte leaves:

    ended   -> admitted, begun, sent            head, data -> let through, the end held back
    end     -> booked, then the end leaves      gone, late, lost -> the server is cancelled, what was counted is booked

Owns the order of things. Framing, connections, reading, booking and admission have their own modules.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from bessemer.core.errors import BessemerError
from bessemer.core.forwarding import Spent
from bessemer.core.nouns import EntryStatus
from bessemer.serve.fast.admission import Identity, Permit
from bessemer.serve.fast.desk import Desk, Way, new_id
from bessemer.serve.fast.exchange import Answerer, Exchange, status_line
from bessemer.serve.fast.reading import Asked, Tail, count_written, place_of_usage, read_answer, read_asked, to_send
from bessemer.serve.fast.telling import event_of, of_server, usage_event, with_usage
from bessemer.serve.observing import Seen, told
from bessemer.serve.refusals import CLIENT_GONE, SLOW_BODY, TOO_SLOW, Refusal, failed
from bessemer.serve.telling import DONE
from bessemer.serve.traffic import Visit

logger = logging.getLogger("bessemer.serve")

PATH = b"/v1/chat/completions"
MAX_ANSWER_BYTES = 64 * 1024 * 1024


def answer(desk: Desk, exchange: Exchange) -> Answerer:
    """Return who answers a request of which the head has come."""
    if exchange.target == PATH and exchange.method == b"POST" and (who := _who(desk, exchange)):
        relay = Relay(desk, exchange, who)
        if visit := desk.traffic.enter(relay.stopped):
            relay.visit = visit
            exchange.deadline = desk.loop.time() + desk.config.body_timeout_seconds
            exchange.go_on()
            return relay
    return desk.otherwise(exchange)


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


class Relay:
    """One request on its way: answers its client and takes its server's answer."""

    visit: Visit
    _size = _asked_size = _status = _written = 0
    _way: Way | None = None
    _asked: Asked | None = None
    _spent: Spent | None = None
    _permit: Permit | None = None
    _seen: Seen | None = None
    _tail: Tail | None = None
    _headed = _over = False
    _kind = _retry_after = b""
    _reason = ""

    def __init__(self, desk: Desk, exchange: Exchange, who: Identity) -> None:
        self._desk, self._exchange, self._who = desk, exchange, who
        self._began = desk.loop.time()
        self._pieces: list[bytes] = []

    def body(self, data: bytes) -> None:
        """Take a piece of the request."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._desk.config.max_body_bytes:
            self._hand_over()

    def ended(self) -> None:
        """Admit the request and send it on."""
        try:
            self._go()
        except Exception as error:  # in here, and not in the parser that calls
            logger.error("a request failed on the short way: %s", type(error).__name__)
            self._refuse(failed("none, it was not begun"))

    def _go(self) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        asked = read_asked(body)
        way = self._desk.ways.get(asked.model) if asked else None
        if asked is None or way is None:
            self._hand_over()
            return
        config = self._desk.config
        output = config.default_output_tokens if asked.output_tokens is None else asked.output_tokens
        spent = Spent(new_id(), self._who.project, self._who.key_id, asked.model)
        permit = None
        if 0 < output <= config.max_output_tokens:  # else the application says what is wrong
            permit = self._desk.admission.admit(self._who, spent, (len(body), output * asked.choices))
        if permit is None:
            self._hand_over()
            return
        self._pieces.clear()
        self._asked_size, self._size = len(body), 0
        if isinstance(permit, Refusal):
            self._refuse(permit)
            return
        self._asked, self._way, self._spent, self._permit = asked, way, spent, permit
        self._desk.committer.begin(spent)
        self._exchange.deadline = self._began + config.request_timeout_seconds
        self._watch(spent)
        if asked.stream:
            self._tail = Tail(asked.choices > 1)
        way.pool.ask(to_send(asked, way.forward, output), self)

    def gone(self) -> None:
        """Cancel: the client closed its connection."""
        self._stop(CLIENT_GONE)

    def late(self) -> None:
        """Cancel: the time is up."""
        if self._spent is None:
            self._over = True
            self._refuse(SLOW_BODY)
        else:
            self._stop(TOO_SLOW)

    def stopped(self) -> None:
        """Cancel: the gateway stops."""
        self._stop(self.visit.ended or CLIENT_GONE)

    def drained(self) -> None:
        """Take more of the answer: the client has read what there was."""
        if self._way:
            self._way.pool.hold(self, False)

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Note what kind of answer comes."""
        self._status = status
        for name, value in headers:
            if name == b"content-type":
                self._kind = value
            elif name == b"retry-after":
                self._retry_after = value
        if status != 200 or not self._kind.startswith(b"text/event-stream"):
            self._tail = None

    def data(self, data: bytes) -> None:
        """Let a piece of a stream through; keep a piece of a whole answer."""
        seen = self._seen
        if seen is not None:
            seen.last_token_seconds = self._desk.loop.time() - self._began
            if seen.first_token_seconds is None:
                seen.first_token_seconds = seen.last_token_seconds
        if self._tail is None:
            self._pieces.append(data)
            self._size += len(data)
            if self._size > MAX_ANSWER_BYTES and self._way:
                self._way.pool.cancel(self)
                self.lost("its answer is too large")
            return
        if out := self._tail.feed(data):
            assert self._way is not None
            if self._way.renames:
                out = self._way.named(out)
            self._send(out)
            if self._exchange.congested:
                self._way.pool.hold(self, True)

    def end(self) -> None:
        """Book the answer, then let its end leave."""
        assert self._way and self._spent and self._asked
        self._way.pool.done(self)
        if self._status != 200:
            answer = b"".join(self._pieces)
            self._fail(of_server(self._status, answer, self._retry_after, self._spent.id))
        elif self._tail is None:
            self._end_whole(b"".join(self._pieces))
        else:
            self._end_stream(self._tail)

    def lost(self, why: str) -> None:
        """Book what had come, and tell the client that there is no more."""
        assert self._way and self._spent
        self._way.pool.done(self)
        logger.error("request %s failed: the server of '%s': %s", self._spent.id, self._way.name, why)
        self._fail(failed(self._spent.id))

    # --- ends -------------------------------------------------------------------------------------------------------

    def _end_whole(self, body: bytes) -> None:
        assert self._spent and self._way and self._asked
        usage, self._reason = read_answer(body)
        if usage is None:
            logger.error("request %s: the server told no usage; what it took was counted", self._spent.id)
            self._written = count_written(body)
        else:
            self._way.learn(self._asked_size, usage, self._desk.loop.time() - self._began)
        self._book(usage, "ok" if usage else "broken", lambda: self._answer(body, usage is not None))

    def _answer(self, body: bytes, told: bool) -> None:
        assert self._spent and self._way
        body = self._way.named(body)
        if told:
            body = with_usage(body, place_of_usage(body), self._spent)
        self._exchange.write(
            self._head_of(200, self._kind or b"application/json") + b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )

    def _end_stream(self, tail: Tail) -> None:
        assert self._spent and self._way and self._asked
        events = tail.close()
        self._reason = tail.reason
        if tail.failed or not tail.whole:
            logger.error("request %s failed: the server broke off its stream", self._spent.id)
            self._fail(failed(self._spent.id))
            return
        if tail.usage is None:
            logger.error("request %s: the server told no usage; what it took was counted", self._spent.id)
        else:
            self._way.learn(self._asked_size, tail.usage, self._desk.loop.time() - self._began)
        self._book(tail.usage, "ok" if tail.usage else "broken", lambda: self._last(events))

    def _last(self, events: list[bytes]) -> None:
        assert self._spent and self._way and self._asked
        out = [self._way.named(each) for each in events if not each.startswith(b"usage")]
        if self._asked.wants_usage:
            out += [usage_event(self._way.named(each[5:]), self._spent) for each in events if each.startswith(b"usage")]
        self._send(b"".join(out) + DONE, last=True)

    def _fail(self, refusal: Refusal) -> None:
        """Book what went through, and tell the client: by status if nothing has, else by an event."""
        if self._tail is not None and self._headed:
            self._book(None, "broken", lambda: self._send(event_of(refusal), last=True))
        else:
            self._book((0, 0, 0), "error", lambda: self._say(refusal))

    def _stop(self, why: Refusal) -> None:
        """End before the answer does."""
        if self._over:
            return
        if self._spent is None or self._way is None:
            self._close()
            if why is not CLIENT_GONE:
                self._say(why)
                self._exchange.finish()
            return
        self._way.pool.cancel(self)
        by_client = why is CLIENT_GONE
        streamed = self._tail is not None and self._headed
        if by_client or (why is TOO_SLOW and streamed):
            usage, status = None, "cancelled"
        else:
            usage, status = (None if streamed else (0, 0, 0)), "error"
        jammed = self._exchange.congested
        if by_client or jammed:
            tell = self._exchange.abort
        elif streamed:
            tell = lambda: self._send(event_of(why), last=True)  # noqa: E731
        else:
            tell = lambda: self._say(why)  # noqa: E731
        self._book(usage, status, tell)  # type: ignore[arg-type]

    def _book(self, usage: tuple[int, int, int] | None, status: EntryStatus, tell: Callable[[], None]) -> None:
        """Book what was told, or else what was counted, and then let the end leave."""
        assert self._spent
        self._over = True
        self._exchange.deadline = None
        spent = self._spent
        spent.usage, spent.status = usage or self._counted(), status

        def booked(well: bool) -> None:
            if well:
                tell()
            elif self._headed:
                self._send(event_of(failed(spent.id)), last=True)
            else:
                self._say(failed(spent.id))
            self._exchange.finish()
            self._close()

        self._desk.committer.add(spent, booked)

    def _counted(self) -> tuple[int, int, int]:
        """Return what a request took as far as it can be counted from here: at least one token in and one out."""
        assert self._way and self._asked
        if self._tail is not None:
            told = self._tail.usage
            if told:
                return told
            output = self._tail.events
        else:
            output = self._written or int((self._desk.loop.time() - self._began) * self._way.tokens_per_second)
        most = (self._asked.output_tokens or self._desk.config.default_output_tokens) * self._asked.choices
        return max(1, round(self._asked_size * self._way.tokens_per_byte)), max(1, min(output, most)), 0

    def _close(self) -> None:
        """Give everything back."""
        self._over = True
        self._desk.traffic.leave(self.visit)
        if self._permit and self._spent:
            self._desk.admission.settle(self._permit, self._spent)
            self._permit = None
        seen, self._seen = self._seen, None
        if seen and self._spent:
            seen.seconds = self._desk.loop.time() - self._began
            seen.status, seen.spent = self._spent.status, self._spent
            seen.finish_reason = self._reason
            for watcher in self._desk.watchers:
                told(watcher.ended, seen)

    # --- bytes ------------------------------------------------------------------------------------------------------

    def _send(self, data: bytes, last: bool = False) -> None:
        """Send a piece of a stream, with the head before the first."""
        chunked = self._exchange.version == "1.1"
        if chunked:
            data = b"%x\r\n%s\r\n%s" % (len(data), data, b"0\r\n\r\n" if last else b"")
        if not self._headed:
            self._headed = True
            framing = b"transfer-encoding: chunked\r\n" if chunked else b""
            head = self._head_of(200, b"text/event-stream; charset=utf-8")
            data = b"%scache-control: no-cache\r\nx-accel-buffering: no\r\n%s\r\n%s" % (head, framing, data)
        self._exchange.write(data)

    def _head_of(self, status: int, kind: bytes) -> bytes:
        exchange = self._exchange
        id = self._spent.id if self._spent else new_id()
        return (
            b"%s%scontent-type: %s\r\nx-request-id: %s\r\nopenai-processing-ms: %d\r\n"
            b"openai-version: 2020-10-01\r\nx-content-type-options: nosniff\r\n%s%s"
            % (
                status_line(status),
                exchange.date,
                kind,
                id.encode(),
                (self._desk.loop.time() - self._began) * 1000,
                self._permit.headers if self._permit else b"",
                b"" if exchange.keep_alive else b"connection: close\r\n",
            )
        )

    def _say(self, refusal: Refusal) -> None:
        """Send a refusal as the whole answer."""
        body = refusal.body()
        if ("connection", "close") in refusal.headers:
            self._exchange.keep_alive = False
        named = "".join(f"{n}: {v}\r\n" for n, v in refusal.headers if n != "connection").encode()
        head = self._head_of(refusal.status, b"application/json")
        self._exchange.write(b"%s%scontent-length: %d\r\n\r\n%s" % (head, named, len(body), body))

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse a request that was not begun."""
        self._say(refusal)
        self._close()
        self._exchange.finish()

    def _hand_over(self) -> None:
        """Let the application answer."""
        pieces, self._pieces = self._pieces, []
        self._close()
        exchange = self._exchange
        exchange.deadline = None
        exchange.answerer = other = self._desk.otherwise(exchange)
        for piece in pieces:
            other.body(piece)
        if exchange.received:
            other.ended()

    def _watch(self, spent: Spent) -> None:
        if self._desk.watchers:
            told_by = next((value for name, value in self._exchange.headers if name == b"traceparent"), b"")
            self._seen = Seen(spent, time.time(), told_by.decode("latin-1"))
            for watcher in self._desk.watchers:
                told(watcher.began, self._seen)
