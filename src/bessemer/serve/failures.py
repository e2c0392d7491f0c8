"""Errors as the wire says them: a status and one object with message, type, param and code, always all four.

Owns which of our errors is which status. Says nothing of the inside of an engine.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from bessemer.core.errors import BessemerError, BudgetExceeded, Cancelled, NotFound, Unsupported


class Refusal(Exception):
    """A request that is answered with an error; `headers` go along."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """Return the error object."""
        kind = "rate_limit_error" if self.status == 429 else "invalid_request_error"
        kind = "server_error" if self.status >= 500 else kind
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def from_engine(error: Exception) -> Refusal:
    """Return what a client hears of an error below: the cause if it can mend it, else only that there was one."""
    said = f"{error.message}. {error.hint}".strip() if isinstance(error, BessemerError) else ""
    if isinstance(error, BudgetExceeded):
        return Refusal(400, said, param="messages", code="context_length_exceeded")
    if isinstance(error, Unsupported):
        return Refusal(400, said, code="unsupported")
    if isinstance(error, NotFound):
        return Refusal(404, said, code="not_found")
    if isinstance(error, Cancelled):
        return Refusal(503, "The gateway is stopping.", code="shutting_down", headers={"retry-after": "5"})
    if isinstance(error, TimeoutError):
        return Refusal(504, "The answer took too long.", code="timeout")
    return Refusal(500, "The model failed to answer. The operator's log has the cause.", code="engine_error")


def from_validation(error: ValidationError) -> Refusal:
    """Return what is wrong with a body: the first mistake, with the field that it is in."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("list[", "str", "function-")))
    return Refusal(400, f"{where or 'body'}: {first['msg']}", param=where or None, code="invalid_value")


def parse(body: bytes) -> Any:
    """Return the JSON value of a body.

    Raises:
        Refusal: it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"The body is not valid JSON: {error}", code="invalid_json") from error
