"""Where documents come from: the declared sources, how each is read, and how a change of it is noticed.

Owns the union of the sources' declarations. A source is read by its own module.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bessemer.core.nouns import Document
from bessemer.lake.document import Progress, no_progress
from bessemer.lake.folder import FolderSource, fingerprint_folder, read_folder
from bessemer.lake.pydocs.source import PydocsSource, fingerprint_pydocs, read_pydocs
from bessemer.lake.shop_pages import ShopPages, read_pages

SourceConfig = Annotated[FolderSource | PydocsSource | ShopPages, Field(discriminator="kind")]
AnySource = FolderSource | PydocsSource | ShopPages


def read_source(config: AnySource, base: Path, progress: Progress = no_progress) -> Iterator[Document]:
    """Yield all documents of a source, the ones that could not be read too (`dropped` says why).

    Args:
        config: the source's declaration.
        base: the folder that relative paths start from: the declaration's own.
        progress: called with (files done, files in all).

    Raises:
        NotFound: a folder does not exist.
        ConfigError: the source has nothing to read.
    """
    if isinstance(config, FolderSource):
        return read_folder(config, base, progress)
    if isinstance(config, ShopPages):
        return read_pages(config, progress)
    return read_pydocs(config, progress)


def fingerprint(config: AnySource, base: Path) -> str:
    """Return a digest that changes when the source's content may have changed; nothing is read for it.

    Raises:
        NotFound: a folder does not exist.
        ConfigError: the source has nothing to read.
    """
    if isinstance(config, ShopPages):
        return config.digest()
    return fingerprint_folder(config, base) if isinstance(config, FolderSource) else fingerprint_pydocs(config)
