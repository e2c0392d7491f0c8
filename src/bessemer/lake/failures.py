"""From what Lance raises to the errors of this house, split by who must act.

Owns the translation; Lance has only ValueError, OSError and RuntimeError, so the words in its messages decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from bessemer.core.errors import BackendError, BessemerError, BudgetExceeded, ConfigError, Conflict, IntegrityError

_PLACE_IN_RUST = re.compile(r",? ?/[^ ,]*\.rs:\d+:\d+")
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket")
"""Words of S3, Azure and Google when there is no bucket; a missing table is told in other words."""

_KINDS: tuple[tuple[tuple[str, ...], type[BessemerError], str], ...] = (
    (
        ("os error 28", "os error 27", "os error 122", "No space left", "File too large", "Disk quota"),
        BudgetExceeded,
        "Free some space there; what was committed before is intact.",
    ),
    (
        ("ommit conflict", "already exists", "Retryable", "TooMuchWriteContention", "Incompatible transaction"),
        Conflict,
        "Another writer changed the table meanwhile: try again.",
    ),
    (NO_BUCKET, ConfigError, "There is no such bucket: make it, or name another in the lake's URL."),
    (
        ("Error performing", "object store prefix"),
        BackendError,
        "Check the lake's URL, the network, and the store's credentials (variables such as AWS_ENDPOINT).",
    ),
    (
        ("Invalid user input", "Schema error", "parser error"),
        ConfigError,
        "Check the names and the condition against the table's columns.",
    ),
    (
        ("ot found", "orrupt", "LanceError(IO)"),
        IntegrityError,
        "A file of the table is missing or damaged: restore it, or use another version.",
    ),
)
"""Words of a message, the error that they mean, what to do about it; the first that fits counts."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Run a block in which Lance is called; `doing` says what for, such as ``write the table 'docs'``.

    Raises:
        BudgetExceeded: no space is left.
        Conflict: another writer was faster.
        ConfigError: a condition, a name or a value is wrong.
        IntegrityError: files that a version needs are missing or damaged.
        BackendError: anything else.
    """
    try:
        yield
    except BessemerError:
        raise
    except (OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise _translate(error, doing) from error


def _translate(error: Exception, doing: str) -> BessemerError:
    text = _PLACE_IN_RUST.sub("", str(error)).strip()
    for marks, kind, hint in _KINDS:
        if any(mark in text for mark in marks):
            return kind(f"cannot {doing}: {text[:300]}", hint=hint)
    return BackendError(f"cannot {doing}: {text[:300]}")
