"""Models of tables on disk: one JSON file and one file of arrays; nothing in them is ever executed.

Owns the form. Source: NumPy's NPZ, read without pickles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from bessemer.core.errors import IntegrityError, NotFound
from bessemer.core.tabular import ColumnConfig, Relation, TableSchema
from bessemer.train.tables.blocks import Block
from bessemer.train.tables.config import CopulaConfig
from bessemer.train.tables.constraints import Changes, Combination, Gap
from bessemer.train.tables.fingerprints import Fingerprints
from bessemer.train.tables.marginals import Marginal
from bessemer.train.tables.model import TableModel
from bessemer.train.tables.related import TablesModel
from bessemer.train.tables.sequences import SequenceModel

_KINDS: tuple[type[Any], ...] = (
    TablesModel, TableModel, SequenceModel, Block, Marginal, Changes, Combination, Gap, Fingerprints,
)  # fmt: skip
_DECLARED: tuple[type[BaseModel], ...] = (ColumnConfig, Relation, TableSchema, CopulaConfig)
_NAMES = {kind.__name__: kind for kind in (*_KINDS, *_DECLARED)}
_TREE, _ARRAYS = "model.json", "arrays.npz"


def save_model(model: TablesModel, folder: Path) -> None:
    """Write a model into a folder."""
    arrays: dict[str, Any] = {}
    tree = _plain(model, arrays)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / _ARRAYS, **arrays)
    (folder / _TREE).write_text(json.dumps({"version": 1, "model": tree}), encoding="utf-8")


def load_model(folder: Path) -> TablesModel:
    """Return the model of a folder.

    Raises:
        NotFound: there is none.
        IntegrityError: it is not what was written.
    """
    if not (folder / _TREE).is_file():
        raise NotFound(f"there is no model of tables in {folder}")
    try:
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            found = _built(json.loads((folder / _TREE).read_text(encoding="utf-8"))["model"], arrays)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise IntegrityError(f"the model in {folder} is damaged: {error}", hint="Make it again.") from error
    if not isinstance(found, TablesModel):
        raise IntegrityError(f"{folder} holds no model of tables", hint="Make it again.")
    return found


def _plain(value: Any, arrays: dict[str, Any]) -> Any:
    found = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        found = {"array": name}
    elif isinstance(value, BaseModel):
        found = {"declared": type(value).__name__, "as": value.model_dump(mode="json")}
    elif is_dataclass(value):
        parts = {field.name: _plain(getattr(value, field.name), arrays) for field in fields(value)}
        found = {"is": type(value).__name__, "of": parts}
    elif isinstance(value, Mapping):
        found = {"map": {key: _plain(item, arrays) for key, item in value.items()}}
    elif isinstance(value, tuple):
        found = {"all": [_plain(item, arrays) for item in value]}
    elif isinstance(found, float) and not np.isfinite(found):
        found = {"float": str(found)}
    return found


def _built(tree: Any, arrays: Mapping[str, Any]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree or "float" in tree:
        return arrays[tree["array"]] if "array" in tree else float(tree["float"])
    if "map" in tree:
        return {key: _built(item, arrays) for key, item in tree["map"].items()}
    if "all" in tree:
        return tuple(_built(item, arrays) for item in tree["all"])
    if "declared" in tree:
        return _NAMES[tree["declared"]].model_validate(tree["as"])
    return _NAMES[tree["is"]](**{name: _built(item, arrays) for name, item in tree["of"].items()})
