"""Network weights: where a base model comes from and how a model is kept on disk. Knows no training, no serving."""

from bessemer.models.base import ResolvedBase, import_base, resolve_base
from bessemer.models.card import ModelCard, read_card, write_card

__all__ = ["ModelCard", "ResolvedBase", "import_base", "read_card", "resolve_base", "write_card"]
