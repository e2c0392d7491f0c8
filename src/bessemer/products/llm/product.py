"""The language model as a product of the factory.

Owns the tie between this kind's parts and the factory. Each part has its own module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Artifact
from bessemer.flow import Step
from bessemer.lake import open_lake
from bessemer.products.home import Deployment
from bessemer.products.llm import receipt
from bessemer.products.llm.config import LlmConfig, ServerConfig
from bessemer.products.llm.flow import llm_steps
from bessemer.products.product import CURATE, AnyEngine, Finished, LakeState, Opening, Place
from bessemer.products.receipt import LlmPart
from bessemer.products.rows import rows_tag


class LlmProduct:
    """A language model of a factory; see `bessemer.products.product.Product`."""

    kind = "llm"

    def __init__(self, config: LlmConfig, place: Place) -> None:
        self.config, self.place = config, place
        self.served = place.step("compile")

    def steps(self, lake: LakeState) -> tuple[Step, ...]:
        """Return the steps that make it from the factory's documents."""
        return llm_steps(self.place, self.config, lake)

    def part(self, done: Finished) -> LlmPart:
        """Return its part of the receipt."""
        return receipt.fill_part(done, self.place, self.config)

    def what(self, step: str, artifact: Artifact) -> str:
        """Say what a step of it made."""
        return receipt.what(step, artifact)

    def deployment(self, done: Finished) -> Deployment | None:
        """Return the compiled model, and the documents that it reads before it answers."""
        made = done.made(self.place)
        if not receipt.read_verdict(made["gate"]).passed:
            return None
        compiled, curated = made["compile"], made[CURATE]
        table = curated.meta["table"]
        return Deployment(
            name=self.place.name,
            run=done.run,
            key=compiled.key,
            path=str(Path(compiled.path) / "engine"),
            table=table,
            table_version=open_lake(done.lake).open(table, version=rows_tag(curated.key)).version,
            deployed_at=done.ended,
        )

    def open(self, deployment: Deployment | None, opening: Opening) -> Mapping[str, AnyEngine]:
        """Return the engine of the model that was made, or of the declared server's; and of its model for vectors."""
        from bessemer.products.llm.serving import open_deployed, open_encoder, open_upstream

        product, lake = self.config, (deployment.lake if deployment else "") or opening.lake_url
        if isinstance(product.engine, ServerConfig):
            engine = open_upstream(product.engine.opened_with(opening.api_key), deployment, product, lake)
        elif deployment:
            engine = open_deployed(deployment, product, lake)
        else:
            raise NotFound(
                f"no model of '{self.place.name}' is deployed", hint="`bessemer run` says what the gate found and why."
            )
        encoder = product.embeddings
        vectors = {encoder.served_name: open_encoder(encoder, self.place.base)} if encoder else {}
        return {self.place.name: engine, **vectors}
