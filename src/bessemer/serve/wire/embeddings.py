"""``POST /v1/embeddings``: texts in, vectors of length 1 out, as numbers or as base64 of little-endian 32-bit floats.

Owns the endpoint's schema. Source: the published OpenAPI description of OpenAI's API, embeddings.
"""

from __future__ import annotations

import base64
import struct
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from bessemer.core.nouns import Delta, Entry
from bessemer.core.raw import EmbedRequest, EmbedResult
from bessemer.serve.asking import Wire
from bessemer.serve.refusals import Refused, of_validation, unsupported
from bessemer.serve.serving import Answer, Caller, Order
from bessemer.serve.telling import Told, ToldUsage
from bessemer.serve.wire.inputs import Input, as_inputs, named, refuse_tokens


class AskedVectors(Wire):
    """The body; null is the same as left out."""

    model: str
    input: Annotated[tuple[Input, ...], BeforeValidator(as_inputs)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65536)] | None = None
    user: Any = None


class Embedding(Told):
    """The vector of the input of that number."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(Told):
    """All vectors."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: ToldUsage


async def read_vectors(body: bytes, caller: Caller) -> Order:
    """Return the order in a body.

    Raises:
        Refused: a field is wrong, or the engine makes no vectors.
    """
    try:
        asked = AskedVectors.model_validate_json(body)
    except ValidationError as error:
        raise Refused(of_validation(error, AskedVectors)) from None
    engine = await caller.engine(asked.model)
    if "embed" not in engine.capabilities:
        message = "The engine of this model makes no embeddings; /v1/models says which models have 'embed'."
        raise Refused(unsupported("model", message))
    refuse_tokens("input", asked.input, engine.capabilities)
    wanted = tuple(EmbedRequest(**text, dimensions=asked.dimensions) for text in named(asked.input))
    return Order(asked.model, engine, wanted, _VectorTeller(asked), stream=False, names={"messages": "input"})


class _VectorTeller:
    """Tells vectors; they are never streamed."""

    keeps = False

    def __init__(self, asked: AskedVectors) -> None:
        self._asked = asked

    def first(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Delta) -> bytes:
        return b""

    def last(self, answers: list[Answer], entry: Entry) -> bytes:
        return b""

    def whole(self, answers: list[Answer], entry: Entry) -> bytes:
        vectors = [piece.vector for answer in answers for piece in answer.pieces if isinstance(piece, EmbedResult)]
        data = [Embedding(index=index, embedding=self._written(vector)) for index, vector in enumerate(vectors)]
        told = EmbeddingList(model=self._asked.model, data=data, usage=ToldUsage.of(entry))
        return told.model_dump_json().encode()

    async def keep(self, answers: list[Answer]) -> None:
        """Store nothing: the wire has no such wish here."""

    def _written(self, vector: tuple[float, ...]) -> list[float] | str:
        if self._asked.encoding_format != "base64":
            return list(vector)
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
