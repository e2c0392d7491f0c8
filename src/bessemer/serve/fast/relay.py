"""One request on the short way, from its admission to its last byte.

What is taken here is metered from its admission, sent on at once, and booked before its last byte leaves:

    ended       -> admitted, begun, sent         head, data -> let through, the end held back
    end, whole  -> booked, then the end leaves   gone, late, lost -> the server is cancelled, what was counted is booked

Owns the order of things. Framing, connections, reading, booking and admission have their own modules.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from bessemer.core.forwarding import Spent
from bessemer.core.nouns import EntryStatus
from bessemer.serve.fast.admission import Identity, Permit
from bessemer.serve.fast.desk import Desk, Way
from bessemer.serve.fast.exchange import Exchange
from bessemer.serve.fast.reading import Asked, Tail, count_written, read_answer, read_asked, to_send
from bessemer.serve.fast.telling import event_of, of_server, usage_event, with_usage
from bessemer.serve.ids import new_id
from bessemer.serve.observing import Seen, unwatched
from bessemer.serve.refusals import CLIENT_GONE, SLOW_BODY, TOO_SLOW, Refusal, failed
from bessemer.serve.telling import DONE
from bessemer.serve.traffic import Visit

logger = logging.getLogger("bessemer.serve")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_STREAM = b"text/event-stream; charset=utf-8"


class Relay(Visit):
    """Answers a client (see `Answerer`) and takes its server's answer (see `Taker`)."""

    _way: Way | None = None
    _asked: Asked | None = None
    _spent: Spent | None = None
    _permit: Permit | None = None
    _seen: Seen | None = None
    _tail: Tail | None = None
    _tell: Callable[[], None] | None = None
    _kept: memoryview | None = None
    _reason = ""

    def __init__(self, desk: Desk, exchange: Exchange, who: Identity) -> None:
        self._desk, self._exchange, self._who = desk, exchange, who
        self._began = desk.loop.time()
        self._pieces: list[bytes] = []
        self._size = self._asked_size = self._status = self._written = 0
        self._headed = self._over = self._told = False
        self._kind = self._retry_after = self._answered = b""

    # --- the client -------------------------------------------------------------------------------------------------

    def body(self, data: bytes) -> None:
        """Take a piece of the request."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._desk.config.max_body_bytes:
            self._hand_over()

    def ended(self) -> None:
        """Admit the request and send it on."""
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        asked = read_asked(body)
        way = self._desk.ways.get(asked.model) if asked else None
        try:
            if asked is None or way is None or not self.begin(asked, way, len(body)):
                self._hand_over()
        except Exception as error:  # in here, and not in the parser that calls
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Refuse a request because of a fault of our own."""
        logger.error("a request failed on the short way: %s", type(error).__name__)
        self._refuse(failed("none, it was not begun"))

    def begin(self, asked: Asked, way: Way, size: int) -> bool:
        """Admit a request that was read and send it on, or refuse it; False leaves it to the application."""
        desk, who = self._desk, self._who
        config = desk.config
        output = config.default_output_tokens if asked.output_tokens is None else asked.output_tokens
        spent = Spent(new_id(), who.key.project, who.key.id, asked.model)
        permit = None
        if 0 < output <= config.max_output_tokens:  # else the application says what is wrong
            permit = desk.admission.admit(who, spent, (size, output * asked.choices))
        if permit is None:
            return False
        if isinstance(permit, Refusal):
            self._refuse(permit)
            return True
        self._pieces, self._size, self._asked_size = [], 0, size
        self._asked, self._way, self._spent, self._permit = asked, way, spent, permit
        desk.meter.begin(spent)
        self._exchange.deadline = self._began + config.request_timeout_seconds
        if desk.watchers:
            self._watch(spent)
        if asked.stream:
            self._tail = Tail(asked.choices > 1)
        way.pool.ask(to_send(asked, way.forward, output), self)
        return True

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

    def cancel(self) -> None:
        """Cancel: the gateway stops."""
        self._stop(self.why or CLIENT_GONE)

    def drained(self) -> None:
        """Take more of the answer: the client has read what there was."""
        if self._way:
            self._way.pool.hold(self, False)

    # --- the server -------------------------------------------------------------------------------------------------

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
        if (seen := self._seen) is not None:
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
            assert self._way and self._spent and self._asked
            if self._kept is None:
                likely = self._desk.likely(self._way, self._asked, self._asked_size)
                self._kept = self._desk.meter.keep(self._spent, likely)
            self._kept[0] = self._tail.events  # before they leave: should this process be killed, they are booked
            if self._way.renames:
                out = self._way.named(out)
            self._send(out)
            if self._exchange.connection.congested:
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

    def whole(self, kind: bytes, body: bytes) -> None:
        """Book an answer that came in one piece, then let it leave."""
        self._kind = kind
        if self._tail is not None:
            self.head(200, [(b"content-type", kind)])
            self.data(body)
            self.end()
            return
        if (seen := self._seen) is not None:
            seen.first_token_seconds = seen.last_token_seconds = self._desk.loop.time() - self._began
        self._end_whole(body)

    def lost(self, why: str) -> None:
        """Book what had come, and tell the client that there is no more."""
        assert self._way and self._spent
        self._way.pool.done(self)
        logger.error("request %s failed: the server of '%s': %s", self._spent.id, self._way.name, why)
        self._fail(failed(self._spent.id))

    # --- ends -------------------------------------------------------------------------------------------------------

    def _end_whole(self, body: bytes) -> None:
        assert self._spent and self._way
        usage, self._reason = read_answer(body)
        self._answered = body
        if usage is None:
            logger.error("request %s: the server told no usage; what it took was counted", self._spent.id)
            self._written = count_written(body)
            self._book(None, "broken", self._answer)
        else:
            self._way.learn(self._asked_size, usage, self._desk.loop.time() - self._began)
            self._told = True
            self._book(usage, "ok", self._answer)

    def _answer(self) -> None:
        body = self._answered
        assert self._spent and self._way
        if self._told:
            body = with_usage(body, self._spent)
        if self._way.renames:
            body = self._way.named(body)
        head = self._head_of(200, self._kind or b"application/json")
        self._exchange.connection.write(b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body))

    def _end_stream(self, tail: Tail) -> None:
        assert self._spent and self._way
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
        self._over, self._tell = True, tell
        self._exchange.deadline = None
        self._spent.usage, self._spent.status = usage or self._counted(), status
        self._desk.committer.add(self._spent, self._booked)

    def _booked(self, well: bool) -> None:
        tell, self._tell = self._tell, None
        assert self._spent and tell
        if well:
            tell()
        elif self._headed:
            self._send(event_of(failed(self._spent.id)), last=True)
        else:
            self._say(failed(self._spent.id))
        connection = self._exchange.connection
        if connection.exchange is self._exchange:
            connection.finish()
        self._close()

    def _counted(self) -> tuple[int, int, int]:
        """Return what a request took as far as it can be counted from here: at least one token in and one out."""
        assert self._way and self._asked
        if self._tail is not None:
            if self._tail.usage:
                return self._tail.usage
            output = self._tail.events
        else:
            output = self._written or int((self._desk.loop.time() - self._began) * self._way.tokens_per_second)
        read, most = self._desk.likely(self._way, self._asked, self._asked_size)
        return read, max(1, min(output, most)), 0

    def _close(self) -> None:
        """Give everything back."""
        self._over = True
        desk, spent = self._desk, self._spent
        desk.traffic.leave(self)
        if spent is None:
            return
        if self._permit:
            desk.admission.settle(self._permit, spent)
            self._permit = None
        seen, self._seen = self._seen, None
        if seen:
            seen.seconds = desk.loop.time() - self._began
            seen.status, seen.spent, seen.finish_reason = spent.status, spent, self._reason
            for watcher in desk.watchers:
                try:
                    watcher.ended(seen)
                except Exception as error:  # whoever watches must not break what is watched
                    unwatched(error)

    # --- bytes ------------------------------------------------------------------------------------------------------

    def _send(self, data: bytes, last: bool = False) -> None:
        """Send a piece of a stream, with the head before the first."""
        chunked = self._exchange.version == "1.1"
        if chunked:
            data = b"%x\r\n%s\r\n%s" % (len(data), data, b"0\r\n\r\n" if last else b"")
        if not self._headed:
            self._headed = True
            framing = b"transfer-encoding: chunked\r\n" if chunked else b""
            head = self._head_of(200, _STREAM)
            data = b"%scache-control: no-cache\r\nx-accel-buffering: no\r\n%s\r\n%s" % (head, framing, data)
        self._exchange.connection.write(data)

    def _head_of(self, status: int, kind: bytes) -> bytes:
        exchange, spent, permit = self._exchange, self._spent, self._permit
        begin = status, kind, exchange.connection.server.date
        return b"%sx-request-id: %s\r\nopenai-processing-ms: %d\r\n%s%s" % (
            self._desk.heads.get(begin) or self._desk.head(*begin),
            (spent.id if spent else new_id()).encode(),
            (self._desk.loop.time() - self._began) * 1000,
            permit.headers if permit else b"",
            b"" if exchange.keep_alive else b"connection: close\r\n",
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
        told_by = b""
        for name, value in self._exchange.headers:
            if name == b"traceparent":
                told_by = value
                break
        self._seen = Seen(spent, time.time(), told_by.decode("latin-1"))
        for watcher in self._desk.watchers:
            try:
                watcher.began(self._seen)
            except Exception as error:  # whoever watches must not break what is watched
                unwatched(error)
