"""A simulated outdoor shop: items, customers and their events, made by a model whose structure is known.

Owns the simulation; everything in it is invented, and rows say nothing about anybody. It exists so that recommenders,
agents and synthetic tables can be tried where no real data may be shipped, and tested against what is true by
construction (`Shop.affinity`, `Shop.companion`). The same arguments give the same rows on every machine.

The model: a customer likes two or three of the categories (the rest hardly), has a price that they feel at home with,
and comes back in sessions. A session stays mostly within one category; within it items are drawn by popularity (Zipf)
and thinned by how far their price is from the customer's. After an item its companion (boots, then socks) follows with
a fixed chance. Views become carts and purchases with chances that rise with the affinity.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Any, Literal

from bessemer.core.errors import ConfigError

Part = Literal["events", "items", "customers"]
PARTS: tuple[Part, ...] = ("events", "items", "customers")

OPENED_AT = 1_767_225_600
"""2026-01-01 00:00 UTC: when the simulated time begins."""
DAYS = 120
COMPANION_RATIO = 0.3
"""Chance that an item's companion is looked at next."""
WEIGHTS = {"view": 1.0, "cart": 2.0, "purchase": 4.0}
"""How much each kind of event says."""

_CATEGORIES: dict[str, tuple[str, ...]] = {
    "tents": ("dome tent", "tunnel tent", "tarp", "bivouac sack"),
    "sleeping": ("sleeping bag", "sleeping mat", "camp pillow", "hammock"),
    "boots": ("hiking boot", "trail shoe", "gaiter", "wool sock"),
    "packs": ("backpack", "day pack", "dry bag", "hip pack"),
    "cooking": ("gas stove", "titanium pot", "spork", "water filter"),
    "climbing": ("climbing rope", "harness", "carabiner", "chalk bag"),
    "cycling": ("pannier", "bike light", "repair kit", "cycling glove"),
    "clothing": ("rain jacket", "fleece", "merino shirt", "down vest"),
    "winter": ("snowshoe", "ice axe", "ski glove", "avalanche probe"),
    "navigation": ("compass", "headlamp", "map case", "altimeter"),
}
_BASE_PRICE = (180, 90, 95, 80, 40, 65, 35, 85, 110, 45)
_QUALITIES = ("light", "sturdy", "compact", "warm", "waterproof", "quick-drying", "foldable", "reflective")
_MATERIALS = (
    "recycled nylon",
    "aluminium",
    "merino wool",
    "ripstop polyester",
    "canvas",
    "titanium",
    "cork",
    "leather",
)
_USES = ("long walks", "alpine tours", "weekend trips", "rainy days", "winter nights", "summer meadows", "daily rides")
_BRANDS = ("Fjordal", "Kestrel", "Northbeck", "Alpenrose", "Torrent", "Wayfare", "Granit")
_REGIONS = ("north", "south", "east", "west", "coast", "islands")
_SEGMENTS = ("family", "alpinist", "commuter", "weekender", "student")
_LIKED_BY_SEGMENT = ((0, 1, 4), (5, 8, 9), (6, 3, 7), (2, 3, 9), (4, 6, 7))
"""Categories that a segment is drawn to, besides what is a customer's own."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in the shop; `companion` is the number of the item that is wanted after it."""

    number: int
    category: int
    price: float
    words: tuple[str, str, str, str]
    brand: str
    companion: int
    popularity: float
    added_at: int
    available: bool

    def row(self) -> dict[str, Any]:
        """Return the item as a row of the table of items."""
        quality, noun, material, use = self.words
        return {
            "item": item_name(self.number),
            "title": f"{self.brand} {quality} {noun}",
            "category": list(_CATEGORIES)[self.category],
            "brand": self.brand,
            "price": self.price,
            "text": f"A {quality} {noun} of {material} for {use}. Made by {self.brand}.",
            "available": self.available,
            "added_at": self.added_at,
            "simulated": True,
        }


@dataclass(slots=True)
class Customer:
    """One customer; `likes` are chances of the categories, `log_price` the level that they feel at home with."""

    number: int
    segment: int
    region: int
    age: int
    joined_at: int
    newsletter: bool
    likes: tuple[float, ...]
    log_price: float
    activity: float
    orders: int = 0
    spent: float = 0.0
    visits: int = 0
    rating: float | None = None
    cumulative: tuple[float, ...] = field(default=())

    def row(self) -> dict[str, Any]:
        """Return the customer as a row of the table of customers; amounts and counts are those of the events."""
        return {
            "customer": customer_name(self.number),
            "age": self.age,
            "region": _REGIONS[self.region],
            "segment": _SEGMENTS[self.segment],
            "newsletter": self.newsletter,
            "joined_at": self.joined_at,
            "visits": self.visits,
            "orders": self.orders,
            "spent": round(self.spent, 2),
            "rating": self.rating,
            "simulated": True,
        }


class Shop:
    """The simulated shop.

    Args:
        users: how many customers.
        items: how many items; at least one for each category.
        events: how many events in all.
        seed: of everything that is drawn.

    Raises:
        ConfigError: a number is too small.
    """

    def __init__(self, *, users: int, items: int, events: int, seed: int) -> None:
        least = len(_CATEGORIES)
        if users < 1 or items < least or events < 0:
            raise ConfigError(
                f"a shop of {users} users, {items} items and {events} events cannot be made",
                hint=f"Ask for 1 user, {least} items and 0 events at least.",
            )
        self._wanted, self._seed = events, seed
        self.items = _items(items, Random(f"{seed}/items"))
        self._by_category = [[i for i in self.items if i.category == c] for c in range(least)]
        self._cumulative = [list(accumulate(i.popularity for i in group)) for group in self._by_category]
        self.customers = _customers(users, Random(f"{seed}/customers"))

    def affinity(self, customer: int, item: int) -> float:
        """Return how likely this customer is to want this item next, up to a factor: the structure that is true.

        Chances of the companion rule are left out: they depend on the item before.
        """
        who, what = self.customers[customer], self.items[item]
        share = what.popularity / self._cumulative[what.category][-1]
        return who.likes[what.category] * share * _fits(who, what)

    def companion(self, item: int) -> int:
        """Return the number of the item that follows this one with the chance `COMPANION_RATIO`."""
        return self.items[item].companion

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of all events, the oldest first; customers' counts are complete afterwards."""
        random = Random(f"{self._seed}/events")
        shares = list(accumulate(c.activity for c in self.customers))
        visits: list[tuple[float, int]] = []
        lengths: list[int] = []
        left = self._wanted
        while left > 0:
            length = min(left, 1 + int(random.expovariate(1 / 4)))
            who = bisect(shares, random.random() * shares[-1])
            began = max(OPENED_AT, self.customers[who].joined_at)
            visits.append((began + random.random() * (OPENED_AT + DAYS * 86_400 - began), who))
            lengths.append(length)
            left -= length
        rows: list[dict[str, Any]] = []
        for visit, index in enumerate(sorted(range(len(visits)), key=lambda i: visits[i])):
            at, who = visits[index]
            rows += self._session(random, self.customers[who], visit, int(at), lengths[index])
        rows.sort(key=lambda row: row["time"])  # visits overlap
        for number, row in enumerate(rows):
            yield {"event": f"e{number:07d}"} | row

    def _session(self, random: Random, who: Customer, visit: int, at: int, length: int) -> Iterator[dict[str, Any]]:
        category = bisect(who.cumulative, random.random() * who.cumulative[-1])
        who.visits += 1
        before: Item | None = None
        for _ in range(length):
            if before and random.random() < COMPANION_RATIO:
                item = self.items[before.companion]
            else:
                item = self._drawn(random, who, category)
            before, at = item, at + 5 + int(random.expovariate(1 / 60))
            kind = self._kind(random, who, item)
            yield {
                "user": customer_name(who.number),
                "item": item_name(item.number),
                "session": f"v{visit:06d}",
                "kind": kind,
                "weight": WEIGHTS[kind],
                "time": at,
                "simulated": True,
            }

    def _drawn(self, random: Random, who: Customer, category: int) -> Item:
        group, shares = self._by_category[category], self._cumulative[category]
        for _ in range(6):
            item = group[bisect(shares, random.random() * shares[-1])]
            if random.random() < _fits(who, item):
                break
        return item

    @staticmethod
    def _kind(random: Random, who: Customer, item: Item) -> str:
        drawn, wish = random.random(), 0.4 * _fits(who, item)
        if drawn < wish / 3:
            who.orders, who.spent = who.orders + 1, who.spent + item.price
            if random.random() < 0.3:
                who.rating = float(min(5, max(1, round(random.gauss(3 + 2 * wish, 0.8)))))
            return "purchase"
        return "cart" if drawn < wish else "view"


def shop_rows(part: str, *, users: int, items: int, events: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one table of the simulated shop: ``events``, ``items`` or ``customers``.

    Customers' visits, orders and sums are those of the same arguments' events.

    Raises:
        ConfigError: there is no such part, or a number is too small.
    """
    if part not in PARTS:
        raise ConfigError(f"the simulated shop has no part '{part}'", hint=f"Parts: {', '.join(PARTS)}")
    if part == "items":
        yield from (item.row() for item in Shop(users=users, items=items, events=0, seed=seed).items)
        return
    shop = Shop(users=users, items=items, events=events, seed=seed)
    if part == "events":
        yield from shop.events()
        return
    for _ in shop.events():
        pass
    yield from (customer.row() for customer in shop.customers)


def item_name(number: int) -> str:
    """Return what the item of that number is called in rows."""
    return f"i{number:05d}"


def customer_name(number: int) -> str:
    """Return what the customer of that number is called in rows."""
    return f"c{number:05d}"


def _fits(who: Customer, item: Item) -> float:
    """Return from 0 to 1 how near an item's price is to what a customer feels at home with."""
    return math.exp(-2 * (math.log(item.price) - who.log_price - _category_log_price(item.category)) ** 2)


@lru_cache(maxsize=len(_BASE_PRICE))
def _category_log_price(category: int) -> float:
    return math.log(_BASE_PRICE[category])


def _items(count: int, random: Random) -> list[Item]:
    categories = [number % len(_CATEGORIES) for number in range(count)]
    ranks = list(range(1, count + 1))
    random.shuffle(ranks)
    by_category: dict[int, list[int]] = {}
    for number, category in enumerate(categories):
        by_category.setdefault(category, []).append(number)
    names = list(_CATEGORIES.values())
    return [
        Item(
            number=number,
            category=category,
            price=round(_BASE_PRICE[category] * math.exp(random.gauss(0, 0.5)), 2),
            words=(
                random.choice(_QUALITIES),
                names[category][number // len(_CATEGORIES) % len(names[category])],
                random.choice(_MATERIALS),
                random.choice(_USES),
            ),
            brand=random.choice(_BRANDS),
            companion=_other(random, by_category[(category + random.choice((0, 1))) % len(_CATEGORIES)], number),
            popularity=1 / ranks[number] ** 0.8,
            added_at=OPENED_AT - random.randrange(400) * 86_400,
            available=random.random() < 0.95,
        )
        for number, category in enumerate(categories)
    ]


def _other(random: Random, numbers: Sequence[int], number: int) -> int:
    drawn = random.choice(numbers)
    return drawn if drawn != number or len(numbers) == 1 else numbers[(numbers.index(drawn) + 1) % len(numbers)]


def _customers(count: int, random: Random) -> list[Customer]:
    return [_customer(number, random) for number in range(count)]


def _customer(number: int, random: Random) -> Customer:
    segment = random.choices(range(len(_SEGMENTS)), (4, 2, 3, 4, 3))[0]
    likes = [0.015] * len(_CATEGORIES)
    for category in random.sample(_LIKED_BY_SEGMENT[segment], 2):
        likes[category] += random.uniform(0.5, 1.5)
    likes[random.randrange(len(likes))] += random.uniform(0.1, 0.8)
    mean_age = (41, 36, 33, 48, 23)[segment]
    age = int(min(85, max(16, random.gauss(mean_age, 7))))
    total = sum(likes)
    shares = tuple(like / total for like in likes)
    return Customer(
        number=number,
        segment=segment,
        region=random.choices(range(len(_REGIONS)), (5, 4, 3, 3, 2, 1))[0],
        age=age,
        joined_at=OPENED_AT - random.randrange(900) * 86_400 + random.randrange(86_400),
        newsletter=random.random() < (0.7 if age > 40 else 0.4),
        likes=shares,
        log_price=random.gauss(0.012 * (age - 38), 0.25),
        activity=random.lognormvariate(0, 0.8),
        cumulative=tuple(accumulate(shares)),
    )
