"""How much work a declaration asks of each step, before anything ran: what a prediction is made from.

Owns the counting. What a source really holds, and how long its texts are, is learnt from runs by who predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bessemer.lake import SourceConfig
from bessemer.lake.folder import FolderSource, find_files
from bessemer.lake.shop_pages import ShopPages
from bessemer.products.llm.config import LlmConfig

PYDOCS_DOCUMENTS = 11_000
"""Of the Python documentation when all of it is read. Source: two runs of the default factory, 10,730 and 11,803."""

TOKENS_PER_EXAMPLE = 99
"""Padding included. Source: a run of the default factory, 35,549 tokens of 360 examples."""


def amounts(sources: Sequence[SourceConfig], product: LlmConfig, base: Path) -> dict[str, float]:
    """Return step -> amount, in the unit of the catalogue of stages; a step that is not listed is done once.

    Args:
        sources: of the documents.
        product: what is made of them.
        base: the folder that relative paths start from.

    Raises:
        NotFound: a folder does not exist.
        ConfigError: a source has nothing to read.
    """
    documents = float(sum(_documents(source, base) for source in sources))
    pairs, train, speed = product.pairs, product.train, product.speed
    examples = train.epochs * (pairs.train_questions + pairs.train_passages)
    samples = float(pairs.heldout_questions + pairs.heldout_passages)
    return {
        "ingest": documents,
        "curate": documents,
        "pairs": documents,
        "train": float(min(train.max_tokens, examples * TOKENS_PER_EXAMPLE)),
        "evaluate": samples,
        "evaluate_base": samples,
        "speed": float(sum(speed.streams) * speed.repeats * speed.output_tokens),
    }


def _documents(source: SourceConfig, base: Path) -> int:
    """Return about how many documents a source gives: a passage at a time where long texts are split."""
    if isinstance(source, ShopPages):
        return source.items
    if not isinstance(source, FolderSource):
        return source.max_documents or PYDOCS_DOCUMENTS
    sizes = [path.stat().st_size if path.is_file() else 0 for _, path in find_files(source, base)]
    length = source.passage_characters
    return sum(-(-size // length) or 1 for size in sizes) if length else len(sizes)
