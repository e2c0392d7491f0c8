"""Invoices sum to the ledger to the micro-unit, never change, and are corrected by the difference; drift is found."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError, Conflict, IntegrityError, NotFound
from bessemer.core.nouns import Entry, Measurement
from bessemer.core.units import Money
from bessemer.core.usage import UsageQuery
from bessemer.meter import Journal, Ledger, PriceBook, PriceHistory, open_ledger
from bessemer.meter.journal import segments
from bessemer.meter.past import charged_before
from bessemer.meter.readings import Reading
from bessemer.products.auditing import check_books
from bessemer.products.booked import BookedUsage, open_usage
from bessemer.products.focus import COLUMNS, Bill, focus_rows, write_focus
from bessemer.products.home import Home
from bessemer.products.invoice_html import invoice_page
from bessemer.products.invoices import Invoice, InvoiceBook, amounts_agree, month_of
from bessemer.products.known_prices import KnownPrices, note_prices
from bessemer.products.register import Issued, Register
from tests.cli.calling import call
from tests.products.test_booked import DAY, PRICES, book, entry

MONTH = "2024-10"
NOON, _ = month_of(MONTH)


class Shop:
    """A home with books and its invoices."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.books.mkdir(exist_ok=True)
        self.ledger = Ledger(self.home.books / "ledger.sqlite", self.home.books / "journal")
        self.usage = BookedUsage(self.ledger, PRICES)
        self.now = NOON + 40 * DAY
        self.invoices = InvoiceBook(self.home, self.usage, "works", lambda: self.now)

    def book(self, *entries: Any) -> None:
        book(self.home.books, *entries)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    found = Shop(tmp_path / "home")
    with closing(found.ledger):
        yield found


def test_an_invoice_is_the_ledger_and_never_changes(shop: Shop) -> None:
    shop.book(
        entry("a", NOON),
        entry("b", NOON + DAY, (7, 7, 0)),
        entry("c", NOON, batch=True),
        entry("d", NOON, project="other"),
        entry("e", NOON - 1),
        entry("f", NOON, status="error"),
    )
    made = shop.invoices.issue("p", MONTH)
    charged = sum(e.charge.micros for e in shop.ledger.entries(project="p", since=NOON))
    assert (made.kind, made.number, made.amount_micros) == ("invoice", f"{MONTH}-p-1", charged)
    assert (made.requests, made.joules, made.energy_class) == (3, 6.0, "modelled")
    lines = {(line.item, line.batch): line for line in made.lines}
    assert (lines["input", False].quantity, lines["input", False].amount_micros) == (97, 97)
    assert lines["output", False].amount_micros == round(27 * 3.333333)
    assert sum(line.amount_micros for line in made.lines) == charged
    shop.now += DAY
    assert shop.invoices.issue("p", MONTH) == made


def test_what_comes_later_is_the_difference_and_a_credit_note_if_it_is_less(shop: Shop) -> None:
    shop.book(entry("a", NOON))
    first = shop.invoices.issue("p", MONTH)
    shop.book(entry("late", NOON + 9))
    second = shop.invoices.issue("p", MONTH)
    assert (second.number, second.corrects) == (f"{MONTH}-p-2", (first.number,))
    assert (second.amount_micros, second.requests) == (first.amount_micros, 1)
    shop.book(entry("a", NOON, status="error"))  # the first answer was never given: charged nothing
    third = shop.invoices.issue("p", MONTH)
    assert (third.kind, third.amount_micros) == ("credit note", -first.amount_micros)
    assert amounts_agree(shop.invoices.issued("p", MONTH))
    assert shop.invoices.issued("p", MONTH)[0] == first


def took(joules: float, grams: float, made: Entry) -> Entry:
    """Return an entry that took so much; of joules a half less or twice as much may be true."""
    measured = {"joules": joules, "joules_low": joules / 2, "joules_high": 2 * joules, "energy_class": "measured"}
    measurement = Measurement.model_validate({**made.measurement.model_dump(), **measured})
    return made.model_copy(
        update={"measurement": measurement, "carbon": made.carbon.model_copy(update={"grams": grams})}
    )


def test_the_joules_and_grams_of_invoices_are_the_ledger_s_and_stand_on_the_page(shop: Shop) -> None:
    shop.book(
        took(5.5, 0.25, entry("a", NOON)),
        took(1.25, 0.5, entry("b", NOON + DAY, (7, 0, 0))),
        took(900.0, 90.0, entry("theirs", NOON, project="other")),
        took(700.0, 70.0, entry("failed", NOON, status="error")),
        took(800.0, 80.0, entry("before", NOON - 1)),
    )
    first = shop.invoices.issue("p", MONTH)
    assert (first.joules, first.joules_low, first.joules_high) == (6.75, 3.375, 13.5)
    assert (first.grams, first.energy_class) == (0.75, "measured")
    shop.book(took(4.0, 2.0, entry("late", NOON + 9)).model_copy(update={"status": "broken"}), entry("rest", NOON))
    second = shop.invoices.issue("p", MONTH)
    assert (second.joules, second.joules_low, second.joules_high) == (6.0, 3.0, 11.0)
    assert (round(second.grams, 9), second.energy_class) == (2.1, "modelled"), "the weakest of them"
    booked = [e for e in shop.ledger.entries(project="p", since=NOON, limit=-1) if e.status != "error"]
    assert sum(e.measurement.joules for e in booked) == first.joules + second.joules
    assert sum(e.carbon.grams for e in booked if e.carbon) == pytest.approx(first.grams + second.grams)
    page = invoice_page(first)
    told = re.sub("<[^>]*>", " ", page[page.index("What it took") :])
    assert "2 requests, 107 tokens read, 20 written: 6.8 J [3.4 J, 13.5 J] (measured), 0.75 g CO2e" in told


def test_training_is_no_request_and_is_named_apart(shop: Shop) -> None:
    job = entry("job", NOON, (528, 0, 0), kind="step", name="fine_tuning", model="ft:m:p::1")
    shop.book(entry("a", NOON), took(4.0, 0.1, job), took(3.0, 0.1, entry("train", NOON, (0, 0, 0), kind="step")))
    made = shop.invoices.draw("p", MONTH)
    assert (made.requests, made.input_tokens, made.output_tokens, made.trained_tokens) == (1, 100, 20, 528)
    assert made.joules == 9.0, "of the request, of the job and of its steps"
    page = re.sub("<[^>]*>", " ", invoice_page(made))
    assert "1 requests, 100 tokens read, 20 written, and training on 528 tokens: 9" in page
    shop.ledger.close()
    told = call(shop.home.path.parent, "invoice", "--project", "p", "--month", MONTH, BESSEMER_HOME=str(shop.home.path))
    assert "1 requests and training on 528 tokens took 9" in told.stdout
    old = made.model_dump(exclude={"trained_tokens"})
    assert Invoice.model_validate(old).trained_tokens == 0, "as it was written until 2026-11-29"


def test_what_is_more_than_an_earlier_version_told_of_is_told_as_it_did(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = entry("job", NOON, (528, 0, 0), kind="step", name="fine_tuning", model="ft:m:p::1")
    shop.book(entry("a", NOON), job)
    made = shop.invoices.draw("p", MONTH).model_dump(exclude={"trained_tokens"})
    old = Invoice.model_validate({**made, "requests": 2, "input_tokens": 628})
    monkeypatch.setattr(shop.invoices, "issued", lambda project, month: [old])
    shop.book(entry("late", NOON))
    more = shop.invoices.draw("p", MONTH)
    assert (more.requests, more.input_tokens, more.output_tokens, more.trained_tokens) == (1, 100, 20, 0)


def test_a_month_that_runs_is_a_draft_only(shop: Shop) -> None:
    shop.book(entry("a", NOON))
    shop.now = NOON + DAY
    assert shop.invoices.draw("p", MONTH).kind == "draft"
    with pytest.raises(ConfigError, match="not over"):
        shop.invoices.issue("p", MONTH)
    assert shop.invoices.issued("p", MONTH) == []
    with pytest.raises(NotFound, match="charged nothing"):
        shop.invoices.draw("q", MONTH)
    for wrong in ("2024", "2024-13", "24-01", "0000-01"):
        with pytest.raises(ConfigError, match="no month"):
            shop.invoices.draw("p", wrong)


def test_projects_whose_names_look_alike_have_their_own(shop: Shop) -> None:
    shop.book(entry("a", NOON, project="a/b"), entry("b", NOON, project="a_b"))
    assert {shop.invoices.issue(name, MONTH).project for name in ("a/b", "a_b")} == {"a/b", "a_b"}
    assert shop.invoices.projects() == [("a/b", MONTH), ("a_b", MONTH)]


def test_the_page_says_what_the_invoice_says_and_escapes(shop: Shop) -> None:
    shop.book(entry("a", NOON, model="<b>m"))
    made = shop.invoices.issue("p", MONTH)
    page = invoice_page(made)
    assert "&lt;b&gt;m, input" in page
    assert "<b>m" not in page
    assert str(Money(micros=made.amount_micros)) in page
    assert "@page" in page


def test_what_is_shown_of_an_invoice_adds_up(shop: Shop) -> None:
    """With two decimals alone the lines of a larger one would not, and what rounding made could not be seen."""
    shop.book(*(entry(f"{number}", NOON, (8_123_457, 3_765_433, 0)) for number in range(3)))
    made = shop.invoices.draw("p", MONTH)
    assert made.amount_micros > 1_000_000 and made.amount_micros % 10_000
    note_prices(shop.home, KnownPrices(factory="works", history=PRICES))
    shop.ledger.close()
    in_terminal = (
        call(shop.home.path.parent, *words, "--month", MONTH, BESSEMER_HOME=str(shop.home.path)).stdout
        for words in (("costs",), ("invoice", "--project", "p"))
    )
    for words in (re.sub(r"</?t[dr][^>]*>", "  ", invoice_page(made)), *in_terminal):
        *lines, total = re.findall(r"(-?[\d,]+\.\d{6}) USD", words)
        micros = [int(amount.replace(",", "").replace(".", "")) for amount in lines]
        amounts = [each for each in micros if each not in {line.unit_micros for line in made.lines}]
        assert sum(amounts) == made.amount_micros == int(total.replace(",", "").replace(".", "")), words


def test_the_terminal_says_of_which_month_an_invoice_is(shop: Shop) -> None:
    shop.book(entry("a", NOON))
    told = call(shop.home.path.parent, "invoice", "--project", "p", "--month", MONTH, BESSEMER_HOME=str(shop.home.path))
    assert told.stdout.splitlines()[0].endswith(f" to p, {MONTH}")


TOKENS = st.tuples(st.integers(0, 10**6), st.integers(0, 10**5), st.integers(0, 2), st.booleans())


@settings(max_examples=25, deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=30), st.integers(0, 30))
def test_invoices_sum_to_the_ledger_wherever_the_month_was_cut(
    tmp_path_factory: pytest.TempPathFactory, made: list[Any], cut: int
) -> None:
    shop = Shop(tmp_path_factory.mktemp("shop") / "home")
    entries = [
        entry(str(n), NOON + n * 80_000, (i, o, i // 2), batch=batch, service_tier="flex" if tier else "")
        for n, (i, o, tier, batch) in enumerate(made)
    ]
    for some in (entries[:cut], entries[cut:]):
        shop.book(*some)
        if some:
            shop.invoices.issue("p", MONTH)
    with closing(shop.ledger):
        issued = shop.invoices.issued("p", MONTH)
        charged = sum(e.charge.micros for e in entries if e.started_at < month_of(MONTH)[1])
        assert sum(each.amount_micros for each in issued) == charged
        assert amounts_agree(issued)


# --- FOCUS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("focus")
    shop = Shop(folder / "home")
    with closing(shop.ledger):
        shop.book(entry("a", NOON, batch=True), entry("b", NOON, (10**9, 11, 3)), entry("c", NOON, (7, 7, 7)))
        start, end = month_of(MONTH)
        lines = shop.usage.costs(UsageQuery(start=start, end=end, kind=""))
        rows = focus_rows(lines, Bill("works", start, end, "2024-10-p-1"))
        write_focus(folder / "costs.csv", rows)
        write_focus(folder / "costs.parquet", rows)
        return folder, sum(line.amount_micros for line in lines)


def test_csv_and_parquet_say_the_same_and_sum_exactly(exported: tuple[Path, int]) -> None:
    from decimal import Decimal

    import pyarrow.parquet as pq

    folder, micros = exported
    with (folder / "costs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(Decimal(row["BilledCost"]) for row in rows) * 1_000_000 == micros
    table = pq.read_table(folder / "costs.parquet").to_pylist()
    assert sum(row["BilledCost"] for row in table) * 1_000_000 == micros
    assert tuple(table[0]) == tuple(rows[0]) == COLUMNS
    for row in rows:
        if row["PricingQuantity"]:
            exact = Decimal(row["PricingQuantity"]) * Decimal(row["ListUnitPrice"])
            assert abs(exact - Decimal(row["ListCost"])) <= Decimal("0.0000005")


HALF_RULES = {"InvoiceId-C-004-C"}
"""Halves of an "or" that the validator also counts by themselves: "no invoice" where there is one."""
APPLICABLE = (
    "ACCOUNT_NAMING_SUPPORTED,MULTIPLE_PRICING_CATEGORIES_SUPPORTED,MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED,"
    "MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED,NEGOTIATED_PRICING_SUPPORTED,PUBLIC_PRICE_LIST_SUPPORTED,"
    "USAGE_MEASUREMENT_SUPPORTED,UNIT_PRICING_SUPPORTED,SUB_ACCOUNT_SUPPORTED,RESOURCE_TYPE_ASSIGNMENT_SUPPORTED,"
    "PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED,TAGGING_SUPPORTED"
)
"""All but regions, zones, capacity, commitments, provisioned resources and virtual currencies, which are not here."""


NEW_SYNTAX = """", ".join(f"'{k.replace('\\"', '\\"\\"')}'" for k in ignore_keys)"""
OLD_SYNTAX = """", ".join("'" + k.replace('"', '""') + "'" for k in ignore_keys)"""
"""All in the validator that asks for a Python newer than 3.11, and the same as 3.11 reads it."""


def installed(folder: Path) -> Path:
    """Return where the validator is now, in an environment of its own: one release and its rules for all Pythons.

    It is installed as if this Python were new enough, and what it requires for what it is, but for NumPy, which may be
    newer: the one that it asks for has to be compiled on 3.13.
    """
    uv, python = shutil.which("uv"), folder / "v" / "bin" / "python"
    if uv is None:
        assert not os.environ.get("CI"), "uv installs the validator"
        pytest.skip("needs uv")

    def run(*command: str | Path, **more: str) -> str:
        # Elsewhere than in the project, whose own wishes about packages are none of the validator's.
        return subprocess.check_output(command, timeout=600, cwd=folder, text=True, **more)

    run(uv, "venv", "-q", "--seed", "--python", sys.executable, folder / "v")
    install = (uv, "pip", "install", "-q", "--python", python)
    # By pip, which builds what is said to be for newer Pythons, and copies: uv links what it installs to its cache, and
    # what is changed here would be changed there.
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--ignore-requires-python", "focus-validator==2.2.1")
    told = "from importlib.metadata import requires; print(*requires('focus-validator'), sep='\\n')"
    needed = [line for line in run(python, "-c", told).splitlines() if not line.startswith("numpy")]
    run(*install, "-r", "-", input="\n".join(needed))
    (packages,) = (folder / "v" / "lib").glob("python3*/site-packages")
    file = packages / "focus_validator" / "config_objects" / "focus_to_duckdb_converter.py"
    source = file.read_text(encoding="utf-8")
    assert source.count(NEW_SYNTAX) == 1
    file.write_text(source.replace(NEW_SYNTAX, OLD_SYNTAX), encoding="utf-8")
    return packages


def test_the_foundation_s_validator_accepts_it(exported: tuple[Path, int], tmp_path: Path) -> None:
    packages = installed(tmp_path)

    def failed(file: Path) -> set[str]:
        validator = (tmp_path / "v" / "bin" / "focus-validator", "--validate-version", "1.2", "--block-download")
        command = (*validator, "--applicability-criteria", APPLICABLE, "--data-file", file)
        # It looks for its list of currencies below the working directory.
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=packages)
        told = done.stdout.splitlines()
        assert sum(" PASS " in line for line in told) > 250, done.stdout + done.stderr
        return {line.split()[1].rstrip(":") for line in told if ": FAIL " in line}

    folder, _ = exported
    assert failed(folder / "costs.csv") <= HALF_RULES
    assert failed(folder / "costs.parquet") <= HALF_RULES
    wrong = tmp_path / "wrong.csv"
    wrong.write_text((folder / "costs.csv").read_text().replace("Usage", "Uses"))
    assert failed(wrong) - HALF_RULES, "it can tell"


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither \.csv nor \.parquet"):
        write_focus(tmp_path / "costs.xlsx", [])
    assert list(tmp_path.iterdir()) == []


# --- drift -----------------------------------------------------------------------------------------------------------


def drifted(home: Home) -> set[str]:
    return {check.name for check in check_books(home, PRICES) if check.holds is False}


def filled(shop: Shop) -> Home:
    shop.book(entry("a", NOON), entry("b", NOON, (9, 9, 1)))
    shop.invoices.issue("p", MONTH)
    assert drifted(shop.home) == set()
    return shop.home


def test_books_that_nobody_touched_hold(shop: Shop) -> None:
    assert [check.name for check in check_books(filled(shop), PRICES)] == [
        "journal",
        "meters",
        "sums",
        "charges",
        "bills",
        "invoices",
    ]


def test_a_record_that_was_changed(shop: Shop) -> None:
    home = filled(shop)
    (segment,) = segments(home.books / "journal")
    segment.write_bytes(segment.read_bytes().replace(b'"output_tokens":20', b'"output_tokens":10'))
    assert drifted(home) == {"journal"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET microjoules = microjoules + 1",
        "UPDATE entries SET started_at = started_at + 3600",
        "UPDATE sums SET microjoules = microjoules + 1 WHERE width = 3600",
        "UPDATE sums SET charge_micros = charge_micros - 1 WHERE width = 86400",
        "DELETE FROM sums WHERE width = 3600",
    ],
)
def test_a_sum_that_was_changed(shop: Shop, change: str) -> None:
    home = filled(shop)
    with closing(sqlite3.connect(home.books / "ledger.sqlite")) as database, database:
        database.execute(change)
    assert "sums" in drifted(home)


def test_entries_of_no_form_are_missed(shop: Shop) -> None:
    home = filled(shop)
    with closing(sqlite3.connect(home.books / "ledger.sqlite")) as database, database:
        database.execute("UPDATE entries SET form = 99 WHERE id = (SELECT MIN(id) FROM entries)")
    with closing(open_ledger(home.books)) as ledger:
        assert any("1 entries are in no sum" in told for told in ledger.drifts())


def test_a_charge_that_is_not_quantity_times_price(shop: Shop) -> None:
    wrong = entry("w", NOON).model_copy(update={"charge": Money(micros=1, currency="USD")})
    shop.book(wrong)
    assert drifted(shop.home) == {"charges", "bills"}


def test_what_was_booked_by_unknown_prices_is_not_said_to_hold(shop: Shop) -> None:
    none = {"tokens": (0, 0, 0)}
    shop.book(entry("a", NOON), entry("b", NOON, status="error"), entry("run", NOON, **none, kind="step", project=""))
    other = PriceHistory(books=(PriceBook(version="other"),))

    def charges(prices: PriceHistory) -> tuple[bool | None, str]:
        (found,) = [check for check in check_books(shop.home, prices) if check.name == "charges"]
        return found.holds, found.found

    assert charges(PRICES) == (True, "3 recomputed")
    assert charges(other) == (None, "2 recomputed; 1 not checked, by versions that are not in this price book")


def test_a_meter_that_gave_out_other_joules_than_its_entries_have(shop: Shop) -> None:
    home = filled(shop)
    (segment,) = segments(home.books / "journal")
    reading = Reading(
        meter="m", at=NOON, entries=2, records={segment.name: 2}, microjoules=4_000_000, idle_microjoules=0
    )
    shop.ledger.close()
    for microjoules, told in (
        (4_000_000, "1 counted 4.000 J for 2 entries"),
        (4_000_001, "meter m gave out 4,000,001"),
    ):
        with closing(Journal(home.books / "readings")) as readings:
            later = {"at": NOON + microjoules, "microjoules": microjoules}
            readings.append(reading.model_copy(update=later).model_dump(mode="json"))
        (found,) = [check for check in check_books(home, PRICES) if check.name == "meters"]
        assert told in found.found
        assert found.holds == (microjoules == 4_000_000)
        checked = call(home.path.parent, "reconcile", "--books", "--json", BESSEMER_HOME=str(home.path))
        assert checked.returncode == (0 if found.holds else 4)
        assert found.model_dump() in json.loads(checked.stdout)
    assert drifted(home) == {"meters"}


def issued_thrice(shop: Shop) -> tuple[Home, list[Path]]:
    """Give a home with three invoices of one month, each for what came after the one before."""
    for number in range(3):
        shop.book(entry(str(number), NOON + number, (9 + number, 9, 1)))
        shop.invoices.issue("p", MONTH)
    assert drifted(shop.home) == set()
    return shop.home, sorted((shop.home.path / "invoices").glob("*/*.json"))


def rewritten(path: Path, **fields: Any) -> str:
    """Return an invoice's text with other fields, in the form in which it is written."""
    return Invoice.model_validate({**json.loads(path.read_text()), **fields}).model_dump_json(indent=2)


def cheaper(path: Path) -> str:
    told = json.loads(path.read_text())
    lines = [{**told["lines"][0], "amount_micros": told["lines"][0]["amount_micros"] - 5}, *told["lines"][1:]]
    return rewritten(path, lines=lines, amount_micros=told["amount_micros"] - 5)


TAMPERED: dict[str, tuple[Any, str]] = {
    "a line and the total": (lambda paths: paths[1].write_text(cheaper(paths[1])), "p-2.json is not what was issued"),
    "grams only": (lambda paths: paths[1].write_text(rewritten(paths[1], grams=0)), "p-2.json is not what was issued"),
    "the last": (lambda paths: paths[2].unlink(), "p-3.json is gone"),
    "the first": (lambda paths: paths[0].unlink(), "p-1.json is gone"),
    "a month's": (lambda paths: shutil.rmtree(paths[0].parent), "p-1.json is gone"),
    "the folder": (lambda paths: shutil.rmtree(paths[0].parent.parent), "p-1.json is gone"),
    "appended": (lambda paths: shutil.copy(paths[2], paths[2].with_name("p-4.json")), "p-4.json was never issued"),
    "another's": (lambda paths: shutil.copy(paths[2], paths[2].with_name("q-1.json")), "q-1.json was never issued"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_file_of_an_invoice_that_was_changed_removed_or_forged(shop: Shop, name: str) -> None:
    home, paths = issued_thrice(shop)
    before = shop.invoices.issued("p", MONTH)
    tamper, told = TAMPERED[name]
    tamper(paths)
    assert drifted(home) == {"invoices"}
    assert told in check_books(home, PRICES)[5].found
    assert InvoiceBook(home, shop.usage, "", lambda: 0.0).issued("p", MONTH) == before, "the register has them"


def test_a_file_that_is_gone_is_written_again_as_it_was_and_nothing_is_billed_twice(shop: Shop) -> None:
    home, paths = issued_thrice(shop)
    texts = [path.read_bytes() for path in paths]
    shutil.rmtree(home.path / "invoices")
    assert shop.invoices.issue("p", MONTH).number == f"{MONTH}-p-3"
    assert [path.read_bytes() for path in paths] == texts
    assert drifted(home) == set()


def reregistered(home: Home, records: list[Issued]) -> None:
    """Write the register anew, with right hashes, as somebody could who knows how."""
    path = home.books / "invoices.jsonl"
    path.unlink()
    made = Register(path)
    with made.writing():
        made.append(records)


@pytest.mark.parametrize("is_anchored", [True, False])
def test_a_register_written_anew_does_not_sum_to_the_journal(shop: Shop, is_anchored: bool) -> None:
    home, paths = issued_thrice(shop)
    if not is_anchored:  # as if the ledger had been made again too
        shop.ledger._database.query("DELETE FROM ledger_anchors")
    first, second, third = Register(home.books / "invoices.jsonl").records()
    paths[2].write_text(cheaper(paths[2]))
    for less in (0, 5):
        forged = third.model_copy(update={"text": paths[2].read_text(), "charged_micros": third.charged_micros - less})
        reregistered(home, [first, second, forged])
        (found,) = [check for check in check_books(home, PRICES) if check.name == "invoices"]
        assert not found.holds
        wanted = ("were invoiced", "the journal")[bool(less)]
        assert ("Restore books/invoices.jsonl" if is_anchored else wanted) in found.found
        if not is_anchored:
            shop.ledger._database.query("DELETE FROM ledger_anchors")


def test_a_register_that_was_cut_or_removed_with_its_files(shop: Shop) -> None:
    home, paths = issued_thrice(shop)
    path = home.books / "invoices.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    paths[2].unlink()
    path.write_bytes(b"".join(whole[:-1]))
    shop.book(entry("late", NOON))

    def is_seen() -> bool:
        with pytest.raises(IntegrityError):
            InvoiceBook(home, shop.usage, "works", lambda: shop.now).issue("p", MONTH)
        return drifted(home) == {"invoices"}  # still: issuing has not covered it up

    assert is_seen()
    shutil.rmtree(home.path / "invoices")
    path.unlink()
    assert is_seen()
    path.write_bytes(b"".join(whole).replace(b"works", b"mills"))
    assert drifted(home) == {"invoices"}


def test_threads_that_read_at_once_see_each_record_once(shop: Shop) -> None:
    home, _ = issued_thrice(shop)
    some = Register(home.books / "invoices.jsonl").records()
    reregistered(home, some * 100)
    register, before, ready = Register(home.books / "invoices.jsonl"), sys.getswitchinterval(), Barrier(4)

    def read(_: int) -> int:
        ready.wait()
        return len(register.records())

    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(read, range(4))) == {300}
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_hosts_that_share_a_postgres_have_registers_of_their_own(database_url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        homes = [Home(tmp_path / name, database_url) for name in ("one", "two")]
        usages = []
        for number, home in enumerate(homes):
            book(home.books, entry(f"of-{number}", NOON, project=f"p{number}"))
            usages.append(stack.enter_context(open_usage(home, PRICES)))
        first, second = (
            InvoiceBook(home, usage, "works", lambda: NOON + 40 * DAY)
            for home, usage in zip(homes, usages, strict=True)
        )
        for _ in range(2):
            first.issue("p0", MONTH)
            second.issue("p1", MONTH)
        assert [drifted(home) for home in homes] == [set(), set()]
        book(homes[1].books, entry("late", NOON, project="p0"))
        assert drifted(homes[1]) == set()
        told = {check.name: check.found for check in check_books(homes[0], PRICES)}["invoices"]
        assert (
            told
            == "1 issued; 1 months have charges that are on no invoice yet; 1 of these not compared: other hosts booked"
        )
        (homes[0].books / "invoices.jsonl").unlink()
        assert drifted(homes[0]) == {"invoices"}
        assert drifted(homes[1]) == set()


def test_half_a_record_that_a_crash_left_is_cut_off(shop: Shop) -> None:
    home = filled(shop)
    with (home.books / "invoices.jsonl").open("ab") as file:
        file.write(b'{"body":{"project":"p"')
    assert drifted(home) == set()
    shop.book(entry("late", NOON))
    InvoiceBook(home, shop.usage, "works", lambda: shop.now).issue("p", MONTH)
    assert drifted(home) == set()
    assert len(InvoiceBook(home, shop.usage, "", lambda: 0.0).issued("p", MONTH)) == 2


def test_what_is_booked_after_an_invoice_is_no_drift(shop: Shop) -> None:
    home = filled(shop)
    shop.book(entry("late", NOON, (50, 7, 0)), entry("a", NOON, status="error"), entry("next", NOON + 40 * DAY))
    assert drifted(home) == {"journal"}, "which says that an answer was booked twice and differently"
    told = {check.name: check.found for check in check_books(home, PRICES)}["invoices"]
    assert told == "1 issued; 1 months have charges that are on no invoice yet"
    shop.invoices.issue("p", MONTH)
    assert {check.name: check.found for check in check_books(home, PRICES)}["invoices"] == "2 issued"


def test_what_had_been_charged_at_any_moment_is_what_a_ledger_of_that_moment_said(shop: Shop, tmp_path: Path) -> None:
    shop.book(
        entry("a", NOON),
        entry("b", NOON, (7, 7, 7)),
        entry("theirs", NOON, project="other"),
        entry("a", NOON, (9, 9, 9)),  # twice and differently: the first counts
        entry("b", NOON, (5, 0, 0), status="broken"),  # but for one that did not end well
        entry("b", NOON, (4, 4, 0)),
        entry("free", NOON, status="error").model_copy(update={"charge": Money(micros=9, currency="USD")}),
        entry("before", NOON - 1),
        entry("after", month_of(MONTH)[1]),
    )
    (segment,) = segments(shop.home.books / "journal")
    lines, sums = segment.read_bytes().splitlines(keepends=True), []
    for count in range(len(lines) + 1):
        cut = tmp_path / str(count) / segment.name
        cut.parent.mkdir()
        cut.write_bytes(b"".join(lines[:count]))
        with closing(Ledger(cut.with_name("ledger.sqlite"), cut.parent)) as ledger:
            sums.append(BookedUsage(ledger, PRICES).charged("p", *month_of(MONTH))[0])
        read = {segment.name: count}
        assert charged_before(shop.home.books / "journal", read, "p", *month_of(MONTH)) == sums[-1]
    assert len(set(sums)) == 4


def test_an_invoice_waits_for_what_is_booked_while_it_is_drawn(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.book(entry("a", NOON))
    draw, drawn = shop.invoices.draw, list[Any]()

    def busy(project: str, month: str) -> Any:
        drawn.append(draw(project, month))
        if len(drawn) < most:
            shop.book(entry(f"late-{most}-{len(drawn)}", NOON))
        return drawn[-1]

    monkeypatch.setattr(shop.invoices, "draw", busy)
    most = 3
    made = shop.invoices.issue("p", MONTH)
    assert (len(drawn), made.requests) == (3, 3)
    assert drifted(shop.home) == set()
    most = 100
    with pytest.raises(Conflict, match="still being booked"):
        shop.invoices.issue("p", MONTH)
    assert len(shop.invoices.issued("p", MONTH)) == 1


def test_a_forged_file_is_not_taken_for_an_invoice_that_is_issued_later(shop: Shop) -> None:
    home, paths = issued_thrice(shop)
    forged = paths[2].with_name("p-4.json")
    shutil.copy(paths[2], forged)
    shop.book(entry("late", NOON))
    with pytest.raises(Conflict, match="in the way"):
        shop.invoices.issue("p", MONTH)
    forged.unlink()
    assert shop.invoices.issue("p", MONTH).requests == 1
    assert drifted(home) == set()


def unregistered(shop: Shop) -> tuple[Home, list[Path]]:
    """Give a home as older versions left it: invoices, no register."""
    home, paths = issued_thrice(shop)
    (home.books / "invoices.jsonl").unlink()
    shop.ledger._database.query("DROP TABLE ledger_anchors")
    shop.ledger.close()
    shop.__init__(home.path)  # type: ignore[misc]
    return home, paths


def test_invoices_of_before_there_was_a_register_are_taken_in_as_they_stand(shop: Shop) -> None:
    home, paths = unregistered(shop)
    shop.book(entry("late", NOON))
    found = {check.name: check for check in check_books(home, PRICES)}["invoices"]
    assert found.holds
    assert "3 of them taken in now, as they stand; 1 months have" in found.found
    assert "3 of them taken in as they stood" in {c.name: c.found for c in check_books(home, PRICES)}["invoices"]
    assert shop.invoices.issue("p", MONTH).number == f"{MONTH}-p-4"
    paths[1].write_text(cheaper(paths[1]))
    assert drifted(home) == {"invoices"}


def test_one_that_was_gone_before_they_were_taken_in_is_missed(shop: Shop) -> None:
    home, paths = unregistered(shop)
    paths[0].unlink()
    assert drifted(home) == {"invoices"}


def test_the_terminal_tells_drift_by_its_status(shop: Shop) -> None:
    home = filled(shop)
    shop.ledger.close()

    def told_by(*words: str) -> subprocess.CompletedProcess[str]:
        return call(home.path.parent, *words, BESSEMER_HOME=str(home.path))

    checked = told_by("reconcile", "--books")
    assert checked.returncode == 0
    assert "? charges" in " ".join(checked.stdout.split()), "the built-in price book does not know them"
    assert "as booked" in told_by("costs", "--month", MONTH).stdout
    note_prices(home, KnownPrices(factory="works", history=PRICES))
    assert "✓ charges" in " ".join(told_by("reconcile", "--books").stdout.split())
    drawn = json.loads(told_by("invoice", "--project", "p", "--month", MONTH, "--json").stdout)
    assert (drawn["seller"], drawn["lines"]) == ("works", []), "all is issued"
    told = told_by("costs", "--month", MONTH)
    assert "as booked" not in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 80
    with closing(sqlite3.connect(home.books / "ledger.sqlite")) as database, database:
        database.execute("UPDATE sums SET charge_micros = 0")
    assert told_by("reconcile", "--books").returncode == 4


def test_a_home_without_books_is_said_so(tmp_path: Path) -> None:
    home = Home(tmp_path / "none", make=False)
    with pytest.raises(NotFound, match="nothing is booked"), open_usage(home, PRICES):
        pass
    with pytest.raises(NotFound, match="nothing is booked"):
        check_books(home, PRICES)
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_of_an_earlier_layout_is_made_again(shop: Shop) -> None:
    home = filled(shop)
    shop.ledger.close()
    with closing(sqlite3.connect(home.books / "ledger.sqlite")) as database, database:
        database.executescript("DROP TABLE sums; DROP TABLE forms; CREATE TABLE hours (hour INTEGER)")
        database.execute("UPDATE layout SET version = 4")
    with closing(open_ledger(home.books)) as again:
        assert len(again.entries()) == 2
    assert drifted(home) == set()


def test_nothing_is_invoiced_while_a_hosts_entries_are_missing_after_an_upgrade(shop: Shop) -> None:
    home = filled(shop)
    shop.ledger._database.query("INSERT INTO ledger_awaits VALUES ('a1b2')")
    for made in (shop.invoices.draw, shop.invoices.issue):
        with pytest.raises(Conflict, match="a1b2") as error:
            made("p", MONTH)
        assert "bessemer usage" in (error.value.hint or "")
    assert drifted(home) == {"hosts"}
    shop.ledger._database.query("DELETE FROM ledger_awaits")
    shop.invoices.draw("p", MONTH)
    assert drifted(home) == set()
