"""Network weights: where a base model comes from and how a model is kept on disk. Knows no training, no serving."""

from bessemer.models.base import ResolvedBase, import_base, resolve_base
from bessemer.models.card import ModelCard, read_card, write_card
from bessemer.models.encoders import encoder_folder

__all__ = ["ModelCard", "ResolvedBase", "encoder_folder", "import_base", "read_card", "resolve_base", "write_card"]
