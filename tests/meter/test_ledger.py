"""The ledger adds up exactly, however the journal is read, and notices when the journal was changed."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from bessemer.core.errors import BackendError, ConfigError, IntegrityError, NotFound, Unsupported
from bessemer.core.nouns import Boundary, Carbon, EnergyClass, Entry, EntryStatus, Measurement, Subject, Usage
from bessemer.core.units import Money
from bessemer.core.usage import UsageGroup, UsageQuery
from bessemer.meter import GROUPS, Journal, Ledger, open_ledger, per_thousand_tokens
from bessemer.meter.database import LedgerDatabase
from bessemer.meter.journal import segments


class InPostgres:
    """Opens a ledger in a schema of its own where a test names a file."""

    def __init__(self, server: str) -> None:
        self._server = server

    def __call__(self, where: Path | str) -> LedgerDatabase:
        return LedgerDatabase(self.url(where) if isinstance(where, Path) else where)

    def url(self, path: Path) -> str:
        import psycopg

        schema = f"ledger_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(1)")
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        return f"{self._server}{'&' if '?' in self._server else '?'}options=-csearch_path%3D{schema}"


@pytest.fixture(autouse=True, params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test on both databases."""
    if request.param == "postgres":
        server = InPostgres(request.getfixturevalue("postgres_server"))
        monkeypatch.setattr("bessemer.meter.ledger.LedgerDatabase", server)
    return str(request.param)


def entry(name: str, at: float = 0, **fields: object) -> Entry:
    subject = {"kind": "request", "id": name, "model": "m", "project": "p", **fields.pop("subject", {})}  # type: ignore[dict-item]
    joules = float(fields.pop("joules", 1.0))  # type: ignore[arg-type]
    parts: dict[str, object] = {
        "id": f"{subject['kind']}:{name}",
        "subject": Subject(**subject),  # type: ignore[arg-type]
        "started_at": at,
        "status": "ok",
        "usage": Usage(input_tokens=100, output_tokens=20, cached_tokens=10),
        "measurement": Measurement(
            seconds=0.5,
            joules=joules,
            joules_low=joules / 2,
            joules_high=joules * 2,
            energy_class=fields.pop("energy_class", EnergyClass.MODELLED),
            boundary=Boundary.HOST,
            source="test",
        ),
        "carbon": Carbon(
            grams=joules / 1000,
            grams_low=joules / 2000,
            grams_high=joules / 500,
            grid="world",
            grams_per_kilowatt_hour=481,
            source="test",
        ),
        "energy_cost": Money(micros=3),
        "charge": Money(micros=7),
        "price_version": "v@1",
    }
    return Entry(**{**parts, **fields})  # type: ignore[arg-type]


def book(folder: Path, *entries: Entry) -> None:
    journal = Journal(folder / "journal", "interval")
    for one in entries:
        journal.append(one.model_dump(mode="json"))
    journal.close()


def test_totals_by_group_and_class(tmp_path: Path) -> None:
    book(
        tmp_path,
        entry("a", joules=1.5),
        entry("b", joules=2.5, energy_class=EnergyClass.MEASURED),
        entry("c", joules=4, subject={"model": "other"}),
        entry("s", subject={"kind": "step", "run": "r", "model": ""}, usage=Usage(), charge=Money()),
    )
    ledger = open_ledger(tmp_path)
    by_model = {total.group["model"]: total for total in ledger.totals(["model"], kind="request")}
    total = by_model["m"]
    assert (total.entries, total.usage.input_tokens, total.usage.output_tokens) == (2, 200, 40)
    assert (total.joules.value, total.joules.low, total.joules.high) == (4.0, 2.0, 8.0)
    assert {cls: amount.value for cls, amount in total.joules_by_class.items()} == {
        EnergyClass.MEASURED: 2.5,
        EnergyClass.MODELLED: 1.5,
    }
    assert total.grams.value == 0.004
    assert (total.charge, total.energy_cost, total.seconds) == (Money(micros=14), Money(micros=6), 1.0)
    assert [t.group["kind"] for t in ledger.totals(["kind"])] == ["request", "step"]
    assert ledger.totals(run="r")[0].entries == 1
    assert ledger.totals(run="none") == []
    with pytest.raises(ConfigError, match="group by colour"):
        ledger.totals(["colour"])
    ledger.close()


_AT = st.one_of(st.sampled_from([0.0, 3599.9, 3600.0, 86_399.99, 86_400.0, 172_800.0]), st.floats(0, 300_000))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    booked=st.lists(st.tuples(_AT, st.sampled_from("ab"), st.sampled_from("xy")), min_size=1, max_size=12),
    since=_AT,
    limit=st.integers(0, 4),
)
def test_what_is_asked_of_the_sums_is_what_the_entries_say(
    tmp_path_factory: pytest.TempPathFactory, booked: list[tuple[float, str, str]], since: float, limit: int
) -> None:
    """From days, hours and the rest of an hour; and by which hours the newest entries of a project are found."""
    folder = tmp_path_factory.mktemp("ledger")
    made = [entry(f"e{n}", at, subject={"model": m, "project": p}) for n, (at, m, p) in enumerate(booked)]
    book(folder, *made)
    ledger = open_ledger(folder)
    late = sorted((one for one in made if one.started_at >= since), key=lambda one: one.started_at)
    counted = Counter(one.subject.model for one in late)
    assert {t.group["model"]: (t.entries, t.charge.micros) for t in ledger.totals(["model"], since=since)} == {
        model: (count, 7 * count) for model, count in counted.items()
    }
    for project in ("", "x"):
        wanted = [one.started_at for one in late if project in ("", one.subject.project)]
        found = ledger.entries(project=project, since=since, limit=limit)
        assert [one.started_at for one in found] == wanted[::-1][:limit]
        assert all(one in made for one in found)
    for width in (60, 3600, 86_400):
        begin = int(since) // width * width
        rows = ledger.usage(UsageQuery(start=int(since), end=400_000, width=width, group_by=("project",)))  # type: ignore[arg-type]
        assert {(row.start, row.group["project"]): row.entries for row in rows} == Counter(
            (int(one.started_at) // width * width, one.subject.project) for one in made if one.started_at >= begin
        )
    ledger.close()


@pytest.mark.parametrize("width", [60, 3600, 86_400])
def test_the_sums_are_of_what_was_asked_for_alone(tmp_path: Path, width: Any) -> None:
    keys: tuple[UsageGroup, ...] = ("project", "key_id", "model", "batch", "kind", "name")
    each_once = itertools.product("pq", "kl", "mn", (False, True), ("request", "step"), ("", "embeddings"))
    made = [entry(f"e{n}", n, subject=dict(zip(keys, each, strict=True))) for n, each in enumerate(each_once)]
    book(tmp_path, *made)
    ledger = open_ledger(tmp_path)
    filters: list[tuple[dict[str, Any], Callable[[Subject], bool]]] = [
        ({"kind": ""}, lambda s: True),
        ({}, lambda s: s.kind == "request"),
        ({"kind": "", "projects": ("q",)}, lambda s: s.project == "q"),
        ({"kind": "", "key_ids": ("l", "x")}, lambda s: s.key_id == "l"),
        ({"kind": "", "models": ("n",)}, lambda s: s.model == "n"),
        ({"kind": "", "models": ("m", "n")}, lambda s: True),
        ({"kind": "", "batch": True}, lambda s: s.batch),
        ({"kind": "", "batch": False}, lambda s: not s.batch),
        ({"kind": "", "embeddings": True}, lambda s: s.name == "embeddings"),
        ({"kind": "", "embeddings": False}, lambda s: not s.name),
        ({"kind": "", "models": ("m",), "batch": True}, lambda s: s.model == "m" and s.batch),
    ]
    for wanted, holds in filters:
        rows = ledger.usage(UsageQuery(start=0, end=100, width=width, group_by=keys, **wanted))
        said = sorted(tuple(row.group.values()) for row in rows)
        told = [tuple(getattr(one.subject, key) for key in keys) for one in made if holds(one.subject)]
        assert said == sorted((*each[:3], "1" if each[3] else "", *each[4:]) for each in told), wanted
    ledger.close()


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
_NUMBER = st.one_of(st.floats(0, 1e9), st.integers(0, 10**9).map(lambda micros: micros / 1e6))


def _noun(model: type[BaseModel], **given: st.SearchStrategy[object]) -> st.SearchStrategy[BaseModel]:
    kinds = {str: _TEXT, float: _NUMBER, int: st.integers(0, 2**50)}
    fields = {name: kinds.get(field.annotation) for name, field in model.model_fields.items()}  # type: ignore[call-overload]
    known = {name: values for name, values in fields.items() if values is not None}
    return st.builds(model, **(known | given))


_ID = st.one_of(_TEXT, st.uuids().map(lambda made: f"req_{made.hex}"))
_CURRENCY = _noun(Money, currency=st.from_regex(r"[A-Z]{3}", fullmatch=True))
_ENTRIES = st.builds(
    lambda entry, follows: (
        entry.model_copy(update={"id": f"{entry.subject.kind}:{entry.subject.id}"}) if follows else entry
    ),
    _noun(
        Entry,
        id=_ID.map(lambda id: f"request:{id}"),
        subject=_noun(Subject, kind=st.sampled_from(["step", "request"]), id=_ID, batch=st.booleans()),
        status=st.sampled_from(get_args(EntryStatus)),
        usage=_noun(Usage),
        measurement=_noun(Measurement, energy_class=st.sampled_from(EnergyClass), boundary=st.sampled_from(Boundary)),
        carbon=_noun(Carbon),
        energy_cost=_CURRENCY,
        charge=_CURRENCY,
        price_version=st.one_of(_TEXT, _TEXT.map(lambda version: f"{version} default")),
    ),
    st.booleans(),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(booked=st.lists(_ENTRIES, min_size=1, max_size=4, unique_by=lambda entry: entry.id))
def test_an_entry_comes_back_as_it_was_booked(tmp_path_factory: pytest.TempPathFactory, booked: list[Entry]) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    book(folder, *booked)
    ledger = open_ledger(folder)
    assert [ledger.entry(one.id) for one in booked] == booked
    assert sorted(ledger.each(2), key=lambda one: one.id) == sorted(booked, key=lambda one: one.id)
    ledger.close()


def test_entries_are_filtered_and_newest_first(tmp_path: Path) -> None:
    booked = [entry(f"e{n}", at=n, subject={"project": "x" if n % 2 else "y"}) for n in range(10)]
    book(tmp_path, *booked)
    ledger = open_ledger(tmp_path)
    assert ledger.entries(limit=3) == [booked[9], booked[8], booked[7]]
    assert ledger.entries(project="x", since=5) == [booked[9], booked[7], booked[5]]
    assert len(ledger.entries(limit=-1)) == 10
    assert ledger.entry("request:e4") == booked[4]
    with pytest.raises(NotFound):
        ledger.entry("request:none")
    ledger.close()


def test_sums_beyond_sixty_three_bits_are_exact(tmp_path: Path) -> None:
    joules = 9.0e12  # 9.0e18 microjoules each: two of them do not fit
    book(tmp_path, entry("a", joules=joules / 2), entry("b", joules=joules / 2), entry("c", joules=joules / 2))
    ledger = open_ledger(tmp_path)
    assert ledger.totals()[0].joules.high == 3 * joules
    ledger.close()


def test_sums_that_outgrow_their_column_bit_by_bit_are_exact(tmp_path: Path) -> None:
    ledger, joules = open_ledger(tmp_path), 1.1e12  # 2.2e18 microjoules at most each: the fifth does not fit
    for number in range(9):
        book(tmp_path, entry(f"e{number}", joules=joules))
        ledger.sync()
    assert ledger.totals()[0].joules.high == 9 * 2 * joules
    assert max(part for (part,) in ledger._database.query("SELECT part FROM sums")) > 0
    assert ledger.drifts() == []
    ledger.close()


def test_numbers_that_no_column_holds_are_cut_and_keep_no_other_entry_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    absurd = Usage(input_tokens=2**200, output_tokens=2**63, cached_tokens=0)
    book(tmp_path, entry("absurd", usage=absurd, charge=Money(micros=-(2**64))), entry("next"))
    ledger, most = open_ledger(tmp_path), 2**63 - 1
    found = ledger.entry("request:absurd")
    assert (found.usage.input_tokens, found.usage.output_tokens, found.charge.micros) == (most, most, -most)
    assert ledger.entry("request:next") == entry("next")
    assert ledger.totals()[0].usage.output_tokens == most + 20
    assert "request:absurd has numbers that cannot be" in caplog.text
    ledger.close()


def test_two_currencies_stay_apart(tmp_path: Path) -> None:
    book(tmp_path, entry("a"), entry("b", charge=Money(micros=5, currency="EUR")))
    total = open_ledger(tmp_path).totals()[0]
    assert total.charges == (Money(micros=5, currency="EUR"), Money(micros=7, currency="USD"))
    with pytest.raises(Unsupported):
        _ = total.charge


def test_figures_for_a_thousand_tokens(tmp_path: Path) -> None:
    book(tmp_path, entry("a", joules=12), entry("b", joules=12))
    total = open_ledger(tmp_path).totals()[0]
    served, written = per_thousand_tokens(total), per_thousand_tokens(total, "output")
    assert served is not None and written is not None
    assert (served.tokens, served.joules.value, served.joules.high) == (240, 100.0, 200.0)
    assert (written.tokens, written.joules.value) == (40, 600.0)
    assert served.charge_micros == pytest.approx(14 / 0.24)
    assert served.energy_classes == (EnergyClass.MODELLED,)


def test_nothing_is_divided_by_no_tokens(tmp_path: Path) -> None:
    book(tmp_path, entry("s", usage=Usage()))
    assert per_thousand_tokens(open_ledger(tmp_path).totals()[0]) is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    joules=st.lists(st.floats(0, 1e9, allow_nan=False), min_size=1, max_size=8),
    again=st.lists(st.integers(0, 7), max_size=6),
    pieces=st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=4),
)
def test_any_prefix_any_number_of_times_gives_the_same_totals(
    tmp_path_factory: pytest.TempPathFactory,
    joules: list[float],
    again: list[int],
    pieces: list[tuple[float, bool]],
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    booked = [entry(f"e{n}", joules=value) for n, value in enumerate(joules)]
    repeats = [booked[n % len(booked)] for n in again]
    book(folder, *booked)
    expected = _read(folder, "once.sqlite").totals(GROUPS)
    path = segments(folder / "journal")[0]
    whole = path.read_bytes()
    length = 0
    for part, forget in pieces:
        if forget:  # as if the index had lost its place: everything is read again from the beginning
            _forget(folder)
            length = 0
        length = max(length, int(len(whole) * part))  # a journal only grows
        path.write_bytes(whole[:length])
        _read(folder, "ledger.sqlite")
    path.write_bytes(whole)
    book(folder, *repeats)
    ledger = _read(folder, "ledger.sqlite")
    assert ledger.totals(GROUPS) == expected
    assert ledger.sync().added == 0
    ledger.verify()


def _read(folder: Path, name: str) -> Ledger:
    ledger = Ledger(folder / name, folder / "journal")
    ledger.sync()
    return ledger


def _forget(folder: Path) -> None:
    ledger = Ledger(folder / "ledger.sqlite", folder / "journal")
    ledger._database.query("DELETE FROM segments")
    ledger.close()


def test_repeats_are_counted_and_the_first_stands(tmp_path: Path) -> None:
    first = entry("a", joules=1)
    book(tmp_path, first, first, entry("a", joules=5))
    ledger = Ledger(tmp_path / "ledger.sqlite", tmp_path / "journal")
    report = ledger.sync()
    assert (report.added, report.repeated, report.differing) == (1, 2, ("request:a",))
    assert ledger.entry("request:a") == first


@pytest.mark.parametrize("later", ["error", "ok"])
def test_a_record_that_the_disk_did_not_confirm_does_not_count_as_a_good_answer(tmp_path: Path, later: str) -> None:
    """A disk may keep what it refused to confirm; the entry that was booked instead says how it ended."""
    good, failed = entry("a"), entry("a", status="error", charge=Money())
    book(tmp_path, *((good, failed) if later == "error" else (failed, good)))
    ledger = Ledger(tmp_path / "ledger.sqlite", tmp_path / "journal")
    assert ledger.sync().differing == ("request:a",)
    assert ledger.entry("request:a") == failed
    assert ledger.totals()[0].charge == Money()


def test_totals_say_what_they_rest_on(tmp_path: Path) -> None:
    first = entry("a")
    carbon = first.carbon.model_copy(update={"grid": "FR", "grams_per_kilowatt_hour": 56.0})
    measured = first.measurement.model_copy(update={"boundary": Boundary.CHIP})
    other = entry("b", carbon=carbon, measurement=measured, price_version="w@2 default")
    book(tmp_path, first, other)
    (total,) = open_ledger(tmp_path).totals()
    assert (total.entries, total.joules.value, total.charge.micros) == (2, 2.0, 14)
    assert total.boundaries == (Boundary.CHIP, Boundary.HOST)
    assert total.grids == ("FR, 56 g/kWh, test", "world, 481 g/kWh, test")
    assert total.price_versions == ("v@1", "w@2")


def test_a_lost_ledger_is_made_again(tmp_path: Path, database: str) -> None:
    book(tmp_path, *(entry(f"e{n}") for n in range(5)))
    before = open_ledger(tmp_path)
    expected = before.totals(GROUPS)
    if database == "sqlite":
        (tmp_path / "ledger.sqlite").unlink()
    else:
        for table in ("entries", "forms", "sums", "segments", "layout"):
            before._database.query(f"DROP TABLE {table}")
    before.close()
    assert open_ledger(tmp_path).totals(GROUPS) == expected


@pytest.mark.parametrize("name", ["forms", "entries", "segments", "layout"])
def test_tables_of_somebody_else_are_not_touched(tmp_path: Path, name: str) -> None:
    from bessemer.meter import ledger as opening

    book(tmp_path, entry("a"))
    theirs = opening.LedgerDatabase(tmp_path / "ledger.sqlite")
    theirs.query(f"CREATE TABLE {name} (mine TEXT)")
    theirs.query(f"INSERT INTO {name} VALUES ('precious')")
    with pytest.raises(ConfigError, match=name) as error:
        open_ledger(tmp_path)
    assert "of its own" in (error.value.hint or "")
    assert theirs.query(f"SELECT mine FROM {name}") == [("precious",)]
    assert not theirs.columns("sums"), "half made"
    theirs.close()


def test_a_ledger_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    book(tmp_path, entry("a"))
    newer = open_ledger(tmp_path)
    newer._database.query("UPDATE layout SET version = version + 1")
    with pytest.raises(ConfigError, match="newer version"):
        open_ledger(tmp_path)
    assert newer._database.query("SELECT COUNT(*) FROM entries") == [(1,)]
    newer.close()


def _age(ledger: Ledger) -> None:
    """Make a ledger look as one of the layout before forms."""
    for change in ("DROP TABLE forms", "DROP TABLE sums", "CREATE TABLE hours (hour BIGINT)"):
        ledger._database.query(change)
    ledger._database.query("UPDATE layout SET version = 4")


def test_a_ledger_of_an_earlier_version_is_made_again_and_its_file_shrinks(tmp_path: Path, database: str) -> None:
    book(tmp_path, *(entry(f"e{n}") for n in range(3)))
    before = open_ledger(tmp_path)
    before._database.query("CREATE TABLE mine AS SELECT 1 AS kept")
    if database == "sqlite":
        before._database.query("CREATE TABLE hours (much BLOB)")
        before._database.query("INSERT INTO hours VALUES (zeroblob(4000000))")
        before._database.query("PRAGMA wal_checkpoint(TRUNCATE)")
        for change in ("DROP TABLE forms", "DROP TABLE sums", "UPDATE layout SET version = 4"):
            before._database.query(change)
        assert (tmp_path / "ledger.sqlite").stat().st_size > 4e6
    else:
        _age(before)
    before.close()
    after = open_ledger(tmp_path)
    assert len(after.entries()) == 3
    assert not after._database.columns("hours")
    assert after._database.query("SELECT kept FROM mine") == [(1,)]
    after.close()
    if database == "sqlite":
        assert (tmp_path / "ledger.sqlite").stat().st_size < 1e6


def test_the_first_layout_had_no_number_in_a_table(tmp_path: Path, database: str) -> None:
    if database == "postgres":
        pytest.skip("it was in SQLite only")
    book(tmp_path, entry("a"))
    old = LedgerDatabase(tmp_path / "ledger.sqlite")
    old.make(
        "CREATE TABLE entries (id TEXT); CREATE TABLE segments (name TEXT, offset INTEGER, seq INTEGER, hash TEXT)"
    )
    old.close()
    assert len(open_ledger(tmp_path).entries()) == 1


def test_hosts_whose_entries_are_missing_after_an_upgrade_are_named_until_they_come(
    tmp_path: Path, postgres_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    shared = InPostgres(postgres_server).url(tmp_path)
    for host in ("a", "b", "c"):
        book(tmp_path / host, entry(host))
        open_ledger(tmp_path / host, shared).close()
    names = {host: (tmp_path / host / "journal" / "name").read_text() for host in ("a", "b", "c")}
    ledger = open_ledger(tmp_path / "a", shared)
    assert ledger.awaited() == ()
    _age(ledger)
    ledger.close()
    ledger = open_ledger(tmp_path / "a", shared)  # the first that was upgraded
    assert ledger.totals()[0].entries == 1
    assert ledger.awaited() == tuple(sorted((names["b"], names["c"])))
    assert names["b"] in caplog.text and "bessemer usage" in caplog.text
    open_ledger(tmp_path / "b", shared).close()
    assert ledger.awaited() == (names["c"],)
    open_ledger(tmp_path / "c", shared).close()
    assert ledger.awaited() == ()
    assert ledger.totals()[0].entries == 3
    ledger.close()


def test_taking_in_much_is_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    book(tmp_path, entry("a"))
    monkeypatch.setattr("bessemer.meter.ledger._MUCH", 100)
    open_ledger(tmp_path).close()
    open_ledger(tmp_path).close()
    assert caplog.text.count("of the journal into the ledger") == 1


def test_damage_is_named_and_takes_nothing_else_with_it(tmp_path: Path) -> None:
    book(tmp_path, *(entry(f"e{n}") for n in range(4)))
    path = segments(tmp_path / "journal")[0]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"micros":7', b'"micros":0')
    path.write_bytes(b"".join(lines))
    book(tmp_path, entry("later"))
    ledger = Ledger(tmp_path / "ledger.sqlite", tmp_path / "journal")
    for _ in range(2):
        with pytest.raises(IntegrityError, match="record 3"):
            ledger.sync()
        assert {one.subject.id for one in ledger.entries()} == {"e0", "e1", "later"}


def test_a_damaged_journal_leaves_no_ledger_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book(tmp_path, entry("e"))
    path = segments(tmp_path / "journal")[0]
    path.write_bytes(path.read_bytes().replace(b'"micros":7', b'"micros":0'))
    closed: list[Ledger] = []
    close = Ledger.close
    monkeypatch.setattr(Ledger, "close", lambda self: (closed.append(self), close(self)))
    with pytest.raises(IntegrityError):
        open_ledger(tmp_path)
    assert len(closed) == 1


@pytest.mark.parametrize("harm", ["removed", "cut", "rewritten"])
def test_a_journal_changed_behind_the_ledgers_back_is_noticed(tmp_path: Path, harm: str) -> None:
    book(tmp_path, *(entry(f"e{n}") for n in range(4)))
    ledger = open_ledger(tmp_path)
    path = segments(tmp_path / "journal")[0]
    if harm == "removed":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    else:  # a perfect forgery: a valid chain of other records under the same name
        _forge(path, [entry(f"f{n}", charge=Money()) for n in range(4)])
    with pytest.raises(IntegrityError):
        ledger.verify()


def _forge(path: Path, entries: list[Entry]) -> None:
    from bessemer.core.digest import canonical_json, digest_bytes

    previous, text = digest_bytes(path.name.encode()), b""
    for seq, one in enumerate(entries, 1):
        line = canonical_json({"body": one, "prev": previous, "seq": seq})[:-1].encode()
        previous = digest_bytes(line)
        text += line + f',"hash":"{previous}"}}\n'.encode()
    path.write_bytes(text)


def _fill_and_read(folder: Path, first: int) -> None:
    for number in range(first, first + 5):
        book(folder, entry(f"e{number}"))
        open_ledger(folder).close()


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")  # imported by other tests; not used here
def test_several_processes_book_and_read_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    children = [spawn.Process(target=_fill_and_read, args=(tmp_path, n * 5)) for n in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert open_ledger(tmp_path).totals()[0].entries == 20


def _fill_one(folder: Path, shared: str, first: int) -> None:
    for number in range(first, first + 5):
        book(folder, entry(f"e{number}"), entry("the same everywhere"))
        open_ledger(folder, shared).close()


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")
def test_several_gateways_fill_one_ledger_each_from_its_own_journal(tmp_path: Path, postgres_server: str) -> None:
    shared = InPostgres(postgres_server).url(tmp_path)
    spawn = multiprocessing.get_context("fork")
    children = [spawn.Process(target=_fill_one, args=(tmp_path / str(n), shared, n * 5)) for n in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    ledger = open_ledger(tmp_path / "0", shared)
    assert ledger.totals()[0].entries == 21
    assert ledger.sync().added == 0
    assert ledger.verify().records == 10, "of its own journal only"
    ledger.close()


def test_a_character_that_postgres_cannot_keep_stops_nothing(tmp_path: Path) -> None:
    book(tmp_path, entry("a", subject={"model": "m\0"}), entry("b"))
    ledger = open_ledger(tmp_path)
    assert ledger.totals()[0].entries == 2
    assert {total.group["model"] for total in ledger.totals(["model"])} >= {"m"}
    ledger.close()


def test_a_ledger_whose_server_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="ledger in Postgres"):
        open_ledger(tmp_path, "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(ConfigError, match="URL"):
        open_ledger(tmp_path, "mysql://nobody@127.0.0.1/none")


def test_a_connection_that_the_server_closed_is_opened_again(tmp_path: Path, postgres_server: str) -> None:
    import psycopg

    book(tmp_path, entry("a"))
    ledger = open_ledger(tmp_path, InPostgres(postgres_server).url(tmp_path))
    [(process,)] = ledger._database.query("SELECT pg_backend_pid()")
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (process,))
    with pytest.raises(BackendError):
        ledger.totals()
    assert ledger.totals()[0].entries == 1
    ledger.close()
