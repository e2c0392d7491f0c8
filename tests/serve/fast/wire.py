"""A server that speaks OpenAI's chat completions as bytes on a socket, as the last message tells it to.

    python wire.py PORT          serves until killed; for tests and benchmarks that need it in a process of its own

Words of the last message: ``tokens=N`` how many, ``pause=S`` seconds between them, ``die=N`` close after that many,
``nousage``, ``status=S``, ``body=…`` with it; ``tag=…`` counts its streamed tokens, and ``told`` answers with all such
counts. Each answer's usage is 7 input tokens and one output token a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

USAGE = {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}


class Wire:
    """The server; what it was asked and how many of its clients went away is kept."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.left = 0
        self.sent = 0
        self.tags: dict[str, int] = {}
        self.port = 0

    async def serve(self, port: int = 0) -> asyncio.Server:
        server = await asyncio.start_server(self._client, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.heads.append(head)
                self.bodies.append(body)
                self.requests.append(json.loads(body))
                gone = asyncio.create_task(reader.read(1))
                answer = asyncio.create_task(self._answer(self.requests[-1], writer))
                await asyncio.wait((gone, answer), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    answer.cancel()
                    self.left += 1
                    gone.exception()  # was killed: nobody else asks how it ended
                    break
                gone.cancel()
                if not answer.result():
                    break
                with contextlib.suppress(asyncio.CancelledError):
                    await gone
        writer.close()

    async def _answer(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        words = dict(each.partition("=")[::2] for each in asked["messages"][-1]["content"].split())
        count = min(int(words.get("tokens", 3)), asked.get("max_tokens", 10**9))
        pause, die = float(words.get("pause", 0)), int(words.get("die", -1))
        usage = {**USAGE, "completion_tokens": count, "total_tokens": 7 + count}
        told = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
        if "status" in words or "told" in words:
            answer = json.dumps(self.tags).encode() if "told" in words else words.get("body", "{}").encode()
            writer.write(
                b"HTTP/1.1 %s x\r\nretry-after: %b\r\ncontent-length: %d\r\n\r\n%s"
                % (words.get("status", "200").encode(), words.get("after", "7").encode(), len(answer), answer)
            )
            await writer.drain()
            return True
        if not asked.get("stream"):
            await asyncio.sleep(pause * count)
            text = " ".join(str(n) for n in range(count))
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            whole = {**told, "object": "chat.completion", "choices": [choice]}
            if "nousage" not in words:
                whole["usage"] = usage
            data = json.dumps(whole, separators=(",", ":")).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data)
            if die >= 0:
                writer.write(head + data[: len(data) // 2])
                return False
            writer.write(head + data)
            await writer.drain()
            return True
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(count):
            if number == die:
                return False
            if tag := words.get("tag"):
                self.tags[tag] = number + 1
            await self._event(writer, told, {"content": f"{number} "}, None)
            self.sent += 1
            await asyncio.sleep(pause)
        if die >= count:
            return False
        await self._event(writer, told, {}, "stop")
        if (asked.get("stream_options") or {}).get("include_usage") and "nousage" not in words:
            _chunk(writer, {**told, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        data = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
        await writer.drain()
        return True

    async def _event(self, writer: asyncio.StreamWriter, told: Any, delta: Any, reason: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        _chunk(writer, {**told, "object": "chat.completion.chunk", "choices": [choice]})
        await writer.drain()


def _chunk(writer: asyncio.StreamWriter, chunk: dict[str, Any]) -> None:
    data = b"data: %s\n\n" % json.dumps(chunk, separators=(",", ":")).encode()
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


@contextmanager
def wire_in_thread() -> Iterator[Wire]:
    """Serve in a thread within a block."""
    wire, ready, loop = Wire(), threading.Event(), asyncio.new_event_loop()

    def run() -> None:
        server = loop.run_until_complete(wire.serve())
        ready.set()
        loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        yield wire
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _main(port: int) -> None:
    wire = Wire()
    server = await wire.serve(port)
    sys.stdout.write(f"{wire.port}\n")
    sys.stdout.flush()
    wire.requests = wire.heads = wire.bodies = _Nothing()  # type: ignore[assignment]
    await server.serve_forever()


class _Nothing(list):  # type: ignore[type-arg]
    """Keeps the last only: this process lives long."""

    def append(self, item: Any) -> None:
        self[:] = [item]


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
