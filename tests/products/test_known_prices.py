"""A home knows the prices of the factory that worked in it last, and whoever looks at its books goes by them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bessemer.meter import PriceBook, PriceHistory, load_price_history
from bessemer.products.config import FactoryConfig
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.products.known_prices import KnownPrices, known_prices, note_prices
from bessemer.products.prices import find_prices

PRICES = """
version = "ours-1"
currency = "EUR"
models.recommend.unit = 250_000_000
default = {input = 100_000, output = 400_000, tiers.priority = {input = 180_000}}
"""
DECLARED = {"name": "steel", "meter": {"price_book": "prices.toml", "sensors": "model"}}


def test_a_factory_leaves_its_prices_in_its_home(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    home = Home(tmp_path / "state")
    assert known_prices(home) is None
    assert find_prices(None, home).factory == "pydocs", "the built-in example, where none worked yet"
    config = FactoryConfig.model_validate({**DECLARED, "sources": [{"kind": "folder", "path": "."}]})
    with closing(Factory(config, tmp_path, home).open_meter()):
        found = find_prices(None, home)
    written = load_price_history(tmp_path / "prices.toml")
    assert (found.factory, found.currency, found.history) == ("steel", "EUR", written)
    assert [book.stamp() for book in found.history.books] == [book.stamp() for book in written.books]
    (tmp_path / "other.toml").write_text(PRICES.replace("ours-1", "ours-2"))
    other = find_prices(tmp_path / "other.toml", home)
    assert (other.factory, other.history.books[0].version) == ("steel", "ours-2")


def test_a_note_of_another_version_is_no_note(tmp_path: Path) -> None:
    home = Home(tmp_path)
    note_prices(home, KnownPrices(factory="steel", history=PriceHistory(books=(PriceBook(version="1"),))))
    path = tmp_path / "prices.json"
    path.write_text(path.read_text().replace('"version"', '"edition"'))
    assert known_prices(home) is None


def test_a_price_that_says_0_is_noted_in_the_place_of_one_that_inherits(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for batch in ({"input": 5}, {"input": 5, "output": 0}, {"input": 5}):
        default = {"input": 10, "output": 20, "batch": batch}
        prices = PriceHistory(books=(PriceBook.model_validate({"version": "1", "default": default}),))
        note_prices(home, KnownPrices(factory="steel", history=prices))
        found = known_prices(home)
        assert found and found.history.books[0].stamp() == prices.books[0].stamp()
