"""Opens what is served: compiled weights or another server's model, and the lake's search if it reads before answering.

Owns which passages fit a question. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bessemer.core.errors import NotFound
from bessemer.infer import OpenVinoConfig, UpstreamConfig, VectorsConfig, open_engine
from bessemer.lake import open_lake
from bessemer.models import encoder_folder
from bessemer.products.home import Deployment
from bessemer.products.llm.config import EncoderConfig, LlmConfig, RetrievalConfig
from bessemer.products.llm.grounded import ChatEngine, GroundedEngine, Search, named_in
from bessemer.train.prompt import titled

_MAX_NAMES = 8
"""How many names of a question are looked up: a table is read for them."""


def open_deployed(deployment: Deployment, product: LlmConfig, lake_url: str) -> ChatEngine:
    """Return the engine that clients talk to: the model that the line made.

    Raises:
        MissingDependency: the engine's package is not installed.
        IntegrityError: the compiled model is damaged.
    """
    return _grounded(open_engine(OpenVinoConfig(path=deployment.path)), deployment, product, lake_url)


def open_upstream(
    server: UpstreamConfig, deployment: Deployment | None, product: LlmConfig, lake_url: str
) -> ChatEngine:
    """Return the engine that clients talk to: the model of another server; nothing is sent to it yet.

    Args:
        server: where it is.
        deployment: what it reads before it answers is from there; None reads nothing.
        product: how much it reads.
        lake_url: where the tables are.

    Raises:
        MissingDependency: the HTTP client is not installed.
    """
    return _grounded(open_engine(server), deployment, product, lake_url)


def open_encoder(encoder: EncoderConfig, base: Path) -> ChatEngine:
    """Return the engine that makes vectors.

    Raises:
        NotFound: there is no such model.
        Unsupported: it is no encoder that is known.
        MissingDependency: the engine's package, or the model's, is not installed.
    """
    return open_engine(VectorsConfig(path=str(encoder_folder(encoder.model, base)), name=encoder.served_name))


def _grounded(engine: ChatEngine, deployment: Deployment | None, product: LlmConfig, lake_url: str) -> ChatEngine:
    if not product.retrieval.passages or deployment is None or not deployment.table:
        return engine
    return GroundedEngine(
        engine, open_search(lake_url, deployment, product.retrieval), product.retrieval.max_characters
    )


def open_search(lake_url: str, deployment: Deployment, config: RetrievalConfig) -> Search:
    """Return the search over a deployment's table: documents whose name the question says, then the best by words."""
    lake = open_lake(lake_url)

    def search(question: str) -> Sequence[str]:
        try:
            return find(question, deployment.table_version)
        except NotFound:  # an erasure ended the older versions: what is left of them is the newest
            return find(question, None)

    def find(question: str, version: int | None) -> Sequence[str]:
        found: dict[str, str] = {}
        if names := named_in(question)[:_MAX_NAMES]:
            quoted = ", ".join(f"'{name}'" for name in names)  # letters, digits, dots and underscores
            where = f"title IN ({quoted}) AND dropped = ''"
            named = lake.get_documents(deployment.table, version=version, where=where)
            ordered = sorted(named, key=lambda document: names.index(document.title))
            found = {document.id: titled(document.title, document.text) for document in ordered}
        if len(found) < config.passages:
            hits = lake.search_documents(deployment.table, question, config.passages, version=version)
            found = {**found, **{hit.id: titled(hit.title, hit.text) for hit in hits}}
        return list(found.values())[: config.passages]

    return search
