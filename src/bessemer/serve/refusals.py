"""Why a request gets no answer, in the words of OpenAI's wire: always message, type, param and code.

Owns the mapping from what went wrong to HTTP. A refusal is a value; `Refused` only carries it out of nested calls.
What comes from a client is shortened before it is shown again, and what an engine says about itself is not shown.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from bessemer.core.errors import BessemerError, BudgetExceeded, Cancelled, Conflict, Unsupported

_SHOWN_CHARACTERS = 64
_FIELD = re.compile(r"[a-z_][a-z0-9_]*")
_TYPES = frozenset({"bool", "int", "float", "str", "none", "date", "datetime", "decimal", "bytes"})

LONGEST_WAIT_SECONDS = 119
"""Nobody is told to wait longer: OpenAI's client, told of more than two minutes, asks again at once."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP status and the four fields of the wire's error; `headers` go with it."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    type: str = "invalid_request_error"
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> bytes:
        """Return the JSON that the client gets."""
        fields = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": fields}).encode()


class Refused(Exception):
    """Carries a refusal to the envelope."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


_BEARER = (("www-authenticate", "Bearer"),)
_CLOSE = (("connection", "close"),)
_AGAIN = (("retry-after", "1"),)

NO_KEY = Refusal(
    401, "No API key was sent. Send it as 'Authorization: Bearer bk-…'.", "invalid_api_key", headers=_BEARER
)
WRONG_KEY = Refusal(401, "The API key is not known here.", "invalid_api_key", headers=_BEARER)
REVOKED_KEY = Refusal(401, "The API key was revoked.", "api_key_revoked", headers=_BEARER)
ARCHIVED_PROJECT = Refusal(401, "The project of this API key is archived.", "project_archived", headers=_BEARER)
EXPIRED_KEY = Refusal(401, "The API key has expired.", "api_key_expired", headers=_BEARER)
NO_ADMIN = Refusal(403, "Only an administrator's key may do this.", "insufficient_permissions")
NOT_YOURS = Refusal(403, "Only your project's fine-tuned models can be deleted.", "insufficient_permissions", "model")
KEEPS_NOTHING = Refusal(
    403, "This project lets nothing be kept. Leave 'store' out.", "data_retention_not_permitted", "store"
)
NO_WORDS = Refusal(403, "This project lets no words be kept. Send a metric.", "data_retention_not_permitted")
AMBIGUOUS = Refusal(400, "The request says in two ways how long it is.", "ambiguous_length", headers=_CLOSE)
SLOW_BODY = Refusal(408, "The request did not arrive in time.", "request_timeout", headers=_CLOSE)
TOO_MANY = Refusal(
    429, "Too many requests are under way. Ask again.", "rate_limit_exceeded", type="rate_limit_error", headers=_AGAIN
)
TOO_MANY_PREVIEWS = Refusal(
    429,
    "Other previews are under way. Ask again.",
    "rate_limit_exceeded",
    type="rate_limit_error",
    headers=_AGAIN,
)
ENGINE_LIMIT = Refusal(
    429, "The model takes no more requests now. Ask again later.", "rate_limit_exceeded", type="rate_limit_error"
)
OVERLOADED = Refusal(503, "The model is overloaded. Ask again later.", "overloaded", type="server_error")
CLIENT_GONE = Refusal(499, "The client closed the connection.", "client_closed_request")
STOPPING = Refusal(503, "The gateway is shutting down.", "shutting_down", type="server_error", headers=_AGAIN)
TOO_SLOW = Refusal(504, "The answer took longer than the gateway allows.", "timeout", type="server_error")


_FIELDS = {"json_format": "response_format"}
"""What the wire calls the fields of a request that engines name, where it is something else."""


def again_after(seconds: float) -> tuple[tuple[str, str], ...]:
    """Return the header that says after how long to ask again; none if nobody knows.

    >>> again_after(0.2), again_after(3600), again_after(0)
    ((('retry-after', '1'),), (('retry-after', '119'),), ())
    """
    return (("retry-after", str(math.ceil(min(seconds, LONGEST_WAIT_SECONDS)))),) if seconds > 0 else ()


def failed(request_id: str) -> Refusal:
    """Return the refusal for a failure in here: nothing of its inside, and the id under which the log knows it."""
    return Refusal(
        500, f"The gateway or its engine failed. Request: {request_id}", "internal_error", None, "server_error"
    )


def too_large(limit_bytes: int) -> Refusal:
    """Return the refusal of a body over the limit."""
    return Refusal(413, f"The request is larger than {limit_bytes} bytes.", "request_too_large")


def unknown_model(name: str) -> Refusal:
    """Return the refusal of a model that is not served."""
    return Refusal(404, f"The model '{shorten(name)}' does not exist here.", "model_not_found", "model")


def closed_model(name: str) -> Refusal:
    """Return the refusal of a model that the key is not for."""
    return Refusal(403, f"This API key may not use the model '{shorten(name)}'.", "model_not_found", "model")


def unsupported(param: str, message: str) -> Refusal:
    """Return the refusal of a field that the engine has no capability for."""
    return Refusal(400, message, "unsupported_parameter", param)


def invalid(param: str, message: str) -> Refusal:
    """Return the refusal of a field's value."""
    return Refusal(400, message, "invalid_value", param)


def missing(param: str) -> Refusal:
    """Return the refusal of a request that lacks a field."""
    return Refusal(400, f"Missing required parameter: '{param}'.", "missing_required_parameter", param)


def of_engine(error: BessemerError) -> Refusal | None:
    """Return what an engine's error says about the request or the moment, or None if it is about the engine."""
    if error.retry_after_seconds is not None:
        refusal = ENGINE_LIMIT if isinstance(error, BudgetExceeded) else OVERLOADED
        return replace(refusal, headers=again_after(error.retry_after_seconds))
    if isinstance(error, Cancelled):  # whatever it waited for, such as a checkpoint in the making
        return STOPPING
    if isinstance(error, BudgetExceeded):
        return Refusal(400, error.message, "context_length_exceeded", "messages")
    if isinstance(error, Unsupported):
        return Refusal(400, error.message, "unsupported_value", _FIELDS.get(error.about, error.about or None))
    if isinstance(error, Conflict):  # of a run, with another answer or another question
        return Refusal(409, error.message, "conflict", "metadata")
    return None


def of_validation(error: ValidationError, model: type[BaseModel]) -> Refusal:
    """Return the refusal for the first thing wrong with a body; of a field of several kinds, what is wrong in it."""
    items: list[Any] = error.errors(include_url=False, include_input=False)
    first = _named(items[0])
    item = max((each for each in items if _named(each)[: len(first)] == first), key=lambda each: len(_named(each)))
    kind, param = item["type"], _path(_named(item))
    if kind == "json_invalid":
        return Refusal(
            400, f"The request is not valid JSON: {item['msg'].removeprefix('Invalid JSON: ')}", "invalid_json"
        )
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(param, model.model_fields, n=1) if len(item["loc"]) == 1 else []
        advice = f" Did you mean '{near[0]}'?" if near else ""
        return Refusal(400, f"Unknown parameter: '{param}'.{advice}", "unknown_parameter", param)
    if kind == "missing":
        return missing(param)
    code = kind if kind == "unsupported_parameter" else "invalid_type" if kind.endswith("_type") else "invalid_value"
    where, words = f"'{param}': " if param else "request: ", item["msg"]
    if kind in ("too_short", "too_long"):
        least = "min_length" if kind == "too_short" else "max_length"
        words = f"must have at {'least' if kind == 'too_short' else 'most'} {item['ctx'][least]}"
    return Refusal(400, f"Invalid {where}{words[:1].lower()}{words[1:]}", code, param or None)


def _named(item: Any) -> tuple[str | int, ...]:
    """Return where an error is, without the names of types in between, which are the validator's own."""
    place, last = item["loc"], len(item["loc"]) - 1
    sure = last if item["type"] in ("extra_forbidden", "missing") else 0
    return tuple(
        part
        for number, part in enumerate(place)
        if isinstance(part, int) or number in (0, sure) or (_FIELD.fullmatch(part) and part not in _TYPES)
    )


def shorten(text: str) -> str:
    """Return a text of the client's as far as it is shown again.

    >>> shorten("x" * 70)[-3:]
    'xx…'
    """
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _path(location: tuple[str | int, ...]) -> str:
    """Return a path as the wire writes it, such as ``messages[0].content``."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{shorten(part)}" if path else shorten(part)
    return path
