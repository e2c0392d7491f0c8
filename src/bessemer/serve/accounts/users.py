"""People: who of the organization may be in which project, and whose keys are whose. They ask with keys, as all do.

A user that is taken out of a project, or deleted, leaves at once: the keys end in the same transaction. Roles are kept
and told; what a key may do is its own affair (`admin`, `models`).

Owns users and their memberships. Knows no HTTP and no password: there are none.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from bessemer.core.errors import ConfigError, Conflict, NotFound
from bessemer.core.nouns import Noun
from bessemer.serve.accounts.audit import LOCAL, Scribe
from bessemer.serve.accounts.database import Database, Execute
from bessemer.serve.accounts.pages import Page
from bessemer.serve.keys import KeyStore

T = TypeVar("T")
Role = Literal["owner", "reader"]
ProjectRole = Literal["owner", "member"]


class User(Noun):
    """A person. Times are Unix seconds."""

    id: str
    email: Annotated[str, Field(pattern=r"^[^\s@]{1,64}@[^\s@]{1,255}$")]
    name: Annotated[str, Field(max_length=200)] = ""
    role: Role = "reader"
    created_at: float


class Member(Noun):
    """A person in a project, since a Unix second."""

    user: User
    project: str
    role: ProjectRole = "member"
    added_at: float


class Users:
    """All people.

    Args:
        database: of the accounts.
        keys: the store of their keys, in the same database.
        clock: gives Unix seconds.
        actor: in whose name the audit log notes what is done here.
    """

    def __init__(
        self, database: Database, keys: KeyStore, clock: Callable[[], float] = time.time, actor: str = LOCAL
    ) -> None:
        self._database, self._keys, self._clock, self._scribe = database, keys, clock, Scribe(actor, clock)

    def create(self, email: str, name: str = "", role: Role = "reader") -> User:
        """Return a new user.

        Raises:
            ConfigError: that is no e-mail address, or a name is too long.
            Conflict: there is one with that address.
        """
        with self._database.changing() as execute:
            return self._create(execute, email, name, role)

    def get(self, id: str) -> User:
        """Return a user that was not deleted.

        Raises:
            NotFound: there is none with that id.
        """
        return _found(self._database.read, id)

    def list(self, limit: int = 20, after: str = "", emails: Sequence[str] = ()) -> Page[User]:
        """Return a page of users, the oldest first; of these addresses only, if any are given.

        Raises:
            NotFound: there never was a user `after`.
        """
        gone = {id for (id,) in self._database.read("SELECT id FROM users WHERE deleted_at IS NOT NULL")}
        found = [_user(row) for row in self._database.read(f"SELECT {_USER} FROM users ORDER BY created_at, id")]

        def shown(user: User) -> bool:
            return user.id not in gone and (not emails or user.email in emails)

        return Page.following(found, after, limit, lambda user: user.id, shown)

    def update(self, id: str, role: Role) -> User:
        """Give a user another role and return it.

        Raises:
            NotFound: there is none with that id.
        """
        with self._database.changing() as execute:
            user = _found(execute, id)
            execute("UPDATE users SET role = ? WHERE id = ?", role, id)
            self._scribe.note(execute, "user.updated", id, role=role)
        return user.model_copy(update={"role": role})

    def delete(self, id: str) -> User:
        """Forget a user and end all its keys at once.

        Raises:
            NotFound: there is none with that id.
        """
        with self._database.changing() as execute:
            user = _found(execute, id)
            self._end_keys(execute, id)
            execute("DELETE FROM members WHERE user_id = ?", id)
            execute("UPDATE users SET deleted_at = ? WHERE id = ?", self._clock(), id)
            self._scribe.note(execute, "user.deleted", id)
        return user

    def members(self, project: str, limit: int = 20, after: str = "") -> Page[Member]:
        """Return a page of a project's members, who came first first.

        Raises:
            NotFound: there is no such project, or no member `after` any more.
        """
        _project(self._database.read, project)
        rows = self._database.read(f"{_MEMBERS} WHERE project = ? ORDER BY added_at, users.id", project)
        found = [_member(project, row) for row in rows]
        return Page.following(found, after, limit, lambda member: member.user.id, lambda member: True)

    def member(self, project: str, id: str) -> Member:
        """Return a member of a project.

        Raises:
            NotFound: the project has none with that id.
        """
        return _member_of(self._database.read, project, id)

    def add(self, project: str, id: str = "", email: str = "", role: ProjectRole = "member") -> Member:
        """Let a user into a project, and return the member; by an address that nobody has, a new user.

        Raises:
            NotFound: there is no such project, or no user with that id.
            ConfigError: neither id nor address is given, or that is no address.
            Conflict: the user is in it, or the project is archived.
        """
        with self._database.changing() as execute:
            if _project(execute, project) is not None:
                raise Conflict(f"the project '{project}' is archived", hint="Name another project.")
            if not id and not email:
                raise ConfigError("nobody is named", hint="Give a user's id or an e-mail address.", about="email")
            known = execute(f"SELECT {_USER} FROM users WHERE deleted_at IS NULL AND email = ?", email)
            user = _found(execute, id) if id else _user(known[0]) if known else self._create(execute, email)
            if execute("SELECT 1 FROM members WHERE project = ? AND user_id = ?", project, user.id):
                raise Conflict(f"the user {user.email} is in the project '{project}'", hint="Change the role instead.")
            at = self._clock()
            execute(
                "INSERT INTO members (project, user_id, role, added_at) VALUES (?, ?, ?, ?)", project, user.id, role, at
            )
            self._scribe.note(execute, "user.added", user.id, project, role=role)
        return Member(user=user, project=project, role=role, added_at=at)

    def change(self, project: str, id: str, role: ProjectRole) -> Member:
        """Give a member another role and return it.

        Raises:
            NotFound: the project has none with that id.
        """
        with self._database.changing() as execute:
            member = _member_of(execute, project, id)
            execute("UPDATE members SET role = ? WHERE project = ? AND user_id = ?", role, project, id)
            self._scribe.note(execute, "user.updated", id, project, role=role)
        return member.model_copy(update={"role": role})

    def remove(self, project: str, id: str) -> Member:
        """Take a user out of a project; the user's keys of that project end at once.

        Raises:
            NotFound: the project has none with that id.
        """
        with self._database.changing() as execute:
            member = _member_of(execute, project, id)
            self._end_keys(execute, id, project)
            execute("DELETE FROM members WHERE project = ? AND user_id = ?", project, id)
            self._scribe.note(execute, "user.removed", id, project)
        return member

    def of_keys(self) -> dict[str, str]:
        """Return whose key each is that is somebody's, ended ones too: key's id -> user's id."""
        rows = self._database.read("SELECT id, user_id FROM keys WHERE user_id <> ''")
        return {row[0]: row[1] for row in rows}

    def _create(self, execute: Execute, email: str, name: str = "", role: Role = "reader") -> User:
        try:
            id = f"user-{secrets.token_hex(12)}"
            user = User(id=id, email=email, name=name, role=role, created_at=self._clock())
        except ValueError as error:
            raise ConfigError(
                "a user needs an e-mail address, and a name of 200 characters at most",
                hint="Such as ada@example.org.",
                about="email",
            ) from error
        if execute("SELECT 1 FROM users WHERE deleted_at IS NULL AND email = ?", email):
            raise Conflict(f"there is a user {email}", hint="Use that one.")
        execute(f"INSERT INTO users ({_USER}) VALUES (?, ?, ?, ?, ?)", user.id, email, name, role, user.created_at)
        self._scribe.note(execute, "user.added", user.id, role=role)  # the address is personal: it is not in the log
        return user

    def _end_keys(self, execute: Execute, id: str, project: str = "") -> None:
        rows = execute(
            "SELECT id FROM keys WHERE user_id = ? AND revoked_at IS NULL AND ? IN ('', project)", id, project
        )
        for (key_id,) in rows:
            self._keys.end(execute, key_id)


_USER = "id, email, name, role, created_at"
_MEMBERS = (
    f"SELECT {', '.join(f'users.{name}' for name in _USER.split(', '))}, members.role, added_at"
    " FROM members JOIN users ON users.id = members.user_id"
)


def _user(row: Sequence[object]) -> User:
    return User.model_validate(dict(zip(_USER.split(", "), row, strict=True)))


def _member(project: str, row: Sequence[object]) -> Member:
    *user, role, added_at = row
    return Member.model_validate({"user": _user(user), "project": project, "role": role, "added_at": added_at})


def _found(execute: Execute, id: str) -> User:
    rows = execute(f"SELECT {_USER} FROM users WHERE deleted_at IS NULL AND id = ?", id)
    if not rows:
        raise NotFound(f"there is no user '{id}'", hint="List them first.")
    return _user(rows[0])


def _member_of(execute: Execute, project: str, id: str) -> Member:
    _project(execute, project)
    rows = execute(f"{_MEMBERS} WHERE project = ? AND users.id = ?", project, id)
    if not rows:
        raise NotFound(f"the project '{project}' has no user '{id}'", hint="List them first.")
    return _member(project, rows[0])


def _project(execute: Execute, id: str) -> float | None:
    """Return when a project was archived, None if it is open."""
    rows = execute("SELECT archived_at FROM projects WHERE id = ?", id)
    if not rows:
        raise NotFound(f"there is no project '{id}'", hint="`bessemer projects list` shows them.")
    at: float | None = rows[0][0]
    return at
