"""Projects and their service accounts: made, listed, renamed, archived.

Owns both. A project's id is what the books say of each request; it never changes, its name may. Knows no HTTP.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import Field

from bessemer.core.errors import ConfigError, Conflict, NotFound
from bessemer.core.nouns import Noun
from bessemer.serve.accounts.audit import LOCAL, Scribe
from bessemer.serve.accounts.database import Database, Execute
from bessemer.serve.accounts.pages import Page
from bessemer.serve.keys import Key, KeyStore

T = TypeVar("T")

_NAME = r"^\S(.{0,198}\S)?$"


class Project(Noun):
    """Whose usage is counted together. Times are Unix seconds."""

    id: Annotated[str, Field(pattern=_NAME)]
    name: Annotated[str, Field(pattern=_NAME)]
    created_at: float
    archived_at: float | None = None


class ServiceAccount(Noun):
    """Who asks in a program's name: it belongs to a project, not to a person. Times are Unix seconds."""

    id: str
    project: str
    name: Annotated[str, Field(pattern=_NAME)]
    created_at: float
    deleted_at: float | None = None


class Projects:
    """All projects.

    Args:
        database: of the accounts.
        keys: the store of its keys, in the same database.
        clock: gives Unix seconds.
        actor: in whose name the audit log notes what is done here.
    """

    def __init__(
        self, database: Database, keys: KeyStore, clock: Callable[[], float] = time.time, actor: str = LOCAL
    ) -> None:
        self._database, self._keys, self._clock = database, keys, clock
        self._scribe = Scribe(actor, clock)

    def create(self, name: str, id: str = "") -> Project:
        """Return a new project.

        Args:
            name: for people.
            id: what its keys and the books call it; the name unless given.

        Raises:
            ConfigError: the name is empty, too long or has spaces at its ends.
            Conflict: there is one with that id.
        """
        project = _valid(Project, id=id or name, name=name, created_at=self._clock())
        with self._database.changing() as execute:
            if execute("SELECT 1 FROM projects WHERE id = ?", project.id):
                raise Conflict(f"there is a project '{project.id}'", hint="Name it otherwise.")
            execute(
                "INSERT INTO projects (id, name, created_at) VALUES (?, ?, ?)",
                project.id, project.name, project.created_at,
            )  # fmt: skip
            self._scribe.note(execute, "project.created", project.id, project.id, name=name)
        return project

    def get(self, id: str) -> Project:
        """Return a project.

        Raises:
            NotFound: there is none with that id.
        """
        return _project(self._database.read, id)

    def exists(self, id: str) -> bool:
        """Whether there is such a project, archived or not."""
        return bool(self._database.read("SELECT 1 FROM projects WHERE id = ?", id))

    def is_archived(self, id: str) -> bool:
        """Whether a project is archived; of one that is not known, no."""
        return bool(self._database.read("SELECT 1 FROM projects WHERE id = ? AND archived_at IS NOT NULL", id))

    def list(self, limit: int = 20, after: str = "", include_archived: bool = False) -> Page[Project]:
        """Return a page of projects, the oldest first; `after` is the id of the last one of the page before.

        Raises:
            NotFound: there never was a project `after`.
        """
        found = [
            Project(id=id, name=name, created_at=created_at, archived_at=archived_at)
            for id, name, created_at, archived_at in self._database.read(
                "SELECT id, name, created_at, archived_at FROM projects ORDER BY created_at, id"
            )
        ]
        return Page.following(
            found, after, limit, lambda each: each.id, lambda each: include_archived or each.archived_at is None
        )

    def rename(self, id: str, name: str) -> Project:
        """Return the project under its new name.

        Raises:
            NotFound: there is none with that id.
            ConfigError: the name is empty, too long or has spaces at its ends.
            Conflict: it is archived.
        """
        with self._database.changing() as execute:
            renamed = _valid(Project, **{**self._open(execute, id).model_dump(), "name": name})
            execute("UPDATE projects SET name = ? WHERE id = ?", name, id)
            self._scribe.note(execute, "project.updated", id, id, name=name)
        return renamed

    def archive(self, id: str) -> Project:
        """End a project for good and return it: its keys are no longer accepted. Again changes nothing.

        Raises:
            NotFound: there is none with that id.
        """
        with self._database.changing() as execute:
            if _project(execute, id).archived_at is None:
                execute("UPDATE projects SET archived_at = ? WHERE id = ?", self._clock(), id)
                self._scribe.note(execute, "project.archived", id, id)
            return _project(execute, id)

    def create_service_account(
        self, project: str, name: str, expires_at: float | None = None
    ) -> tuple[ServiceAccount, Key, str]:
        """Return a new service account with its key, which may end at a time, and that key's secret, which is not kept.

        Raises:
            NotFound: there is no such project.
            ConfigError: the name is empty, too long or has spaces at its ends.
            Conflict: the project is archived.
        """
        fields = {"id": f"svc_{secrets.token_hex(8)}", "project": project, "created_at": self._clock()}
        account = _valid(ServiceAccount, name=name, **fields)
        with self._database.changing() as execute:
            self._open(execute, project)
            execute(
                "INSERT INTO service_accounts (id, project, name, created_at) VALUES (?, ?, ?, ?)",
                account.id, project, name, account.created_at,
            )  # fmt: skip
            self._scribe.note(execute, "service_account.created", account.id, project, name=name)
            key, secret = self._keys.add(execute, project, name=name, expires_at=expires_at, service_account=account.id)
        return account, key, secret

    def add_key(self, project: str, id: str, name: str = "", expires_at: float | None = None) -> tuple[Key, str]:
        """Return one more key of a service account, with its secret, which is not kept.

        Raises:
            NotFound: the project has none with that id.
            ConfigError: the name is too long.
            Conflict: the project is archived.
        """
        account = self.get_service_account(project, id)
        like = {"name": name or account.name, "expires_at": expires_at, "service_account": id}
        with self._database.changing() as execute:
            return self._keys.add(execute, project, **like)

    def rename_service_account(self, project: str, id: str, name: str) -> ServiceAccount:
        """Return a service account under its new name.

        Raises:
            NotFound: the project has none with that id.
            ConfigError: the name is empty, too long or has spaces at its ends.
        """
        fields = self.get_service_account(project, id).model_dump()
        account = _valid(ServiceAccount, **{**fields, "name": name})
        with self._database.changing() as execute:
            execute("UPDATE service_accounts SET name = ? WHERE id = ?", name, id)
            self._scribe.note(execute, "service_account.updated", id, project, name=name)
        return account

    def get_service_account(self, project: str, id: str) -> ServiceAccount:
        """Return a service account that was not deleted.

        Raises:
            NotFound: the project has none with that id.
        """
        found = [each for each in self._service_accounts(project) if each.id == id and each.deleted_at is None]
        if not found:
            raise NotFound(f"the project '{project}' has no service account '{id}'", hint="List them first.")
        return found[0]

    def list_service_accounts(self, project: str, limit: int = 20, after: str = "") -> Page[ServiceAccount]:
        """Return a page of a project's service accounts, the oldest first.

        Raises:
            NotFound: there is no such project, or there never was a service account `after` in it.
        """
        self.get(project)
        found = self._service_accounts(project)
        return Page.following(found, after, limit, lambda each: each.id, lambda each: each.deleted_at is None)

    def delete_service_account(self, project: str, id: str) -> ServiceAccount:
        """End a service account and all its keys at once.

        Raises:
            NotFound: the project has none with that id.
        """
        account = self.get_service_account(project, id)
        with self._database.changing() as execute:
            for (key_id,) in execute("SELECT id FROM keys WHERE service_account = ? AND revoked_at IS NULL", id):
                self._keys.end(execute, key_id)
            execute("UPDATE service_accounts SET deleted_at = ? WHERE id = ?", self._clock(), id)
            self._scribe.note(execute, "service_account.deleted", id, project)
        return account

    def _service_accounts(self, project: str) -> tuple[ServiceAccount, ...]:
        rows = self._database.read(
            "SELECT id, name, created_at, deleted_at FROM service_accounts WHERE project = ? ORDER BY created_at, id",
            project,
        )
        return tuple(
            ServiceAccount(id=id, project=project, name=name, created_at=at, deleted_at=ended)
            for id, name, at, ended in rows
        )

    def _open(self, execute: Execute, id: str) -> Project:
        project = _project(execute, id)
        if project.archived_at is not None:
            raise Conflict(f"the project '{id}' is archived", hint="Name another project.")
        return project


def _project(execute: Execute, id: str) -> Project:
    rows = execute("SELECT id, name, created_at, archived_at FROM projects WHERE id = ?", id)
    if not rows:
        raise NotFound(f"there is no project '{id}'", hint="`bessemer projects list` shows them.")
    return Project(**dict(zip(("id", "name", "created_at", "archived_at"), rows[0], strict=True)))


def _valid(noun: type[T], **fields: Any) -> T:
    try:
        return noun(**fields)
    except ValueError as error:
        raise ConfigError("a name has 1 to 200 characters", hint="And no spaces at its ends.") from error
