"""The factory: one declaration, wired. The only place where rooms meet.

Owns the wiring and the order of things: run the line, book what it took, write the receipt, deploy what passed,
serve what is deployed. Knows no step's inside and never prints.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path

from bessemer.core.errors import BackendError, Cancelled, NotFound
from bessemer.core.events import Sink, ignore
from bessemer.flow import Flow, Runner, RunResult, open_store
from bessemer.meter import LocalMeter, load_price_history, open_ledger, open_meter
from bessemer.products.config import FactoryConfig
from bessemer.products.counted import Counted
from bessemer.products.home import Deployment, Gateway, Home
from bessemer.products.known_prices import KnownPrices, note_prices
from bessemer.products.line import Declared, open_products
from bessemer.products.llm.amounts import amounts
from bessemer.products.llm.config import LlmConfig, ServerConfig
from bessemer.products.metered import MeteredSink
from bessemer.products.product import AnyEngine, Finished, Opening, Product, no_secret
from bessemer.products.receipt import Receipt
from bessemer.products.watching import Beside, run_watched
from bessemer.serve import Accounts, GatewayConfig, GatewayParts, Work


class Factory:
    """A declaration in a home.

    Args:
        config: the declaration.
        base: the folder that its relative paths start from.
        home: where all state is kept.
        sink: takes the event stream.
        clock: Unix time in seconds.
        secret: from the name of an environment variable, which the declaration has, to the secret in it.
    """

    def __init__(
        self,
        config: FactoryConfig,
        base: Path,
        home: Home,
        sink: Sink = ignore,
        clock: Callable[[], float] = time.time,
        secret: Callable[[str], str] = no_secret,
    ) -> None:
        self.config = config
        self.base = base
        self.home = home
        self._sink = sink
        self._clock = clock
        self._secret = secret

    @property
    def lake_url(self) -> str:
        """Where this factory's tables are; a relative path starts from the declaration's folder."""
        declared = self.config.lake_url
        if not declared:
            return self.home.lake_url
        return declared if ":/" in declared else str((self.base / declared).absolute())

    def run(self, submitted: str = "", beside: Beside | None = None) -> Receipt:
        """Run the line and return its receipt, which is also written as JSON and HTML; deploy what passed the gate.

        Args:
            submitted: a run of this line that a schedule has submitted already; empty submits one.
            beside: a gateway that this run goes on beside, and which products it makes; None makes all, by itself.

        Raises:
            ConfigError: the declaration does not fit the data.
            BackendError: a step failed for good; a re-run resumes.
            Cancelled: somebody asked to stop.
        """
        with self.home.results():
            return self._made(submitted, beside)

    def _made(self, submitted: str, beside: Beside | None) -> Receipt:
        from bessemer.products.filling import fill_receipt
        from bessemer.products.receipt_html import write_receipt

        config, products = self.config, self.products(beside.only if beside else ())
        known = amounts(config.sources, config.llm, self.base) if config.llm and not beside else {}
        flow = self.line(products)
        self.home.use_lake(config.name, self.lake_url)  # a lake that opens
        open_ledger(self.home.books, self.home.ledger_url).close()  # what is damaged in the books shows before the work
        began = self._clock()
        with nullcontext(beside.meter) if beside else closing(self.open_meter()) as meter:
            meter.book_killed()
            sink = MeteredSink(self._sink, meter)
            result = self._run(flow, sink, submitted, beside)
            prices = meter.prices
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
                prices=prices,
            )
        receipt = fill_receipt(done, products)
        write_receipt(self.home.receipt(result.run), receipt)
        self._deploy(done, products)
        from bessemer.products.reconciliation import keep_residuals  # numpy, which the line above needs anyway

        keep_residuals(self.home, result.run, known)
        return receipt

    def line(self, products: Mapping[str, Product]) -> Flow:
        """Return the flow that makes products of this factory; see `build_line`."""
        from bessemer.products.line import build_line

        return build_line(self.declared, products, self.home.erased())

    def products(self, only: Collection[str] = ()) -> dict[str, Product]:
        """Return what this factory makes, by name; only some, or all.

        Raises:
            ConfigError: one is to be made of something that is not declared before it.
        """
        found = open_products(self.declared)
        return {name: product for name, product in found.items() if not only or name in only}

    @property
    def declared(self) -> Declared:
        """What the line is made from."""
        config = self.config
        return Declared(
            name=config.name,
            sources=config.sources,
            curate=config.curate,
            tables=config.tables,
            products=config.made,
            base=self.base,
            lake_url=self.lake_url,
            events=self.home.events,
            rankings=self.home.rankings,
        )

    def deployed(self) -> dict[str, Deployment]:
        """Return what is deployed of this factory's products, by name."""
        found = (each for each in self.home.deployments() if each.factory in ("", self.config.name))
        return {each.name: each for each in found if each.name in self.config.made}

    def open_engines(self, api_key: str = "") -> dict[str, AnyEngine]:
        """Return the engines to serve, by model name: what is deployed, or the model of the server that is declared.

        Products whose gate let nothing through yet are left out, as long as another is served.

        Args:
            api_key: of that server.

        Raises:
            NotFound: nothing passed the gate yet, or there is no such model for vectors.
        """
        deployed, engines = self.deployed(), dict[str, AnyEngine]()
        missing: NotFound | None = None
        for name, product in self.products().items():
            opening = Opening(self.lake_url, dict(engines), self.home.product(name), api_key, self._secret)
            try:
                engines |= product.open(deployed.get(name), opening)
            except NotFound as error:
                if name in deployed:
                    raise
                missing = error
        if not engines and missing:
            raise missing
        return engines

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
        from bessemer.products.billing import HomeBilling
        from bessemer.products.booked import open_usage
        from bessemer.products.driving import open_drivers
        from bessemer.products.limiting import open_gate
        from bessemer.products.tuning.driver import JobParts
        from bessemer.products.tuning.wiring import trainable, tuning_line
        from bessemer.serve import create_app, open_accounts, open_work, run_gateway

        with ExitStack() as stack:
            (llm, elsewhere, served), home = self._language_model(), self.home
            trained = trainable(llm, served)
            work = open_work(home.work, self.config.jobs, self._clock, trained, self.config.name, home.ledger_url)
            currency = self.note_prices().currency
            accounts = stack.enter_context(closing(open_accounts(home.accounts, self._clock, home.keys, currency)))
            parts = self._parts(traced, work, stack, accounts)
            engines = self.open_engines(api_key)
            meter = stack.enter_context(self.open_meter())
            if elsewhere and (host := elsewhere.elsewhere):
                meter.note = f"; the machine of {host}, which computes the answers, is not in it"
            meter.book_cut()  # before the gate settles what dead gateways held
            gate = open_gate(accounts, home, meter.price_history, llm, self._clock)
            work.jobs.purse = work.datasets.purse = gate
            stack.callback(gate.close)  # after the drivers, which settle with it what ends
            jobs = JobParts(home, work, meter, parts.webhooks, self._clock, accounts.projects.is_archived)
            counted = meter.counted = Counted(work.models)
            line = tuning_line(llm, served, home, self.base, work)
            start_jobs = open_drivers(self, jobs, line, (engines, None if elsewhere else counted), stack)
            stack.callback(lambda: asyncio.run(_close(engines, Counted() if elsewhere else counted)))
            usage = stack.enter_context(open_usage(self.home, meter.price_history))
            billing = HomeBilling(self.home, meter.price_history, usage, self._clock)
            parts = replace(parts, gate=gate, usage=usage, billing=billing)
            app = create_app(gateway, engines, accounts.keys, meter, parts)
            stack.callback(self.home.withdraw, os.getpid())

            def announce(url: str) -> None:
                self._announce(url, tuple(engines))
                start_jobs()
                ready(url, accounts.keys.ensure_development_key())

            run_gateway(app, gateway, announce)

    def _parts(self, traced: str, work: Work, stack: ExitStack, accounts: Accounts) -> GatewayParts:
        """Return what the gateway has beside its engines; the stack closes it."""
        from bessemer.products.answered import gateway_parts
        from bessemer.products.recommender.experiments import keep_days, with_rankings

        parts = gateway_parts(self.home, self.config.name, self._clock, traced, work, stack, accounts)
        return with_rankings(parts, self.home, keep_days(self.config.made), stack)

    def _announce(self, url: str, models: tuple[str, ...]) -> None:
        runs = tuple({deployment.run for deployment in self.deployed().values()})
        self.home.announce(Gateway(url=url, pid=os.getpid(), models=models, started_at=self._clock(), runs=runs))

    def _language_model(self) -> tuple[LlmConfig | None, ServerConfig | None, Deployment | None]:
        """Return the first language model, the server that has it, and else what is deployed of it."""
        name, llm = next(((n, p) for n, p in self.config.made.items() if isinstance(p, LlmConfig)), ("", None))
        server = llm.engine if llm and isinstance(llm.engine, ServerConfig) else None
        return llm, server, None if server else self.deployed().get(name)

    def open_meter(self) -> LocalMeter:
        """Return the meter that books into this home; a price book is looked for beside the declaration."""
        config = self.config.meter
        if config.price_book:
            config = config.model_copy(update={"price_book": str(self.base / config.price_book)})
        self.note_prices()
        return open_meter(config, self.home.books, self._clock)

    def note_prices(self) -> KnownPrices:
        """Return the prices that this factory charges by; whoever only looks at its home finds them there from now on.

        Raises:
            ConfigError: the price book cannot be read.
        """
        named = self.config.meter.price_book
        prices = KnownPrices(factory=self.config.name, history=load_price_history(self.base / named if named else None))
        note_prices(self.home, prices)
        return prices

    def _run(self, flow: Flow, sink: Sink, submitted: str, beside: Beside | None) -> RunResult:
        from bessemer.products.synthetic.text_steps import keys_of

        self.home.claim_artifacts()
        store = open_store(self.home.database_url)
        runner = Runner(
            store,
            artifacts=self.home.artifacts,
            sink=sink,
            resources={"lake": self.lake_url, "base": str(self.base), **keys_of(self.config.made, self._secret)},
        )
        run = submitted or runner.submit(flow)
        result = run_watched(runner, run, beside.unwanted) if beside else runner.run(run)
        if result.status == "cancelled":
            raise Cancelled(f"run {result.run} was cancelled", hint="`bessemer run` goes on where it stopped.")
        if result.status != "finished":
            raise BackendError(result.error, hint=result.hint)
        return result

    def _deploy(self, done: Finished, products: Mapping[str, Product]) -> None:
        lake = "" if self.lake_url == self.home.lake_url else self.lake_url
        for product in products.values():
            if made := product.deployment(done):
                self.home.deploy(made.model_copy(update={"lake": lake, "factory": self.config.name}))


async def _close(engines: dict[str, AnyEngine], counted: Counted) -> None:
    for name, engine in engines.items():
        await engine.close()
        counted.closed(name, engine)
