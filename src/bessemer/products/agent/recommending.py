"""The recommender as a tool: any engine that ranks, for the user that a question is about.

Owns the words in which a ranking is told to a model. Knows no ranker.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from bessemer.core.nouns import Usage
from bessemer.core.protocols import Engine
from bessemer.core.ranking import Ranking, RankRequest
from bessemer.infer.agents import Capability, Delivered, Occasion, callable_tool


def recommend_with(engine: Engine[RankRequest, Ranking, Any], product: str, name: str, most: int) -> Capability:
    """Return a tool that recommends; it sees the events of the asker's own project only.

    Args:
        engine: ranks.
        product: under which name it is served.
        name: of the tool.
        most: items at most.
    """

    @callable_tool(name=name)
    async def recommend(
        occasion: Occasion,
        user: Annotated[str, Field(description="Whose history counts; empty for what is liked by all.")] = "",
        like: Annotated[list[str], Field(description="Items that were just looked at.")] = [],  # noqa: B006 (never changed)
        n: Annotated[int, Field(ge=1, le=100)] = 5,
    ) -> Delivered:
        """Recommend items to a user, with reasons."""
        wish = RankRequest(project=occasion.asker.project, user=user, recent=tuple(like), n=min(n, most), explain=True)
        ranking = await engine.respond(wish)
        told = [
            {"item": each.item} | ({"reason": each.reason.sentence} if each.reason else {}) for each in ranking.items
        ]
        return Delivered(told, ranking.usage)

    return replace(recommend, asks=product, most=Usage(units=most))
