"""Uploads: a large file in parts, put together when all are there; what is not finished in an hour is forgotten.

Owns uploads and their parts. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from bessemer.core.errors import ConfigError, Conflict
from bessemer.serve.database import Execute
from bessemer.serve.work.files import File, FileStore
from bessemer.serve.work.records import Record, new_id

EXPIRES_SECONDS = 3600
"""Source: the published OpenAPI description of OpenAI's API, uploads."""
KIND, PART = "upload", "upload part"
_PIECE_BYTES = 1 << 20


class Upload(Record):
    """An upload as the wire tells it; times are Unix seconds."""

    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    mime_type: str
    status: Literal["pending", "completed", "cancelled", "expired"] = "pending"
    file: File | None = None
    file_expires_after_seconds: int | None = None

    def told(self) -> dict[str, Any]:
        """Return what the wire tells."""
        return self.model_dump(mode="json", exclude={"file_expires_after_seconds", "mime_type"})


class Part(Record):
    """A part as the wire tells it."""

    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
    bytes: int


class UploadStore:
    """Uploads of all projects; their finished files are the file store's.

    Args:
        files: takes the parts, and the file in the end.
        clock: gives Unix seconds.
    """

    def __init__(self, files: FileStore, clock: Callable[[], float] = time.time) -> None:
        self.files, self._records, self._clock = files, files.records, clock
        self.now = clock

    def create(self, project: str, asked: Upload) -> Upload:
        """Begin an upload.

        Raises:
            ConfigError: the file would be larger than allowed.
            BudgetExceeded: the project would have more bytes than allowed.
        """
        most = self.files.config.max_file_bytes
        if asked.bytes > most:
            raise ConfigError(f"the file would be larger than {most} bytes", hint="Send it as several files.")
        self.sweep()
        with self._records.writing() as execute:
            self.files.check_room(self._records.held_bytes(execute, project) + asked.bytes)
            # What is announced counts at once, so that many uploads together cannot pass the bound.
            self._records.add(execute, KIND, project, asked, tag="pending")
        return asked

    def add_part(self, project: str, id: str, source: Path) -> Part:
        """Keep a part of an upload.

        Raises:
            NotFound: the project has no such upload.
            Conflict: the upload takes no more.
            ConfigError: the parts are more than was announced.
        """
        self._open(project, id)
        part = Part(id=new_id("part_"), created_at=int(self._clock()), upload_id=id, bytes=source.stat().st_size)
        self.files.place(source, part.id)
        try:
            with self._records.writing() as execute:
                upload = self._records.find(execute, KIND, project, id, Upload)
                _check_pending(upload)
                rows = execute("SELECT body FROM records WHERE kind = ? AND parent = ?", PART, id)
                sent = part.bytes + sum(Part.model_validate_json(body).bytes for (body,) in rows)
                if sent > 2 * upload.bytes:  # a part may be sent again, with another id
                    raise ConfigError(
                        f"the parts are more than twice the {upload.bytes} bytes that were announced",
                        hint="Begin an upload of the right size.",
                    )
                self._records.add(execute, PART, project, part, parent=id)
                execute("UPDATE records SET bytes = 0 WHERE id = ?", part.id)  # counted as announced
        except BaseException:
            self.files.path(part.id).unlink(missing_ok=True)
            raise
        return part

    def complete(self, project: str, id: str, part_ids: Sequence[str], md5: str = "") -> Upload:
        """Put parts together in this order, and return the upload with its file.

        Args:
            project: whose upload it is.
            id: of the upload.
            part_ids: which parts, in their order.
            md5: of the whole, hexadecimal; empty checks nothing.

        Raises:
            NotFound: the project has no such upload, or it has no such part.
            Conflict: the upload is over.
            ConfigError: size or checksum are not what was announced, or the content does not fit the purpose.
            BudgetExceeded: the project would have more bytes than allowed.
        """
        upload = self._open(project, id)
        parts = [self._records.get(PART, project, part, Part) for part in part_ids]
        if wrong := [part.id for part in parts if part.upload_id != id]:
            raise ConfigError(f"the part {wrong[0]} is of another upload", hint="Name parts of this one.")
        if sum(part.bytes for part in parts) != upload.bytes:
            raise ConfigError(
                f"the parts have {sum(part.bytes for part in parts)} bytes and {upload.bytes} were announced",
                hint="Name all parts, each once.",
            )
        check = hashlib.md5(usedforsecurity=False)
        with self.files.receiving() as (path, out):
            for part in parts:
                with self.files.held(part.id).open("rb") as source:
                    while piece := source.read(_PIECE_BYTES):
                        check.update(piece)
                        out.write(piece)
            out.flush()
            if md5 and not hmac.compare_digest(check.hexdigest().encode(), md5.lower().encode()):
                raise ConfigError(
                    "the checksum md5 is not that of the parts", hint="Send the parts again.", about="md5"
                )

            ended: list[tuple[Upload, list[str]]] = []

            def completed(execute: Execute, file: File) -> None:
                ended.append(self._put(execute, project, id, {"status": "completed", "file": file}))

            seconds = upload.file_expires_after_seconds
            self.files.add(project, path, upload.filename, upload.purpose, seconds, completed)
        ((upload, gone),) = ended
        self._unlink(gone)
        return upload

    def cancel(self, project: str, id: str) -> Upload:
        """End an upload and forget its parts.

        Raises:
            NotFound: the project has no such upload.
            Conflict: it is over.
        """
        return self._end(project, id, "cancelled")

    def sweep(self) -> None:
        """End uploads whose hour is over, and forget their parts."""
        now = self._clock()
        for project, upload in self._records.tagged(KIND, ("pending",), Upload):
            if upload.expires_at <= now:
                with suppress(Conflict):  # somebody else was faster
                    self._end(project, upload.id, "expired")

    def _open(self, project: str, id: str) -> Upload:
        self.sweep()
        upload = self._records.get(KIND, project, id, Upload)
        _check_pending(upload)
        return upload

    def _end(self, project: str, id: str, status: Literal["cancelled", "expired"]) -> Upload:
        with self._records.writing() as execute:
            upload, gone = self._put(execute, project, id, {"status": status})
        self._unlink(gone)
        return upload

    def _put(self, execute: Execute, project: str, id: str, change: dict[str, Any]) -> tuple[Upload, list[str]]:
        """End a pending upload within a transaction, and return the parts that it had.

        What it announced no longer counts. Parts without a record are strays, should nobody come to remove their bytes.
        """
        upload = self._records.find(execute, KIND, project, id, Upload)
        _check_pending(upload)
        upload = upload.model_copy(update=change)
        self._records.put(execute, upload, upload.status)
        execute("UPDATE records SET bytes = 0 WHERE id = ?", id)
        return upload, [part for (part,) in execute("DELETE FROM records WHERE parent = ? RETURNING id", id)]

    def _unlink(self, parts: Sequence[str]) -> None:
        for part in parts:
            self.files.path(part).unlink(missing_ok=True)


def _check_pending(upload: Upload) -> None:
    if upload.status != "pending":
        raise Conflict(f"the upload is {upload.status}", hint="Begin another one.")
