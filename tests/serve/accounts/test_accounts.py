"""Projects, service accounts, keys and the audit log, in SQLite and in Postgres."""

from __future__ import annotations

import sqlite3

import pytest

from bessemer.core.errors import BessemerError, ConfigError, Conflict, NotFound
from bessemer.serve import Key, KeyRefusal, KeyStore
from bessemer.serve.accounts.audit import AuditFilter, AuditLog
from bessemer.serve.accounts.changes import STALE_SECONDS
from bessemer.serve.accounts.projects import Projects
from bessemer.serve.accounts.schema import open_database

from ..conftest import until


class Office:
    """One process's view of the accounts; clocks stand until a test moves them."""

    def __init__(self, url: str, actor: str = "local") -> None:
        self.now = [1000.0]
        self.ticks = [0.0]
        self.database = open_database(url, lambda: self.ticks[0])
        self.keys = KeyStore(self.database, lambda: self.now[0], actor)
        self.projects = Projects(self.database, self.keys, lambda: self.now[0], actor)
        self.audit = AuditLog(self.database)


@pytest.fixture
def office(database_url):
    made = Office(database_url)
    yield made
    made.database.close()


def acts(office: Office, **wanted) -> list[str]:
    return [event.act for event in office.audit.list(wanted=AuditFilter(**wanted)).items]


def test_a_project_is_made_renamed_and_archived(office) -> None:
    made = office.projects.create("Docs", id="docs")
    assert (made.id, made.name, made.created_at, made.archived_at) == ("docs", "Docs", 1000.0, None)
    assert office.projects.rename("docs", "Handbook") == office.projects.get("docs")
    assert office.projects.get("docs").name == "Handbook"
    office.now[0] = 2000.0
    archived = office.projects.archive("docs")
    assert archived.archived_at == 2000.0
    assert office.projects.archive("docs") == archived, "again changes nothing"
    assert office.projects.list().items == ()
    assert office.projects.list(include_archived=True).items == (archived,)
    assert acts(office) == ["project.archived", "project.updated", "project.created"]
    with pytest.raises(Conflict, match="archived"):
        office.projects.rename("docs", "x")
    with pytest.raises(Conflict):
        office.projects.create("Again", id="docs")
    for act in (lambda: office.projects.get("no"), lambda: office.projects.archive("no")):
        with pytest.raises(NotFound, match="no project 'no'"):
            act()
    with pytest.raises(ConfigError):
        office.projects.create(" x")


def test_lists_come_in_pages(office) -> None:
    for number in range(5):
        office.projects.create(f"p{number}")
    first = office.projects.list(limit=3)
    second = office.projects.list(limit=3, after=first.items[-1].id)
    assert ([p.id for p in first.items], first.has_more) == (["p0", "p1", "p2"], True)
    assert ([p.id for p in second.items], second.has_more) == (["p3", "p4"], False)
    keys = [office.keys.create("p0")[0] for _ in range(3)]
    page = office.keys.page(limit=2, project="p0")
    rest = office.keys.page(limit=2, project="p0", after=page.items[-1].id)
    assert {*page.items, *rest.items} == set(keys)
    assert office.keys.page(project="p1").items == ()
    newest = office.audit.list(limit=2)
    older = office.audit.list(limit=100, after=newest.items[-1].number)
    back = office.audit.list(limit=3, before=older.items[-1].number)
    assert (back.items, back.has_more) == (older.items[-4:-1], True)
    assert acts(office, targets=["p1"], actors=["nobody", office.audit.list(1).items[0].actor]) == ["project.created"]
    assert acts(office, targets=["p1"], emails=["ada@example.org"]) == []
    numbers = [event.number for event in (*newest.items, *older.items)]
    assert len(numbers) == 8
    assert numbers == sorted(numbers, reverse=True)


def test_an_archived_project_lets_nobody_in(office) -> None:
    office.projects.create("docs")
    _, secret = office.keys.create("docs")
    assert isinstance(office.keys.verify(secret), Key)
    office.projects.archive("docs")
    assert office.keys.verify(secret) is KeyRefusal.ARCHIVED
    with pytest.raises(Conflict):
        office.keys.create("docs")


def test_a_key_is_scoped_to_models_and_stays_so_when_rotated(office) -> None:
    key, secret = office.keys.create("docs", models=["small", "large"], expires_at=5000.0)
    assert office.keys.verify(secret) == key == office.keys.get(key.id)
    assert (key.may_ask("small"), key.may_ask("other")) == (True, False)
    assert office.keys.create("docs")[0].may_ask("other")
    new, _ = office.keys.rotate(key.id)
    assert (new.models, new.expires_at) == (("small", "large"), 5000.0)
    with pytest.raises(Conflict, match="revoked"):
        office.keys.rotate(key.id)


def test_a_service_account_has_a_key_and_ends_with_all_of_them(office) -> None:
    office.projects.create("docs")
    account, key, secret = office.projects.create_service_account("docs", "nightly")
    assert (key.service_account, key.project, key.admin) == (account.id, "docs", False)
    rotated, rotated_secret = office.keys.rotate(key.id)
    assert rotated.service_account == account.id
    assert office.projects.list_service_accounts("docs").items == (account,)
    with pytest.raises(NotFound):
        office.projects.get_service_account("elsewhere", account.id)
    office.projects.delete_service_account("docs", account.id)
    assert {office.keys.verify(each) for each in (secret, rotated_secret)} == {KeyRefusal.REVOKED}
    assert office.projects.list_service_accounts("docs").items == ()
    with pytest.raises(NotFound):
        office.projects.create_service_account("nowhere", "x")


def test_every_process_refuses_a_revoked_key_at_once(office, database_url) -> None:
    """Its clock stands still, so that nothing but the bell can tell it."""
    key, secret = office.keys.create("docs")
    other = Office(database_url)
    assert other.keys.verify(secret) == key
    office.keys.revoke(key.id)
    assert office.keys.verify(secret) is KeyRefusal.REVOKED
    if office.database.is_postgres:  # a notification is under way for milliseconds
        until(lambda: other.keys.verify(secret) is KeyRefusal.REVOKED)
    assert other.keys.verify(secret) is KeyRefusal.REVOKED
    other.database.close()


def test_an_expired_key_is_not_rotated(office) -> None:
    """One like it would have expired, too."""
    key, _ = office.keys.create("docs", expires_at=office.now[0] + 1)
    office.now[0] += 1
    with pytest.raises(Conflict, match="expired"):
        office.keys.rotate(key.id)


def test_a_process_that_hears_no_bell_looks_again_in_time(office, database_url) -> None:
    key, secret = office.keys.create("docs")
    other = Office(database_url)
    changes = other.database._changes
    changes._bell, changes.heard = None, lambda: None  # type: ignore[method-assign]
    assert other.keys.verify(secret) == key
    office.keys.revoke(key.id)
    assert other.keys.verify(secret) == key, "it asks the database only now and then"
    other.ticks[0] += STALE_SECONDS
    assert other.keys.verify(secret) is KeyRefusal.REVOKED
    other.database.close()


def test_each_act_is_noted_once_with_who_did_it_and_no_secret(office, database_url) -> None:
    other = Office(database_url, actor="key_of_ada")
    key, secret = other.keys.create("docs", name="n", admin=True)
    other.keys.revoke(key.id)
    other.keys.revoke(key.id)
    with pytest.raises(NotFound):
        other.keys.revoke("no-such")
    events = office.audit.list().items
    assert [event.act for event in events] == ["api_key.deleted", "api_key.created", "project.created"]
    assert {event.actor for event in events} == {"key_of_ada"}
    assert (events[1].project, events[1].target, events[1].details["admin"]) == ("docs", key.id, True)
    assert secret not in "".join(event.model_dump_json() for event in events)
    assert acts(office, acts=["api_key.created"]) == ["api_key.created"]
    assert acts(office, projects=["elsewhere"]) == acts(office, actors=["local"]) == []
    assert acts(office, times=[("gt", 1000.0)]) == []
    assert len(acts(office, times=[("gte", 1000.0), ("lt", 1001.0)], projects=["docs", "x"])) == 3
    other.database.close()


@pytest.mark.parametrize("sql", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_nobody_changes_the_audit_log(office, sql) -> None:
    office.projects.create("docs")
    with pytest.raises(BessemerError, match="append-only"), office.database.writing() as execute:
        execute(sql)
    assert acts(office) == ["project.created"]


def test_a_database_of_keys_alone_keeps_working(tmp_path) -> None:
    path = tmp_path / "keys.sqlite"
    old = sqlite3.connect(path)
    old.execute(
        "CREATE TABLE keys (id TEXT PRIMARY KEY, digest BLOB NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL,"
        " admin INTEGER NOT NULL, created_at REAL NOT NULL, expires_at REAL, revoked_at REAL) STRICT"
    )
    fresh = KeyStore(tmp_path / "fresh.sqlite")
    key, secret = fresh.create("old", name="n")
    with fresh._database.writing() as execute:
        [(digest,)] = execute("SELECT digest FROM keys")
    old.execute("INSERT INTO keys VALUES (?, ?, 'old', 'n', 0, 5.0, NULL, NULL)", (key.id, digest))
    old.commit()
    old.close()
    for _ in range(2):
        office = Office(f"sqlite:///{path}")
        found = office.keys.verify(secret)
        assert isinstance(found, Key)
        assert (found.project, found.created_at, found.models) == ("old", 5.0, ())
        assert [(p.id, p.created_at) for p in office.projects.list().items] == [("old", 5.0)]
        office.database.close()
    fresh.close()


def test_a_url_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="mysql"):
        open_database("mysql://x/y")
