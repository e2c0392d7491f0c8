"""The source "python documentation": what is read, in which order, and what its fingerprint is.

Owns the declaration of this source. Where definitions come from stands in `library.py`, README texts in
`packages.py`.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.digest import digest, digest_bytes
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Document
from bessemer.lake.document import Progress, no_progress
from bessemer.lake.pydocs.entry import entry_document
from bessemer.lake.pydocs.library import standard_library
from bessemer.lake.pydocs.packages import installed, readme_documents


class PydocsSource(Config):
    """Documentation that is already on the machine: docstrings and signatures, and the README texts of packages.

    Attributes:
        stdlib: read the standard library.
        packages: read the README texts in the metadata of installed distributions.
        modules: top-level modules and distributions to read; empty reads all.
        max_documents: at most so many, drawn evenly; 0 is no limit.
        passage_characters: README texts are split into passages of at most this length; 0 keeps them whole.
    """

    kind: Literal["pydocs"] = "pydocs"
    stdlib: bool = True
    packages: bool = True
    modules: tuple[str, ...] = ()
    max_documents: Annotated[int, Field(ge=0)] = 0
    passage_characters: Annotated[int, Field(ge=0, le=1_000_000)] = 1_500

    def describe(self) -> str:
        """Return what is read, in words."""
        parts = [f"the standard library of Python {platform.python_version()}"] if self.stdlib else []
        parts += ["the README texts of installed packages"] if self.packages else []
        only = f", only {', '.join(self.modules)}" if self.modules else ""
        return " and ".join(parts) + only


def read_pydocs(source: PydocsSource, progress: Progress = no_progress) -> Iterator[Document]:
    """Yield the documents in an order that depends on nothing but what is installed.

    Raises:
        ConfigError: the declaration leaves nothing to read.
        NotFound: this Python has no source files of its library.
    """
    documents = list(_all(source, progress))
    if not documents:
        raise ConfigError(
            f"the source pydocs yields no document (stdlib: {source.stdlib}, packages: {source.packages})",
            hint="Set `stdlib` or `packages` to true, and check the names in `modules`.",
        )
    if source.max_documents and len(documents) > source.max_documents:
        drawn = sorted(documents, key=lambda d: digest_bytes(d.title.encode()))[: source.max_documents]
        chosen = {document.id for document in drawn}
        documents = [document for document in documents if document.id in chosen]
    yield from documents


def _all(source: PydocsSource, progress: Progress) -> Iterator[Document]:
    wanted = frozenset(source.modules)
    if source.stdlib:
        version = platform.python_version()
        for public in standard_library(progress, wanted):
            if not wanted or public.module.partition(".")[0] in wanted:
                yield entry_document(public.entry, public.module, public.source, version)
    if source.packages:
        yield from readme_documents(wanted, source.passage_characters)


def fingerprint_pydocs(source: PydocsSource) -> str:
    """Return a digest of the Python and of the installed distributions with their versions."""
    packages = sorted(installed()) if source.packages else []
    return digest([sys.version if source.stdlib else "", sys.platform, [list(pair) for pair in packages]])
