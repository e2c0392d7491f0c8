"""Fingerprints of rows, by which a made row is known to equal a row of the data without keeping the data.

Owns the hash: 64 bits over all values, the same for equal rows. Who holds a model may ask whether a whole row that they
guess was in the data; differential privacy keeps no fingerprints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.core.tabular import Column

_MISSING = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Fingerprints of the rows that may not be made again, rising."""

    values: NDArray[np.uint64]

    def has(self, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
        """Return which rows have one of them."""
        if not len(self.values):
            return np.zeros(len(next(iter(columns.values())).values), bool)
        found = row_hashes(columns)
        at = np.minimum(np.searchsorted(self.values, found), len(self.values) - 1)
        return np.asarray(self.values[at] == found)


def fingerprints(columns: Mapping[str, Column], only_unique: bool) -> Fingerprints:
    """Return the fingerprints of all rows, or of those that stand once."""
    if not columns:
        return Fingerprints(np.empty(0, np.uint64))
    values, counts = np.unique(row_hashes(columns), return_counts=True)
    return Fingerprints(values[counts == 1] if only_unique else values)


def row_hashes(columns: Mapping[str, Column]) -> NDArray[np.uint64]:
    """Return a hash of each row; columns are taken in the order of their names."""
    total: NDArray[np.uint64] | None = None
    for name in sorted(columns):
        each = _mixed(_bits(columns[name]))
        total = each if total is None else _mixed(total * np.uint64(0x100000001B3) ^ each)
    if total is None:
        raise ValueError("a row without columns has no hash")
    return total


def _bits(column: Column) -> NDArray[np.uint64]:
    if column.config.numeric:
        values = np.ascontiguousarray(column.values, dtype=np.float64) + 0.0  # -0.0 equals 0.0
        return np.where(np.isnan(values), _MISSING, values.view(np.uint64))
    table = np.array([_of_text(text) for text in column.categories] + [_MISSING], dtype=np.uint64)
    return np.asarray(table[column.values])  # -1 is the last


def _of_text(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _mixed(bits: NDArray[Any]) -> NDArray[np.uint64]:
    """Return bits mixed. Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)), dtype=np.uint64)
