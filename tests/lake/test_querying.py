"""SQL over tables: it reads them, and whatever else is tried through it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import BessemerError, BudgetExceeded, ConfigError
from bessemer.lake import open_lake
from bessemer.lake.querying import Asked, describe, query
from bessemer.lake.querying_child import answer


@pytest.fixture(scope="module")
def asked(tmp_path_factory: Any) -> Asked:
    folder = tmp_path_factory.mktemp("lake")
    (folder / "secret.csv").write_text("a\nhunter2\n")
    lake = open_lake(str(folder / "lake"))
    lake.put("shop.items", [{"item": f"i{n}", "price": n * 1.5, "left": n} for n in range(50)])
    dataset = lake.open("shop.items")
    assert describe({"items": dataset}) == "items(item string, price double, left int64)"
    return Asked(tables={"items": (dataset.uri, dataset.version)}, rows=10, seconds=1.0)


def test_it_reads(asked: Asked) -> None:
    found = query('SELECT item, price FROM items WHERE "left" > 40 ORDER BY price DESC', asked)
    assert found.columns == ("item", "price") and found.rows[0] == ("i49", 73.5) and not found.more
    every = query("WITH few AS (SELECT * FROM items) SELECT * FROM few", asked)
    assert len(every.rows) == 10 and every.more


ATTACKS = [
    "SELECT * FROM items; DROP TABLE items",
    "DROP TABLE items",
    "DELETE FROM items",
    "INSERT INTO items VALUES ('x', 1, 1)",
    "CREATE TABLE x AS SELECT 1",
    "COPY items TO 'out.csv'",
    "COPY (SELECT 1) TO '/tmp/out.csv'",
    "ATTACH '/tmp/x.db'",
    "EXPORT DATABASE '/tmp/x'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT content FROM read_text('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')",
    "SELECT * FROM 'https://127.0.0.1:9/x.csv'",
    "SELECT getenv('HOME')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM order",
    "SELECT * FROM told",
    "SELECT * FROM items WHERE item = '' UNION SELECT content, 1, 1 FROM read_text('/etc/passwd')",
    "/* */ UPDATE items SET price = 0",
    "EXPLAIN ANALYZE DELETE FROM items",
    "",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_everything_else_is_refused(asked: Asked, attack: str) -> None:
    """What the child's process would say, without a process for each."""
    secret = Path(asked.tables["items"][0]).parents[1] / "secret.csv"
    assert secret.exists()
    told = answer({**asked.model_dump(), "sql": attack.replace("{secret}", str(secret))})
    assert told.get("error") in ("query", "process") and "rows" not in told
    assert "hunter2" not in str(told) and "root:" not in str(told)


def test_an_attack_on_the_real_process_fails_too(asked: Asked) -> None:
    for attack in ("SELECT content FROM read_text('/etc/passwd')", "DROP TABLE items"):
        with pytest.raises(ConfigError):
            query(attack, asked)
    assert query("SELECT count(*) FROM items -- '; DROP TABLE items", asked).rows == ((50,),)


def test_time_and_memory_are_bounded(asked: Asked) -> None:
    with pytest.raises(BudgetExceeded, match="longer"):
        query("SELECT count(*) FROM range(100000000000)", asked)
    with pytest.raises(BessemerError):
        query("SELECT list(x.range) FROM range(400000000) x", asked)
    with pytest.raises(ConfigError, match="nothing"):
        query("SELECT nothing FROM items", asked)
