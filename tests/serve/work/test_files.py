"""Files and uploads, by the official client."""

from __future__ import annotations

import hashlib
import http.client
import json
import stat
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.serve.refusals import Refused
from bessemer.serve.work.multipart import Parser

from .conftest import Office

LINES = b'{"messages": []}\n{"messages": []}\n'


def test_a_file_is_sent_listed_read_and_deleted(office: Office) -> None:
    file = office.shop.files.create(file=("chat.jsonl", LINES), purpose="fine-tune")
    assert (file.bytes, file.filename, file.purpose, file.status) == (
        len(LINES),
        "chat.jsonl",
        "fine-tune",
        "processed",
    )
    assert file.created_at == int(office.clock.now)
    assert office.shop.files.retrieve(file.id) == file
    assert office.shop.files.content(file.id).read() == LINES
    assert [each.id for each in office.shop.files.list()] == [file.id]
    assert office.shop.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        office.shop.files.retrieve(file.id)
    assert not list((office.folder / "files").iterdir())


def test_pages_and_purposes(office: Office) -> None:
    ids = [office.shop.files.create(file=(f"{n}.bin", b"x"), purpose="user_data").id for n in range(5)]
    batch = office.shop.files.create(file=("b.jsonl", b"{}\n"), purpose="batch").id
    assert [file.id for file in office.shop.files.list(purpose="batch")] == [batch]
    page = office.shop.files.list(purpose="user_data", limit=2, order="asc")
    assert [file.id for file in page.data] == ids[:2]
    assert page.has_more
    assert [file.id for file in page] == ids, "the client follows the pages"
    assert [file.id for file in office.shop.files.list(purpose="user_data", limit=3)] == ids[::-1]
    for wrong in ({"limit": 0}, {"order": "up"}):
        with pytest.raises(openai.BadRequestError):
            office.shop.files.list(**wrong)
    with pytest.raises(openai.NotFoundError):
        office.shop.files.list(after="file-none")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n{"a": \n', "Line 2 is not valid JSON"),
        (b"{}\n\n[1]\n", "Line 3 is no JSON object"),
        (b"{}\n\xff\xfe\n", "Line 2 is not valid JSON"),
        (b"\n\n", "The file has no line"),
        (b"[" * 100_000, "Line 1 is not valid JSON"),
    ],
)
@pytest.mark.parametrize("purpose", ["batch", "fine-tune"])
def test_a_wrong_line_is_named_and_nothing_is_kept(office: Office, content: bytes, said: str, purpose) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        office.shop.files.create(file=("x.jsonl", content), purpose=purpose)
    assert caught.value.param == "file"
    assert not office.shop.files.list().data
    assert not [*(office.folder / "files").iterdir(), *(office.folder / "incoming").iterdir()]


def test_files_expire(office: Office) -> None:
    expires = {"anchor": "created_at", "seconds": 3600}
    file = office.shop.files.create(file=("x", b"x"), purpose="user_data", expires_after=expires)
    assert file.expires_at == file.created_at + 3600
    office.clock.now += 3599
    assert office.shop.files.content(file.id).read() == b"x"
    office.clock.now += 1
    with pytest.raises(openai.NotFoundError):
        office.shop.files.content(file.id)
    assert not office.shop.files.list().data
    assert not list((office.folder / "files").iterdir())
    with pytest.raises(openai.BadRequestError, match="3600"):
        wrong = {"anchor": "created_at", "seconds": 1}
        office.shop.files.create(file=("x", b"x"), purpose="user_data", expires_after=wrong)


def test_sizes_are_bounded(office: Office) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        office.shop.files.create(file=("x", bytes(1_000_001)), purpose="user_data")
    assert caught.value.status_code == 413
    for _ in range(3):
        office.shop.files.create(file=("x", bytes(1_000_000)), purpose="user_data")
    with pytest.raises(openai.APIStatusError, match="3000000 bytes together") as caught:
        office.shop.files.create(file=("x", b"x"), purpose="user_data")
    assert caught.value.status_code == 413
    office.docs.files.create(file=("x", b"x"), purpose="user_data")  # another project has its own room
    assert not list((office.folder / "incoming").iterdir())


def test_a_project_never_sees_anothers(office: Office) -> None:
    file = office.shop.files.create(file=("x.jsonl", LINES), purpose="fine-tune")
    upload = office.shop.uploads.create(bytes=4, filename="x", mime_type="text/plain", purpose="user_data")
    part = office.shop.uploads.parts.create(upload.id, data=b"abcd")
    mine = office.docs.uploads.create(bytes=4, filename="x", mime_type="text/plain", purpose="user_data")
    docs = office.docs
    assert not docs.files.list().data
    for steal in (
        lambda: docs.files.retrieve(file.id),
        lambda: docs.files.content(file.id),
        lambda: docs.files.delete(file.id),
        lambda: docs.files.list(after=file.id),
        lambda: docs.uploads.parts.create(upload.id, data=b"abcd"),
        lambda: docs.uploads.complete(upload.id, part_ids=[part.id]),
        lambda: docs.uploads.cancel(upload.id),
        lambda: docs.uploads.complete(mine.id, part_ids=[part.id]),
    ):
        with pytest.raises(openai.NotFoundError):
            steal()
    assert office.shop.files.content(file.id).read() == LINES
    assert office.shop.uploads.complete(upload.id, part_ids=[part.id]).status == "completed"


def test_without_a_key_nothing_is_told_or_taken(office: Office) -> None:
    for method, path in (
        ("GET", "/v1/files"), ("POST", "/v1/files"), ("GET", "/v1/files/x"), ("DELETE", "/v1/files/x"),
        ("GET", "/v1/files/x/content"), ("POST", "/v1/uploads"), ("POST", "/v1/uploads/x/parts"),
        ("POST", "/v1/uploads/x/complete"), ("POST", "/v1/uploads/x/cancel"),
    ):  # fmt: skip
        assert office.running.ask(b"", path, method, Authorization="Bearer wrong")[0] == 401


def test_everything_is_private(office: Office) -> None:
    office.shop.files.create(file=("x", b"secret"), purpose="user_data")
    for path in [office.folder, *office.folder.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_what_was_killed_on_the_way_is_swept(office: Office) -> None:
    import os

    kept = office.shop.files.create(file=("x", b"kept"), purpose="user_data")
    for name in ("files/file-stray", "incoming/1-stray"):
        (office.folder / name).write_bytes(b"lost")
        os.utime(office.folder / name, (0, 0))
    office.work.files.remove_strays()
    assert [path.name for path in (office.folder / "files").iterdir()] == [kept.id]
    assert not list((office.folder / "incoming").iterdir())


def test_an_upload_in_parts(office: Office) -> None:
    content = bytes(range(256)) * 1000
    uploads = office.shop.uploads
    upload = uploads.create(
        bytes=len(content), filename="big.bin", mime_type="application/octet-stream", purpose="user_data"
    )
    assert (upload.status, upload.file, upload.expires_at) == ("pending", None, upload.created_at + 3600)
    second = uploads.parts.create(upload.id, data=content[100_000:])
    first = uploads.parts.create(upload.id, data=content[:100_000])
    with pytest.raises(openai.BadRequestError, match="md5") as caught:
        uploads.complete(upload.id, part_ids=[second.id, first.id], md5=hashlib.md5(content).hexdigest())
    assert caught.value.param == "md5"
    with pytest.raises(openai.BadRequestError, match="announced"):
        uploads.complete(upload.id, part_ids=[first.id])
    done = uploads.complete(upload.id, part_ids=[first.id, second.id], md5=hashlib.md5(content).hexdigest())
    assert done.status == "completed"
    assert done.file is not None
    assert office.shop.files.content(done.file.id).read() == content
    assert [path.name for path in (office.folder / "files").iterdir()] == [done.file.id]
    with pytest.raises(openai.ConflictError):
        uploads.parts.create(upload.id, data=b"x")
    with pytest.raises(openai.ConflictError):
        uploads.cancel(upload.id)


def test_the_client_uploads_in_chunks_by_itself(office: Office) -> None:
    done = office.shop.uploads.upload_file_chunked(
        file=b"0123456789" * 100, filename="n.txt", bytes=1000, mime_type="text/plain", purpose="user_data",
        part_size=300,
    )  # fmt: skip
    assert done.file is not None
    assert office.shop.files.content(done.file.id).read() == b"0123456789" * 100


def test_uploads_are_cancelled_expire_and_count_as_announced(office: Office) -> None:
    uploads = office.shop.uploads
    asked = {"filename": "x", "mime_type": "text/plain", "purpose": "user_data"}
    upload = uploads.create(bytes=900_000, **asked)
    uploads.parts.create(upload.id, data=b"abcd")
    assert uploads.cancel(upload.id).status == "cancelled"
    assert not list((office.folder / "files").iterdir())
    late = uploads.create(bytes=4, **asked)
    part = uploads.parts.create(late.id, data=b"abcd")
    office.clock.now += 3600
    with pytest.raises(openai.ConflictError, match="expired"):
        uploads.complete(late.id, part_ids=[part.id])
    assert not list((office.folder / "files").iterdir())
    for _ in range(3):
        uploads.create(bytes=1_000_000, **asked)
    with pytest.raises(openai.APIStatusError) as caught:
        uploads.create(bytes=1, **asked)
    assert caught.value.status_code == 413
    with pytest.raises(openai.BadRequestError, match="larger"):
        office.docs.uploads.create(bytes=1_000_001, **asked)
    small = office.docs.uploads.create(bytes=4, **asked)
    with pytest.raises(openai.BadRequestError, match="announced"):
        office.docs.uploads.parts.create(small.id, data=b"0123456789")


def test_an_upload_that_does_not_fit_its_purpose_can_be_mended(office: Office) -> None:
    uploads = office.shop.uploads
    upload = uploads.create(bytes=3, filename="x.jsonl", mime_type="application/jsonl", purpose="batch")
    wrong = uploads.parts.create(upload.id, data=b"[1]")
    with pytest.raises(openai.BadRequestError, match="Line 1"):
        uploads.complete(upload.id, part_ids=[wrong.id])
    right = uploads.parts.create(upload.id, data=b"{}\n")
    assert uploads.complete(upload.id, part_ids=[right.id]).status == "completed"


def _send(office: Office, body: bytes, kind: str = "multipart/form-data; boundary=b") -> tuple[int, dict]:
    connection = http.client.HTTPConnection(office.running.url.removeprefix("http://"), timeout=10)
    headers = {"Authorization": f"Bearer {office.running.secret}", "Content-Type": kind}
    connection.request("POST", "/v1/files", body, headers)
    response = connection.getresponse()
    found = response.status, json.loads(response.read())
    connection.close()
    return found


def _form(**fields: str) -> bytes:
    parts = [f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    file = '--b\r\nContent-Disposition: form-data; name="file"; filename="../../x"\r\n\r\nhi\r\n'
    return "".join([*parts, file, "--b--\r\n"]).encode()


def test_what_is_no_form_is_refused(office: Office) -> None:
    for body, kind in (
        (b"", "application/json"),
        (b"", "multipart/form-data"),
        (b"--b\r\nhello", "multipart/form-data; boundary=b"),
        (_form(purpose="user_data")[:-6], "multipart/form-data; boundary=b"),
        (b"--b--\r\n", "multipart/form-data; boundary=b"),
        (b"--bxx" + b"y" * 20_000, "multipart/form-data; boundary=b"),
        (_form(purpose="user_data", unknown="x"), "multipart/form-data; boundary=b"),
        (_form(purpose="spam"), "multipart/form-data; boundary=b"),
        (_form(), "multipart/form-data; boundary=b"),
        (_form(**{"purpose": "user_data", "expires_after[seconds]": "5000"}), "multipart/form-data; boundary=b"),
    ):
        status, said = _send(office, body, kind)
        assert (status, bool(said["error"]["message"])) == (400, True), body[:60]
    status, said = _send(office, _form(purpose="user_data"))
    assert (status, said["filename"]) == (200, "x"), "a name leads nowhere"
    assert not list((office.folder / "incoming").iterdir())


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=4), st.integers(1, 40))
def test_a_form_reads_the_same_however_it_is_cut(parts, step) -> None:
    clean = [(data.replace(b"--mark", b""), file) for data, file in parts]
    body = b"preamble"
    for number, (data, file) in enumerate(clean):
        name = f'; filename="f{number}"' if file else ""
        body += b"\r\n--mark\r\nContent-Disposition: form-data; "
        body += f'name="n{number}"{name}\r\nContent-Type: x\r\n\r\n'.encode() + data
    body += b"\r\n--mark--\r\nepilogue"
    parser, found = Parser(b"mark"), list[list]()
    for at in range(0, len(body), step):
        for kind, name, filename, data in parser.feed(body[at : at + step]):
            if kind == "part":
                found.append([name, filename, b""])
            elif kind == "data":
                found[-1][2] += data
    assert parser.ended
    assert found == [[f"n{n}", f"f{n}" if file else "", data] for n, (data, file) in enumerate(clean)]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data) -> None:
    parser = Parser(b"m")
    try:
        list(parser.feed(b"--m\r\n" + data))
    except Refused as refused:
        assert refused.refusal.status == 400


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        *(("GET", f"/v1/{what}/%00", None, 404) for what in ("models/ft:", "files", "responses", "chat/completions")),
        *(("DELETE", f"/v1/{what}/%00", None, 404) for what in ("files", "responses", "chat/completions")),
        ("GET", "/v1/webhook_endpoints/%00", None, 404),
        ("DELETE", "/v1/webhook_endpoints/%00", None, 404),
        ("GET", "/v1/webhook_endpoints?after=%00", None, 404),
        ("GET", "/v1/files?after=%00", None, 404),
        ("GET", "/v1/chat/completions?after=%00", None, 404),
        ("GET", "/v1/chat/completions?model=%00", None, 200),
        ("POST", "/v1/chat/completions", {"model": "ft:a\x00", "messages": [{"role": "user", "content": "a"}]}, 404),
        ("POST", "/v1/responses", {"model": "played", "input": "a", "previous_response_id": "resp_\x00"}, 400),
    ],
)
def test_nothing_has_a_name_with_a_zero(office: Office, method: str, path: str, body: Any, status: int) -> None:
    key = {"authorization": f"Bearer {office.shop.api_key}"}
    address = f"{str(office.shop.base_url).removesuffix('/v1/')}{path}"
    answer = httpx2.request(method, address, headers=key, json=body)
    assert answer.status_code == status, answer.text


def test_a_name_that_the_database_does_not_take_is_refused(office: Office, database_url: str) -> None:
    def named() -> Any:
        asked = {"name": "a\x00b", "url": "https://1.1.1.1", "event_types": ["batch.failed"]}
        return office.shop.post("/webhook_endpoints", body=asked, cast_to=object)

    if database_url.startswith("sqlite"):
        assert named()["name"] == "a\x00b"
    else:
        with pytest.raises(openai.BadRequestError, match="zeros"):
            named()
