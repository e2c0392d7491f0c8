"""The factory: one declaration, wired. The only place where rooms meet.

Owns the wiring and the order of things: run the line, book what it took, write the receipt, deploy what passed,
serve what is deployed. Knows no step's inside and never prints.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from bessemer.core.config import Config, refusal
from bessemer.core.errors import BackendError, Cancelled, NotFound
from bessemer.core.events import Sink, ignore
from bessemer.flow import Flow, Runner, RunResult, open_store
from bessemer.lake import CurateConfig, SourceConfig
from bessemer.meter import LocalMeter, MeterConfig, open_ledger, open_meter
from bessemer.products.counted import Counted
from bessemer.products.declaration import parse_declaration, read_declaration
from bessemer.products.home import Deployment, Gateway, Home
from bessemer.products.llm.amounts import amounts
from bessemer.products.llm.config import SIZES, LlmConfig, ServerConfig
from bessemer.products.llm.grounded import ChatEngine
from bessemer.products.metered import MeteredSink
from bessemer.products.receipt import Receipt
from bessemer.serve import GatewayConfig, JobsConfig
from bessemer.twin.terms import Expected
from bessemer.twin.workload import Workload

BUILTIN = "pydocs"


class FactoryConfig(Config):
    """The whole line, from sources to the served product.

    Attributes:
        name: of the factory, its tables and its model; lower case, digits and dashes.
        size: the one dial; it implies values of `product` that this declaration does not give.
        sources: where documents come from.
        curate: which of them are dropped.
        product: what is made of the rest.
        lake_url: where the tables of documents are: a path, or an object store's URL such as ``s3://bucket/folder``;
            empty keeps them in the home.
        gateway: how it is served.
        jobs: what clients may leave to be done: files, fine-tuning jobs, batches.
        meter: where and at what price energy is used.
        work: what the planner is asked about, besides; what the product itself asks for if nothing is named.
        expected: what the planner takes for granted of the product until runs say otherwise.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    size: Literal["tiny", "small", "medium"] = "small"
    sources: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]
    curate: CurateConfig = CurateConfig()
    product: LlmConfig = LlmConfig()
    lake_url: str = ""
    gateway: GatewayConfig = GatewayConfig()
    jobs: JobsConfig = JobsConfig()
    meter: MeterConfig = MeterConfig()
    work: tuple[Workload, ...] = ()
    expected: Expected = Expected()

    @field_validator("product")
    @classmethod
    def _names_differ(cls, product: LlmConfig, known: ValidationInfo) -> LlmConfig:
        if product.embeddings and product.embeddings.served_name == known.data.get("name"):
            raise refusal(("embeddings", "name"), "the factory's own model has that name; give this one another")
        return product


def load_factory(path: Path | None) -> tuple[FactoryConfig, Path]:
    """Return a declaration and the folder that its relative paths start from; None is the built-in example.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is not a valid declaration; the message names the line.
    """
    if path is not None:
        return read_declaration(path, FactoryConfig, SIZES), path.absolute().parent
    text = builtin_declaration()
    return parse_declaration(text, f"the built-in factory {BUILTIN}", FactoryConfig, SIZES), Path.cwd()


def builtin_declaration() -> str:
    """Return the text of the built-in example; in a checkout it stands under `examples/`."""
    shipped = files("bessemer.products").joinpath("examples", f"{BUILTIN}.yaml")
    if shipped.is_file():
        return shipped.read_text(encoding="utf-8")
    checkout = Path(__file__).parents[3] / "examples" / BUILTIN / "factory.yaml"
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    raise NotFound("the built-in factory is not installed", hint="Install the package again.")


class Factory:
    """A declaration in a home.

    Args:
        config: the declaration.
        base: the folder that its relative paths start from.
        home: where all state is kept.
        sink: takes the event stream.
        clock: Unix time in seconds.
    """

    def __init__(
        self, config: FactoryConfig, base: Path, home: Home, sink: Sink = ignore, clock: Callable[[], float] = time.time
    ) -> None:
        self.config = config
        self.base = base
        self.home = home
        self._sink = sink
        self._clock = clock

    @property
    def lake_url(self) -> str:
        """Where this factory's tables are; a relative path starts from the declaration's folder."""
        declared = self.config.lake_url
        if not declared:
            return self.home.lake_url
        return declared if ":/" in declared else str((self.base / declared).absolute())

    def run(self) -> Receipt:
        """Run the line and return its receipt, which is also written as JSON and HTML; deploy what passed the gate.

        Raises:
            ConfigError: the declaration does not fit the data.
            BackendError: a step failed for good; a re-run resumes.
            Cancelled: somebody asked to stop.
        """
        from bessemer.products.llm.flow import build_flow
        from bessemer.products.llm.receipt import Finished, fill_receipt
        from bessemer.products.receipt_html import write_receipt

        config = self.config
        known = amounts(config.sources, config.product, self.base)
        flow = build_flow(
            config.name, config.sources, config.curate, config.product, self.base, self.lake_url, self.home.erased()
        )
        self.home.use_lake(config.name, self.lake_url)  # a lake that opens
        open_ledger(self.home.books, self.home.ledger_url).close()  # what is damaged in the books shows before the work
        meter = self.open_meter()
        began = self._clock()
        try:
            meter.book_killed()
            sink = MeteredSink(self._sink, meter)
            result = self._run(flow, sink)
        finally:
            meter.close()
        with closing(open_ledger(self.home.books, self.home.ledger_url)) as ledger:
            done = Finished(
                factory=config.name,
                run=result.run,
                began=began,
                ended=self._clock(),
                artifacts=result.artifacts,
                steps=sink.finished,
                needs={step.name: step.needs for step in flow.steps},
                entries=ledger.entries(kind="step", limit=-1),
                lake=self.lake_url,
            )
        receipt = fill_receipt(done, config.product, meter.prices)
        write_receipt(self.home.receipt(result.run), receipt)
        if receipt.deployed:
            self._deploy(result)
        from bessemer.products.reconciliation import keep_residuals  # numpy, which the line above needs anyway

        keep_residuals(self.home, result.run, known)
        return receipt

    def deployed(self) -> Deployment:
        """Return this factory's deployment.

        Raises:
            NotFound: nothing passed the gate yet.
        """
        if found := self._deployment():
            return found
        raise NotFound(
            f"no model of '{self.config.name}' is deployed", hint="`bessemer run` says what the gate found and why."
        )

    def _deployment(self) -> Deployment | None:
        return next((each for each in self.home.deployments() if each.name == self.config.name), None)

    def open_engines(self, api_key: str = "") -> dict[str, ChatEngine]:
        """Return the engines to serve, by model name: what is deployed, or the model of the server that is declared.

        Args:
            api_key: of that server.

        Raises:
            NotFound: nothing passed the gate yet, or there is no such model for vectors.
        """
        from bessemer.products.llm.serving import open_deployed, open_encoder, open_upstream

        product, found = self.config.product, self._deployment()
        lake = (found.lake if found else "") or self.home.lake_url
        if isinstance(product.engine, ServerConfig):
            engine = open_upstream(product.engine.opened_with(api_key), found, product, lake)
        else:
            engine = open_deployed(self.deployed(), product, lake)
        encoder = product.embeddings
        return {self.config.name: engine} | ({encoder.served_name: open_encoder(encoder, self.base)} if encoder else {})

    def serve(
        self, gateway: GatewayConfig, ready: Callable[[str, str | None], None], api_key: str = "", traced: str = ""
    ) -> None:
        """Serve what is deployed, or the model of the server that is declared, until the process is told to stop.

        Args:
            gateway: host, port and limits.
            ready: called once with the URL and, in a fresh home, the development key.
            api_key: of the declared server.
            traced: what the service is called in the spans that OpenTelemetry is sent; empty sends none.

        Raises:
            NotFound: nothing passed the gate yet.
            MissingDependency: spans are wanted and OpenTelemetry's SDK is not installed.
            Conflict: the port is in use.
        """
        from bessemer.products.answered import gateway_parts
        from bessemer.products.billing import HomeBilling
        from bessemer.products.booked import open_usage
        from bessemer.products.limiting import open_gate
        from bessemer.products.tuning.driver import JobDriver, JobParts
        from bessemer.products.tuning.wiring import trainable, tuning_line
        from bessemer.serve import create_app, open_accounts, open_work, run_gateway

        with ExitStack() as stack:
            served = None if isinstance(self.config.product.engine, ServerConfig) else self._deployment()
            allowed = trainable(self.config.product, served)
            work = open_work(self.home.work, self.config.jobs, self._clock, allowed)
            accounts = open_accounts(self.home.accounts, self._clock, earlier=self.home.keys)
            stack.callback(accounts.close)
            parts = gateway_parts(self.home, self.config.name, self._clock, traced, work, stack, accounts)
            engines = self.open_engines(api_key)
            meter = stack.enter_context(self.open_meter())
            line = tuning_line(self.config.product, served, self.home, self.base, work)
            driver = JobDriver(JobParts(self.home, work, meter, parts.webhooks, self._clock), line)
            stack.callback(driver.close)
            counted = meter.counted = Counted(work.models)
            stack.callback(lambda: asyncio.run(_close(engines, counted if served else Counted())))
            gate = open_gate(accounts, self.home, meter.price_history, self.config.product, self._clock)
            work.jobs.purse = gate
            stack.callback(gate.close)
            if isinstance(self.config.product.engine, ServerConfig) and (host := self.config.product.engine.elsewhere):
                meter.note = f"; the machine of {host}, which computes the answers, is not in it"
            usage = stack.enter_context(open_usage(self.home, meter.price_history))
            billing = HomeBilling(self.home, meter.price_history, usage, self._clock)
            parts = replace(parts, gate=gate, usage=usage, billing=billing)
            app = create_app(gateway, engines, accounts.keys, meter, parts)
            stack.callback(self.home.withdraw, os.getpid())

            def announce(url: str) -> None:
                self.home.announce(Gateway(url=url, pid=os.getpid(), models=tuple(engines), started_at=self._clock()))
                driver.start()
                ready(url, accounts.keys.ensure_development_key())

            run_gateway(app, gateway, announce)

    def open_meter(self) -> LocalMeter:
        """Return the meter that books into this home; a price book is looked for beside the declaration."""
        config = self.config.meter
        if config.price_book:
            config = config.model_copy(update={"price_book": str(self.base / config.price_book)})
        return open_meter(config, self.home.books, self._clock)

    def _run(self, flow: Flow, sink: Sink) -> RunResult:
        self.home.claim_artifacts()
        store = open_store(self.home.database_url)
        runner = Runner(
            store,
            artifacts=self.home.artifacts,
            sink=sink,
            resources={"lake": self.lake_url, "base": str(self.base)},
        )
        result = runner.run(runner.submit(flow))
        if result.status == "cancelled":
            raise Cancelled(f"run {result.run} was cancelled", hint="`bessemer run` goes on where it stopped.")
        if result.status != "finished":
            raise BackendError(result.error, hint=result.hint)
        return result

    def _deploy(self, result: RunResult) -> None:
        from bessemer.lake import open_lake
        from bessemer.products.llm.steps import rows_tag

        compiled, curated = result.artifacts["compile"], result.artifacts["curate"]
        table, lake_url = curated.meta["table"], self.lake_url
        self.home.deploy(
            Deployment(
                name=self.config.name,
                run=result.run,
                key=compiled.key,
                path=str(Path(compiled.path) / "engine"),
                lake="" if lake_url == self.home.lake_url else lake_url,
                table=table,
                table_version=open_lake(lake_url).open(table, version=rows_tag(curated.key)).version,
                deployed_at=self._clock(),
            )
        )


async def _close(engines: dict[str, ChatEngine], counted: Counted) -> None:
    for name, engine in engines.items():
        await engine.close()
        counted.closed(name, engine)
