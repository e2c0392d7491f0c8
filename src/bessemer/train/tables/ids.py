"""Ids that are made, never taken from the data: counters, prefixes with counters, random UUIDs.

Owns how they are made; their patterns stand in `bessemer.core.tabular`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bessemer.core.tabular import UUID, Column, ColumnConfig


def make_ids(name: str, config: ColumnConfig, rows: int, random: np.random.Generator) -> Column:
    """Return so many different ids."""
    if config.written == "integer":
        texts = [str(number) for number in range(1, rows + 1)]
    elif config.pattern == UUID:
        texts = [_uuid(random.bytes(16)) for _ in range(rows)]
    else:
        pattern = config.pattern or f"{name}-{{:d}}"
        texts = [pattern.format(number) for number in range(1, rows + 1)]
    codes: NDArray[np.int32] = np.arange(rows, dtype=np.int32)
    return Column(config, codes, tuple(texts))


def _uuid(raw: bytes) -> str:
    """Return a version 4 UUID. Source: RFC 9562, section 5.4."""
    marked = bytearray(raw)
    marked[6], marked[8] = marked[6] & 0x0F | 0x40, marked[8] & 0x3F | 0x80
    text = marked.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
