"""The errors that Bessemer raises, split by who must act.

    BessemerError
    ├── ConfigError         the declaration or an argument is wrong: its author mends it
    ├── NotFound            a named thing does not exist: the caller names another
    ├── Conflict            two writers or two names collide: the caller retries or chooses
    ├── Unsupported         this backend cannot do that: the caller picks another backend
    ├── MissingDependency   a package is not installed: the user installs the named extra
    ├── BudgetExceeded      a limit on money, tokens, time or space is reached: its owner raises it
    ├── IntegrityError      stored data is not what was written: an operator looks
    ├── BackendError        an engine, database or service failed (always raised `from` the cause)
    └── Cancelled           somebody asked to stop

Owns the tree; knows no room. A dropped document, a refused request and a failed gate are values, not errors.
"""

from __future__ import annotations

from typing import ClassVar


class BessemerError(Exception):
    """Base of all errors that a caller may want to handle.

    Attributes:
        code: stable machine-readable name, such as ``config_error``.
        hint: what to do about it, one sentence, or an empty string.
        retry_after_seconds: None if the same would fail again; else it failed because of the moment, and may be asked
            again after so many seconds (0: nobody knows after how many).
        about: the field of what was asked that is meant; empty if it is none, or nobody knows which.
    """

    code: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, hint: str = "", retry_after_seconds: float | None = None, about: str = ""
    ) -> None:
        super().__init__(message)
        self.about = about
        self.message = message
        self.hint = hint
        self.retry_after_seconds = retry_after_seconds


class ConfigError(BessemerError):
    """The declaration or an argument is wrong."""

    code = "config_error"


class NotFound(BessemerError):
    """A named thing does not exist."""

    code = "not_found"


class Conflict(BessemerError):
    """Two writers, or two uses of one name, collide."""

    code = "conflict"


class Unsupported(BessemerError):
    """The chosen backend cannot do what was asked."""

    code = "unsupported"


class MissingDependency(BessemerError):
    """An optional package is not installed."""

    code = "missing_dependency"

    def __init__(self, package: str, *, extra: str = "") -> None:
        what = f"'bessemer[{extra}]'" if extra else f"--no-deps {package}"
        super().__init__(f"{package} is not installed", hint=f"Install it with: pip install {what}")
        self.package = package
        self.extra = extra


class BudgetExceeded(BessemerError):
    """A limit on money, tokens, time or space is reached."""

    code = "budget_exceeded"


class IntegrityError(BessemerError):
    """Stored data is not what was written."""

    code = "integrity_error"


class BackendError(BessemerError):
    """An engine, database or service failed; raise it `from` the cause."""

    code = "backend_error"


class Cancelled(BessemerError):
    """Somebody asked to stop."""

    code = "cancelled"
