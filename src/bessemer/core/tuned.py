"""What the checkpoints of fine-tuned models are called, so that keys, limits and prices of a model are theirs, too.

Owns the names. Knows no model.
"""

from __future__ import annotations

_MARK = ":ckpt-step-"


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
    return model if mark and name.startswith("ft:") and step.isdecimal() else name
