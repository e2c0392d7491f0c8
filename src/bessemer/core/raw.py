"""What a model is asked beside conversations: to go on with a raw text, and to place a text in space.

Owns those nouns. `ScoreRequest`, the third raw request, is with the others in `nouns`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bessemer.core.nouns import Noun, RawText, Sampling, Usage


class PromptRequest(RawText):
    """A raw text to be continued; for engines with the capability ``prompt``."""

    sampling: Sampling = Sampling()


class EmbedRequest(RawText):
    """A text whose vector is wanted; for engines with the capability ``embed``.

    `dimensions` None leaves the length of the vector to the engine.
    """

    dimensions: Annotated[int, Field(ge=1, le=65536)] | None = None


class EmbedResult(Noun):
    """A vector of length 1 (its Euclidean norm)."""

    vector: tuple[float, ...]
    usage: Usage = Usage()
