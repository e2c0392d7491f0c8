"""Which paths lead to a model, in which client's words.

Owns the table. Each endpoint has its own module.
"""

from __future__ import annotations

from starlette.routing import Route
from starlette.types import ASGIApp

from bessemer.serve.chat import chat_reader
from bessemer.serve.parts import GatewayParts
from bessemer.serve.serving import Endpoint, Floor, Read
from bessemer.serve.wire.agents import AgentDesk
from bessemer.serve.wire.completions import read_text
from bessemer.serve.wire.embeddings import read_vectors
from bessemer.serve.wire.events import EventDesk
from bessemer.serve.wire.messages import AnthropicDoor, TokenCount, read_anthropic
from bessemer.serve.wire.ranking import rank_reader, recommendations_reader
from bessemer.serve.wire.responses import ResponseDesk, response_reader
from bessemer.serve.wire.stored import StoredDesk


def wire_readers(parts: GatewayParts) -> dict[str, Read]:
    """Return what reads the bodies of the endpoints that ask a model, by path."""
    return {
        "/v1/chat/completions": chat_reader(parts.answers),
        "/v1/completions": read_text,
        "/v1/embeddings": read_vectors,
        "/v1/rank": rank_reader(parts.rankings),
        "/v1/recommendations": recommendations_reader(parts.rankings),
        "/v1/responses": response_reader(parts.answers),
    }


def asking_routes(floor: Floor, parts: GatewayParts) -> list[Route]:
    """Return the paths of the endpoints that ask a model."""
    readers = wire_readers(parts)
    asking = [Route(path, Endpoint(floor, read), methods=["POST"]) for path, read in readers.items()]
    theirs: dict[str, ASGIApp] = {"": Endpoint(floor, read_anthropic), "/count_tokens": TokenCount(floor)}
    asking += [Route(f"/v1/messages{path}", AnthropicDoor(app), methods=["POST"]) for path, app in theirs.items()]
    return asking


def wire_routes(floor: Floor, parts: GatewayParts) -> list[Route]:
    """Return the paths of what is kept beside the models: of agents, of events, and of answers that are stored."""
    routes = AgentDesk(floor).routes()
    if parts.events:
        routes += EventDesk(floor, parts.events, parts.rankings).routes()
    if parts.answers:
        routes += StoredDesk(floor, parts.answers).routes() + ResponseDesk(floor, parts.answers).routes()
    return routes
