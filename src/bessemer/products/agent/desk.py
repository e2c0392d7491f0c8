"""A narrow domain to practise in: the order desk of a shop, with tools over its database and tasks that can be checked.

Questions to train on and held-out ones share no phrasing, no item, no customer and no order. Each task has the calls
that solve it, so that a trajectory can be made, tried in its world and kept only if it ends as wanted.

Owns the domain. All of it is invented.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from bessemer.core.errors import NotFound, Unsupported
from bessemer.evals import State, Trial, World
from bessemer.infer.agents import Capability, callable_tool
from bessemer.products.agent.domain import Call, Domain, Practice, Split

INSTRUCTIONS = "You work at the order desk of a shop. Use the functions, then answer in one sentence."

Rows = tuple[dict[str, Any], ...]

_NAMES: dict[Split, tuple[str, ...]] = {
    "train": (
        "Ada Brown",
        "Ben Clark",
        "Cleo Davis",
        "Dan Evans",
        "Eva Frost",
        "Finn Gray",
        "Gina Hill",
        "Hugo Irving",
    ),
    "heldout": ("Iris Jones", "Jack Kent", "Kira Lane", "Liam Moss", "Mona North", "Nils Owen"),
}
_ITEMS: dict[Split, tuple[str, ...]] = {
    "train": ("lamp", "chair", "table", "mirror", "carpet", "clock", "basket", "candle"),
    "heldout": ("kettle", "blanket", "teapot", "ladder", "pillow", "bucket"),
}
_STATES = ("packed", "shipped", "waiting", "paid")
_ASKS: dict[str, dict[Split, tuple[str, ...]]] = {
    "status": {
        "train": ("Where is order {id}?", "What is the status of order {id}?", "Has order {id} been shipped yet?"),
        "heldout": (
            "How far is my order {id}?",
            "Could you look up order {id} for me and tell me its state?",
            "I am waiting for {id}, what is going on with it?",
        ),
    },
    "cancel": {
        "train": ("Please cancel order {id}.", "I do not want order {id} any more.", "Cancel {id}, please."),
        "heldout": (
            "I changed my mind, drop order {id}.",
            "Order {id} is no longer needed, take it back.",
            "Call off {id} for me, would you?",
        ),
    },
    "quantity": {
        "train": (
            "Make order {id} {n} pieces.",
            "Change the quantity of order {id} to {n}.",
            "I need {n} in order {id}.",
        ),
        "heldout": (
            "Set the amount of order {id} to {n}, please.",
            "Order {id} should have {n} instead.",
            "We want {n} of them in {id} now.",
        ),
    },
    "stock": {
        "train": ("How many of the {item} are left?", "Do you have the {item}, and how many?", "Stock of {item}?"),
        "heldout": (
            "What is the number of {item} in the store?",
            "Tell me how many {item} you still have.",
            "Is the {item} sold out, or how many are there?",
        ),
    },
    "customer": {
        "train": (
            "Cancel the order of {name}.",
            "{name} wants to cancel the order.",
            "Please cancel what {name} ordered.",
        ),
        "heldout": (
            "{name} called: the order is to be dropped.",
            "Take back the order of {name}, please.",
            "{name} does not want the order any longer.",
        ),
    },
}


def desk_tools(world: World) -> list[Capability]:
    """Return the tools of the desk, over the tables ``orders`` and ``stock`` of a world."""
    return [*_looking(world), *_changing(world)]


def _order(world: World, order_id: str) -> dict[str, Any]:
    found = world.execute("SELECT * FROM orders WHERE id = ?", order_id)
    if not found:
        raise NotFound(f"there is no order {order_id}")
    return dict(found[0])


def _looking(world: World) -> list[Capability]:
    @callable_tool(trusted=True)
    def find_order(order_id: str) -> dict[str, Any]:
        """Look an order up by its id."""
        return _order(world, order_id)

    @callable_tool(trusted=True)
    def find_customer(name: str) -> dict[str, Any]:
        """Look up the order of a customer by name."""
        found = world.execute("SELECT * FROM orders WHERE customer = ?", name)
        if not found:
            raise NotFound(f"no order of {name}")
        return dict(found[0])

    @callable_tool(trusted=True)
    def check_stock(item: str) -> str:
        """Say how many pieces of an item are left."""
        found = world.execute("SELECT pieces FROM stock WHERE item = ?", item)
        if not found:
            raise NotFound(f"there is no {item}")
        return f"{found[0]['pieces']} pieces of {item} left"

    return [find_order, find_customer, check_stock]


def _changing(world: World) -> list[Capability]:
    @callable_tool(effects="once", trusted=True)
    def cancel_order(order_id: str) -> str:
        """Cancel an order that was not shipped."""
        if _order(world, order_id)["status"] == "shipped":
            raise Unsupported(f"order {order_id} is shipped and cannot be cancelled")
        world.execute("UPDATE orders SET status = 'cancelled' WHERE id = ?", order_id)
        return f"order {order_id} cancelled"

    @callable_tool(effects="once", trusted=True)
    def set_quantity(order_id: str, quantity: int) -> str:
        """Change how many pieces an order has."""
        _order(world, order_id)
        world.execute("UPDATE orders SET quantity = ? WHERE id = ?", quantity, order_id)
        return f"order {order_id} has {quantity} pieces"

    return [cancel_order, set_quantity]


def practices(split: Split, count: int, seed: int = 0) -> Iterator[Practice]:
    """Yield tasks of all kinds in turn; the same seed yields the same.

    Args:
        split: whose phrasings, items, customers and orders they have.
        count: of tasks.
        seed: of what they are about.
    """
    kinds: tuple[Callable[[_Shop], Practice], ...] = (_status, _cancel, _quantity, _stock, _customer)
    for number in range(count):
        chance = random.Random(f"{split}/{seed}/{number}")
        yield kinds[number % len(kinds)](_Shop(split, number, chance))


class _Shop:
    """The start of a task, and what it is about."""

    def __init__(self, split: Split, number: int, chance: random.Random) -> None:
        self.split, self.number, self.chance = split, number, chance
        names, items = chance.sample(_NAMES[split], 3), list(_ITEMS[split])
        low, high = (100, 499) if split == "train" else (500, 899)
        ids = [f"{chance.choice('ABCDEFGH')}{n}" for n in chance.sample(range(low, high), 3)]
        self.orders: Rows = tuple(
            {
                "id": id,
                "customer": name,
                "item": chance.choice(items),
                "quantity": chance.randint(1, 9),
                "status": chance.choice(_STATES),
            }
            for id, name in zip(ids, names, strict=True)
        )
        self.stock: Rows = tuple({"item": item, "pieces": chance.randint(0, 99)} for item in chance.sample(items, 4))
        self.order, self.group = chance.choice(self.orders), ""

    def asked(self, kind: str, **values: Any) -> str:
        """Return a question in one of the phrasings; which one it is names the task's group."""
        phrasings = _ASKS[kind][self.split]
        chosen = self.chance.randrange(len(phrasings))
        self.group = f"{kind} {chosen}"
        return phrasings[chosen].format(**values)

    def practice(self, kind: str, question: str, calls: tuple[Call, ...], answer: str, **changed: Any) -> Practice:
        """Return the task whose end is the start with the order changed."""
        orders = tuple({**row, **changed} if row is self.order else row for row in self.orders)
        trial = Trial(
            id=f"{self.split}-{self.number:04d}",
            group=self.group,
            question=question,
            start=State(tables={"orders": self.orders, "stock": self.stock}),
            end=State(tables={"orders": orders, "stock": self.stock}),
            says=_must_say(kind, self),
            split=self.split,
        )
        return Practice(trial, calls, answer)


def _must_say(kind: str, shop: _Shop) -> tuple[str, ...]:
    if kind == "status":
        return (str(shop.order["status"]),)
    if kind == "stock":
        return (str(shop.stock[0]["pieces"]),)
    return ("shipped",) if kind != "quantity" and shop.order["status"] == "shipped" else ()


def _status(shop: _Shop) -> Practice:
    id, status = shop.order["id"], shop.order["status"]
    question = shop.asked("status", id=id)
    return shop.practice("status", question, (("find_order", {"order_id": id}),), f"Order {id} is {status}.")


def _cancelled(shop: _Shop, kind: str, question: str, *before: Call) -> Practice:
    id, shipped = shop.order["id"], shop.order["status"] == "shipped"
    calls = (*before, ("cancel_order", {"order_id": id}))
    if shipped:
        return shop.practice(kind, question, calls, f"Order {id} is shipped and cannot be cancelled.")
    return shop.practice(kind, question, calls, f"Order {id} is cancelled.", status="cancelled")


def _cancel(shop: _Shop) -> Practice:
    return _cancelled(shop, "cancel", shop.asked("cancel", id=shop.order["id"]))


def _customer(shop: _Shop) -> Practice:
    name = shop.order["customer"]
    return _cancelled(shop, "customer", shop.asked("customer", name=name), ("find_customer", {"name": name}))


def _quantity(shop: _Shop) -> Practice:
    id, wanted = shop.order["id"], shop.order["quantity"] + shop.chance.randint(1, 9)
    question = shop.asked("quantity", id=id, n=wanted)
    calls: tuple[Call, ...] = (("set_quantity", {"order_id": id, "quantity": wanted}),)
    return shop.practice("quantity", question, calls, f"Order {id} has {wanted} pieces now.", quantity=wanted)


def _stock(shop: _Shop) -> Practice:
    item, pieces = shop.stock[0]["item"], shop.stock[0]["pieces"]
    question = shop.asked("stock", item=item)
    return shop.practice(
        "stock", question, (("check_stock", {"item": item}),), f"There are {pieces} pieces of {item} left."
    )


DESK = Domain(
    instructions=INSTRUCTIONS,
    tools=desk_tools,
    practices=practices,
    start=State(
        tables={
            "orders": (
                {"id": "A17", "customer": "Iris Jones", "item": "kettle", "quantity": 1, "status": "paid"},
                {"id": "B42", "customer": "Liam Moss", "item": "teapot", "quantity": 2, "status": "shipped"},
            ),
            "stock": ({"item": "kettle", "pieces": 12}, {"item": "teapot", "pieces": 0}),
        }
    ),
)
"""The order desk; its first world is small, for whoever wants to talk to it."""
