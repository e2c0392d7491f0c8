"""What the planner is told of a factory: measured before declared, each with where it is from."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from bessemer.core.errors import IntegrityError
from bessemer.products.config import FactoryConfig, load_factory
from bessemer.products.home import Home
from bessemer.products.overview import read_receipt
from bessemer.products.terms import lake_growth, terms_of
from bessemer.twin import money
from bessemer.twin.interval import Interval
from bessemer.twin.plan import plan
from bessemer.twin.site import load_site
from bessemer.twin.storage import days_until_full
from bessemer.twin.terms import Terms
from bessemer.twin.workload import Serving, Training

TODAY = date(2026, 11, 23)
WORK = Serving(model="Llama-3.1-8B", input_tokens=1000, output_tokens=200)


@pytest.fixture
def config() -> FactoryConfig:
    return load_factory(None)[0]


def test_without_a_run_the_declaration_is_assumed(config: FactoryConfig, tmp_path: Path) -> None:
    plan = config.plan.model_validate({"expected": {"accepted_ratio": 0.7, "lake_bytes_per_day": 5.0}})
    home = Home(tmp_path / "home")
    older = home.receipt("of-an-older-version") / "receipt.json"
    older.parent.mkdir(parents=True)
    older.write_text('{"what": "an older version wrote"}')
    with pytest.raises(IntegrityError, match="no receipt that this version"):
        read_receipt(home, "of-an-older-version")
    found = terms_of(config.model_copy(update={"plan": plan}), tmp_path, home)
    assert found.accepted_ratio == Interval.exactly(0.7)
    assert found.accepted.startswith("assumed") and found.growth.startswith("assumed")
    assert found.lake_bytes_per_day == 5.0
    assert found.output_usd_per_million_tokens == 0.4 and "example" in found.prices


def test_the_factory_s_own_price_book_counts(config: FactoryConfig, tmp_path: Path) -> None:
    book = f'version = "v"\n[models.{config.name}]\ninput = 1_000_000\noutput = 2_500_000\n'
    (tmp_path / "prices.toml").write_text(book)
    metered = config.meter.model_copy(update={"price_book": "prices.toml"})
    found = terms_of(config.model_copy(update={"meter": metered}), tmp_path, Home(tmp_path / "home"))
    assert (found.input_usd_per_million_tokens, found.output_usd_per_million_tokens) == (1.0, 2.5)
    (tmp_path / "prices.toml").write_text(book.replace('version = "v"', 'version = "v"\ncurrency = "EUR"'))
    assert terms_of(config.model_copy(update={"meter": metered}), tmp_path, Home(tmp_path / "home")).prices == ""


def test_the_lake_s_own_pace_wins_once_it_is_a_day_old(config: FactoryConfig, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for at, size in ((0.0, 100), (43_200.0, 30), (172_800.0, 50)):
        path = Path(home.lake_url) / f"{at}.lance"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, (1e9 + at, 1e9 + at))
        if at == 43_200.0:
            assert lake_growth(Path(home.lake_url)) == (130.0, 0.0)
    assert lake_growth(Path(home.lake_url)) == (180.0, 40.0)
    found = terms_of(config, tmp_path, home)
    assert found.lake_bytes_per_day == 40.0 and found.growth.startswith("measured")


def test_accepted_outputs_follow_ratio_length_and_joules() -> None:
    site = load_site("dgx-h100")
    all_, most = (
        plan(site, WORK, TODAY, Terms(accepted_ratio=ratio))
        for ratio in (Interval.exactly(1.0), Interval(0.8, 0.7, 0.9))
    )
    answer = all_.answer
    assert answer["accepted_outputs_per_joule"].mid == pytest.approx(1 / 200 / answer["joules_per_token"].mid)
    graded = most.answer["accepted_outputs_per_joule"]
    assert graded.mid == pytest.approx(0.8 * answer["accepted_outputs_per_joule"].mid)
    assert (
        graded.high / graded.low > answer["accepted_outputs_per_joule"].high / answer["accepted_outputs_per_joule"].low
    )
    assert "boundary: site" in all_.notes["accepted_outputs_per_joule"]
    assert "assumed" in all_.notes["accepted_outputs_per_joule"]


def test_revenue_is_prices_times_tokens_over_megawatts() -> None:
    site = load_site("dgx-h100")
    terms = Terms(input_usd_per_million_tokens=0.5, output_usd_per_million_tokens=2.0, prices="a book")
    found = plan(site, WORK, TODAY, terms)
    answer = found.answer
    watts = answer["joules_per_token"].mid * answer["tokens_per_second"].mid
    usd_per_second = answer["tokens_per_second"].mid / 200 * (1000 * 0.5 + 200 * 2.0) / 1e6
    expected = usd_per_second * 365 * 86400 / (watts / 1e6)
    assert answer["revenue_usd_per_megawatt_year"].mid == pytest.approx(expected)
    assert "a book" in found.notes["revenue_usd_per_megawatt_year"]
    assert "revenue_usd_per_megawatt_year" not in plan(site, WORK, TODAY).answer


def test_growth_fills_the_store_and_costs_its_price() -> None:
    site, job = load_site("superpod-h100-127"), Training(model="Llama-3.1-8B", tokens=1e9)
    terms = Terms(lake_bytes=1e15, lake_bytes_per_day=1e12, growth="assumed: told")
    found = plan(site, job, TODAY, terms)
    assert found.answer["store_full_days"].mid == pytest.approx(days_until_full(site, 1e12, 1e15)) == 9000
    assert found.answer["store_usd_per_year"].mid == pytest.approx(365 * money.part("flash_usd"))
    assert "assumed: told" in found.notes["store_full_days"]
    faster = plan(site, job, TODAY, Terms(lake_bytes=1e15, lake_bytes_per_day=2e12))
    assert faster.answer["store_full_days"].mid < found.answer["store_full_days"].mid
    assert faster.answer["store_usd_per_year"].mid > found.answer["store_usd_per_year"].mid
    assert "store_full_days" not in plan(site, job, TODAY).answer
