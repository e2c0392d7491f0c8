"""README texts in the metadata of installed distributions.

Owns which distributions there are and how their long description is found. How it is read is the readers' matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from typing import Any

from bessemer.core.nouns import Document
from bessemer.lake.readers.formats import read_raw
from bessemer.lake.readers.raw import Raw


def installed() -> set[tuple[str, str]]:
    """Return (name, version) of each distribution that Python finds, from the names of their folders."""
    return {_name_version(found) for found in distributions()}


def readme_documents(wanted: frozenset[str], passage_characters: int) -> Iterator[Document]:
    """Yield the passages of each README, sorted by distribution; one without a README is dropped as ``empty``."""
    found = {_name_version(item): item for item in distributions()}
    for (name, version), item in sorted(found.items(), key=lambda pair: pair[0]):
        if wanted and name not in wanted:
            continue
        text, media_type = _readme(item)
        raw = Raw(
            source=f"distribution:{name}/README",
            name=name,
            group=name,
            data=text.encode("utf-8", "replace"),
            passage_characters=passage_characters,
        )
        for document in read_raw(raw, media_type):
            title = ": ".join(part for part in (name, document.meta.get("heading", "")) if part)
            facts = {**document.meta, "kind": "readme", "name": name, "document": name, "version": version}
            yield document.model_copy(update={"title": title, "meta": facts})


def _name_version(item: Distribution) -> tuple[str, str]:
    """Return the normalised name and the version, from the folder's name where it says so: parsing takes longer.

    Source: Python packaging specifications, "Recording installed projects" (``{name}-{version}.dist-info``).
    """
    folder = str(getattr(getattr(item, "_path", None), "name", ""))
    if folder.endswith(".dist-info") and folder.count("-") == 1:
        name, _, version = folder.removesuffix(".dist-info").partition("-")
    else:
        name, version = item.metadata["Name"] or folder, item.version or ""
    return name.lower().replace("_", "-").replace(".", "-"), version


def _readme(item: Distribution) -> tuple[str, str]:
    """Return the long description and its media type.

    Source: Python packaging specifications, "Core metadata" (Description, Description-Content-Type).
    """
    metadata: Any = item.metadata  # an email message, whose payload the protocol does not show
    text = metadata.get("Description") or metadata.get_payload() or ""
    kind = (metadata.get("Description-Content-Type") or "text/x-rst").partition(";")[0].strip().lower()
    return str(text), kind if kind in ("text/markdown", "text/plain") else "text/x-rst"
