from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError, NotFound
from bessemer.lake.movielens import movielens_events, movielens_items
from bessemer.lake.shop import COMPANION_RATIO, PARTS, Shop, shop_rows
from bessemer.lake.table_sources import ShopTable, fingerprint_table, read_table

SIZE = {"users": 60, "items": 80, "events": 3_000, "seed": 7}


def test_the_same_arguments_give_the_same_rows_and_others_do_not() -> None:
    first = {part: list(shop_rows(part, **SIZE)) for part in PARTS}
    assert {part: list(shop_rows(part, **SIZE)) for part in PARTS} == first
    assert list(shop_rows("events", **SIZE | {"seed": 8})) != first["events"]
    assert [len(first[part]) for part in PARTS] == [3_000, 80, 60]
    told = hashlib.sha256(json.dumps(first["events"]).encode()).hexdigest()
    assert told[:16] == DIGEST, "another machine or version would tell other events"


DIGEST = "230000364828acb2"


def test_events_fit_together_with_items_and_customers() -> None:
    events, items, customers = (list(shop_rows(part, **SIZE)) for part in PARTS)
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    assert {e["item"] for e in events} <= {i["item"] for i in items}
    bought = Counter(e["user"] for e in events if e["kind"] == "purchase")
    assert {c["customer"]: c["orders"] for c in customers if c["orders"]} == dict(bought)
    price = {i["item"]: i["price"] for i in items}
    spent = sum(price[e["item"]] for e in events if e["kind"] == "purchase")
    assert sum(c["spent"] for c in customers) == pytest.approx(spent)
    assert any(c["rating"] is None for c in customers) and all(row["simulated"] for row in events + items + customers)


def test_the_structure_that_is_told_is_in_the_events() -> None:
    shop = Shop(**SIZE)
    events = sorted(shop.events(), key=lambda event: event["session"])
    pairs = [
        (int(a["item"][1:]), int(b["item"][1:])) for a, b in itertools.pairwise(events) if a["session"] == b["session"]
    ]
    followed = sum(shop.companion(a) == b for a, b in pairs) / len(pairs)
    assert followed == pytest.approx(COMPANION_RATIO, abs=0.1)
    most = Counter(int(e["user"][1:]) for e in events).most_common(1)[0][0]
    seen = Counter(int(e["item"][1:]) for e in events if int(e["user"][1:]) == most)
    best = sorted(range(80), key=lambda item: -shop.affinity(most, item))
    top, bottom = (sum(seen[item] for item in half) for half in (best[:20], best[20:]))
    assert top > bottom


@pytest.mark.parametrize(("part", "change"), [("prices", {}), ("events", {"items": 3}), ("items", {"users": 0})])
def test_what_cannot_be_made_is_refused(part, change) -> None:
    with pytest.raises(ConfigError):
        list(shop_rows(part, **SIZE | change))


def test_a_factory_s_table_is_the_shop_s() -> None:
    declared = ShopTable(**SIZE, part="items")
    assert list(read_table(declared, Path())) == list(shop_rows("items", **SIZE))
    assert fingerprint_table(declared, Path()) != fingerprint_table(declared.model_copy(update={"seed": 8}), Path())


FORMS = {
    "ml-100k": {
        "u.data": "1\t2\t5\t881250949\n",
        "u.item": "2|Ala Løst (1995)|01-Jan-1995||http://x|" + "|".join("01000001" + "0" * 11) + "\n",
    },
    "ml-1m": {"ratings.dat": "1::2::5::881250949\n", "movies.dat": "2::Ala Løst (1995)::Action|Crime\n"},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_user_s_own_movielens_is_read(form, tmp_path) -> None:
    with pytest.raises(NotFound, match="has none of"):
        next(movielens_events(tmp_path))
    for name, text in FORMS[form].items():
        (tmp_path / name).write_text(text, encoding="latin-1")
    (event,), (film,) = movielens_events(tmp_path), movielens_items(tmp_path)
    assert (event["user"], event["item"], event["weight"], event["time"]) == ("1", "2", 1.0, 881250949.0)
    assert film["title"] == "Ala Løst (1995)" and film["category"] == "Action" and len(film["genres"]) >= 2
    ratings = tmp_path / next(iter(FORMS[form]))
    ratings.write_text("1 2 3\n")
    with pytest.raises(ConfigError, match=":1 is no rating"):
        next(movielens_events(tmp_path))
