"""What items are, as numbers: words of their texts and categories hashed into a vector, their price, given vectors.

Owns the features. Hashing needs no vocabulary, so an item that comes tomorrow has the features that it would have had
in training.

Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", arXiv:0902.2206.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from bessemer.core.errors import ConfigError
from bessemer.models.ranking.base import Floats
from bessemer.models.ranking.towers import unit

WIDTH = 256
"""Features of words and values; a column of vectors adds its own."""

_WORD = re.compile(r"\w{2,}")


def content_features(rows: Sequence[Mapping[str, Any]], ignored: Sequence[str] = ("item",), items: int = 0) -> Floats:
    """Return a row of length 1 for each item; shape (items, features).

    Texts give their words, numbers their size in steps of 40 %, flags and short words their value; columns that hold
    lists of numbers (an image's embedding, say) are taken as they are, scaled to length 1.

    Args:
        rows: items' attributes; a missing one is None or left out.
        ignored: columns that say nothing of an item, such as its name.
        items: how many there are if nothing is known of them, and `rows` is empty; they have no features.

    Raises:
        ConfigError: vectors of one column differ in length, or have a part that is no finite number.

    >>> a, b, c = content_features([{"text": "red tent"}, {"text": "red tarp"}, {"text": "gas stove"}])
    >>> bool(a @ b > a @ c)
    True
    """
    if not rows:
        return np.zeros((items, 0), np.float32)
    hashed = np.zeros((len(rows), WIDTH), np.float32)
    for number, row in enumerate(rows):
        for token, count in Counter(_tokens(row, ignored)).items():
            code = crc32(token.encode())
            hashed[number, code % WIDTH] += (1 if code >> 31 else -1) * math.sqrt(count)
    parts = [unit(hashed)]
    names = sorted({name for row in rows for name, value in row.items() if name not in ignored and _is_vector(value)})
    parts += [unit(_vectors(rows, name)) for name in names]
    return unit(np.concatenate(parts, axis=1))


def _vectors(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
    """Return a column of vectors; rows without one have zeros; shape (items, length of a vector)."""
    given = [row[name] if _is_vector(row.get(name)) else None for row in rows]
    lengths = {len(vector) for vector in given if vector is not None}
    if len(lengths) > 1 or not all(math.isfinite(part) for vector in given for part in vector or ()):
        told = f"the vectors in the column '{name}' are not all of one length and of finite numbers"
        raise ConfigError(told, hint="Make them by one model, and leave out what has none.")
    return np.asarray([vector or [0.0] * max(lengths) for vector in given], np.float32)


def _tokens(row: Mapping[str, Any], ignored: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name, value in row.items():
        if name in ignored or value is None:
            continue
        if isinstance(value, str):
            found += [word.lower() for word in _WORD.findall(value)]
            if len(value) <= 40:
                found += [f"{name}={value}"] * 2
        elif isinstance(value, (bool, int)) and not isinstance(value, float) and abs(value) <= 1:
            found.append(f"{name}={int(value)}")
        elif isinstance(value, (int, float)) and math.isfinite(value):
            size = math.copysign(math.log1p(abs(value)) / math.log(1.4), value)
            found += [f"{name}~{math.floor(size)}", f"{name}~{math.floor(size + 0.5)}"]
        elif isinstance(value, (list, tuple)) and not _is_vector(value):
            found += [f"{name}={part}" for part in value]
    return found


def _is_vector(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 1 and all(isinstance(part, float) for part in value)
