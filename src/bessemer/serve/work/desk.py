"""What the endpoints of files, jobs and batches share: whose request it is, its body, pages, and errors.

Owns that and nothing of any one endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from bessemer.core.errors import BessemerError, BudgetExceeded, ConfigError, Conflict, NotFound, Unsupported
from bessemer.serve.config import GatewayConfig
from bessemer.serve.door import authenticate, read_body
from bessemer.serve.keys import Key, KeyStore
from bessemer.serve.refusals import Refusal, Refused, invalid, of_validation

T = TypeVar("T", bound=BaseModel)
R = TypeVar("R")

_STATUS: dict[type[BessemerError], tuple[int, str]] = {
    NotFound: (404, "not_found"),
    ConfigError: (400, "invalid_value"),
    Conflict: (409, "conflict"),
    BudgetExceeded: (413, "storage_exceeded"),
    Unsupported: (400, "unsupported_value"),
}


class Body(BaseModel):
    """Base of what clients send: unknown fields are refused, and what was sent is not repeated in errors."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Desk:
    """What an endpoint needs of the gateway."""

    config: GatewayConfig
    keys: KeyStore

    def key(self, request: Request) -> Key:
        """Return whose request it is.

        Raises:
            Refused: nobody's.
        """
        return authenticate(self.keys, request.scope)

    async def read(self, request: Request, model: type[T]) -> T:
        """Return the JSON body.

        Raises:
            Refused: it is not what the model says.
        """
        config = self.config
        body = await read_body(request.scope, request.receive, config.max_body_bytes, config.body_timeout_seconds)
        try:
            return model.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise Refused(of_validation(error, model)) from None


async def asked(function: Callable[..., R], *what: Any, param: str | None = None) -> R:
    """Return what a store says, asked in a thread.

    Raises:
        Refused: it says that this cannot be.
    """
    try:
        return await run_in_threadpool(function, *what)
    except tuple(_STATUS) as error:
        status, code = _STATUS[type(error)]
        message = f"{error.message[:1].upper()}{error.message[1:]}. {error.hint}".strip()
        raise Refused(Refusal(status, message, code, error.about or param)) from error


def limit_of(request: Request, default: int, most: int) -> int:
    """Return how many are wanted on a page.

    Raises:
        Refused: it is no number in range.
    """
    given = request.query_params.get("limit", str(default))
    if not given.isdecimal() or len(given) > 6 or not 1 <= int(given) <= most:
        raise Refused(invalid("limit", f"'limit' is a number from 1 to {most}."))
    return int(given)


def newest_first(request: Request, default: str = "desc") -> bool:
    """Return the order that is wanted.

    Raises:
        Refused: there is no such order.
    """
    order = request.query_params.get("order", default)
    if order not in ("asc", "desc"):
        raise Refused(invalid("order", "'order' is asc or desc."))
    return order == "desc"


def told(value: Any) -> Response:
    """Return a JSON answer."""
    said = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return Response(json.dumps(said), media_type="application/json")


def listed(items: Iterable[dict[str, Any]], more: bool) -> Response:
    """Return a list of the wire."""
    data = list(items)
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return told({"object": "list", "data": data, **ends, "has_more": more})
