"""Writes `customers.csv` and `orders.csv`: a shop that does not exist, as the data that a synthetic copy is made of.

    python examples/synthetic/make_customers.py

Plans follow age, orders follow plans, some scores are missing; the same rows each time.
"""

from __future__ import annotations

import csv
import random
from datetime import date, datetime, timedelta
from pathlib import Path

CUSTOMERS = 1200
CITIES = {"Lyon": "France", "Nantes": "France", "Graz": "Austria", "Linz": "Austria", "Porto": "Portugal"}
HERE = Path(__file__).parent


def main() -> None:
    """Write both tables."""
    draw = random.Random(7)
    customers, orders = [], []
    for number in range(1, CUSTOMERS + 1):
        age = min(90, max(18, round(draw.gauss(44, 15))))
        plan = draw.choices(("free", "plus", "pro"), (80 - age * 0.6, age * 0.5, age * 0.3))[0]
        joined = date(2019, 1, 1) + timedelta(days=int(draw.triangular(0, 2000, 1500)))
        active = joined + timedelta(days=draw.randint(0, 700))
        city = draw.choices(tuple(CITIES), (5, 2, 3, 2, 4))[0]
        score = "" if draw.random() < 0.15 else f"{min(10, max(0, draw.gauss(5 + (plan > 'plus') * 2, 2))):.1f}"
        spent = 0.0
        for _ in range(int(draw.expovariate(1 / (1 + 2 * (plan != "free") + 3 * (plan == "pro"))))):
            amount = round(draw.lognormvariate(3 + 0.3 * (plan == "pro"), 0.6), 2)
            at = datetime(2024, 1, 1) + timedelta(seconds=draw.randint(0, 360 * 86_400))
            orders.append((len(orders) + 1, f"C{number:05d}", amount, at.isoformat(" ")))
            spent += amount
        customers.append((f"C{number:05d}", age, plan, city, CITIES[city], joined, active, score, f"{spent:.2f}"))
    names = ("customer_id", "age", "plan", "city", "country", "joined", "last_seen", "score", "spent")
    _write("customers.csv", names, customers)
    _write("orders.csv", ("order_id", "customer_id", "amount", "at"), orders)


def _write(name: str, names: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with (HERE / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])


if __name__ == "__main__":
    main()
