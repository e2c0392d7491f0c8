"""Webhooks by the official client: signed so that it accepts them, told until they arrive, to nobody inside."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import openai
import pytest
from openai import OpenAI

from bessemer.core.errors import NotFound, Unsupported
from bessemer.serve import FeedbackStore, GatewayParts, WebhookStore
from bessemer.serve.webhook_sender import Sender, check_url
from bessemer.serve.webhooks import RETRY_SECONDS, signed
from tests.serve.conftest import Running, start_in, until

EVENT = "feedback.created"


class Receiver(ThreadingHTTPServer):
    """Keeps what it is told and answers as a test says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.taken: list[tuple[bytes, dict[str, str]]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Taker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append((body, dict(self.headers)))
        self.send_response(self.server.status)
        self.send_header("location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        yield server
        server.shutdown()


@pytest.fixture
def served(tmp_path: Path, database_url: str) -> Iterator[Running]:
    webhooks = WebhookStore(database_url)
    feedback = FeedbackStore(database_url, {"chatcmpl-1": "tests", "chatcmpl-2": "other"}.get)
    with ExitStack() as stack, closing(webhooks), closing(feedback):
        yield start_in(tmp_path, stack, parts=GatewayParts(feedback=feedback, webhooks=webhooks), private_webhooks=True)


@pytest.fixture
def now() -> SimpleNamespace:
    return SimpleNamespace(seconds=1_800_000_000.0)


@pytest.fixture
def store(database_url: str, now: SimpleNamespace) -> Iterator[WebhookStore]:
    with closing(WebhookStore(database_url, lambda: now.seconds)) as made:
        yield made


def said(client: OpenAI, target: str = "chatcmpl-1") -> None:
    client.post("/feedback", body={"target": target, "metric": "accepted", "value": True}, cast_to=object)


def test_an_event_arrives_and_the_official_client_accepts_it(served: Running, receiver: Receiver) -> None:
    client = served.client()
    made = client.webhooks.create(name="mine", url=receiver.url, event_types=[EVENT])
    assert made.signing_secret.startswith("whsec_") and made.signing_secret[-4:] in (made.signing_secret_hint or "")
    said(client)
    until(lambda: receiver.taken)
    body, headers = receiver.taken[0]
    event = client.webhooks.unwrap(body, headers, secret=made.signing_secret)
    assert (event.type, event.object) == (EVENT, "event")
    assert json.loads(body)["data"]["target"] == "chatcmpl-1"
    for wrong in (body.replace(b"chatcmpl-1", b"chatcmpl-9"), body + b" "):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(wrong, headers, secret=made.signing_secret)
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(body, headers, secret=other)


def test_endpoints_are_made_listed_changed_and_deleted(served: Running, receiver: Receiver) -> None:
    client = served.client()
    made = [client.webhooks.create(name=f"n{i}", url=receiver.url, event_types=[EVENT]) for i in range(3)]
    assert [each.id for each in client.webhooks.list(limit=2)] == [each.id for each in reversed(made)]
    found = client.webhooks.retrieve(made[0].id)
    assert (found.name, found.url, found.event_types) == ("n0", receiver.url, [EVENT])
    assert made[0].signing_secret not in found.model_dump_json()
    assert client.webhooks.update(made[0].id, name="renamed").name == "renamed"
    assert client.webhooks.delete(made[0].id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(made[0].id)
    assert EVENT in client.webhooks.event_types.list().data


def test_a_rotated_secret_signs_beside_the_old_one_if_it_is_kept(served: Running, receiver: Receiver) -> None:
    client = served.client()
    old = client.webhooks.create(name="mine", url=receiver.url, event_types=[EVENT])
    both = client.webhooks.rotate_secret(old.id, keep_old_secret_active_for_24_hours=True)
    assert client.webhooks.test(old.id, event_type=EVENT).status_code == 200  # type: ignore[arg-type]
    for secret in (old.signing_secret, both.signing_secret):
        client.webhooks.unwrap(*receiver.taken[-1], secret=secret)
    new = client.webhooks.rotate_secret(old.id)
    client.webhooks.test(old.id, event_type=EVENT)  # type: ignore[arg-type]
    client.webhooks.unwrap(*receiver.taken[-1], secret=new.signing_secret)
    for secret in (old.signing_secret, both.signing_secret):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(*receiver.taken[-1], secret=secret)


def test_a_project_never_sees_touches_or_hears_of_another_s(served: Running, receiver: Receiver) -> None:
    mine, other = served.client(), served.client(served.keys.create("other")[1])
    made = mine.webhooks.create(name="mine", url=receiver.url, event_types=[EVENT])
    assert list(other.webhooks.list()) == []
    calls: list[Callable[[], object]] = [
        lambda: other.webhooks.retrieve(made.id),
        lambda: other.webhooks.update(made.id, name="stolen"),
        lambda: other.webhooks.rotate_secret(made.id),
        lambda: other.webhooks.test(made.id, event_type=EVENT),  # type: ignore[arg-type]
        lambda: other.webhooks.delete(made.id),
        lambda: other.webhooks.list(after=made.id),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            call()
    said(other, "chatcmpl-2")
    said(mine)
    until(lambda: receiver.taken)
    assert [json.loads(body)["data"]["target"] for body, _ in receiver.taken] == ["chatcmpl-1"]
    assert mine.webhooks.retrieve(made.id).name == "mine"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"name": "n", "url": "https://example.com", "event_types": ["video.completed"]}, "no such event"),
        ({"name": "n", "url": "https://example.com", "event_types": []}, "event_types"),
        ({"name": "n", "url": "ftp://example.com", "event_types": [EVENT]}, "https://host"),
        ({"name": "n", "url": "https://u:p@example.com/", "event_types": [EVENT]}, "user name"),
        ({"name": "n", "url": "https://example.com:99999/", "event_types": [EVENT]}, "port"),
        ({"name": "", "url": "https://example.com", "event_types": [EVENT]}, "name"),
        ({"nam": "n", "url": "https://example.com", "event_types": [EVENT]}, "name"),
    ],
)
def test_what_cannot_be_told_is_refused(served: Running, body: dict[str, object], says: str) -> None:
    status, found, _ = served.ask(json.dumps(body), "/v1/webhook_endpoints")
    assert status == 400 and says in found["error"]["message"]
    assert list(served.client().webhooks.list()) == []


def test_an_endpoint_that_nobody_answers_at_is_said_so(served: Running) -> None:
    client = served.client()
    made = client.webhooks.create(name="n", url="http://127.0.0.1:1/", event_types=[EVENT])
    with pytest.raises(openai.APIStatusError) as caught:
        client.webhooks.test(made.id, event_type=EVENT)  # type: ignore[arg-type]
    assert caught.value.status_code == 424


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
    ],
)
def test_nobody_inside_is_told_unless_that_is_declared(url: str) -> None:
    with pytest.raises(Unsupported):
        check_url(url, private=False)
    check_url(url, private=True)


def test_a_public_address_is_told() -> None:
    check_url("https://1.1.1.1/hook", private=False)


def test_what_does_not_arrive_is_told_again_and_given_up_at_last(
    store: WebhookStore, now: SimpleNamespace, receiver: Receiver
) -> None:
    store.create("p", "n", receiver.url, [EVENT])
    sender = Sender(store, private=True, clock=lambda: now.seconds)
    event = store.emit("p", EVENT, {"id": "fb_1"})
    receiver.status = 500
    for wait in RETRY_SECONDS:
        assert sender.send_due() == 0
        now.seconds += wait - 1
        assert store.claim(1.0) == []
        now.seconds += 1
    assert len(receiver.taken) == len(RETRY_SECONDS)
    sender.send_due()
    now.seconds += 1e9
    assert store.claim(1.0) == []
    assert {headers["webhook-id"] for _, headers in receiver.taken} == {event}
    sender.close()


def test_what_arrives_later_is_told_once(store: WebhookStore, now: SimpleNamespace, receiver: Receiver) -> None:
    store.create("p", "n", receiver.url, [EVENT])
    sender = Sender(store, private=True, clock=lambda: now.seconds)
    store.emit("p", EVENT, {"id": "fb_1"})
    receiver.status = 302  # a redirect is not followed: it would lead past the guard
    assert sender.send_due() == 0
    receiver.status = 204
    now.seconds += RETRY_SECONDS[0]
    assert sender.send_due() == 1
    now.seconds += 1e9
    assert sender.send_due() == 0
    assert len(receiver.taken) == 2
    sender.close()


def test_a_receiver_that_drips_holds_up_nobody(
    store: WebhookStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bessemer.serve.webhook_sender.TIMEOUT_SECONDS", 0.5)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as slow, ThreadPoolExecutor(1) as pool:

        def drip() -> None:
            connection, _ = slow.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
                for _ in range(200):
                    if over.wait(0.1):
                        break
                    connection.sendall(b"x")

        dripping = pool.submit(drip)
        store.create("p", "slow", f"http://127.0.0.1:{slow.getsockname()[1]}/", [EVENT])
        store.create("p", "quick", receiver.url, [EVENT])
        for n in range(3):
            store.emit("p", EVENT, {"id": f"fb_{n}"})
        sender, began = Sender(store, private=True), time.monotonic()
        assert sender.send_due() == 3, "one message for the slow one at a time, and the others beside it"
        assert time.monotonic() - began < 10
        over.set()
        dripping.result(10)
        sender.close()
    assert len(receiver.taken) == 3


@pytest.mark.parametrize("url", ["https://1.1.1.1/\x01", "https://1.1.1.1/" + "a" * 70_000])
def test_what_is_no_url_is_refused_and_ends_no_thread(store: WebhookStore, receiver: Receiver, url: str) -> None:
    with pytest.raises(Unsupported):
        check_url(url, private=True)
    store.create("p", "bad", url, [EVENT])  # kept by an earlier version
    store.create("p", "good", receiver.url, [EVENT])
    store.emit("p", EVENT, {"id": "fb_1"})
    with closing(Sender(store, private=True, pause_seconds=0.01)) as sender:
        sender.start()
        until(lambda: receiver.taken)
        store.emit("p", EVENT, {"id": "fb_2"})
        until(lambda: len(receiver.taken) == 2)


def test_an_event_outlives_its_gateway_and_two_of_them_do_not_tell_it_at_once(
    store: WebhookStore, now: SimpleNamespace, database_url: str
) -> None:
    store.create("p", "n", "https://example.com", [EVENT])
    store.emit("p", EVENT, {"id": "fb_1"})
    store.emit("p", "another.event", {"id": "x"})
    store.emit("q", EVENT, {"id": "fb_2"})
    store.close()
    stores = [WebhookStore(database_url, lambda: now.seconds) for _ in range(2)]
    barrier = threading.Barrier(2)

    def claim(one: WebhookStore) -> list[str]:
        barrier.wait(10)
        return [json.loads(each.body)["data"]["id"] for each in one.claim(60.0)]

    with ThreadPoolExecutor(2) as pool:
        found = [name for names in pool.map(claim, stores) for name in names]
    assert found == ["fb_1"]
    now.seconds += 60.0  # whoever claimed it died
    (again,) = stores[0].claim(60.0)
    stores[1].settle(again, delivered=True)
    now.seconds += 1e9
    assert stores[0].claim(60.0) == []


def test_a_deleted_endpoint_is_told_nothing_more(store: WebhookStore) -> None:
    made = store.create("p", "n", "https://example.com", [EVENT])
    store.emit("p", EVENT, {"id": "fb_1"})
    store.delete("p", made.id)
    assert store.claim(1.0) == []
    with pytest.raises(NotFound):
        store.sample("p", made.id, EVENT)


def test_what_is_left_of_a_deleted_endpoint_stops_no_other(store: WebhookStore) -> None:
    gone, stays = (store.create("tests", name, "https://1.1.1.1", [EVENT]) for name in ("gone", "stays"))
    store.emit("tests", EVENT, {})
    with store._database.writing() as execute:
        execute("DELETE FROM endpoints WHERE id = ?", gone.id)
    assert [each.endpoint for each in store.claim(10, 5)] == [stays.id]
    assert store._database.read("SELECT endpoint FROM deliveries") == [(stays.id,)]


def test_the_signature_is_the_specification_s_example() -> None:
    """The example of the Standard Webhooks specification's libraries."""
    from bessemer.serve.webhooks import Delivery

    message = Delivery(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", "we", "https://example.com", '{"test": 2432232314}',
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
    )  # fmt: skip
    headers = signed(message, 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
