"""What is remembered: runs, their steps, who works on which key, and the results.

Owns the tables and every transaction. A run's progress is never counted up: a step is ready when the results of all
that it needs are there, so no wake-up can be lost, whoever finishes when. Knows no file and no process.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bessemer.core.digest import digest_bytes
from bessemer.core.errors import Conflict, NotFound
from bessemer.flow.attempt import Outcome
from bessemer.flow.database import Database, Execute
from bessemer.flow.declare import Flow

_SCHEMA = Path(__file__).with_name("schema.sql").read_text()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. `status` is running, finished, failed or cancelled; a run whose coordinator died is still running."""

    id: str
    flow: str
    status: str
    error: str
    hint: str
    created_at: float


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a run. `state` is waiting, running, done or failed; `attempts` counts starts, `failures` failures."""

    name: str
    state: str
    key: str
    attempts: int
    failures: int
    not_before: float
    error: str
    hint: str


@dataclass(frozen=True, slots=True)
class Result:
    """A published result. `folder` is its name below the artifacts' folder `published`."""

    key: str
    fence: int
    step: str
    outcome: Outcome = field(repr=False)

    @property
    def folder(self) -> str:
        """Name of the folder that holds the files."""
        return f"{self.key}-{self.fence}"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to attempt a step of a run: of all claims to a key, the one with the highest fence may publish."""

    run: str
    step: str
    key: str
    queue: str = "default"
    fence: int = 0
    attempt: int = 0


class Store(AbstractContextManager["Store"]):
    """The state of all flows in one database; any number of coordinators share it.

    Args:
        database: where the tables are.
        clock: Unix time in seconds. Clocks that differ between machines cost double work, never a wrong result.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self.clock = clock
        with database.transaction() as execute:
            if database.is_postgres:  # two that create a table at the same moment would collide
                execute("SELECT pg_advisory_xact_lock(7205759)")
            for statement in _SCHEMA.split(";\n"):
                execute(statement)

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # --- runs ---------------------------------------------------------------------------------------------------------

    def submit(self, flow: Flow, idempotency_key: str = "", trigger: tuple[str, str] | None = None) -> str:
        """Return the id of a new run; or that of the run with this idempotency key, or of the same flow if it runs.

        Args:
            flow: what to run.
            idempotency_key: makes submitting it again harmless, for ever.
            trigger: name and fingerprint of what asks for it; nothing is submitted if it asked the same last.

        Returns:
            The run's id, or "" if the trigger has nothing new.

        Raises:
            Conflict: the idempotency key belongs to another flow.
        """
        declaration, run = flow.dump(), uuid.uuid4().hex[:12]
        active = digest_bytes(declaration.encode())
        with self._database.transaction() as execute:
            if trigger and not execute(
                "INSERT INTO triggers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint"
                " WHERE triggers.fingerprint <> excluded.fingerprint RETURNING name",
                *trigger,
            ):
                return ""
            values = (run, flow.name, declaration, self.clock(), idempotency_key or None, active)
            insert = "INSERT INTO runs VALUES (?, ?, ?, 'running', '', '', ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id"
            while not execute(insert, *values):
                if existing := self._existing(idempotency_key, active, declaration):
                    return existing  # else the run that stood in the way has just ended
            for position, step in enumerate(flow.steps):
                execute("INSERT INTO steps VALUES (?, ?, ?, 'waiting', '', 0, 0, 0, '', '')", run, step.name, position)
        return run

    def _existing(self, idempotency_key: str, active: str, declaration: str) -> str:
        found = self._database.execute("SELECT id, declaration FROM runs WHERE idempotency_key = ?", idempotency_key)
        if found and found[0][1] != declaration:
            told = f"idempotency key '{idempotency_key}' belongs to run {found[0][0]} of another flow"
            raise Conflict(told, hint="Use a new key for a changed flow.")
        found = found or self._database.execute("SELECT id, declaration FROM runs WHERE active = ?", active)
        return str(found[0][0]) if found else ""

    def fingerprint(self, trigger: str) -> str | None:
        """Return the fingerprint with which a trigger last submitted a run, or None."""
        rows = self._database.execute("SELECT fingerprint FROM triggers WHERE name = ?", trigger)
        return rows[0][0] if rows else None

    def run(self, run: str) -> RunRecord:
        """Return a run.

        Raises:
            NotFound: there is no such run.
        """
        found = self._database.execute(f"SELECT {_RUN} FROM runs WHERE id = ?", run)
        if not found:
            raise NotFound(f"there is no run '{run}'", hint="List the runs that there are.")
        return RunRecord(*found[0])

    def runs(self, status: str = "") -> list[RunRecord]:
        """Return all runs, or those of a status, oldest first."""
        rows = self._database.execute(f"SELECT {_RUN} FROM runs ORDER BY created_at, id")
        return [record for record in (RunRecord(*row) for row in rows) if status in ("", record.status)]

    def flow(self, run: str) -> Flow:
        """Return the flow that a run was submitted with."""
        return Flow.load(self._database.execute("SELECT declaration FROM runs WHERE id = ?", run)[0][0])

    def steps(self, run: str) -> list[StepRecord]:
        """Return a run's steps, in an order in which they can run."""
        rows = self._database.execute(f"SELECT {_STEP} FROM steps WHERE run = ? ORDER BY position", run)
        return [StepRecord(*row) for row in rows]

    def end(self, run: str, status: str, error: str = "", hint: str = "") -> None:
        """End a run if it is still running."""
        sql = "UPDATE runs SET status = ?, error = ?, hint = ?, active = NULL WHERE id = ? AND status = 'running'"
        self._database.execute(sql, status, error, hint, run)

    def settle(self, run: str, keys: Mapping[str, str]) -> None:
        """Note which steps of a run (name -> key) have their result."""
        sql = "UPDATE steps SET state = 'done', key = ?, error = '', hint = '' WHERE run = ? AND name = ?"
        with self._database.transaction() as execute:
            for name, key in keys.items():
                execute(sql, key, run, name)

    # --- results ------------------------------------------------------------------------------------------------------

    def result(self, key: str) -> Result | None:
        """Return the result of a key, or None."""
        rows = self._database.execute("SELECT key, fence, step, outcome FROM results WHERE key = ?", key)
        return next((Result(k, fence, step, Outcome.model_validate_json(text)) for k, fence, step, text in rows), None)

    def drop(self, result: Result) -> None:
        """Forget a result that is damaged, so that it is made again."""
        self._database.execute("DELETE FROM results WHERE key = ? AND fence = ?", result.key, result.fence)

    # --- leases -------------------------------------------------------------------------------------------------------

    def claim(self, claim: Claim, owner: str, lease_seconds: float, limit: int) -> Claim | None:
        """Return the claim with its fence if the key is free, has no result, and its queue has room; else None."""
        now = self.clock()
        with self._database.transaction() as execute:
            execute("INSERT INTO queues VALUES (?) ON CONFLICT DO NOTHING", claim.queue)
            execute("SELECT name FROM queues WHERE name = ? FOR UPDATE", claim.queue)
            (busy,) = execute("SELECT COUNT(*) FROM leases WHERE queue = ? AND expires_at > ?", claim.queue, now)[0]
            if busy >= limit:
                return None
            execute("INSERT INTO leases VALUES (?, 0, '', '', 0) ON CONFLICT DO NOTHING", claim.key)
            sql = "SELECT fence FROM leases WHERE key = ? AND expires_at <= ? FOR UPDATE SKIP LOCKED"
            free = execute(sql, claim.key, now)
            if not free or execute("SELECT key FROM results WHERE key = ?", claim.key):
                return None
            fence = free[0][0] + 1
            values = (fence, owner, claim.queue, now + lease_seconds, claim.key)
            execute("UPDATE leases SET fence = ?, owner = ?, queue = ?, expires_at = ? WHERE key = ?", *values)
            sql = "UPDATE steps SET state = 'running', key = ?, attempts = attempts + 1 WHERE run = ? AND name = ?"
            ((attempt,),) = execute(f"{sql} RETURNING attempts", claim.key, claim.run, claim.step)
        return replace(claim, fence=fence, attempt=attempt)

    def renew(self, owner: str, lease_seconds: float) -> set[tuple[str, int]]:
        """Extend an owner's leases; return (key, fence) of those that are still its own."""
        held = "owner = ? AND expires_at > 0"  # one that was released must not fill the queue again
        sql = f"UPDATE leases SET expires_at = ? WHERE {held} RETURNING key, fence"
        return {(key, fence) for key, fence in self._database.execute(sql, self.clock() + lease_seconds, owner)}

    def publish(self, claim: Claim, outcome: Outcome, move: Callable[[], None]) -> Result:
        """Record a result and return it; `move` puts its files in place, in the same transaction.

        Raises:
            Conflict: the claim was overtaken; nothing was moved.
        """
        with self._database.transaction() as execute:
            _hold(execute, claim)
            move()
            values = (claim.key, claim.fence, claim.step, outcome.model_dump_json(), self.clock())
            execute("INSERT INTO results VALUES (?, ?, ?, ?, ?)", *values)
            done = "UPDATE steps SET state = 'done', error = '', hint = '' WHERE run = ? AND name = ?"
            execute(done, claim.run, claim.step)
            _release(execute, claim)
        return Result(claim.key, claim.fence, claim.step, outcome)

    def fail(self, claim: Claim, outcome: Outcome, retry_after_seconds: float | None) -> None:
        """Record a failure; None means for good.

        Raises:
            Conflict: the claim was overtaken: its failure is of no interest.
        """
        state, pause = ("failed", 0.0) if retry_after_seconds is None else ("waiting", retry_after_seconds)
        with self._database.transaction() as execute:
            _hold(execute, claim)
            values = (state, self.clock() + pause, outcome.error, outcome.hint, claim.run, claim.step)
            changes = "state = ?, failures = failures + 1, not_before = ?, error = ?, hint = ?"
            execute(f"UPDATE steps SET {changes} WHERE run = ? AND name = ?", *values)
            _release(execute, claim)

    def release(self, claim: Claim) -> None:
        """Give a claim back without an outcome, if it is still held."""
        with self._database.transaction() as execute:
            _release(execute, claim)
            waiting = "UPDATE steps SET state = 'waiting' WHERE run = ? AND name = ? AND state = 'running'"
            execute(waiting, claim.run, claim.step)

    def owners(self) -> list[str]:
        """Return who holds leases."""
        rows = self._database.execute("SELECT DISTINCT owner FROM leases WHERE expires_at > ?", self.clock())
        return [owner for (owner,) in rows]

    def bury(self, owner: str) -> None:
        """End all leases of an owner that is known to be dead."""
        self._database.execute("UPDATE leases SET expires_at = 0 WHERE owner = ?", owner)

    def folders(self) -> tuple[set[str], set[str]]:
        """Return ``<key>-<fence>`` of attempts that may still run, and of results; one look at both."""
        sql = "SELECT key, fence, 0 FROM leases WHERE expires_at > 0 UNION ALL SELECT key, fence, 1 FROM results"
        living, published = set[str](), set[str]()
        for key, fence, is_result in self._database.execute(sql):
            (published if is_result else living).add(f"{key}-{fence}")
        return living, published


def _hold(execute: Execute, claim: Claim) -> None:
    """Lock the lease until the transaction ends, so that nobody takes the key over meanwhile."""
    sql = "SELECT fence FROM leases WHERE key = ? AND fence = ? AND expires_at > 0 FOR UPDATE"
    if not execute(sql, claim.key, claim.fence):
        raise Conflict(f"another coordinator took step '{claim.step}' over", hint="Nothing is lost: it goes on.")


def _release(execute: Execute, claim: Claim) -> None:
    execute("UPDATE leases SET expires_at = 0 WHERE key = ? AND fence = ?", claim.key, claim.fence)


_RUN = "id, flow, status, error, hint, created_at"
_STEP = "name, state, key, attempts, failures, not_before, error, hint"


def open_store(url: str, clock: Callable[[], float] = time.time) -> Store:
    """Return the store at ``sqlite:///path`` or ``postgresql://...``; the tables are made if there are none.

    Raises:
        ConfigError: the URL is of another kind.
        MissingDependency: psycopg is not installed.
        BackendError: the database cannot be reached.
    """
    return Store(Database(url), clock)
