"""The other processes of `bench_gateway.py`: the trivial upstream, the load, and our gateway as it is deployed.

    python benchmarks/gateway_pieces.py upstream --core 1
    python benchmarks/gateway_pieces.py load --port 8001 --connections 32 --seconds 5
    python benchmarks/gateway_pieces.py streams --port 8001 --connections 512 --tokens 500
    python benchmarks/gateway_pieces.py gateway --upstream 9000 --folder /tmp/x

Each tells one line of JSON on its standard output: what it measured, or where it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import uvloop

TOKENS_PER_SECOND = 100
_CHOICE = '"index":0,"logprobs":null,'
WHOLE = (
    '{"id":"chatcmpl-0","object":"chat.completion","created":1,"model":"m","choices":[{'
    + _CHOICE
    + '"message":{"role":"assistant","content":"Hello there, how can I help you today?"},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":20,"completion_tokens":10,"total_tokens":30}}'
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(WHOLE), WHOLE)


def event(delta: str, reason: str, rest: str = "") -> bytes:
    choice = "{" + _CHOICE + f'"delta":{delta},"finish_reason":{reason}' + "}"
    choices = f"[{choice}]" if delta else "[]"
    told = '"id":"chatcmpl-0","object":"chat.completion.chunk","created":1,"model":"m"'
    return chunk(f'data: {{{told},"choices":{choices}{rest}}}\n\n'.encode())


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = event('{"content":" word"}', "null")
USAGE = ',"usage":{"prompt_tokens":20,"completion_tokens":%d,"total_tokens":%d}'


class Upstream(asyncio.Protocol):
    """Answers at once; a stream sends `max_tokens` tokens, 100 a second."""

    streams: ClassVar[set[Upstream]] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer = transport, b""

    def connection_lost(self, exc: Exception | None) -> None:
        self.streams.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        at = head.lower().find(b"content-length:")
        if not found or (at >= 0 and len(body) < int(head[at + 15 :].split(b"\r\n", 1)[0])):
            return
        self.buffer = b""
        if b'"stream":true' in body:
            self.left = self.all = json.loads(body)["max_tokens"]
            self.transport.write(HEAD)
            self.streams.add(self)
        else:
            self.transport.write(ANSWER)

    @classmethod
    def tick(cls, loop: asyncio.AbstractEventLoop, at: float) -> None:
        """Send the tokens that are due; one in ten of the streams at each thousandth of a second."""
        for stream in [each for each in cls.streams if id(each) // 64 % 10 == round(at * 1000) % 10]:
            if stream.left > 0:
                stream.left -= 1
                stream.transport.write(TOKEN)
                continue
            cls.streams.discard(stream)
            told = USAGE % (stream.all, 20 + stream.all)
            done = chunk(b"data: [DONE]\n\n")
            stream.transport.write(event("{}", '"stop"') + event("", "", told) + done + b"0\r\n\r\n")
        at += 1 / (10 * TOKENS_PER_SECOND)
        loop.call_at(at, cls.tick, loop, at)


async def upstream(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0)
    Upstream.tick(loop, loop.time())
    tell({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


class Client(asyncio.Protocol):
    """Asks again as soon as it is answered."""

    def __init__(self, request: bytes, until: float, times: list[float]) -> None:
        self.request, self.until, self.times = request, until, times
        self.done = asyncio.get_running_loop().create_future()
        self.left = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.left:
            head, _, body = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"not answered: {data[:400]!r}")
            at = head.lower().find(b"content-length:")
            self.left = int(head[at + 15 :].split(b"\r\n", 1)[0])
            data = body
        self.left -= len(data)
        if self.left <= 0:
            self.left = 0
            now = time.perf_counter()
            self.times.append(now - self.began)
            if now < self.until:
                self.ask()
            else:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def load(options: argparse.Namespace) -> None:
    loop, times = asyncio.get_running_loop(), list[float]()
    began = time.perf_counter()
    request = asked(options, False)
    made = [
        await loop.create_connection(lambda: Client(request, began + options.seconds, times), "127.0.0.1", options.port)
        for _ in range(options.connections)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    seconds = time.perf_counter() - began
    times.sort()
    tell(
        {
            "requests": len(times),
            "requests_per_second": round(len(times) / seconds, 1),
            "p50_ms": round(1e3 * times[len(times) // 2], 4),
            "p99_ms": round(1e3 * times[len(times) * 99 // 100], 4),
        }
    )


class Reader(asyncio.Protocol):
    """Reads one stream to its end."""

    def __init__(self, request: bytes) -> None:
        self.request, self.events, self.whole = request, 0, False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b'"content":" word"')
        if data.endswith(b"0\r\n\r\n"):
            self.whole = True
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)


async def streams(options: argparse.Namespace) -> None:
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    request = asked(options, True)
    made = [
        await loop.create_connection(lambda: Reader(request), "127.0.0.1", options.port)
        for _ in range(options.connections)
    ]
    await asyncio.gather(*(reader.done for _, reader in made))
    seconds = time.perf_counter() - began
    events = sum(reader.events for _, reader in made)
    tell(
        {
            "streams": options.connections,
            "whole": sum(reader.whole for _, reader in made),
            "tokens": events,
            "seconds": round(seconds, 3),
            "tokens_per_second_and_stream": round(events / options.connections / seconds, 2),
        }
    )


def asked(options: argparse.Namespace, stream: bool) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello! " * 20}], "max_tokens": options.tokens}
    data = json.dumps(body | ({"stream": True} if stream else {}), separators=(",", ":")).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {options.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode() + data


def gateway(options: argparse.Namespace) -> None:
    from bessemer.core.nouns import Subject
    from bessemer.core.units import Money
    from bessemer.infer import UpstreamConfig, open_engine
    from bessemer.meter import MeterConfig, open_meter
    from bessemer.products.limiting import TEMPLATE_TOKENS, worst_tariff
    from bessemer.serve import Gate, GatewayConfig, GatewayParts, Tariff, Worker, create_app, open_accounts, run_gateway

    folder = Path(options.folder)
    accounts = open_accounts(folder / "keys.sqlite")
    _, secret = accounts.keys.create("benchmark")
    if options.limited:  # a minute of 100,000 requests a second, and the money for them
        accounts.rates.set("project", "benchmark", requests=6_000_000, tokens=6_000_000_000)
        accounts.budgets.set("project", "benchmark", "month", Money(micros=10**12))
    config = GatewayConfig(port=0, max_concurrent_requests=4096, grace_seconds=0)
    engine = open_engine(
        UpstreamConfig(base_url=f"http://127.0.0.1:{options.upstream}/v1", model="m", max_streams=4096)
    )
    with open_meter(MeterConfig(durability=options.durability), folder / "books") as meter:

        def pricing(subject: Subject) -> Tariff:
            now = time.time()
            return worst_tariff([meter.price_history.at(now)], subject, TEMPLATE_TOKENS, now + 60)

        gate = Gate(accounts.database, pricing, Worker(folder / "workers"), lambda requests: {})
        app = create_app(config, {"m": engine}, accounts.keys, meter, GatewayParts(gate=gate))
        run_gateway(app, config, lambda url: tell({"port": int(url.rsplit(":", 1)[1]), "key": secret}))
        gate.close()
    accounts.close()


def tell(said: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=["upstream", "load", "streams", "gateway"])
    parser.add_argument("--core", type=int)
    parser.add_argument("--port", type=int)
    parser.add_argument("--key", default="none")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--upstream", type=int)
    parser.add_argument("--folder")
    parser.add_argument("--durability", default="interval")
    parser.add_argument("--limited", action="store_true", help="under limits of requests and tokens, and a budget")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    if options.piece == "gateway":
        gateway(options)
    else:
        uvloop.run({"upstream": upstream, "load": load, "streams": streams}[options.piece](options))


if __name__ == "__main__":
    main()
