"""What `bench_ledger.py` holds the ledger beside: plain rows in the same database, and DuckDB over a Parquet file.

Neither checks what it reads, nor tells an entry that comes twice.
"""

from __future__ import annotations

import json
import os
import sqlite3
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from bessemer.meter.journal import segments

BATCH = 1000
DATABASE = "BENCH_LEDGER_DATABASE"
PLAIN = 500_000
"""Records that are put in as plain rows."""


def insert(folder: Path, records: int) -> int:
    """Put records into a table of the same database as one would without a ledger: a key, an index, and the JSON."""
    url, count = os.environ.get(DATABASE), min(records, PLAIN)
    if url:
        connection: Any = psycopg.connect(url)
    else:
        connection = sqlite3.connect(folder / "plain.sqlite")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TABLE plain (id TEXT PRIMARY KEY, project TEXT, key_id TEXT, model TEXT, started_at DOUBLE PRECISION,"
        " input_tokens BIGINT, output_tokens BIGINT, joules DOUBLE PRECISION, charge_micros BIGINT, body TEXT)"
    )
    cursor.execute("CREATE INDEX plain_project ON plain (project, started_at)")
    sql = f"INSERT INTO plain VALUES ({', '.join(['%s' if url else '?'] * 10)})"
    lines = (line for path in segments(folder / "journal") for line in path.open("rb"))
    for _ in range(0, count, BATCH):
        rows = []
        for line in islice(lines, min(BATCH, count)):
            body = json.loads(line)["body"]
            subject, usage = body["subject"], body["usage"]
            rows.append(
                (body["id"], subject["project"], subject["key_id"], subject["model"], body["started_at"],
                 usage["input_tokens"], usage["output_tokens"], body["measurement"]["joules"],
                 body["charge"]["micros"], json.dumps(body))
            )  # fmt: skip
        cursor.executemany(sql, rows)
        connection.commit()
    connection.close()
    return count


def _duckdb() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1, "memory_limit": "2GB"})


def convert(folder: Path, records: int) -> int:
    """Let DuckDB read the journal into a Parquet file with the columns that are summed."""
    kinds = {
        "id": "VARCHAR",
        "started_at": "DOUBLE",
        "subject": "STRUCT(project VARCHAR, key_id VARCHAR, model VARCHAR)",
        "usage": "STRUCT(input_tokens BIGINT, output_tokens BIGINT)",
        "measurement": "STRUCT(joules DOUBLE)",
        "charge": "STRUCT(micros BIGINT)",
        "price_version": "VARCHAR",
    }
    body = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
    # A body within a record is a struct; its fields that are not named are passed over.
    _duckdb().execute(
        "COPY (SELECT body.id, body.started_at, body.price_version, body.subject.project, body.subject.key_id, "
        "body.subject.model, body.usage.input_tokens, body.usage.output_tokens, "
        "CAST(ROUND(body.measurement.joules * 1e6) AS BIGINT) AS microjoules, body.charge.micros AS charge_micros "
        f"FROM read_json('{folder}/journal/*.jsonl', format = 'newline_delimited', "
        f"columns = {{'body': 'STRUCT({body})'}}))"
        f" TO '{folder}/entries.parquet'"
    )
    return records


def group(folder: Path, records: int) -> int:
    """Let DuckDB sum up that file; the sums are the ledger's."""
    rows = _duckdb().execute(
        "SELECT project, model, COUNT(*), SUM(input_tokens), SUM(output_tokens), SUM(microjoules), SUM(charge_micros)"
        f" FROM '{folder}/entries.parquet' GROUP BY project, model"
    )
    assert sorted([*row[:2], *map(int, row[2:])] for row in rows.fetchall()) == json.loads(
        (folder / "totals.json").read_text()
    )
    return records
