"""A shop's customers as files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest


def customers(rows: int = 400, seed: int = 0) -> str:
    """Return CSV: plans follow age, scores follow plans and are missing for some."""
    draw = random.Random(seed)
    lines = ["customer_id,age,plan,joined,score"]
    for number in range(rows):
        age = draw.randint(18, 80)
        plan = "gold" if age + draw.gauss(0, 10) > 50 else "basic"
        score = "" if draw.random() < 0.2 else f"{draw.gauss(5 + 2 * (plan == 'gold'), 1):.2f}"
        lines.append(
            f"C{number:05d},{age},{plan},20{draw.randint(10, 24)}-0{draw.randint(1, 9)}-1{number % 10},{score}"
        )
    return "\n".join(lines) + "\n"


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(customers(), encoding="utf-8")
    return path
