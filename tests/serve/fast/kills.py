"""Kill a gateway under load again and again, and count what its books lost or doubled; for the test and the benchmark.

A real gateway before a real server, under load from clients that note the id of each answer when its last byte came.
It serves a model of that server (the short way) and one of its own (through the application); both are asked, whole
and streamed. It is killed at random, started anew on the same books, and so on; then the books are read.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.nouns import Entry
from bessemer.meter import MeterConfig, mispriced, open_ledger, open_meter, verify
from bessemer.serve import KeyStore

CLIENTS = 12
WIRE = Path(__file__).with_name("wire.py")

GATEWAY = """
import sys
from pathlib import Path
from bessemer.infer import EchoConfig, UpstreamConfig, open_engine
from bessemer.meter import MeterConfig, open_meter
from bessemer.serve import GatewayConfig, KeyStore, create_app, run_gateway

folder, url, durability = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
meter = open_meter(MeterConfig(durability=durability), folder / "books")
config = GatewayConfig(port=0, max_concurrent_requests=1000)
engines = {
    "theirs": open_engine(UpstreamConfig(base_url=url, model="theirs")),
    "own": open_engine(EchoConfig(token_seconds=0.0005)),
}
app = create_app(config, engines, KeyStore(folder / "keys.sqlite"), meter)
run_gateway(app, config, lambda url: sys.stdout.write(url + "\\n") and sys.stdout.flush())
"""


@dataclass(frozen=True, slots=True)
class Killed:
    """What came of it; the first three say how much was tried, the others must be none.

    Attributes:
        kills: of the gateway.
        answers: whose last byte reached its client.
        records: in the journal.
        lost: answers without a record.
        doubled: answers with several entries, and records beyond the ledger's entries.
        miscounted: answers whose entry says other tokens than came.
        mispriced: entries whose charge is not quantity times price.
        repeated: entries that reading the journal again added.
    """

    kills: int
    answers: int
    records: int
    lost: int
    doubled: int
    miscounted: int
    mispriced: int
    repeated: int

    @property
    def wrong(self) -> dict[str, int]:
        """Return what must be none and is not."""
        names = ("lost", "doubled", "miscounted", "mispriced", "repeated")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


class _Clients:
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
        model, content = "own", " ".join("abcdefgh"[:count])
        if self._chance.random() < 2 / 3:
            model, content = "theirs", f"tokens={count} pause={self._chance.choice([0, 0, 0.001])}"
        body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]})
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._secret}\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200"), head
        fields = dict(line.split(": ", 1) for line in head.strip().lower().split("\r\n")[1:])
        if stream:
            told = await reader.readuntil(b"\r\n0\r\n\r\n")
            assert b"data: [DONE]\n\n" in told, told
        else:
            assert json.loads(await reader.readexactly(int(fields["content-length"])))["usage"]
        self.got.append((fields["x-request-id"], count))


def _start(folder: Path, url: str, durability: str) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-c", GATEWAY, str(folder), url, durability]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, int(process.stdout.readline().rsplit(":", 1)[1])


async def _until_killed(
    port: int, secret: str, process: subprocess.Popen[str], chance: random.Random
) -> list[tuple[str, int]]:
    clients = _Clients(port, secret, chance)
    tasks = [asyncio.create_task(clients.ask_forever()) for _ in range(CLIENTS)]
    deadline = time.monotonic() + 20
    while not clients.got and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    await asyncio.sleep(chance.uniform(0.0, 0.2))
    process.kill()
    for done in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(done, (ConnectionError, asyncio.IncompleteReadError)), done
    return clients.got


def kill_often(folder: Path, durability: str, kills: int, seed: str) -> Killed:
    """Kill a gateway so many times, then read its books.

    Args:
        folder: an empty one, for its keys and books.
        durability: of its meter.
        kills: how many; each takes about a second.
        seed: of the moments and of what is asked.
    """
    chance = random.Random(seed)
    keys = KeyStore(folder / "keys.sqlite")
    _, secret = keys.create("tests")
    keys.close()
    got: list[tuple[str, int]] = []
    with subprocess.Popen([sys.executable, str(WIRE), "0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            for _ in range(kills):
                process, port = _start(folder, url, durability)
                got += asyncio.run(_until_killed(port, secret, process, chance))
                process.communicate()
                assert process.returncode == -9
        finally:
            server.kill()
    assert len(got) == len(dict(got)), "every answer has its own id"
    return _read(folder / "books", got, kills)


def _read(books: Path, got: list[tuple[str, int]], kills: int) -> Killed:
    ledger = open_ledger(books)
    entries: list[Entry] = ledger.entries(limit=-1)
    booked = Counter(entry.subject.id for entry in entries)
    tokens = {entry.subject.id: entry.usage.output_tokens for entry in entries if entry.status == "ok"}
    records = verify(books / "journal").records
    with open_meter(MeterConfig(), books) as meter:
        wrong_prices = len(mispriced(entries, meter.prices))
    ledger.sync()
    repeated = len(ledger.entries(limit=-1)) - len(entries)
    ledger.close()
    return Killed(
        kills=kills,
        answers=len(got),
        records=records,
        lost=sum(1 for id, _ in got if not booked[id]),
        doubled=sum(times - 1 for times in booked.values()) + abs(records - len(entries)),
        miscounted=sum(1 for id, count in got if booked[id] and tokens.get(id) != count),
        mispriced=wrong_prices,
        repeated=repeated,
    )
