"""By which names rules find a model: prices, limits and what keys are for.

Owns the one rule. Knows no model.
"""

from __future__ import annotations

_TUNED = "ft:"


def names_of(model: str) -> tuple[str, ...]:
    """Return a model's names, the nearest first: its own, then its base's if it was fine-tuned.

    >>> names_of("ft:mine:acme:support:x1"), names_of("mine")
    (('ft:mine:acme:support:x1', 'mine'), ('mine',))
    """
    return (model, model.split(":")[1]) if model.startswith(_TUNED) else (model,)
