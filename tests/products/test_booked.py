"""Usage and costs by the official client and from the books: what stands there, in buckets, to the micro-unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI

from bessemer.core.nouns import Boundary, Carbon, EnergyClass, Entry, Measurement, Subject, Usage
from bessemer.core.units import Money
from bessemer.core.usage import UsageQuery
from bessemer.infer import EchoConfig, open_engine
from bessemer.meter import Journal, Ledger, MeterConfig, PriceHistory, open_ledger, open_meter
from bessemer.products.billing import HomeBilling
from bessemer.products.booked import BookedUsage
from bessemer.products.home import Home
from bessemer.products.invoices import InvoiceBook
from bessemer.serve import GatewayConfig, GatewayParts, create_app, open_accounts
from bessemer.serve.server import GatewayServer
from tests.serve.conftest import serve_in_thread

DAY = 86_400
NOON = 20_000 * DAY + DAY // 2

PRICES = PriceHistory.model_validate(
    {
        "books": [
            {
                "version": "one",
                "default": {
                    "input": 1_000_000,
                    "output": 3_333_333,
                    "cached": 100_000,
                    "training": 5_000_000,
                    "unit": 2_000_000,
                    "batch": {"input": 500_000, "output": 1_500_000},
                    "tiers": {"flex": {"input": 700_000, "output": 2_000_000}},
                },
            }
        ]
    }
)
BOOK = PRICES.books[0]


def entry(number: str, at: float, tokens: tuple[int, int, int] = (100, 20, 10), **fields: Any) -> Entry:
    """Return an entry charged by the book; `fields` are of its subject."""
    status, units = fields.pop("status", "ok"), fields.pop("units", 0)
    subject = Subject(**{"kind": "request", "id": number, "project": "p", "key_id": "k", "model": "m", **fields})
    usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1], cached_tokens=tokens[2], units=units)
    return Entry(
        id=f"{subject.kind}:{number}",
        subject=subject,
        started_at=at,
        status=status,
        usage=usage,
        measurement=Measurement(
            seconds=1.0,
            joules=2.0,
            joules_low=1.0,
            joules_high=3.0,
            energy_class=EnergyClass.MODELLED,
            boundary=Boundary.HOST,
            source="test",
        ),
        carbon=Carbon(grams=0.1, grams_low=0.1, grams_high=0.1, grid="x", grams_per_kilowatt_hour=100, source="test"),
        energy_cost=Money(micros=3, currency="USD"),
        charge=BOOK.charge_request(usage, subject, status),
        price_version=BOOK.stamp(),
    )


def book(folder: Path, *entries: Entry) -> None:
    with closing(Journal(folder / "journal", durability="interval")) as journal:
        for each in entries:
            journal.append(each.model_dump(mode="json"))


@dataclass
class Office:
    usage: BookedUsage
    admin: Any
    client: OpenAI
    invoices: InvoiceBook

    def own(self, path: str, key: str = "") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key or self.client.api_key}"}
        answer = httpx2.get(f"{self.client.base_url}{path}", headers=headers)
        return answer.status_code, answer.json()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Any]:
    """Give a gateway whose books hold what a test has booked in ``books``."""
    with ExitStack() as stack:

        def opened(*entries: Entry) -> Office:
            book(tmp_path / "books", *entries)
            ledger = stack.enter_context(closing(open_ledger(tmp_path / "books")))
            usage = BookedUsage(ledger, PRICES)
            accounts = stack.enter_context(closing(open_accounts(tmp_path / "keys.sqlite")))
            meter = stack.enter_context(open_meter(MeterConfig(), tmp_path / "books"))
            meter.price_history = PRICES
            home, now = Home(tmp_path), NOON + 40 * DAY
            billing = HomeBilling(home, PRICES, usage, lambda: now)
            parts = GatewayParts(accounts=accounts, usage=usage, billing=billing, clock=lambda: now)
            config, engines = GatewayConfig(port=0), {"echo": open_engine(EchoConfig())}
            server = GatewayServer(create_app(config, engines, accounts.keys, meter, parts), config)
            stack.enter_context(serve_in_thread(server))
            _, admin = accounts.keys.create("default", admin=True)
            _, secret = accounts.keys.create("shop")
            client = OpenAI(base_url=f"{server.url}/v1", api_key=secret, admin_api_key=admin, max_retries=0)
            stack.enter_context(client)
            invoices = InvoiceBook(home, usage, "works", lambda: now)
            return Office(usage, client.admin.organization.usage, client, invoices)

        yield opened


def test_a_page_of_days_has_every_bucket_and_sums_what_was_booked(office) -> None:
    desk = office(
        entry("a", NOON),
        entry("b", NOON + 5, project="q", model="n"),
        entry("c", NOON + DAY, (50, 5, 0), status="error"),
        entry("e", NOON, (7, 0, 0), name="embeddings"),
        entry("r", NOON, (0, 0, 0), name="recommendations", units=10),
        entry("s", NOON, (0, 0, 0), kind="step", project=""),
    )
    page = desk.admin.completions(start_time=NOON - DAY, end_time=NOON + 2 * DAY, group_by=["project_id", "model"])
    assert [bucket.start_time % DAY for bucket in page.data] == [0] * 4
    assert [len(bucket.results) for bucket in page.data] == [0, 2, 1, 0]
    first, second = page.data[1].results
    assert (first.project_id, first.model, first.api_key_id) == ("p", "m", None)
    assert (first.input_tokens, first.output_tokens, first.input_cached_tokens) == (100, 20, 10)
    assert (first.num_model_requests, second.project_id) == (1, "q")
    assert first.model_extra["energy"] == {"joules": 2.0, "class": "modelled"}
    assert page.data[2].results[0].input_tokens == 50, "what failed was used all the same"
    (vectors,) = desk.admin.embeddings(start_time=NOON, limit=1).data[0].results
    assert (vectors.input_tokens, vectors.num_model_requests) == (7, 1)


MIXED: list[tuple[int, dict[str, Any]]] = [
    (2**number, dict(zip(("project", "key_id", "model", "batch", "service_tier", "name"), told, strict=True)))
    for number, told in enumerate(
        (project, key, model, batch, tier, name)
        for project, key in (("p", "k"), ("p", "l"), ("q", "other"))
        for model in ("m", "n")
        for batch, tier in ((False, ""), (True, ""), (False, "flex"))
        for name in ("", "embeddings")
    )
]
"""Requests that differ in all that can be asked for, each with its tokens: a sum of them says which they were."""
Wanted = Callable[[dict[str, Any]], bool]
WHOSE: list[tuple[dict[str, Any], Wanted]] = [
    ({}, lambda s: True),
    ({"project_ids": ["q"]}, lambda s: s["project"] == "q"),
    ({"project_ids": ["q", "p"]}, lambda s: True),
    ({"api_key_ids": ["l"]}, lambda s: s["key_id"] == "l"),
    ({"api_key_ids": ["l", "other"]}, lambda s: s["key_id"] != "k"),
    ({"api_key_ids": ["k"], "project_ids": ["q"]}, lambda s: False),
]
MODELS: list[tuple[dict[str, Any], Wanted]] = [
    ({"models": ["n"]}, lambda s: s["model"] == "n"),
    ({"models": ["m", "n", "x"]}, lambda s: True),
    ({"models": ["x"]}, lambda s: False),
    ({"models": ["m"], "api_key_ids": ["k"]}, lambda s: (s["model"], s["key_id"]) == ("m", "k")),
]
BATCH: list[tuple[dict[str, Any], Wanted]] = [
    ({"batch": True}, lambda s: s["batch"]),
    ({"batch": False}, lambda s: not s["batch"]),
    ({"batch": True, "models": ["n"]}, lambda s: s["batch"] and s["model"] == "n"),
]


def tokens_of(wanted: Wanted) -> int:
    return sum(tokens for tokens, subject in MIXED if wanted(subject))


@pytest.fixture
def busy(office) -> Office:
    return office(*(entry(str(tokens), NOON, (tokens, 0, 0), **subject) for tokens, subject in MIXED))


@pytest.mark.parametrize("width", ["1m", "1h", "1d"])
def test_usage_is_of_what_was_asked_for_alone(busy: Office, width: str) -> None:
    for ask, name, filters in (
        (busy.admin.completions, "", [*WHOSE, *MODELS, *BATCH]),
        (busy.admin.embeddings, "embeddings", [*WHOSE, *MODELS]),
    ):
        for filter, wanted in filters:
            (bucket,) = ask(start_time=NOON, end_time=NOON + 1, bucket_width=width, **filter).data
            told = sum(result.input_tokens for result in bucket.results)
            assert told == tokens_of(lambda s, w=wanted, n=name: s["name"] == n and w(s)), (name, filter)


def test_usage_is_told_apart_by_service_tier_and_batch(busy: Office) -> None:
    def told(*groups: str) -> dict[Any, int]:
        (bucket,) = busy.admin.completions(start_time=NOON, end_time=NOON + 1, group_by=[*groups]).data
        return {(each.service_tier, each.batch): each.input_tokens for each in bucket.results}

    def of(tier: str, *batch: bool) -> int:
        return tokens_of(lambda s: s["name"] == "" and s["service_tier"] == tier and s["batch"] in batch)

    default, flex, batch = of("", False), of("flex", False), of("", True)
    assert told("service_tier", "batch") == {
        ("default", False): default, ("flex", False): flex, ("default", True): batch,
    }  # fmt: skip
    assert told("service_tier") == {("default", None): default + batch, ("flex", None): flex}
    assert told("batch") == {(None, False): default + flex, (None, True): batch}


def test_costs_are_of_what_was_asked_for_alone(busy: Office) -> None:
    lines: list[tuple[dict[str, Any], Wanted]] = [
        ({"line_items": ["m, input"]}, lambda s: s["model"] == "m" and not s["batch"] and not s["service_tier"]),
        ({"line_items": ["m, input", "n, input, batch"]},
         lambda s: not s["service_tier"] and s["batch"] == (s["model"] == "n")),
        ({"line_items": ["n, input, flex"], "project_ids": ["q"]},
         lambda s: (s["model"], s["service_tier"], s["project"]) == ("n", "flex", "q")),
        ({"line_items": ["input"]}, lambda s: False),
    ]  # fmt: skip
    for filter, wanted in (*WHOSE, *lines):
        asked = {"start_time": NOON, "limit": 1, "group_by": ["line_item", "api_key_id", "project_id"], **filter}
        (bucket,) = busy.admin.costs(**asked).data
        told = [each for each in bucket.results if "rounding" not in each.line_item]
        assert sum(each.quantity for each in told) == tokens_of(wanted), filter
        assert {(each.project_id, each.api_key_id) for each in told} == {
            (subject["project"], subject["key_id"]) for _, subject in MIXED if wanted(subject)
        }, filter


@pytest.mark.parametrize(("width", "seconds"), [("1m", 60), ("1h", 3600), ("1d", DAY)])
def test_pages_follow_each_other_and_buckets_of_all_widths_agree(office, width: str, seconds: int) -> None:
    begin = NOON // seconds * seconds
    desk = office(*(entry(str(n), begin + n * seconds) for n in range(5)))
    seen, page = [], None
    while True:
        more = {"page": page} if page else {}
        told = desk.admin.completions(
            start_time=begin, end_time=begin + 5 * seconds, bucket_width=width, limit=2, **more
        )
        seen += [(bucket.start_time, sum(r.num_model_requests for r in bucket.results)) for bucket in told.data]
        if not told.has_more:
            break
        page = told.next_page
    assert seen == [(begin + n * seconds, 1) for n in range(5)]


def test_costs_are_told_by_line_and_sum_to_what_was_charged(office) -> None:
    entries = (
        entry("a", NOON),
        entry("b", NOON, (1, 1, 0)),
        entry("c", NOON, batch=True),
        entry("d", NOON, service_tier="flex"),
        entry("f", NOON, (1000, 0, 0), kind="step", model="ft:m"),
        entry("r", NOON, (0, 0, 0), name="recommendations", units=10),
        entry("x", NOON, status="error"),
    )
    desk = office(*entries)
    (bucket,) = desk.admin.costs(start_time=NOON, limit=1, group_by=["line_item", "project_id"]).data
    items = {result.line_item: (result.quantity, result.model_extra["micros"]) for result in bucket.results}
    assert items["m, input"] == (91, 91)
    assert items["m, cached input"] == (10, 1)
    assert items["m, output"] == (21, 70)
    assert items["m, input, batch"] == (90, 45)
    assert items["m, input, flex"] == (90, 63)
    assert items["m, units"] == (10, 20)
    of = {result.line_item: result.quantity_unit for result in bucket.results}
    assert (of["m, units"], of["m, input"], of["ft:m, training"]) == ("units", "tokens", "tokens")
    assert items["ft:m, training"] == (1000, 5000)
    assert sum(micros for _, micros in items.values()) == sum(each.charge.micros for each in entries)
    (whole,) = desk.admin.costs(start_time=NOON, limit=1).data[0].results
    assert whole.amount.currency == "usd"
    assert whole.amount.value == sum(each.charge.micros for each in entries) / 1e6


def test_what_the_gateway_serves_is_in_it_at_once(office) -> None:
    desk = office()
    desk.client.chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "one two"}], service_tier="flex"
    )
    desk.client.embeddings.create(model="echo", input="three")
    page = desk.admin.completions(start_time=1, bucket_width="1d", limit=31, group_by=["service_tier", "project_id"])
    assert page.has_more
    rows = desk.usage.usage(UsageQuery(start=0, end=4_000_000_000, group_by=("project", "service_tier", "name")))
    assert {(r.group["service_tier"], r.group["name"], r.usage.output_tokens) for r in rows} == {
        ("flex", "", 2),
        ("", "embeddings", 0),
    }


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"start_time": 0},
        {"start_time": 5, "end_time": 5},
        {"start_time": 5, "bucket_width": "2d"},
        {"start_time": 5, "limit": 32},
        {"start_time": 5, "group_by": ["colour"]},
        {"start_time": 5, "page": "page_7"},
    ],
)
def test_a_wrong_question_is_refused(office, query: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        office().admin.completions(**{"start_time": openai.NOT_GIVEN, **query})


def test_a_service_tier_that_nobody_knows_is_refused(office) -> None:
    with pytest.raises(openai.BadRequestError, match="service_tier"):
        office().client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "one"}], service_tier="gold"
        )


def test_a_project_sees_its_own_prices_and_invoices_and_nobody_else_s(office) -> None:
    desk = office(entry("a", NOON, project="shop"), entry("b", NOON, project="other"))
    month = datetime.fromtimestamp(NOON, UTC).strftime("%Y-%m")
    mine, other = (desk.invoices.issue(project, month) for project in ("shop", "other"))
    status, prices = desk.own("prices")
    assert (status, prices["version"], prices["data"][0]["output"]) == (200, "one", 3_333_333)
    assert all(line["project"] in ("", "shop") for line in prices["data"])
    _, listed = desk.own("invoices")
    assert [(each["id"], each["amount_micros"]) for each in listed["data"]] == [(mine.number, mine.amount_micros)]
    assert desk.own(f"invoices/{mine.number}") == (200, listed["data"][0])
    status, refused = desk.own(f"invoices/{other.number}")
    assert (status, refused["error"]["code"]) == (404, "invoice_not_found")
    assert [desk.own(path, key="bk-wrong")[0] for path in ("prices", "invoices", "invoices/x")] == [401] * 3


def test_a_customer_reads_what_its_own_requests_took(office) -> None:
    desk = office(
        entry("a", NOON, project="shop", key_id="k1"),
        entry("b", NOON + 5, (7, 0, 0), project="shop", key_id="k2", model="n"),
        entry("c", NOON + DAY, project="shop", key_id="k1"),
        entry("t", NOON, (500, 0, 0), project="shop", kind="step", key_id="", status="ok"),
        entry("failed", NOON, project="shop", status="error"),
        entry("x", NOON, (999, 999, 0), project="other", key_id="secret-key", model="secret-model"),
    )

    def asked(path: str) -> list[list[dict[str, Any]]]:
        status, told = desk.own(f"energy?start_time={NOON}&{path}")
        assert status == 200, told
        assert "secret" not in str(told)
        return [bucket["results"] for bucket in told["data"]]

    first, second, *rest = asked("limit=3")
    assert rest == [[]]
    assert {each["kind"]: (each["count"], each["input_tokens"], each["output_tokens"]) for each in first} == {
        "request": (2, 107, 20),
        "step": (1, 500, 0),
    }
    requests = next(each for each in first if each["kind"] == "request")
    assert requests["energy"] == {"joules": 4.0, "joules_low": 2.0, "joules_high": 6.0, "class": "modelled"}
    assert (requests["grams_co2e"], requests["joules_per_1000_output_tokens"]) == (0.2, 200.0)
    assert [each["joules_per_1000_output_tokens"] for each in first if each["kind"] == "step"] == [None]
    assert [(each["project_id"], each["model"], each["api_key_id"]) for each in second] == [("shop", None, None)]
    by_model = asked("limit=1&group_by[]=model&group_by[]=api_key_id")[0]
    assert {(each["model"], each["api_key_id"], each["kind"]) for each in by_model} == {
        ("m", "k1", "request"), ("n", "k2", "request"), ("m", "", "step")
    }  # fmt: skip
    assert [each["count"] for each in asked("limit=1&models=n")[0]] == [1]
    assert asked("limit=1&api_key_ids=secret-key") == asked("limit=1&models=secret-model") == [[]]
    status, hours = desk.own(f"energy?start_time={NOON}&bucket_width=1h&limit=2")
    assert (status, len(hours["data"]), hours["has_more"]) == (200, 2, True)
    _, more = desk.own(f"energy?start_time={NOON}&bucket_width=1h&limit=2&page={hours['next_page']}")
    assert more["data"][0]["start_time"] == hours["data"][-1]["end_time"]


def test_energy_tells_the_latest_days_unless_asked_and_refuses_what_is_not_there(office) -> None:
    now = NOON + 40 * DAY
    desk = office(entry("a", now - DAY, project="shop"), entry("old", now - 9 * DAY, project="shop"))
    _, told = desk.own("energy")
    assert [len(bucket["results"]) for bucket in told["data"]] == [0, 0, 0, 0, 0, 1, 0]
    assert not told["has_more"]
    for wrong in ("project_ids=other", "group_by=project_id", "bucket_width=1y", "start_time=x"):
        status, refused = desk.own(f"energy?{wrong}")
        assert (status, refused["error"]["param"]) == (400, wrong.partition("=")[0])
    assert desk.own("energy", key="bk-wrong")[0] == 401


def test_only_administrators_may_ask(office) -> None:
    desk = office()
    other = desk.client.with_options(admin_api_key=desk.client.api_key)
    with pytest.raises(openai.PermissionDeniedError):
        other.admin.organization.usage.completions(start_time=NOON)


ENTRIES = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(NOON, NOON + 3 * DAY),
        st.sampled_from(["ok", "cancelled", "error"]),
        st.sampled_from(["", "flex"]),
        st.booleans(),
        st.integers(0, 10**9),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(ENTRIES)
def test_roll_ups_say_what_the_entries_say(tmp_path_factory: pytest.TempPathFactory, made: list[Any]) -> None:
    """Entries repeat and differ; hours, minutes and the lines of costs sum to what the ledger counts."""
    folder = tmp_path_factory.mktemp("books")
    book(
        folder,
        *(
            entry(str(n), at, (tokens, tokens // 3, tokens // 7), status=status, service_tier=tier, batch=batch)
            for n, at, status, tier, batch, tokens in made
        ),
    )
    with closing(Ledger(folder / "ledger.sqlite", folder / "journal")) as ledger:
        usage = BookedUsage(ledger, PRICES)
        whole = UsageQuery(start=0, end=4_000_000_000, group_by=("project", "batch"))
        days, minutes = usage.usage(whole), usage.usage(whole.model_copy(update={"width": 60}))
        counted = ledger.entries(limit=-1)
        for rows in (days, minutes):
            assert sum(row.entries for row in rows) == len(counted)
            assert sum(row.usage.input_tokens for row in rows) == sum(e.usage.input_tokens for e in counted)
            assert sum(row.microjoules for row in rows) == 2_000_000 * len(counted)
        lines = usage.costs(whole)
        assert sum(line.amount_micros for line in lines) == sum(e.charge.micros for e in counted)
        assert sum(line.amount_micros for line in lines if line.item == "rounding") <= len(counted)
