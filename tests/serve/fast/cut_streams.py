"""Long streams of every endpoint, for a gateway that is killed in their middle; and what their entries must say then.

What a client received bounds its bill from below, what the engine counted itself from above. Engines count by the tag
that each request has: the server tells its counts, the gateway's own engine writes a byte for each token to a file.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.nouns import Entry

from .purses import refused

TOKENS = 300
CHAT = "chat/completions"
_WORD = {CHAT: "content", "completions": "text", "responses": "delta", "messages": "text"}
"""The field that has a word of the answer in the events of an endpoint, and no other; no word has a quotation mark."""

COUNTING = """
class Counting(EchoEngine):
    async def stream(self, request):
        told = request.messages[-1].content if isinstance(request, ChatRequest) else request.text
        with (folder / "counts" / told.split()[0].removeprefix("tag=")).open("ab", buffering=0) as file:
            async for piece in super().stream(request):
                if piece.text:
                    file.write(b".")
                yield piece
"""


@dataclass
class Stream:
    """One that a client began to read: `pieces` of the answer had come by the end."""

    id: str
    tag: str
    model: str
    path: str
    pieces: int = 0
    whole: bool = False


class StreamClients:
    """Ask for long streams without end, of each endpoint and of both ways, until the gateway is gone."""

    def __init__(self, port: int, secret: str, chance: random.Random) -> None:
        self._port, self._secret, self._chance = port, secret, chance
        self.streams: list[Stream] = []
        self.refused: list[str] = []

    async def ask_forever(self) -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await self._ask(reader, writer)
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chance = self._chance
        tag, model = f"{chance.getrandbits(64):x}", chance.choice(["theirs", "own"])
        path = chance.choice([*_WORD, CHAT, CHAT])
        path = CHAT if path == "completions" and model == "theirs" else path  # its server has none
        count = chance.randrange(TOKENS // 2, TOKENS)
        content = f"tag={tag} tokens={count} pause={chance.choice([0, 0.001, 0.004])}"
        content += " word" * (count - 3) if model == "own" else ""
        body = json.dumps({"model": model, "stream": True, **_asked(path, content)})
        writer.write(
            f"POST /v1/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._secret}\r\n"
            f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.strip().lower().split("\r\n")[1:])
        if head.startswith("HTTP/1.1 429"):
            self.refused.append(await refused(reader, fields))
            return
        assert head.startswith("HTTP/1.1 200"), head
        stream = Stream(fields["x-request-id"], tag, model, path)
        self.streams.append(stream)
        word = re.compile(rb'"%s": ?"[^"]' % _WORD[path].encode())
        async for line in reader:
            stream.pieces += len(word.findall(line))
            if line.startswith((b"data: [DONE]", b"event: message_stop", b"event: response.completed")):
                stream.whole = True
                return


def _asked(path: str, content: str) -> dict[str, object]:
    if path == "completions":
        return {"prompt": content, "max_tokens": TOKENS}
    if path == "responses":
        return {"input": content, "max_output_tokens": TOKENS}
    return {"messages": [{"role": "user", "content": content}], "max_tokens": TOKENS}


def counts_of(folder: Path, server: Mapping[str, int]) -> dict[str, int]:
    """Return what the engines counted, by tag; the gateways' own engines wrote into `counts`."""
    return {**server, **{path.name: path.stat().st_size for path in (folder / "counts").iterdir()}}


def misjudged(streams: Iterable[Stream], entries: Mapping[str, Entry], counts: Mapping[str, int]) -> list[str]:
    """Return what is wrong with the entries of streams, in words."""
    found = []
    for stream in streams:
        entry = entries.get(stream.id)
        if entry is None:
            found.append(f"{stream} has no entry")
            continue
        written, most = entry.usage.output_tokens, counts[stream.tag]
        if entry.status not in ("ok", "broken") or (stream.whole and entry.status != "ok"):
            found.append(f"{stream} ended as {entry.status}")
        if not stream.pieces <= written <= most or not written or not entry.usage.input_tokens:
            found.append(f"{stream}: {entry.usage} of {most}")
    return found
