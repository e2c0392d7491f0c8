"""One documented thing of Python: a module, class, function, method, property, and how it reads as a document.

Owns the rendered text, the signature's form and the summary. Knows neither syntax trees nor live objects.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Literal

from bessemer.core.nouns import Document
from bessemer.lake.document import make_document, reason

Kind = Literal["module", "class", "function", "method", "property"]

_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!vs\.)\s+(?=[A-Z\"'(\[`<])")
_SUMMARY_CHARACTERS = 300
_CALL = re.compile(r"(?P<name>[A-Za-z_][\w.]*)(?P<arguments>\([^\n]*)\n?")
"""How the docstrings of C code begin that carry no signature of their own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A definition as it was found.

    Attributes:
        kind: what it is.
        path: its name within its module, such as ``JSONDecoder.decode``; empty for the module itself.
        arguments: the parenthesised part of its signature with the result's type, or empty if it has none.
        doc: its docstring, unindented, or empty.
        line: where it stands in its file, from 1; 0 where there is no source.
    """

    kind: Kind
    path: str
    arguments: str
    doc: str
    line: int = 0


def entry_document(entry: Entry, module: str, source: str, version: str) -> Document:
    """Return the document of an entry of a public module.

    A thing without a docstring becomes a document too, dropped as ``undocumented``, so that it can be counted.
    """
    prefix = "" if module == "builtins" else module
    name = ".".join(part for part in (prefix, entry.path) if part) or module
    signature = "" if entry.kind == "module" else f"{name}{entry.arguments}"
    doc = _without_signature(entry.doc, entry.path)
    return make_document(
        source,
        f"{signature or name}\n\n{doc}".strip(),
        title=name,
        group=module.partition(".")[0],
        media_type="text/x-python",
        meta={
            "kind": entry.kind,
            "name": name,
            "module": module,
            "signature": signature,
            "summary": summary(doc),
            "line": str(entry.line or ""),
            "version": version,
        },
        dropped="" if doc else reason("undocumented"),
    )


def summary(doc: str) -> str:
    """Return the first sentence of a docstring's first paragraph on one line, 300 characters at most.

    >>> summary("Return the answer. It may be long.\\n\\nMore.")
    'Return the answer.'
    """
    paragraph = " ".join(doc.strip().partition("\n\n")[0].split())
    first = _SENTENCE_END.split(paragraph, maxsplit=1)[0] if paragraph else ""
    if len(first) <= _SUMMARY_CHARACTERS:
        return first
    return first[:_SUMMARY_CHARACTERS].rpartition(" ")[0] + " ..."


def clean(doc: str | None) -> str:
    """Return a docstring without its indentation."""
    return inspect.cleandoc(doc).strip() if doc else ""


def called_as(doc: str, path: str) -> str:
    """Return the arguments that a docstring's first line states, or an empty string.

    >>> called_as("time() -> floating point number\\n\\nReturn the time.", "time")
    '() -> floating point number'
    """
    found = _CALL.match(doc)
    if not found or found["name"].rpartition(".")[2] != path.rpartition(".")[2]:
        return ""
    return re.sub(r"\s*--?>\s*", " -> ", found["arguments"]).strip()


def _without_signature(doc: str, path: str) -> str:
    """Return a docstring without the lines at its top that only say how the thing is called."""
    rest = doc
    while (found := _CALL.match(rest)) and path and found["name"].rpartition(".")[2] == path.rpartition(".")[2]:
        rest = rest[found.end() :].lstrip("\n")
    return rest.strip() or doc
