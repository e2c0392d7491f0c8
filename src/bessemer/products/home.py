"""The folder that holds all state of a factory: where each room keeps its things, and which model is deployed.

Owns the layout of `.bessemer/`. Knows no content of it but the deployments.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bessemer.core.digest import digest
from bessemer.core.errors import BessemerError, ConfigError, Conflict, NotFound
from bessemer.core.nouns import Noun

AGENT_RECORDS = "records.sqlite"
"""What an agent keeps of sessions and runs, in its product's folder."""


class Deployment(Noun):
    """A model that passed its gate and may be served.

    Attributes:
        name: what clients call the model.
        factory: that made it; empty: of the same name.
        run: the run that made it.
        key: key of the step whose artifact is served.
        path: the compiled model's folder.
        lake: URL of the lake with its tables; empty: the home's own.
        table: lake table that its retrieval reads, or empty.
        table_version: version of that table.
        deployed_at: Unix time in seconds.
    """

    name: str
    factory: str = ""
    run: str
    key: str
    path: str
    lake: str = ""
    table: str = ""
    table_version: int = 0
    deployed_at: float


class Gateway(Noun):
    """Where a running gateway answers, the process that is it, and the runs that made its models, if any here did."""

    url: str
    pid: int
    models: tuple[str, ...]
    started_at: float
    runs: tuple[str, ...] = ()


class Home:
    """The state folder; made for its owner alone.

    Args:
        path: usually ``.bessemer`` in the working folder.
        database_url: where runs are kept; SQLite in the folder unless given.
        make: make the folder; not for those who only look, who find nothing in a folder that does not exist.

    Raises:
        ConfigError: the path exists and is no folder, or cannot be made.
    """

    def __init__(self, path: Path, database_url: str = "", *, make: bool = True) -> None:
        self.path = path.absolute()
        self.database_url = database_url or f"sqlite:///{self.path / 'flow.sqlite'}"
        try:
            if make or self.path.exists():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the state folder {self.path} cannot be made: {error.strerror}",
                hint="Name another with the environment variable BESSEMER_HOME.",
            ) from error

    @property
    def artifacts(self) -> Path:
        """Published results of steps."""
        return self.path / "artifacts"

    @property
    def lake_url(self) -> str:
        """The lake's tables, of factories that declare no other lake."""
        return str(self.path / "lake")

    @property
    def books(self) -> Path:
        """Journal and ledger."""
        return self.path / "books"

    @property
    def keys(self) -> Path:
        """The gateway's keys, hashed."""
        return self.path / "keys.sqlite"

    def product(self, name: str) -> Path:
        """Return the folder that a product may keep things in while it is served."""
        return self.path / "products" / name

    @property
    def agent_records(self) -> list[Path]:
        """What agents keep of sessions and runs, of those that were served yet."""
        return sorted(self.path.glob(f"products/*/{AGENT_RECORDS}"))

    @property
    def feedback(self) -> Path | str:
        """What users said of answers; where this and what follows is a database, it is beside the runs in Postgres."""
        return self.ledger_url or self.path / "feedback.sqlite"

    @property
    def events(self) -> Path:
        """What users of clients did with items."""
        return self.path / "events.sqlite"

    @property
    def rankings(self) -> Path | str:
        """What users were shown in experiments and by exploration."""
        return self.ledger_url or self.path / "rankings.sqlite"

    @property
    def webhooks(self) -> Path | str:
        """Who is to be told of what, with the secrets that sign it."""
        return self.ledger_url or self.path / "webhooks.sqlite"

    @property
    def accounts(self) -> Path | str:
        """Where keys, projects, limits and budgets are: beside the runs in Postgres, else with the keys."""
        return self.ledger_url or self.keys

    @property
    def ledger_url(self) -> str:
        """The Postgres in which runs, accounts and the ledger are; empty if they are files of the home."""
        return "" if self.database_url.startswith("sqlite:") else self.database_url

    @property
    def workers(self) -> Path:
        """Locks of the gateways that write the books of this home."""
        return self.path / "workers"

    @property
    def answers(self) -> Path | str:
        """Answers whose clients asked to have them stored."""
        return self.ledger_url or self.path / "answers.sqlite"

    @property
    def work(self) -> Path:
        """What clients left to be done: the bytes of files, and what jobs and batches were given."""
        return self.path / "work"

    @property
    def records(self) -> Path | str:
        """What there is of files, jobs and batches."""
        return self.ledger_url or self.work / "work.sqlite"

    def left_behind(self) -> list[Path]:
        """Return the files of an earlier SQLite whose rows a home in Postgres does not see."""
        names = ("work/work.sqlite", *(f"{each}.sqlite" for each in ("feedback", "webhooks", "answers", "rankings")))
        return [self.path / name for name in names if self.ledger_url and (self.path / name).exists()]

    @property
    def machine(self) -> Path:
        """This machine as it was measured: a site's declaration."""
        return self.path / "machine.toml"

    def receipt(self, run: str) -> Path:
        """Folder of a run's receipt."""
        return self.path / "runs" / run

    def deploy(self, deployment: Deployment) -> None:
        """Make a model the one that is served under its name; replaces the earlier one at once."""
        write_whole(self.path / "deployments" / f"{deployment.name}.json", deployment.model_dump_json(indent=2))

    def deployments(self) -> list[Deployment]:
        """Return what is deployed, by name."""
        found = sorted((self.path / "deployments").glob("*.json"))
        return [Deployment.model_validate_json(path.read_text(encoding="utf-8")) for path in found]

    def use_lake(self, factory: str, url: str) -> None:
        """Remember where a factory's tables are, so that they are found without its declaration."""
        known = self._lakes()
        if url != self.lake_of(factory):
            earlier = [old for old in known.get(factory, [self.lake_url]) if old != url]
            write_whole(self.path / "lakes.json", json.dumps({**known, factory: [*earlier, url]}))

    def lake_of(self, factory: str) -> str:
        """Return the URL of the lake that a factory used last."""
        return self._lakes().get(factory, [self.lake_url])[-1]

    def lakes(self) -> list[str]:
        """Return the URLs of all lakes that any factory here ever used, the home's own first."""
        return list(dict.fromkeys([self.lake_url, *(url for urls in self._lakes().values() for url in urls)]))

    def _lakes(self) -> dict[str, list[str]]:
        path = self.path / "lakes.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def erase(self, ids: Iterable[str]) -> None:
        """Remember documents that must never be read again."""
        known = sorted({*self.erased(), *ids})
        write_whole(self.path / "erased.json", json.dumps(known))

    def erased(self) -> tuple[str, ...]:
        """Return the ids of documents that must never be read again, sorted."""
        path = self.path / "erased.json"
        return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ()

    def announce(self, gateway: Gateway | None) -> None:
        """Say where the gateway answers, or that it no longer does."""
        if gateway is None:
            (self.path / "gateway.json").unlink(missing_ok=True)
        else:
            write_whole(self.path / "gateway.json", gateway.model_dump_json(indent=2))

    def claim_artifacts(self) -> None:
        """Note which database the artifacts belong to: a run sweeps away what its own database does not know.

        Raises:
            ConfigError: they belong to another database.
        """
        mark, ours = self.artifacts / "database", digest(self.database_url)
        if mark.exists() and mark.read_text(encoding="utf-8") != ours:
            raise ConfigError(
                f"the results in {self.artifacts} belong to another database",
                hint="Name that database again, or a new BESSEMER_HOME for this one.",
            )
        if not mark.exists():
            write_whole(mark, ours)

    @contextmanager
    def results(self, *, alone: bool = False) -> Iterator[None]:
        """Hold the results of steps: beside others who use them, or alone to remove some.

        Raises:
            Conflict: somebody uses them who ought to be alone.
        """
        with (self.path / "results.lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
            except BlockingIOError as error:
                raise Conflict("a run is under way", hint="Wait until it has ended, then try again.") from error
            yield

    def withdraw(self, pid: int) -> None:
        """Say that the gateway of a process no longer answers; another's announcement stays."""
        found = self.gateway()
        if found is None or found.pid == pid:
            self.announce(None)

    def gateway(self) -> Gateway | None:
        """Return where the gateway answers, or None when its process is gone."""
        try:
            found = Gateway.model_validate_json((self.path / "gateway.json").read_text(encoding="utf-8"))
            os.kill(found.pid, 0)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        except PermissionError:
            pass  # it lives, and belongs to somebody else
        return found

    def receipts(self) -> list[Path]:
        """Return the JSON files of all receipts, the newest last."""
        return sorted((self.path / "runs").glob("*/receipt.json"), key=lambda path: path.stat().st_mtime)

    def last_receipt(self) -> Path:
        """Return the newest receipt's JSON file.

        Raises:
            NotFound: nothing has run here.
        """
        found = self.receipts()
        if not found:
            raise NotFound(f"no run has finished in {self.path}", hint="Start one with: bessemer run")
        return found[-1]


def is_there(where: Path | str) -> bool:
    """Return whether a database may have something in it: a file that exists, or a server's."""
    return isinstance(where, str) or where.exists()


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Raises:
        BessemerError: the disk is full or the folder is read-only.
    """
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with waiting.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(path)
    except OSError as error:
        with suppress(OSError):
            waiting.unlink(missing_ok=True)
        raise BessemerError(
            f"{path} cannot be written: {error.strerror}", hint="Free some space or check the permissions."
        ) from error
