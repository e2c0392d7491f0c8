"""Kill a gateway under load again and again, and count what its books lost or doubled; for the test and the benchmark.

A real gateway before a real server, under load from clients that note the id of each answer when its last byte came.
It serves a model of that server (the short way) and one of its own (through the application); both are asked, whole
and streamed, and long streams of every endpoint are cut in their middle. It is killed at random, started anew on the
same books, killed again while it books what was cut, and so on; then the books are read, and the accounts: all of it
passes limits and budgets. Several workers share both.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.nouns import Entry
from bessemer.meter import MeterConfig, mispriced, open_ledger, open_meter, verify
from bessemer.products.home import Home

from .cut_streams import COUNTING, Stream, StreamClients, counts_of, misjudged
from .purses import PRICES, Purses, refused

CLIENTS = 6
POOR_CLIENTS = 2
"""Of both kinds: of whole answers and short streams, and of long streams; they come on top of the others."""
AGAIN = 2
"""After every second round the next gateway is killed, too, while it books what was cut and settles what was held."""
WIRE = Path(__file__).with_name("wire.py")

GATEWAY = (
    """
import sys
import time
from pathlib import Path
from bessemer.core.nouns import ChatRequest
from bessemer.infer import EchoConfig, UpstreamConfig, open_engine
from bessemer.infer.echo import EchoEngine
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.home import Home
from bessemer.products.limiting import open_gate
from bessemer.products.llm.config import LlmConfig
from bessemer.serve import GatewayConfig, GatewayParts, create_app, open_accounts, run_gateway
"""
    + COUNTING
    + """
def tell(said):
    sys.stdout.write(said + "\\n")
    sys.stdout.flush()

folder, url, durability = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
home = Home(folder)
meter = open_meter(MeterConfig(durability=durability, price_book=str(folder / "prices.toml")), home.books)
tell("booking what was cut")
meter.book_cut()
accounts = open_accounts(home.accounts)
gate = open_gate(accounts, home, meter.price_history, LlmConfig(), time.time)
config = GatewayConfig(port=0, max_concurrent_requests=1000)
engines = {
    "theirs": open_engine(UpstreamConfig(base_url=url, model="theirs")),
    "own": Counting(EchoConfig(token_seconds=0.0005)),
}
app = create_app(config, engines, accounts.keys, meter, GatewayParts(gate=gate))
run_gateway(app, config, tell)
"""
)


@dataclass(frozen=True, slots=True)
class Killed:
    """What came of it; the first six say how much was tried, the others must be none.

    Attributes:
        kills: of gateways.
        again: of these, while it booked what was cut or settled what was held.
        answers: whose last byte reached its client.
        cut: streams of which a part reached its client.
        records: in the journal.
        refused: requests for which a budget had not enough left.
        lost: answers without a record.
        doubled: answers with several entries, and records beyond the ledger's entries.
        miscounted: answers whose entry says other tokens than came.
        mispriced: entries whose charge is not quantity times price.
        repeated: entries that reading the journal again added.
        misjudged: streams without an entry, or with one for less than came or for more than was generated.
        misspent: budgets of which other than the sum of the charges is spent, more than the limit, or any reserved.
        charged: of those that were refused.
    """

    kills: int
    again: int
    answers: int
    cut: int
    records: int
    refused: int
    lost: int
    doubled: int
    miscounted: int
    mispriced: int
    repeated: int
    misjudged: int
    misspent: int
    charged: int

    @property
    def wrong(self) -> dict[str, int]:
        """Return what must be none and is not."""
        names = ("lost", "doubled", "miscounted", "mispriced", "repeated", "misjudged", "misspent", "charged")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


class _Clients:
    """Ask without end, whole answers and streams, and note what they got to its last byte."""

    def __init__(self, port: int, secret: str, chance: random.Random) -> None:
        self._port, self._secret, self._chance = port, secret, chance
        self.got: list[tuple[str, int]] = []
        self.refused: list[str] = []

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
        messages = [{"role": "user", "content": content}]
        body = json.dumps({"model": model, "stream": stream, "max_tokens": 8, "messages": messages})
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._secret}\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.strip().lower().split("\r\n")[1:])
        if head.startswith("HTTP/1.1 429"):
            self.refused.append(await refused(reader, fields))
            return
        assert head.startswith("HTTP/1.1 200"), head
        if stream:
            told = await reader.readuntil(b"\r\n0\r\n\r\n")
            assert b"data: [DONE]\n\n" in told, told
        else:
            assert json.loads(await reader.readexactly(int(fields["content-length"])))["usage"]
        self.got.append((fields["x-request-id"], count))


@dataclass
class _Got:
    """What clients got of all gateways: answers to their last byte with their tokens, long streams, and refusals."""

    answers: list[tuple[str, int]]
    streams: list[Stream]
    refused: list[str]


def _start(stack: ExitStack, folder: Path, url: str, durability: str) -> subprocess.Popen[str]:
    """Start a gateway that ends with the stack, and return when it begins to book what was cut."""
    command = [sys.executable, "-c", GATEWAY, str(folder), url, durability]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)
    assert process.stdout and process.stdout.readline()
    return process


async def _until_killed(process: subprocess.Popen[str], purses: Purses, chance: random.Random, got: _Got) -> None:
    assert process.stdout
    port = int((await asyncio.to_thread(process.stdout.readline)).rsplit(":", 1)[1])
    rich, poor = _Clients(port, purses.rich, chance), _Clients(port, purses.poor, chance)
    long, poor_long = StreamClients(port, purses.rich, chance), StreamClients(port, purses.poor, chance)
    asking = [rich, long] * CLIENTS + [poor, poor_long] * POOR_CLIENTS
    tasks = [asyncio.create_task(each.ask_forever()) for each in asking]
    deadline, least = time.monotonic() + 20, chance.randrange(1, 20)
    while not (len(rich.got) >= least and long.streams) and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    purses.fill()
    await asyncio.sleep(chance.uniform(0.0, 0.2))
    process.kill()
    for done in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(done, (ConnectionError, asyncio.IncompleteReadError)), done
    assert not (rich.refused or long.refused), "limits let all of it in"
    got.answers += rich.got + poor.got
    got.streams += long.streams + poor_long.streams
    got.refused += poor.refused + poor_long.refused


async def _round(processes: list[subprocess.Popen[str]], purses: Purses, chance: random.Random, got: _Got) -> None:
    await asyncio.gather(*(_until_killed(process, purses, chance, got) for process in processes))


def _buried(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -9


def kill_often(folder: Path, durability: str, kills: int, seed: str, workers: int = 1) -> Killed:
    """Kill gateways so many times, then read their books.

    Args:
        folder: an empty one, for its keys and books.
        durability: of their meters.
        kills: how many; each takes about a second.
        seed: of the moments and of what is asked.
        workers: gateways that run beside each other.
    """
    chance, again, killed, rounds = random.Random(seed), 0, 0, 0
    (folder / "counts").mkdir()
    (folder / "prices.toml").write_text(PRICES)
    got = _Got([], [], [])
    wire = subprocess.Popen([sys.executable, str(WIRE), "0"], stdout=subprocess.PIPE, text=True)
    with wire as server, Purses(Home(folder)) as purses, ExitStack() as stack:
        try:
            assert server.stdout
            port = int(server.stdout.readline())
            url = f"http://127.0.0.1:{port}/v1"
            while killed < kills:
                processes = [_start(stack, folder, url, durability) for _ in range(workers)]
                asyncio.run(_round(processes, purses, chance, got))
                for process in processes:
                    _buried(process)
                killed, rounds = killed + workers, rounds + 1
                if rounds % AGAIN == 0 and killed < kills:
                    process = _start(stack, folder, url, durability)
                    time.sleep(chance.uniform(0.0, chance.choice([0.01, 0.1])))
                    _buried(process)
                    again, killed = again + 1, killed + 1
            told = _told(port)
        finally:
            server.kill()
        assert len(got.answers) == len(dict(got.answers)), "every answer has its own id"
        return _read(folder, purses, got, (killed, again), counts_of(folder, told))


def _told(port: int) -> dict[str, int]:
    """Return what the server counted, by tag."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    asked = json.dumps({"model": "theirs", "messages": [{"role": "user", "content": "told"}]})
    connection.request("POST", "/v1/chat/completions", asked)
    with connection.getresponse() as answer:
        counts: dict[str, int] = json.load(answer)
    connection.close()
    return counts


def _read(folder: Path, purses: Purses, got: _Got, kills: tuple[int, int], counts: Mapping[str, int]) -> Killed:
    books = folder / "books"
    with open_meter(MeterConfig(price_book=str(folder / "prices.toml")), books) as meter:
        meter.book_cut()
        purses.sweep(meter)
        prices = meter.prices
    ledger = open_ledger(books)
    entries: list[Entry] = ledger.entries(limit=-1)
    by_id = {entry.subject.id: entry for entry in entries}
    booked = Counter(entry.subject.id for entry in entries)
    tokens = {id: entry.usage.output_tokens for id, entry in by_id.items() if entry.status == "ok"}
    records = verify(books / "journal").records
    ledger.sync()
    repeated = len(ledger.entries(limit=-1)) - len(entries)
    ledger.close()
    wrong, misspent = misjudged(got.streams, by_id, counts), purses.misspent(entries)
    for each in (*wrong[:5], *misspent):
        sys.stderr.write(f"{each}\n")
    return Killed(
        *kills,
        answers=len(got.answers) + sum(stream.whole for stream in got.streams),
        cut=sum(not stream.whole for stream in got.streams),
        records=records,
        refused=len(got.refused),
        lost=sum(1 for id, _ in got.answers if not booked[id]),
        doubled=sum(times - 1 for times in booked.values()) + abs(records - len(entries)),
        miscounted=sum(1 for id, count in got.answers if booked[id] and tokens.get(id) != count),
        mispriced=len(mispriced(entries, prices)),
        repeated=repeated,
        misjudged=len(wrong),
        misspent=len(misspent),
        charged=sum(1 for id in got.refused if id in by_id and by_id[id].charge.micros),
    )
