"""What a product is to the factory: steps that make it, a part of the receipt, what is deployed, engines to serve.

Owns the shapes in which the factory and the kinds of products meet. Knows no kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from bessemer.core.errors import ConfigError
from bessemer.core.events import StepFinished
from bessemer.core.nouns import Artifact, Entry
from bessemer.core.protocols import Engine
from bessemer.flow import Step
from bessemer.meter import PriceBook
from bessemer.products.home import Deployment
from bessemer.products.receipt import AnyPart, Bill

INGEST, CURATE = "ingest", "curate"
"""The steps that read and curate a factory's documents; all its products share them."""

AnyEngine = Engine[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a product is made.

    Attributes:
        factory: name of the factory.
        name: of the product; what clients call the model.
        alone: whether it is the factory's only product, whose steps and tables need no name of their own.
        base: the folder that relative paths of the declaration start from.
        lake_url: where the tables are.
        tables: declared table -> the step that reads it; its artifact's meta names the lake's ``table``.
        products: those that are declared before this one, by name; it may be made of them.
        events: the gateway's store of events, which perhaps is not made yet; None keeps none.
        rankings: its store of shown rankings, likewise; or the URL of a Postgres.
    """

    factory: str
    name: str
    alone: bool
    base: Path
    lake_url: str
    tables: Mapping[str, str]
    products: Mapping[str, Product]
    events: Path | None = None
    rankings: Path | str | None = None

    def step(self, name: str) -> str:
        """Return what a step of this product is called in the flow."""
        return name if self.alone else f"{self.name}.{name}"

    def named(self, steps: Iterable[Step]) -> tuple[Step, ...]:
        """Return steps of this product under their names in the flow; what they need of each other too."""
        own = tuple(steps)
        names = {step.name: self.step(step.name) for step in own}
        return tuple(
            replace(step, name=names[step.name], needs=tuple(names.get(need, need) for need in step.needs))
            for step in own
        )

    def table(self, name: str) -> str:
        """Return what a table of this product is called in the lake."""
        return f"{self.factory}.{name}" if self.alone else f"{self.factory}.{self.name}.{name}"


@dataclass(frozen=True, slots=True)
class LakeState:
    """What the results of steps that write rows depend on: the rows are in this lake alone.

    Attributes:
        identity: tells the lake from others, also from one that stood in its place before.
        erasures: from a table to what tells its erasures apart: they end its versions, also those without the rows.
    """

    identity: str
    erasures: Callable[[str], str]

    def of(self, table: str) -> str:
        """Return the digest input of a step that writes a table."""
        return f"{self.identity} {self.erasures(table)}"


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is through, as the factory hands it over.

    Attributes:
        artifacts: what each step published.
        steps: the event that ended each step.
        needs: for each step, the steps that it reads from.
        entries: the ledger's entries of steps, of any run, newest first.
        lake: where the models' answers are.
        prices: by which customers are charged.
    """

    factory: str
    run: str
    began: float
    ended: float
    artifacts: Mapping[str, Artifact]
    steps: Mapping[str, StepFinished]
    needs: Mapping[str, tuple[str, ...]]
    entries: Sequence[Entry]
    lake: str
    prices: PriceBook

    def made(self, place: Place) -> dict[str, Artifact]:
        """Return what the steps of a product published, and those that all share, by their names without its own."""
        return {name.removeprefix(place.step("")): artifact for name, artifact in self.artifacts.items()}

    def entry(self, key: str) -> Entry | None:
        """Return what the newest attempt took that published a key; None if it was not metered."""
        found = (entry for entry in self.entries if entry.status == "ok" and entry.subject.id.split("/")[0] == key)
        return next(found, None)

    def bill(self, key: str) -> Bill | None:
        """Return the bill of `entry`."""
        return bill_of(found) if (found := self.entry(key)) else None


def no_secret(variable: str) -> str:
    """Refuse to look a secret up: nobody who can read the environment was handed in.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(f"the secret in {variable} was not handed in", hint="Serve the factory with `bessemer up`.")


@dataclass(frozen=True, slots=True)
class Opening:
    """What an engine is opened with.

    Attributes:
        lake_url: where the tables are, unless the deployment says else.
        engines: of the products that were declared before, by name; closed by whoever opened them.
        state: folder that the product may keep things in; not made yet.
        api_key: of a server that the declaration names.
        secret: from the name of an environment variable, which a declaration has, to the secret in it.
    """

    lake_url: str
    engines: Mapping[str, AnyEngine]
    state: Path
    api_key: str = ""
    secret: Callable[[str], str] = no_secret


def bill_of(entry: Entry) -> Bill:
    """Return what an entry took."""
    return Bill(measurement=entry.measurement, carbon=entry.carbon, energy_cost=entry.energy_cost)


class Product(Protocol):
    """One kind of what leaves the factory, as declared.

    Attributes:
        kind: as in the declaration.
        served: name, in the flow, of the step whose artifact is served; where the lineage begins.
    """

    kind: str
    served: str

    def steps(self, lake: LakeState, /) -> tuple[Step, ...]:
        """Return the steps that make it, beside those that read documents and tables.

        Raises:
            NotFound: what it is to be made from does not exist.
        """
        ...

    def part(self, done: Finished, /) -> AnyPart:
        """Return its part of the receipt."""
        ...

    def deployment(self, done: Finished, /) -> Deployment | None:
        """Return what may be served; None if its gate did not let it through."""
        ...

    def what(self, step: str, artifact: Artifact, /) -> str:
        """Say what a step of it made, for the lineage; the step's name is that without the product's."""
        ...

    def open(self, deployment: Deployment | None, opening: Opening, /) -> Mapping[str, AnyEngine]:
        """Return the engines to serve, by the names of their models; nothing deployed is None.

        Raises:
            NotFound: it has to be made first.
        """
        ...
