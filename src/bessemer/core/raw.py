"""What a model is asked beside conversations: to go on with a raw text, and to place a text in space.

Owns those nouns. `ScoreRequest`, the third raw request, is with the others in `nouns`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bessemer.core.nouns import Noun, Sampling, Usage


class PromptRequest(Noun):
    """A raw text to be continued, without chat template; for engines with the capability ``prompt``.

    Exactly one of `text` and `tokens` (numbers in the model's vocabulary) is given.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    sampling: Sampling = Sampling()


class EmbedRequest(Noun):
    """A text whose vector is wanted; for engines with the capability ``embed``.

    Exactly one of `text` and `tokens` is given. `dimensions` None leaves the length of the vector to the engine.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    dimensions: Annotated[int, Field(ge=1, le=65536)] | None = None


class EmbedResult(Noun):
    """A vector of length 1 (its Euclidean norm)."""

    vector: tuple[float, ...]
    usage: Usage = Usage()
