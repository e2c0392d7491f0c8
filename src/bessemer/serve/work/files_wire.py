"""``/v1/files`` and ``/v1/uploads``.

Owns the endpoints and their schemas. Source: the published OpenAPI description of OpenAI's API, files and uploads.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bessemer.serve.refusals import Refusal, Refused, invalid, unsupported
from bessemer.serve.work.desk import Body, Desk, asked, limit_of, listed, newest_first, told
from bessemer.serve.work.files import PURPOSES, FileStore
from bessemer.serve.work.multipart import Form, read_form
from bessemer.serve.work.records import Wanted, new_id
from bessemer.serve.work.uploads import EXPIRES_SECONDS, Upload, UploadStore

_PAGE = 10_000
_PIECE_BYTES = 1 << 18
MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS = 3600, 2_592_000
"""Source: the published OpenAPI description of OpenAI's API, expires_after of files."""


class ExpiresAfter(Body):
    """When the file is forgotten, counted from when it was made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_EXPIRY_SECONDS, le=MAX_EXPIRY_SECONDS)]


class AskedUpload(Body):
    """A new upload."""

    bytes: Annotated[int, Field(ge=1)]
    filename: Annotated[str, Field(min_length=1, max_length=500)]
    mime_type: Annotated[str, Field(min_length=1, max_length=200)]
    purpose: Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
    expires_after: ExpiresAfter | None = None


class Completed(Body):
    """Which parts an upload is made of."""

    part_ids: Annotated[list[str], Field(min_length=1, max_length=100_000)]
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$")] | None = None


class FileDesk:
    """The endpoints of files; each sees the key's own project only."""

    def __init__(self, desk: Desk, files: FileStore) -> None:
        self._desk, self._files = desk, files

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("/v1/files", self.create, methods=["POST"]),
            Route("/v1/files", self.list, methods=["GET"]),
            Route("/v1/files/{id}", self.get, methods=["GET"]),
            Route("/v1/files/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{id}/content", self.content, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Take a file."""
        project, config = self._desk.key(request).project, self._desk.config
        receiving = self._files.receiving()
        path, out = await run_in_threadpool(receiving.__enter__)
        try:
            form = await read_form(request, out, self._files.config.max_file_bytes, config.body_timeout_seconds)
            purpose, seconds = _asked_of(form)
            name = Path(form.filename).name[:500] or "file"
            file = await asked(self._files.add, project, path, name, purpose, seconds, param="file")
        finally:
            await run_in_threadpool(receiving.__exit__, None, None, None)
        return told(file)

    async def list(self, request: Request) -> Response:
        """Return a page, the newest first unless `order` is ``asc``."""
        project, given = self._desk.key(request).project, request.query_params
        wanted = Wanted(
            after=given.get("after", ""),
            limit=limit_of(request, _PAGE, _PAGE),
            newest_first=newest_first(request),
            tag=given.get("purpose", ""),
        )
        page = await asked(self._files.page, project, wanted, param="after")
        return listed((file.model_dump(mode="json") for file in page.items), page.has_more)

    async def get(self, request: Request) -> Response:
        """Return one file's record."""
        return told(await asked(self._files.get, *self._named(request)))

    async def delete(self, request: Request) -> Response:
        """Forget one file."""
        project, id = self._named(request)
        await asked(self._files.delete, project, id)
        return told({"id": id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """Return one file's bytes."""
        project, id = self._named(request)
        file = await asked(self._files.get, project, id)
        try:
            descriptor = await run_in_threadpool(os.open, self._files.path(id), os.O_RDONLY)
        except FileNotFoundError:
            told = "The file was deleted, or its bytes are in another state folder than this gateway's."
            raise Refused(Refusal(404, told, "not_found")) from None
        headers = {
            "content-length": str(file.bytes),
            "content-disposition": f"attachment; filename*=utf-8''{quote(file.filename)}",
        }
        return StreamingResponse(_pieces(descriptor), media_type="application/octet-stream", headers=headers)

    def _named(self, request: Request) -> tuple[str, str]:
        return self._desk.key(request).project, request.path_params["id"]


class UploadDesk:
    """The endpoints of uploads; each sees the key's own project only."""

    def __init__(self, desk: Desk, uploads: UploadStore) -> None:
        self._desk, self._uploads = desk, uploads

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("/v1/uploads", self.create, methods=["POST"]),
            Route("/v1/uploads/{id}/parts", self.part, methods=["POST"]),
            Route("/v1/uploads/{id}/complete", self.complete, methods=["POST"]),
            Route("/v1/uploads/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Begin an upload."""
        project = self._desk.key(request).project
        body = await self._desk.read(request, AskedUpload)
        now = int(self._uploads.now())
        upload = Upload(
            id=new_id("upload_"),
            **body.model_dump(exclude={"expires_after"}),
            created_at=now,
            expires_at=now + EXPIRES_SECONDS,
            file_expires_after_seconds=body.expires_after.seconds if body.expires_after else None,
        )
        return told((await asked(self._uploads.create, project, upload, param="bytes")).told())

    async def part(self, request: Request) -> Response:
        """Take a part."""
        project, config, files = self._desk.key(request).project, self._desk.config, self._uploads.files
        receiving = files.receiving()
        path, out = await run_in_threadpool(receiving.__enter__)
        try:
            form = await read_form(request, out, files.config.max_file_bytes, config.body_timeout_seconds)
            if form.file_field != "data":
                raise Refused(Refusal(400, "Send the part in the field 'data'.", "missing_required_parameter", "data"))
            part = await asked(self._uploads.add_part, project, request.path_params["id"], path, param="data")
        finally:
            await run_in_threadpool(receiving.__exit__, None, None, None)
        return told(part.model_dump(mode="json", exclude={"bytes"}))

    async def complete(self, request: Request) -> Response:
        """Put the parts together."""
        project, body = self._desk.key(request).project, await self._desk.read(request, Completed)
        done = await asked(
            self._uploads.complete, project, request.path_params["id"], body.part_ids, body.md5 or "", param="part_ids"
        )
        return told(done.told())

    async def cancel(self, request: Request) -> Response:
        """End an upload."""
        project = self._desk.key(request).project
        return told((await asked(self._uploads.cancel, project, request.path_params["id"])).told())


def _asked_of(form: Form) -> tuple[str, int | None]:
    """Return purpose and lifetime of a file."""
    if form.file_field != "file":
        raise Refused(Refusal(400, "Send the file in the field 'file'.", "missing_required_parameter", "file"))
    known = {"purpose", "expires_after[anchor]", "expires_after[seconds]"}
    if unknown := sorted(set(form.fields) - known):
        raise Refused(unsupported(unknown[0], f"Unknown parameter: '{unknown[0][:64]}'."))
    purpose = form.fields.get("purpose", "")
    if purpose not in PURPOSES:
        raise Refused(invalid("purpose", f"'purpose' is one of {', '.join(PURPOSES)}."))
    seconds = form.fields.get("expires_after[seconds]")
    if seconds is None and "expires_after[anchor]" not in form.fields:
        return purpose, None
    if form.fields.get("expires_after[anchor]") != "created_at":
        raise Refused(invalid("expires_after[anchor]", "'expires_after[anchor]' is created_at."))
    if not seconds or not seconds.isdecimal() or len(seconds) > 8:
        raise Refused(invalid("expires_after[seconds]", "'expires_after[seconds]' is a number of seconds."))
    if not MIN_EXPIRY_SECONDS <= int(seconds) <= MAX_EXPIRY_SECONDS:
        told = f"'expires_after[seconds]' is from {MIN_EXPIRY_SECONDS} to {MAX_EXPIRY_SECONDS}."
        raise Refused(invalid("expires_after[seconds]", told))
    return purpose, int(seconds)


async def _pieces(descriptor: int) -> AsyncIterator[bytes]:
    with os.fdopen(descriptor, "rb") as file:
        while piece := await run_in_threadpool(file.read, _PIECE_BYTES):
            yield piece
