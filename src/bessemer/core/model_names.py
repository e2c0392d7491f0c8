"""By which names rules find a model: prices, limits and what keys are for reach what was fine-tuned from it, too.

    ft:BASE:PROJECT:SUFFIX:ID                   a fine-tuned model
    ft:BASE:PROJECT:SUFFIX:ID:ckpt-step-STEP    what it was after so many steps

Owns the names. Knows no model.
"""

from __future__ import annotations

_TUNED = "ft:"
_MARK = ":ckpt-step-"


def names_of(model: str) -> tuple[str, ...]:
    """Return a model's names, the nearest first: its own, of a checkpoint its model's, of a fine-tuned its base's.

    >>> names_of("ft:mine:acme:tea:1:ckpt-step-8"), names_of("mine")
    (('ft:mine:acme:tea:1:ckpt-step-8', 'ft:mine:acme:tea:1', 'mine'), ('mine',))
    """
    if not model.startswith(_TUNED):
        return (model,)
    whole, base = tuned_model(model), model.split(":")[1]
    return (model, base) if whole == model else (model, whole, base)


def checkpoint_name(model: str, step: int) -> str:
    """Return the name of what a fine-tuned model was after so many steps.

    >>> checkpoint_name("ft:base:shop:tea:1", 8)
    'ft:base:shop:tea:1:ckpt-step-8'
    """
    return f"{model}{_MARK}{step}"


def tuned_model(name: str) -> str:
    """Return the fine-tuned model that a checkpoint's name is of; any other name is itself.

    >>> tuned_model("ft:base:shop:tea:1:ckpt-step-8"), tuned_model("base")
    ('ft:base:shop:tea:1', 'base')
    """
    model, mark, step = name.rpartition(_MARK)
    return model if mark and name.startswith(_TUNED) and step.isdecimal() else name
