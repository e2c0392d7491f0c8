"""The lake: from raw files to fit documents in versioned tables.

Sources are read into documents (`read_source`), what is no good is dropped with a reason (`curate`), what is left is
judged (`readiness`), and everything is kept in tables with versions, tags and full-text search (`open_lake`).
Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bessemer.core.errors import MissingDependency
from bessemer.lake.curation import CurateConfig, curate
from bessemer.lake.fitness import Readiness, readiness
from bessemer.lake.folder import FolderSource
from bessemer.lake.pydocs.source import PydocsSource
from bessemer.lake.sources import SourceConfig, fingerprint, read_source

if TYPE_CHECKING:
    from bessemer.lake.tables import LanceLake

__all__ = [
    "CurateConfig",
    "FolderSource",
    "PydocsSource",
    "Readiness",
    "SourceConfig",
    "curate",
    "fingerprint",
    "open_lake",
    "read_source",
    "readiness",
]


def open_lake(url: str, storage_options: Mapping[str, str] | None = None) -> LanceLake:
    """Return the lake at a local path or an object-store URL; nothing is written before the first put.

    Raises:
        MissingDependency: pylance is not installed.
        Unsupported: the URL names something that does not keep data.
    """
    try:
        from bessemer.lake.tables import LanceLake
    except ModuleNotFoundError as error:
        if error.name in ("lance", "pyarrow"):
            raise MissingDependency("pylance" if error.name == "lance" else error.name, extra="lake") from error
        raise
    return LanceLake(url, storage_options)
