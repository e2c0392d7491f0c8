"""Base and adapter become one plain model folder, so that any engine can serve it without knowing about LoRA.

Owns the sum and the new folder's card. Knows no quantisation.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from bessemer.core.errors import BackendError
from bessemer.models.card import CARD_FILE, ModelCard, describe_folder, read_card, write_card
from bessemer.models.quiet import quiet_transformers


def merge(base: Path, adapter: Path, out: Path, *, name: str = "") -> ModelCard:
    """Return the card of the merged model after writing it to `out`: weights, the base's tokenizer files, card.

    The sum is taken in float32 and kept in the base's own dtype.

    Args:
        base: a Hugging Face folder with a card.
        adapter: what `fine_tune` wrote.
        out: a folder to fill; made if it does not exist.
        name: of the new model; the base's name with ``-tuned`` if empty.

    Raises:
        BackendError: the adapter does not fit the base.
    """
    parent = read_card(base)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
            merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
            merged.to(getattr(torch, parent.dtype.partition("+")[0])).save_pretrained(out)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BackendError(f"the adapter cannot be merged: {error}", hint="Was it trained from this base?") from error
    for file in sorted(base.iterdir()):
        if not (out / file.name).exists() and file.name != CARD_FILE and not file.name.startswith("model"):
            shutil.copyfile(file, out / file.name)
    card = describe_folder(
        out,
        name=name or f"{parent.name}-tuned",
        source=f"fine-tuned from {parent.source}",
        licence=parent.licence,
        parent_sha256=parent.weights_sha256,
    )
    write_card(out, card)
    return card
