"""Which paths lead to a model, in which client's words.

Owns the table. Each endpoint has its own module.
"""

from __future__ import annotations

from starlette.routing import Route

from bessemer.serve.chat import chat_reader
from bessemer.serve.parts import GatewayParts
from bessemer.serve.serving import Endpoint, Floor


def wire_routes(floor: Floor, parts: GatewayParts) -> list[Route]:
    """Return the paths of the endpoints that ask a model, and of what is stored of their answers."""
    return [Route("/v1/chat/completions", Endpoint(floor, chat_reader(parts.answers)), methods=["POST"])]
