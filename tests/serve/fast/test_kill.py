"""kill -9 at any instant: every answer whose last byte reached its client has exactly one usage record.

A real gateway before a real server, under load from clients that note the id of each answer when its last byte came.
The gateway is killed at random, started anew on the same books, and so on; then the books are read. How many kills is
`BESSEMER_KILLS` (some tens by default; each takes about half a second).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bessemer.meter import MeterConfig, mispriced, open_ledger, open_meter, verify
from bessemer.serve import KeyStore

from . import wire

KILLS = int(os.environ.get("BESSEMER_KILLS", "24"))
CLIENTS = 12

GATEWAY = """
import sys
from pathlib import Path
from bessemer.infer import UpstreamConfig, open_engine
from bessemer.meter import MeterConfig, open_meter
from bessemer.serve import GatewayConfig, KeyStore, create_app, run_gateway

folder, url, durability = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
meter = open_meter(MeterConfig(durability=durability), folder / "books")
config = GatewayConfig(port=0, max_concurrent_requests=1000)
engine = open_engine(UpstreamConfig(base_url=url, model="theirs"))
app = create_app(config, {"served": engine}, KeyStore(folder / "keys.sqlite"), meter)
run_gateway(app, config, lambda url: sys.stdout.write(url + "\\n") and sys.stdout.flush())
"""


class Clients:
    """Ask without end, whole answers and streams, and note what they got to its last byte."""

    def __init__(self, port: int, secret: str, chance: random.Random) -> None:
        self._port, self._secret, self._chance = port, secret, chance
        self.got: list[tuple[str, int]] = []

    async def ask_forever(self) -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                while True:
                    await self._ask(reader, writer)
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count, stream = self._chance.randrange(1, 9), self._chance.random() < 0.5
        content = f"tokens={count} pause={self._chance.choice([0, 0, 0.001])}"
        body = json.dumps({"model": "served", "stream": stream, "messages": [{"role": "user", "content": content}]})
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._secret}\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200"), head
        fields = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
        if stream:
            assert b"data: [DONE]\n\n\r\n0\r\n\r\n" in await reader.readuntil(b"0\r\n\r\n")
        else:
            assert json.loads(await reader.readexactly(int(fields["content-length"])))["usage"]
        self.got.append((fields["x-request-id"], count))


def start(folder: Path, url: str, durability: str) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-c", GATEWAY, str(folder), url, durability]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, int(process.stdout.readline().rsplit(":", 1)[1])


async def until_killed(port: int, secret: str, process: subprocess.Popen[str], chance: random.Random) -> Clients:
    clients = Clients(port, secret, chance)
    tasks = [asyncio.create_task(clients.ask_forever()) for _ in range(CLIENTS)]
    deadline = time.monotonic() + 20
    while not clients.got and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    await asyncio.sleep(chance.uniform(0.0, 0.2))
    process.kill()
    for done in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(done, (ConnectionError, asyncio.IncompleteReadError)), done
    return clients


@pytest.mark.slow
@pytest.mark.parametrize(("durability", "kills"), [("interval", KILLS * 2 // 3), ("fsync", KILLS - KILLS * 2 // 3)])
def test_nothing_lost_and_nothing_doubled(tmp_path: Path, durability: str, kills: int) -> None:
    chance = random.Random(durability)
    keys = KeyStore(tmp_path / "keys.sqlite")
    _, secret = keys.create("tests")
    keys.close()
    command = [sys.executable, wire.__file__, "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            got: list[tuple[str, int]] = []
            for _ in range(kills):
                process, port = start(tmp_path, url, durability)
                got += asyncio.run(until_killed(port, secret, process, chance)).got
                process.communicate()
                assert process.returncode == -9
        finally:
            server.kill()
    _check(tmp_path / "books", got, kills)


def _check(books: Path, got: list[tuple[str, int]], kills: int) -> None:
    assert len(got) == len(dict(got)) > 5 * kills, "every answer has its own id"
    ledger = open_ledger(books)
    entries = ledger.entries(limit=-1)
    booked = Counter(entry.subject.id for entry in entries)
    lost = [id for id, _ in got if not booked[id]]
    assert (lost, [id for id, times in booked.items() if times > 1]) == ([], [])
    tokens = {entry.subject.id: entry.usage.output_tokens for entry in entries if entry.status == "ok"}
    assert [id for id, count in got if tokens[id] != count] == []
    records = verify(books / "journal").records
    assert records == len(entries), "no record twice, not even in the journal"
    with open_meter(MeterConfig(), books) as meter:
        assert mispriced(entries, meter.prices) == []
    ledger.sync()
    assert len(ledger.entries(limit=-1)) == records, "reading the journal again changes nothing"
    ledger.close()
