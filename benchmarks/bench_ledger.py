"""How fast does the ledger take in a journal, sum it up, and add up a customer's month, and in how much memory?

    uv run python benchmarks/bench_ledger.py [--records 10000000] [--work FOLDER] [--database URL] [--dry]

A journal of requests is written as the meter writes it (entries of 40 projects, 5 models and 200 keys, spread over 90
days), then each question is asked in a process of its own, whose largest resident memory is its own too:

    ingest     the journal into an empty ledger, every entry checked, in rows per second
    again      the same journal once more: nothing is new
    roll-up    tokens, joules and money of everything, by project and model
    month      one project's 30 days by key, model and price
    invoice    the invoice of that project for March, its lines by model, kind of token and price, summing to the ledger

Ids begin with the time, as a gateway's do. The ledger is in SQLite, or in an empty Postgres that `--database` names.
Beside it, in the same run and with the same journal:

    insert     500,000 records as plain rows with their JSON, by INSERT into the same database, checking nothing
    convert    DuckDB, on one thread, reads the journal into a Parquet file, checking nothing
    group      DuckDB sums that file up by project and model; its sums are those of roll-up

A record takes about 1 kB in the journal and a fifth of it in the ledger: 10 million need some 15 GB of disk. What was
written to the disk is as the kernel counts it for the process, and as a Postgres (14 to 16) counts it for itself.
One line is appended to `results/ledger.jsonl`; it says how many records there were.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bessemer.core.digest import canonical_json
from bessemer.core.nouns import Boundary, Carbon, EnergyClass, Entry, Measurement, Subject, Usage
from bessemer.core.units import Money
from bessemer.core.usage import UsageQuery
from bessemer.meter import Journal, Ledger, PriceBook, load_price_book, load_price_history
from bessemer.meter.processor import read_processor
from bessemer.products.booked import BookedUsage
from bessemer.products.home import Home
from bessemer.products.invoices import InvoiceBook

HERE = Path(__file__).parent
BEGAN, DAYS, PROJECTS, MODELS, KEYS = 1_767_225_600.0, 90, 40, 5, 200
BATCH = 1000
DATABASE = "BENCH_LEDGER_DATABASE"
"""Variable of the environment by which the processes that ask know the database."""

MIX = 0x9E3779B97F4A7C15F39D
"""Odd, so that multiples of it are all different below 2**80, and in no order."""


def entry(number: int, records: int, draws: random.Random, prices: PriceBook) -> Entry:
    """Return a request; their times rise evenly, as a busy gateway's do."""
    usage = Usage(input_tokens=draws.randint(20, 4000), output_tokens=draws.randint(1, 800))
    joules = usage.total_tokens * 0.003
    project = draws.randrange(PROJECTS)
    subject = Subject(
        kind="request",
        id=f"req_{number:024d}",
        project=f"project-{project}",
        key_id=f"key_{project * (KEYS // PROJECTS) + draws.randrange(KEYS // PROJECTS)}",
        model=f"model-{draws.randrange(MODELS)}",
    )
    grams = joules / 3.6e6 * 481
    return Entry(
        id=f"request:{subject.id}",
        subject=subject,
        started_at=BEGAN + DAYS * 86_400 * number / records,
        status="ok",
        usage=usage,
        measurement=Measurement(
            seconds=round(usage.output_tokens * 0.01, 6),
            joules=round(joules, 6),
            joules_low=round(joules / 2, 6),
            joules_high=round(joules * 2, 6),
            energy_class=EnergyClass.MODELLED,
            boundary=Boundary.HOST,
            source="made up for the benchmark",
        ),
        carbon=Carbon(
            grams=grams, grams_low=grams / 2, grams_high=grams * 2, grid="world", grams_per_kilowatt_hour=481,
            source="made up for the benchmark",
        ),
        energy_cost=Money(micros=round(joules / 3.6e6 * 120_000)),
        charge=prices.charge_request(usage, subject),
        price_version=prices.stamp() + " default",
    )  # fmt: skip


def write(folder: Path, records: int) -> int:
    """Write the journal; 5,000 different entries, each with an id and a time of its own in every use."""
    draws, journal = random.Random(20), Journal(folder / "journal", "interval")
    prices = load_price_book()
    forms = []
    for number in range(min(records, 5000)):
        made = entry(number, records, draws, prices)
        body = made.model_dump(mode="json") | {"id": "\0id", "started_at": "\0at"}
        body["subject"] |= {"id": "\0subject"}
        forms.append(canonical_json(body).replace("%", "%%"))
    marks = (
        ('"\\u0000id"', '"request:req_%(id)032x"'),
        ('"\\u0000at"', "%(at).6f"),
        ('"\\u0000subject"', '"req_%(id)032x"'),
    )
    for old, new in marks:
        forms = [form.replace(old, new) for form in forms]
    for start in range(0, records, BATCH):
        times = [(n, BEGAN + DAYS * 86_400 * n / records) for n in range(start, min(records, start + BATCH))]
        journal.append_many(
            [
                forms[n * 7919 % len(forms)] % {"id": (int(at * 1000) << 80) | n * MIX % 2**80, "at": at}
                for n, at in times
            ]
        )
    journal.close()
    return records


def _ledger(folder: Path) -> Ledger:
    return Ledger(os.environ.get(DATABASE) or folder / "ledger.sqlite", folder / "journal")


def ingest(folder: Path, records: int) -> int:
    """Take the journal in."""
    ledger = _ledger(folder)
    report = ledger.sync()
    ledger.close()
    assert (report.added, report.repeated) == (records, 0), report
    return records


def again(folder: Path, records: int) -> int:
    """Sync a second time."""
    ledger = _ledger(folder)
    assert ledger.sync().added == 0
    ledger.close()
    return records


def roll_up(folder: Path, records: int) -> int:
    """Sum up everything, and note the sums for whoever sums up the same."""
    ledger = _ledger(folder)
    totals = ledger.totals(("project", "model"), kind="request")
    ledger.close()
    assert sum(total.entries for total in totals) == records
    told = [
        [*t.group.values(), t.entries, t.usage.input_tokens, t.usage.output_tokens, t.microjoules, t.charge.micros]
        for t in totals
    ]
    (folder / "totals.json").write_text(json.dumps(sorted(told)))
    return records


def month(folder: Path, records: int) -> int:
    """Add up a customer's month; return how many entries it has."""
    ledger, start = _ledger(folder), int(BEGAN) + (DAYS - 30) * 86_400
    wanted = UsageQuery(
        start=start,
        end=start + 30 * 86_400,
        projects=("project-7",),
        group_by=("key_id", "model", "service_tier", "batch", "price_version"),
    )
    rows = ledger.usage(wanted)
    ledger.close()
    found = sum(row.entries for row in rows)
    assert 0 < found < records
    return found


def invoice(folder: Path, records: int) -> int:
    """Draw a customer's invoice for a month; return how many requests it bills."""
    ledger, year = _ledger(folder), BEGAN + 365 * 86_400
    book = InvoiceBook(Home(folder), BookedUsage(ledger, load_price_history()), "works", lambda: year)
    drawn = book.draw("project-7", "2026-03")
    ledger.close()
    assert sum(line.amount_micros for line in drawn.lines) == drawn.amount_micros > 0
    assert 0 < drawn.requests < records
    return drawn.requests


def _written() -> int:
    """Return how many bytes this process had the disk write, and a Postgres (14 to 16): its log and its pages."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    found = int(told["write_bytes"])
    if url := os.environ.get(DATABASE):
        import psycopg  # not in the memory of who asks SQLite

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            asked = (
                "SELECT wal_bytes + (buffers_checkpoint + buffers_clean + buffers_backend)"
                " * current_setting('block_size')::int FROM pg_stat_wal, pg_stat_bgwriter"
            )
            found += int(connection.execute(asked).fetchall()[0][0])
    return found


def _peak() -> int:
    """Return this process's largest resident memory in bytes; what `getrusage` says is its parent's if that is more."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def timed(question: Callable[[Path, int], int], folder: Path, records: int) -> dict[str, float]:
    """Ask a question; return its rows, seconds, bytes, and the process's largest resident memory."""
    before = _written()
    began, cpu = time.perf_counter(), time.process_time()
    rows = question(folder, records)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "rows": rows,
        "seconds": round(seconds, 4),
        "cpu_seconds": round(cpu, 4),
        "rows_per_second": round(rows / seconds),
        "peak_memory_bytes": _peak(),
        "written_bytes": _written() - before,
    }


def _sizes(folder: Path) -> dict[str, int]:
    """Return how many bytes journal and ledger have."""
    sizes = {
        what: sum(file.stat().st_size for file in folder.glob(names))
        for what, names in (("journal", "journal/*"), ("ledger", "ledger.sqlite*"))
    }
    if url := os.environ.get(DATABASE):
        import psycopg

        with psycopg.connect(url) as connection:
            asked = "SELECT SUM(pg_total_relation_size(oid)) FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'"
            sizes["ledger"] = int(
                connection.execute(asked, (["entries", "forms", "sums", "segments"],)).fetchall()[0][0]
            )
    return sizes


def _ratio(lines: Mapping[str, Any], ours: str, theirs: str, what: str) -> float:
    return round(lines[ours][what] / lines[theirs][what], 2)


def _pace(line: Mapping[str, float]) -> str:
    return f"{line['rows_per_second']:,} ({line['rows'] / line['cpu_seconds']:,.0f})"


def table() -> str:
    """Return the newest result of each database as a table in Markdown."""
    results = [json.loads(line) for line in (HERE / "results" / "ledger.jsonl").read_text("utf-8").splitlines()]
    newest = {found["database"]: found for found in results if "ratios" in found}
    ours = [newest[name] for name in ("sqlite", "postgres") if name in newest]
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("requests", lambda r: f"{r['records']:,}"),
        ("taken in, a second (of our processor time)", lambda r: _pace(r["lines"]["ingest"])),
        ("plain INSERT of 500,000 of them, unchecked", lambda r: _pace(r["lines"]["insert"])),
        ("memory while taken in, at most", lambda r: f"{r['lines']['ingest']['peak_memory_bytes'] / 1e6:.0f} MB"),
        ("on disk, a request", lambda r: f"{r['bytes_per_record']['ledger']} bytes"),
        ("written to the disk while taken in", lambda r: f"{r['lines']['ingest']['written_bytes'] / 1e9:.1f} GB"),
        ("sums of all by project and model", lambda r: f"{r['lines']['roll_up']['seconds']:.2f} s"),
        ("… by DuckDB from Parquet, one thread", lambda r: f"{r['lines']['group']['seconds']:.2f} s"),
        ("a customer's month by key and model", lambda r: f"{r['lines']['month']['seconds']:.2f} s"),
        ("their invoice", lambda r: f"{r['lines']['invoice']['seconds']:.2f} s"),
        ("memory of the invoice, at most", lambda r: f"{r['lines']['invoice']['peak_memory_bytes'] / 1e6:.0f} MB"),
    ]
    names = {"sqlite": "SQLite", "postgres": "Postgres"}
    lines = [("", *(names[found["database"]] for found in ours)), ("---", *["--:"] * len(ours))]
    lines += [(name, *(told(found) for found in ours)) for name, told in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--work", type=Path, help="an empty folder on a disk with room; a temporary one unless given")
    parser.add_argument("--database", default="", help="URL of an empty Postgres; SQLite unless given")
    parser.add_argument("--note", default="", help="what else to say of the machine, for example that others used it")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    parser.add_argument("--markdown", action="store_true", help="only show the newest results that were kept")
    options = parser.parse_args()
    if options.markdown:
        print(table())
        return
    os.environ[DATABASE] = options.database
    from peer_ledger import convert, group, insert  # not in the memory of our own processes

    lines: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder = Path(name)
        for asked in (write, ingest, again, roll_up, month, invoice, insert, convert, group):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                line = lines[asked.__name__] = process.submit(timed, asked, folder, options.records).result()
            print(asked.__name__, json.dumps(line), flush=True)
            if asked is ingest:
                sizes = _sizes(folder)
    result = {
        "question": "ledger",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "duckdb": version("duckdb"),
            "psycopg": version("psycopg"),
        },
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {read_processor().name}",
        "load_average": os.getloadavg(),
        "database": "postgres" if options.database else "sqlite",
        "records": options.records,
        "bytes_per_record": {what: round(size / options.records) for what, size in sizes.items()},
        "note": options.note,
        "lines": lines,
        "ratios": {
            "rows_per_second_to_insert": _ratio(lines, "ingest", "insert", "rows_per_second"),
            "rows_per_second_to_convert": _ratio(lines, "ingest", "convert", "rows_per_second"),
            "seconds_of_group_to_roll_up": _ratio(lines, "group", "roll_up", "seconds"),
        },
    }
    print(json.dumps(result["ratios"]))
    print(json.dumps(result["bytes_per_record"]))
    if not options.dry:
        (HERE / "results").mkdir(exist_ok=True)
        with (HERE / "results" / "ledger.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
