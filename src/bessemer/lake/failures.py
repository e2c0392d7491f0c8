"""From what Lance raises to the errors of this house, split by who must act.

Owns the translation; Lance has only ValueError, OSError and RuntimeError, so the words in its messages decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from bessemer.core.errors import BackendError, BessemerError, BudgetExceeded, ConfigError, Conflict, IntegrityError

_PLACE_IN_RUST = re.compile(r",? ?/[^ ,]*\.rs:\d+:\d+")
_SPACE = ("os error 28", "os error 27", "os error 122", "No space left", "File too large", "Disk quota")


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
    said = f"cannot {doing}: {text[:300]}"
    if any(mark in text for mark in _SPACE):
        return BudgetExceeded(said, hint="Free some space there; what was committed before is intact.")
    if "ommit conflict" in text or "already exists" in text or "Retryable" in text or "TooMuchWriteContention" in text:
        return Conflict(said, hint="Another writer changed the table meanwhile: try again.")
    if "Error performing" in text:
        return BackendError(said, hint="Check the URL, the bucket and the credentials in `storage_options`.")
    if "Invalid user input" in text or "Schema error" in text or "parser error" in text:
        return ConfigError(said, hint="Check the names and the condition against the table's columns.")
    if "ot found" in text or "orrupt" in text or "LanceError(IO)" in text:
        return IntegrityError(
            said, hint="A file of the table is missing or damaged: restore it, or use another version."
        )
    return BackendError(said)
