"""The gateway's database: the same on both kinds, for several processes from the first moment on."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bessemer.core import postgres
from bessemer.core.errors import BackendError, ConfigError, IntegrityError
from bessemer.flow.database import Database as FlowDatabase
from bessemer.meter import layout
from bessemer.meter.database import LedgerDatabase, _use_wal
from bessemer.serve.accounts import schema as accounts_schema
from bessemer.serve.database import Database, is_sound, use_wal
from bessemer.serve.work.records import Records

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS things (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE) STRICT",
    "PRAGMA secure_delete = ON",
)
ADD = "INSERT INTO things (name) VALUES (?) RETURNING number"
UseWal = Callable[[sqlite3.Connection], None]


def opened(path: Path, timeout_seconds: float) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=timeout_seconds, isolation_level=None, check_same_thread=False)


@pytest.mark.parametrize("use_wal", [use_wal, _use_wal])
def test_who_comes_while_another_has_the_file_waits_for_it(tmp_path: Path, use_wal: UseWal) -> None:
    first, second = (opened(tmp_path / "new.sqlite", 10) for _ in range(2))
    first.execute("BEGIN EXCLUSIVE")
    first.execute("CREATE TABLE t (x)")
    timer = threading.Timer(0.3, lambda: first.execute("COMMIT"))
    timer.start()
    use_wal(second)
    assert second.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    timer.join()
    first.close()
    second.close()


@pytest.mark.parametrize("use_wal", [use_wal, _use_wal])
def test_who_never_gets_it_is_told(tmp_path: Path, use_wal: UseWal) -> None:
    first, second = (opened(tmp_path / "new.sqlite", 0.1) for _ in range(2))
    first.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_wal(second)
    first.close()
    second.close()


@pytest.fixture
def pair(database_url: str) -> Iterator[tuple[Database, Database]]:
    """Give two processes' views of one database."""
    one, two = (Database(database_url, SCHEMA, "things") for _ in range(2))
    with closing(one), closing(two):
        yield one, two


def test_all_of_a_transaction_holds_or_nothing(pair: tuple[Database, Database]) -> None:
    one, two = pair
    for number in range(10):
        with one.writing() as execute:
            execute(ADD, f"thing {number}")
    with pytest.raises(RuntimeError), one.writing() as execute:
        execute(ADD, "another")
        raise RuntimeError
    with pytest.raises((BackendError, IntegrityError)), one.writing() as execute:
        execute(ADD, "another")
        execute(ADD, "thing 1")
    with two.writing() as execute:
        execute.many("INSERT INTO things (name) VALUES (?)", [("100% of it",), ("is it?",)])
    names = [name for (name,) in one.read("SELECT name FROM things ORDER BY number")]
    assert names == [*(f"thing {number}" for number in range(10)), "100% of it", "is it?"]
    assert two.read("SELECT name FROM things WHERE name LIKE '%% of it'") == [("100% of it",)]


def test_who_begins_later_has_the_higher_number(pair: tuple[Database, Database]) -> None:
    """Else a reader that has seen a number would miss a lower one that was committed after it."""
    one, two = pair
    with ThreadPoolExecutor(1) as pool, one.writing() as execute:
        ((first,),) = execute(ADD, "first")

        def add() -> int:
            with two.writing() as execute:
                ((number,),) = execute(ADD, "second")
            return int(number)

        second = pool.submit(add)
        with pytest.raises(TimeoutError):
            second.result(0.2)
        assert two.read("SELECT * FROM things") == [], "who reads waits for nobody"
        execute(ADD, "more")
        assert not second.done()
    assert second.result(10) > first + 1


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_what_a_database_does_not_take_is_refused_and_never_found(pair: tuple[Database, Database], text: str) -> None:
    one, _ = pair
    if "\x00" in text and not one.is_postgres:
        with one.writing() as execute:
            ((number,),) = execute(ADD, text)
        assert one.read("SELECT number FROM things WHERE name = ?", text) == [(number,)]
        return
    with pytest.raises(ConfigError, match="a character"), one.writing() as execute:
        execute(ADD, text)
    with pytest.raises(ConfigError), one.writing() as execute:
        execute.many("INSERT INTO things (name) VALUES (?)", [("good",), (text,)])
    with one.writing() as execute:
        execute(ADD, "good")
        assert execute("DELETE FROM things WHERE name != ? RETURNING 1", text) == []
    assert one.read("SELECT * FROM things WHERE name = ?", text) == []
    assert [name for (_, name) in one.read("SELECT * FROM things")] == ["good"]


def test_tables_stand_beside_those_of_others(postgres_url: str) -> None:
    with closing(psycopg.connect(postgres_url, autocommit=True)) as server:
        server.execute("CREATE TABLE things (theirs TEXT)")
        with closing(Database(postgres_url, SCHEMA, "things")) as database:
            with database.writing() as execute:
                execute(ADD, "ours")
            assert server.execute("SELECT name FROM gateway_things").fetchall() == [("ours",)]
        assert server.execute("SELECT * FROM things").fetchall() == []


@pytest.mark.parametrize(
    ("opened", "connection"),
    [
        (lambda url: Database(url, SCHEMA, "things"), "_reader._raw"),
        (LedgerDatabase, "_connection"),
        (FlowDatabase, "_connection"),
    ],
)
def test_no_server_keeps_anybody_waiting_for_ever(
    postgres_url: str, opened: Callable[[str], Any], connection: str
) -> None:
    for url, seconds in ((postgres_url, "10"), (f"{postgres_url}&connect_timeout=3", "3")):
        with closing(opened(url)) as database:
            if isinstance(database, Database):
                database.read("SELECT 1")
            server = attrgetter(connection)(database)
            for what, most in (("statement", "1min"), ("lock", "30s"), ("idle_in_transaction_session", "30s")):
                assert server.execute(f"SHOW {what}_timeout").fetchone() == (most,)
            told = server.info.get_parameters()
            assert (told["connect_timeout"], told["tcp_user_timeout"]) == (seconds, "30000")
            alive = [told[f"keepalives_{name}"] for name in ("idle", "interval", "count")]
            assert alive == ["10", "10", "2"], "one that is gone with a question is given up after 30 seconds, too"


def test_what_changes_tables_takes_what_it_takes(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "SELECT pg_sleep(0.3)"
    Records(postgres_url).close()
    with closing(psycopg.connect(postgres_url, autocommit=True)) as server:
        server.execute("INSERT INTO gateway_records (id, kind, project, body) VALUES ('a', 'file', 'shop', '{}')")
        does = "BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END"
        server.execute(f"CREATE FUNCTION slow() RETURNS trigger AS '{does}' LANGUAGE plpgsql")
        server.execute("CREATE TRIGGER slow BEFORE UPDATE ON gateway_records FOR EACH ROW EXECUTE FUNCTION slow()")
    monkeypatch.setattr(postgres, "_PATIENCE", "SET statement_timeout = '200ms'")
    monkeypatch.setattr(accounts_schema, "_PROJECTS_OF_KEYS", slow)
    monkeypatch.setattr(layout, "_make_noted", lambda database: database.query(slow))
    Records(postgres_url, "the factory that notes whose they are").close()
    accounts_schema.open_database(postgres_url).close()
    with closing(LedgerDatabase(postgres_url)) as ledger:
        layout.make_tables(ledger)
        with ledger.snapshot(unhurried=True):
            ledger.query(slow)
        with pytest.raises(BackendError, match="statement timeout"), ledger.writing():
            ledger.query(slow)
    with (
        closing(Database(postgres_url, (*SCHEMA, slow), "things")) as database,
        pytest.raises(BackendError, match="statement timeout"),
        database.writing() as execute,
    ):
        execute(slow)


def test_a_connection_that_the_server_closed_is_opened_again(postgres_url: str) -> None:
    with closing(Database(f"{postgres_url}&application_name=cut", SCHEMA, "things")) as database:
        assert database.read("SELECT * FROM things") == []
        with closing(psycopg.connect(postgres_url, autocommit=True)) as server:
            ours = "FROM pg_stat_activity WHERE application_name = 'cut'"

            def cut() -> None:
                assert len(server.execute(f"SELECT pg_terminate_backend(pid) {ours}").fetchall()) == 2

            cut()
            assert database.read("SELECT * FROM things") == []
            with database.writing() as execute:
                execute(ADD, "kept")
            with pytest.raises(BackendError, match="the things in Postgres"), database.writing() as execute:
                execute(ADD, "lost")
                cut()
                execute(ADD, "lost as well")
        assert [name for (_, name) in database.read("SELECT * FROM things")] == ["kept"]


def test_a_long_text_is_looked_at_in_no_time() -> None:
    """Whoever keeps one has the only connection that writes, and Python's lock."""
    text, took = "д" * 2_000_000, list[float]()
    for look in (is_sound, str.encode):
        began = time.perf_counter()
        assert look(text)
        took.append(time.perf_counter() - began)
    assert took[0] < 20 * took[1]
    assert [is_sound(each, zeros) for each in ("d", "\x00", "\ud800") for zeros in (False, True)] == [
        True, True, False, True, False, False
    ]  # fmt: skip


def test_who_has_waited_sees_what_others_wrote_whatever_a_server_does_otherwise(postgres_url: str) -> None:
    url = postgres_url + "%20-cdefault_transaction_isolation%3Drepeatable%5C%20read"
    with closing(Database(url, SCHEMA, "things")) as one, closing(Database(url, SCHEMA, "things")) as two:
        assert one.read("SHOW default_transaction_isolation") == [("repeatable read",)]
        with ThreadPoolExecutor(1) as pool, one.writing() as execute:
            execute(ADD, "first")

            def rename() -> list[tuple[str]]:
                with two.writing() as execute:
                    execute("UPDATE things SET name = name || '!'")
                    return execute("SELECT name FROM things")

            renamed = pool.submit(rename)
            with pytest.raises(TimeoutError):
                renamed.result(0.2)
            execute("UPDATE things SET name = 'second'")
        assert renamed.result(10) == [("second!",)]
