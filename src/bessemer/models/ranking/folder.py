"""A ranker in a folder: `ranker.json` and `ranker.safetensors`, beside the items' names and the histories it knows.

Owns the files. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.errors import MissingDependency, NotFound, Unsupported
from bessemer.models.ranking.base import Floats, Histories, Scorer
from bessemer.models.ranking.factors import Factors
from bessemer.models.ranking.linear import Ease, Neighbours, Popularity
from bessemer.models.ranking.sequence import Sequence
from bessemer.models.ranking.towers import Towers

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SavedRanker:
    """What serving needs.

    Attributes:
        scorer: the fitted ranker.
        items: names of its items, in its order.
        users: names of the users of `histories`, in their order.
        histories: what those users did, the oldest first.
        counts: users who had each item; shape (items,).
        attributes: of each item, as its row had them; JSON values.
        content: features of each item; shape (items, features), or (items, 0).
        told: for each project, the number of the last event of a gateway's store that is in the histories.
    """

    scorer: Scorer
    items: tuple[str, ...]
    users: tuple[str, ...]
    histories: Histories
    counts: Floats
    attributes: tuple[dict[str, Any], ...]
    content: Floats
    told: Mapping[str, int] = field(default_factory=dict)


def save_ranker(saved: SavedRanker, folder: Path) -> None:
    """Write a ranker into a folder, which is made."""
    save_file = _safetensors().save_file
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"model.{name}": np.ascontiguousarray(array) for name, array in saved.scorer.arrays().items()}
    arrays |= {f"history.{name}": getattr(saved.histories, name) for name in ("starts", "items", "weights")}
    arrays |= {"counts": saved.counts, "content": np.ascontiguousarray(saved.content)}
    save_file(arrays, str(folder / "ranker.safetensors"))
    told = {
        "format": FORMAT,
        "kind": saved.scorer.kind,
        "settings": dict(saved.scorer.settings()),
        "items": saved.items,
        "users": saved.users,
        "attributes": saved.attributes,
        "told": dict(saved.told),
    }
    (folder / "ranker.json").write_text(json.dumps(told), encoding="utf-8")


def load_ranker(folder: Path) -> SavedRanker:
    """Return the ranker in a folder.

    Raises:
        NotFound: there is none.
        Unsupported: it is damaged or of a format that is not known here.
    """
    load_file = _safetensors().load_file
    card, tensors = folder / "ranker.json", folder / "ranker.safetensors"
    if not (card.is_file() and tensors.is_file()):
        raise NotFound(f"{folder} holds no ranker", hint="Run the factory: it makes one.")
    try:
        told, arrays = json.loads(card.read_text(encoding="utf-8")), load_file(str(tensors))
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']}")
        model = {name.removeprefix("model."): array for name, array in arrays.items() if name.startswith("model.")}
        return SavedRanker(
            scorer=_scorer(told["kind"], model, told["settings"]),
            items=tuple(told["items"]),
            users=tuple(told["users"]),
            histories=Histories(*(arrays[f"history.{name}"] for name in ("starts", "items", "weights"))),
            counts=arrays["counts"],
            attributes=tuple(told["attributes"]),
            content=arrays["content"],
            told=told["told"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unsupported(f"the ranker in {folder} cannot be read: {error}", hint="Run the factory again.") from error


def _scorer(kind: str, arrays: dict[str, Any], settings: dict[str, Any]) -> Scorer:
    if kind == Popularity.kind:
        return Popularity(**arrays)
    if kind == Neighbours.kind:
        return Neighbours(**arrays)
    if kind == Ease.kind:
        return Ease(**arrays)
    if kind == Factors.kind:
        return Factors(**arrays, **settings)
    if kind == Sequence.kind:
        return Sequence(arrays, **settings)
    if kind == Towers.kind:
        return Towers(arrays.pop("vectors"), arrays, **settings)
    raise ValueError(f"no ranker is called '{kind}'")


def _safetensors() -> Any:
    try:
        from safetensors import numpy
    except ModuleNotFoundError as error:
        raise MissingDependency("safetensors", extra="recommend") from error
    return numpy
