"""The pages of the simulated shop say what its tables say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bessemer.lake import CurateConfig, curate, fingerprint, read_source
from bessemer.lake.shop import shop_rows
from bessemer.lake.shop_pages import ShopPages
from bessemer.train.pairs import PairsConfig, build_examples

SMALL = ShopPages(users=20, items=60, seed=3)


def test_a_page_says_what_the_table_of_items_says() -> None:
    pages = list(read_source(SMALL, Path()))
    rows = list(shop_rows("items", users=20, items=60, events=100, seed=3))
    assert [page.meta["item"] for page in pages] == [row["item"] for row in rows]
    for page, row in zip(pages, rows, strict=True):
        assert page.title == row["title"] and f"{row['price']:.2f}" in page.text and row["item"] in page.text
        assert ("in stock" in page.text) == row["available"]
        assert page.meta["simulated"] == "true" and page.group == row["item"]


def test_pages_are_the_same_each_time_and_their_numbers_are_noticed() -> None:
    assert list(read_source(SMALL, Path())) == list(read_source(SMALL, Path()))
    assert fingerprint(SMALL, Path()) != fingerprint(SMALL.model_copy(update={"seed": 4}), Path())


def test_questions_of_all_kinds_are_made_of_pages() -> None:
    kept = [page for page in curate(read_source(SMALL, Path()), CurateConfig()) if not page.dropped]
    assert len(kept) == 60
    made = Counter(
        (e.split, e.rule) for e in build_examples(kept, PairsConfig(train_questions=30, heldout_questions=9))
    )
    for split in ("train", "heldout"):
        assert all(made[split, rule] > 0 for rule in ("about", "define", "covers", "passage"))
