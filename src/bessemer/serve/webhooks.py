"""Webhooks: who wants to be told of what, and what is still to be told.

An event is kept before `emit` returns and told at least once, to every endpoint of its project that asked for its type;
a receiver tells repeats by ``webhook-id``. Messages are signed the Standard-Webhooks way.

Owns the database of endpoints and deliveries, and signatures. Knows no HTTP.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from bessemer.core.errors import NotFound
from bessemer.serve.database import Database, Execute

EVENT_TYPES = (
    "feedback.created",
    *(f"fine_tuning.job.{how}" for how in ("succeeded", "failed", "cancelled")),
    *(f"dataset.{how}" for how in ("succeeded", "failed", "cancelled")),
    "budget.threshold_reached",
    *(f"batch.{how}" for how in ("completed", "failed", "cancelled", "expired")),
)
"""What this gateway tells of. Others are added with the parts that emit them."""

RETRY_SECONDS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Waits after each failed attempt; after the last the delivery is given up. Source: the specification's schedule."""

OLD_SECRET_SECONDS = 86_400.0
_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS endpoints (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, name TEXT NOT NULL,
        url TEXT NOT NULL, event_types TEXT NOT NULL, secret TEXT NOT NULL, old_secret TEXT NOT NULL DEFAULT '',
        old_until REAL NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS deliveries (
        event TEXT NOT NULL, endpoint TEXT NOT NULL, body TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
        due_at REAL NOT NULL, PRIMARY KEY (event, endpoint)
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS once (event TEXT PRIMARY KEY) STRICT",
    "CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at)",
)
_COLUMNS = "sequence, id, name, url, event_types, secret, old_secret, old_until, created_at, updated_at"


class Endpoint(BaseModel):
    """An endpoint as the wire tells it; times are Unix seconds."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    created_at: int
    updated_at: int
    signing_secret_hint: str


class EndpointWithSecret(Endpoint):
    """The same with its secret, told when it is made or rotated and never again."""

    signing_secret: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message to be sent.

    Attributes:
        event: its id, the same in every attempt.
        endpoint: whom to.
        url: where.
        body: JSON, sent as it stands.
        keys: the endpoint's secrets that are valid now.
        attempts: made before this one.
    """

    event: str
    endpoint: str
    url: str
    body: str
    keys: tuple[str, ...]
    attempts: int = 0


def signed(delivery: Delivery, now: float) -> dict[str, str]:
    """Return the headers of a delivery: id, time, and a signature by each valid secret.

    Source: the specification: base64 of HMAC-SHA256 over ``id.timestamp.body``, version ``v1``.
    """
    stamp = str(int(now))
    content = f"{delivery.event}.{stamp}.{delivery.body}".encode()
    marks = [
        base64.b64encode(hmac.digest(base64.b64decode(key.removeprefix("whsec_")), content, hashlib.sha256)).decode()
        for key in delivery.keys
    ]
    return {
        "webhook-id": delivery.event,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{mark}" for mark in marks),
        "content-type": "application/json",
    }


class WebhookStore:
    """Endpoints and deliveries; for several threads and processes at once.

    Args:
        where: path of the database, made if missing, readable by its owner only; or the URL of a Postgres. It holds the
            secrets themselves: a signature cannot be made of a hash.
        clock: gives Unix seconds.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
        BackendError: the server cannot be reached.
    """

    def __init__(self, where: Path | str, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._database = Database(where, _SCHEMA, "webhooks")

    def create(self, project: str, name: str, url: str, event_types: Sequence[str]) -> EndpointWithSecret:
        """Return a new endpoint of a project with its secret."""
        secret, now = _secret(), int(self._clock())
        row = (f"we_{secrets.token_hex(12)}", project, name, url, json.dumps(list(event_types)), secret, now, now)
        with self._database.writing() as execute:
            execute(
                "INSERT INTO endpoints (id, project, name, url, event_types, secret, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *row,
            )
        return EndpointWithSecret(**self.get(project, row[0]).model_dump(), signing_secret=secret)

    def get(self, project: str, id: str) -> Endpoint:
        """Return an endpoint.

        Raises:
            NotFound: the project has none of that id.
        """
        return _endpoint(_row(self._database.read, project, id))

    def page(self, project: str, after: str = "", limit: int = 20) -> tuple[list[Endpoint], bool]:
        """Return a project's endpoints, the newest first, and whether there are more.

        Raises:
            NotFound: `after` is no endpoint of this project.
        """
        before = _row(self._database.read, project, after)["sequence"] if after else 2**62
        where = "WHERE project = ? AND sequence < ? ORDER BY sequence DESC LIMIT ?"
        rows = _rows(self._database.read, where, project, before, limit + 1)
        return [_endpoint(row) for row in rows[:limit]], len(rows) > limit

    def update(self, project: str, id: str, changes: Mapping[str, Any]) -> Endpoint:
        """Change name, url or event_types of an endpoint and return it.

        Raises:
            NotFound: the project has none of that id.
        """
        with self._database.writing() as execute:
            old = _endpoint(_row(execute, project, id))
            new = old.model_copy(update=dict(changes))
            if new != old:
                execute(
                    "UPDATE endpoints SET name = ?, url = ?, event_types = ?, updated_at = ? WHERE id = ?",
                    new.name, new.url, json.dumps(new.event_types), int(self._clock()), id,
                )  # fmt: skip
            return _endpoint(_row(execute, project, id))

    def rotate(self, project: str, id: str, keep_old: bool) -> EndpointWithSecret:
        """Give an endpoint a new secret and return both; the old one may be valid beside it for a day.

        Raises:
            NotFound: the project has none of that id.
        """
        secret, now = _secret(), self._clock()
        with self._database.writing() as execute:
            row = _row(execute, project, id)
            old = row["secret"] if keep_old else ""
            execute(
                "UPDATE endpoints SET secret = ?, old_secret = ?, old_until = ?, updated_at = ? WHERE id = ?",
                secret, old, now + OLD_SECRET_SECONDS if old else 0, int(now), id,
            )  # fmt: skip
            found = _endpoint(_row(execute, project, id))
        return EndpointWithSecret(**found.model_dump(), signing_secret=secret)

    def delete(self, project: str, id: str) -> None:
        """Forget an endpoint and what it was still to be told.

        Raises:
            NotFound: the project has none of that id.
        """
        with self._database.writing() as execute:
            _row(execute, project, id)
            execute("DELETE FROM endpoints WHERE id = ?", id)
            execute("DELETE FROM deliveries WHERE endpoint = ?", id)

    def emit(self, project: str, event_type: str, data: Mapping[str, Any], event: str = "") -> str:
        """Keep an event for every endpoint of the project that asked for its type; return the event's id.

        Args:
            project: whose endpoints are told.
            event_type: one of `EVENT_TYPES`.
            data: what is told.
            event: an id of one's own: whatever was kept by it before is not kept again.
        """
        now, named = self._clock(), bool(event)
        event = event or f"evt_{secrets.token_hex(12)}"
        body = event_body(event, event_type, data, now)
        once = "INSERT INTO once (event) VALUES (?) ON CONFLICT DO NOTHING RETURNING 1"
        with self._database.writing() as execute:
            if named and not execute(once, event):
                return event
            for endpoint, types in execute("SELECT id, event_types FROM endpoints WHERE project = ?", project):
                if event_type in json.loads(types):
                    execute(
                        "INSERT INTO deliveries (event, endpoint, body, due_at) VALUES (?, ?, ?, ?)",
                        event, endpoint, body, now,
                    )  # fmt: skip
        return event

    def claim(self, lease_seconds: float, most: int = 1) -> list[Delivery]:
        """Return what is due first, one for each endpoint; no other process gets it within the lease."""
        now, found = self._clock(), list[Delivery]()
        first = "SELECT *, ROW_NUMBER() OVER (PARTITION BY endpoint ORDER BY due_at) AS place FROM deliveries"
        due = f"SELECT event, endpoint, body, attempts FROM ({first} WHERE due_at <= ?) AS due WHERE place = 1"
        if not self._database.read("SELECT 1 FROM deliveries WHERE due_at <= ? LIMIT 1", now):
            return []
        with self._database.writing() as execute:
            for event, endpoint, body, attempts in execute(f"{due} ORDER BY due_at LIMIT ?", now, most):
                rows = _rows(execute, "WHERE id = ?", endpoint)
                found += [Delivery(event, endpoint, row["url"], body, _keys(row, now), attempts) for row in rows]
                if not rows:  # an event was kept while its endpoint was deleted
                    execute("DELETE FROM deliveries WHERE endpoint = ?", endpoint)
            execute.many(
                "UPDATE deliveries SET due_at = ? WHERE event = ? AND endpoint = ?",
                [(now + lease_seconds, each.event, each.endpoint) for each in found],
            )
        return found

    def settle(self, delivery: Delivery, delivered: bool) -> None:
        """Forget a delivery that arrived, or was tried for the last time; put another one off."""
        done = delivered or delivery.attempts >= len(RETRY_SECONDS)
        which = "WHERE event = ? AND endpoint = ?", delivery.event, delivery.endpoint
        with self._database.writing() as execute:
            if done:
                execute(f"DELETE FROM deliveries {which[0]}", *which[1:])
            else:
                again = self._clock() + RETRY_SECONDS[delivery.attempts]
                execute(f"UPDATE deliveries SET attempts = attempts + 1, due_at = ? {which[0]}", again, *which[1:])

    def sample(self, project: str, id: str, event_type: str) -> Delivery:
        """Return a delivery of a made-up event, which is not kept.

        Raises:
            NotFound: the project has no endpoint of that id.
        """
        now, event = self._clock(), f"evt_{secrets.token_hex(12)}"
        row = _row(self._database.read, project, id)
        body = event_body(event, event_type, {"id": "sample"}, now)
        return Delivery(event, id, row["url"], body, _keys(row, now))

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def event_body(event: str, event_type: str, data: Mapping[str, Any], now: float) -> str:
    """Return an event as JSON."""
    told = {"id": event, "object": "event", "created_at": int(now), "type": event_type, "data": dict(data)}
    return json.dumps(told, separators=(",", ":"))


def _secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _keys(row: Mapping[str, Any], now: float) -> tuple[str, ...]:
    return (row["secret"], row["old_secret"]) if row["old_secret"] and row["old_until"] > now else (row["secret"],)


def _rows(read: Execute, where: str, *values: Any) -> list[dict[str, Any]]:
    """Return endpoints, by the names of their columns."""
    rows = read(f"SELECT {_COLUMNS} FROM endpoints {where}", *values)
    return [dict(zip(_COLUMNS.split(", "), row, strict=True)) for row in rows]


def _row(read: Execute, project: str, id: str) -> dict[str, Any]:
    rows = _rows(read, "WHERE project = ? AND id = ?", project, id)
    if not rows:
        raise NotFound(f"there is no webhook endpoint '{id}'", hint="`GET /v1/webhook_endpoints` lists them.")
    return rows[0]


def _endpoint(row: Mapping[str, Any]) -> Endpoint:
    names = ("id", "name", "url", "created_at", "updated_at")
    hint = f"whsec_…{row['secret'][-4:]}"
    types = json.loads(row["event_types"])
    return Endpoint(**{name: row[name] for name in names}, event_types=types, signing_secret_hint=hint)
