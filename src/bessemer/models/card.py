"""The card of a model folder: what it is, where it came from, under which licence, and the digest of its weights.

Owns `card.json` and the digest of weight files. Knows no network library.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from bessemer.core.digest import canonical_json, digest
from bessemer.core.errors import IntegrityError, NotFound
from bessemer.core.nouns import Noun

CARD_FILE = "card.json"


class ModelCard(Noun):
    """What a person and a ledger need to know about a model folder.

    Attributes:
        name: what the model is called.
        source: where the weights came from: package, file name, hub name, or ``fine-tuned``.
        licence: SPDX identifier in the source's own spelling, or ``unknown``.
        weights_sha256: digest over the sorted (file name, SHA-256) list of the weight files.
        parameters: how many numbers the weights hold; tied weights count once.
        context_tokens: the longest sequence that the network was made for.
        dtype: how the weights are stored, such as ``float16``.
        parent_sha256: `weights_sha256` of the model that this one was trained from, or empty.
    """

    name: str
    source: str
    licence: str
    weights_sha256: str
    parameters: int
    context_tokens: int
    dtype: str
    parent_sha256: str = ""


def read_card(model: Path) -> ModelCard:
    """Return the card of a model folder.

    Raises:
        NotFound: the folder has no card.
        IntegrityError: the card is not what was written.
    """
    path = model / CARD_FILE
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(
            f"{model} has no model card", hint="Import the model with bessemer.models.import_base."
        ) from error
    except ValueError as error:
        raise IntegrityError(f"{path} is not a model card", hint="Import the model again.") from error


def write_card(model: Path, card: ModelCard) -> None:
    """Write a card into its model folder."""
    (model / CARD_FILE).write_text(canonical_json(card) + "\n", encoding="utf-8")


def describe_folder(model: Path, *, name: str, source: str, licence: str, parent_sha256: str = "") -> ModelCard:
    """Return the card of a Hugging Face folder, with everything counted from the files themselves.

    Raises:
        NotFound: the folder holds no safetensors weights or no config.
    """
    weights = sorted(model.glob("*.safetensors"))
    if not weights or not (model / "config.json").is_file():
        raise NotFound(
            f"{model} is no model folder: it needs config.json and *.safetensors",
            hint="Name a Hugging Face directory saved with safetensors, or a .gguf file.",
        )
    headers = [_header(path) for path in weights]
    shapes = [(str(entry["dtype"]), entry["shape"]) for header in headers for entry in header.values()]
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    dtypes = sorted({_DTYPES.get(dtype, dtype.lower()) for dtype, _ in shapes})
    return ModelCard(
        name=name,
        source=source,
        licence=licence,
        weights_sha256=digest([(path.name, _sha256(path)) for path in weights]),
        parameters=sum(_count(shape) for _, shape in shapes),
        context_tokens=int(config.get("max_position_embeddings", 0)),
        dtype="+".join(dtypes),
        parent_sha256=parent_sha256,
    )


_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """Return name -> {dtype, shape, data_offsets} of a safetensors file.

    Source: the safetensors format: 8 bytes of little-endian length, then that much JSON.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, dict[str, Any]] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header


def _count(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
