"""The pages of the simulated shop: one document for each thing that it sells, as a shop's own pages would say it.

Owns the wording. What is for sale is simulated in `shop.py`; the same numbers give the same items there and here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.nouns import Document
from bessemer.lake.document import Progress, make_document, no_progress
from bessemer.lake.shop import Item, Shop

_PER_REPORT = 100


class ShopPages(Config):
    """The product pages of the simulated shop.

    Attributes:
        users: customers; as of the shop's tables, so that all of it fits together.
        items: things for sale, each with a page.
        seed: of everything that is drawn.
    """

    kind: Literal["shop"] = "shop"
    users: Annotated[int, Field(ge=1)] = 500
    items: Annotated[int, Field(ge=10)] = 300
    seed: Annotated[int, Field(ge=0)] = 0

    def describe(self) -> str:
        """Return what is read, in words."""
        return f"{self.items} pages of a simulated shop"


def read_pages(source: ShopPages, progress: Progress = no_progress) -> Iterator[Document]:
    """Yield a page for each item; each is a group of its own, so that held-out pages are of items never seen."""
    items = Shop(users=source.users, items=source.items, events=0, seed=source.seed).items
    for number, item in enumerate(items):
        if number % _PER_REPORT == 0:
            progress(number, len(items))
        row = item.row()
        yield make_document(
            f"shop:{row['item']}",
            _page(item, items[item.companion]),
            title=row["title"],
            group=row["item"],
            media_type="text/markdown",
            meta={"item": row["item"], "category": row["category"], "simulated": "true"},
        )


def _page(item: Item, companion: Item) -> str:
    """Return a page in Markdown."""
    row, beside = item.row(), companion.row()
    quality, noun, material, use = item.words
    stock = "in stock and leaves the warehouse on the next working day" if item.available else "sold out at the moment"
    return (
        f"# {row['title']}\n\n"
        f"{row['title']} is a {quality} {noun} of {material}, made by {row['brand']} for {use}; "
        f"article {row['item']}.\n\n"
        f"## Price of the {row['title']}\n\n"
        f"The {row['title']} costs {row['price']:.2f} and is {stock}.\n\n"
        f"## What goes with the {row['title']}\n\n"
        f"Customers who took it along often came back for the {beside['title']} ({beside['item']}).\n"
    )
