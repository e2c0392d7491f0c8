"""The verbs. Each parses its arguments, asks a product or the factory, and draws what comes back.

Owns names, arguments and exit statuses: 0 done, 1 something is wrong, 2 the command line is wrong, 3 the gate did
not let the model through, 130 interrupted.
"""

from __future__ import annotations

import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bessemer import __version__
from bessemer.cli import (
    environment,
    verbs_assess,
    verbs_books,
    verbs_compare,
    verbs_experiment,
    verbs_keys,
    verbs_lake,
    verbs_limits,
    verbs_look,
    verbs_plan,
    verbs_prices,
    verbs_profit,
    verbs_projects,
    verbs_sites,
    verbs_synth,
    verbs_usage,
)
from bessemer.cli.output import emit, err, fail, out, write_json
from bessemer.cli.progress import shown
from bessemer.core.errors import BessemerError, Cancelled, ConfigError, IntegrityError, MissingDependency

if TYPE_CHECKING:
    from bessemer.products.config import FactoryConfig
    from bessemer.products.factory import Factory
    from bessemer.products.home import Home
    from bessemer.products.receipt import Receipt

GATE_FAILED = 3
INTERRUPTED = 130

app = typer.Typer(
    name="bessemer",
    help="The open AI factory: raw data in at one end, served and billed intelligence out at the other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
verbs_look.add_to(app)
verbs_usage.add_to(app)
verbs_lake.add_to(app)
verbs_sites.add_to(app)
verbs_books.add_to(app)
verbs_plan.add_to(app)
verbs_assess.add_to(app)
verbs_compare.add_to(app)
verbs_profit.add_to(app)
app.add_typer(verbs_experiment.app, name="experiment")
app.add_typer(verbs_keys.app, name="keys")
app.add_typer(verbs_projects.app, name="projects")
app.add_typer(verbs_limits.app, name="limits")
app.add_typer(verbs_prices.app, name="prices")
app.add_typer(verbs_synth.app, name="synth")

Where = Annotated[
    Path | None, typer.Argument(help="A factory.yaml; the built-in example without it.", show_default=False)
]
Named = Annotated[Path | None, typer.Option("--factory", "-f", help="The same, as an option.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]


@app.command()
def run(factory: Where = None, named: Named = None, as_json: Json = False) -> None:
    """Run the line: documents in, a gated, compiled model and a receipt out."""
    from bessemer.cli.receipt_view import draw_receipt
    from bessemer.products.config import load_factory
    from bessemer.products.factory import Factory

    home = environment.home()
    config, base = load_factory(_one(factory, named))
    with shown(err, _usual(home, config, base)) as sink:
        receipt = _run(Factory(config, base, home, sink, secret=environment.secret))
    emit(receipt, as_json, lambda: draw_receipt(receipt))
    if not as_json:
        err.print(f"[dim]also written to {escape(str(home.receipt(receipt.run) / 'receipt.html'))}[/]", soft_wrap=True)
    if not receipt.deployed:
        raise SystemExit(GATE_FAILED)


@app.command()
def up(
    factory: Where = None,
    named: Named = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="8000 unless the factory says else.")] = None,
    host: Annotated[str | None, typer.Option(help="127.0.0.1 unless the factory says else.")] = None,
    as_json: Json = False,
) -> None:
    """Run the line (from the cache where it can), then serve the model until stopped; or serve an upstream's model."""
    from bessemer.products.config import load_factory
    from bessemer.products.factory import Factory
    from bessemer.products.llm.config import ServerConfig
    from bessemer.serve import check_port

    config, base = load_factory(_one(factory, named))
    given = {"port": port, "host": host}
    gateway = config.gateway.model_copy(update={key: value for key, value in given.items() if value is not None})
    check_port(gateway)  # before the line runs for minutes
    engine = config.llm.engine if config.llm else None
    secret = environment.secret(engine.api_key_variable) if isinstance(engine, ServerConfig) else ""
    home = environment.home()
    if isinstance(engine, ServerConfig) and len(config.made) == 1:
        made = Factory(config, base, home, secret=environment.secret)
        err.print(escape(f"answers come from {engine.model} at {engine.base_url}; no line is run"), soft_wrap=True)
    else:
        with shown(err, _usual(home, config, base)) as sink:
            made = Factory(config, base, home, sink, secret=environment.secret)
            receipt = _run(made)
        _say_unless_deployed(receipt)

    def ready(url: str, key: str | None) -> None:
        gateway, datasets = home.gateway(), made.datasets()
        models = list(gateway.models) if gateway else []
        if as_json:
            told = {"url": url, "model": models[0] if models else None, "models": models, "datasets": datasets}
            write_json(told | ({"key": key} if key else {}))
            return
        served = ", ".join(models) or f"more rows of {', '.join(datasets) or 'nothing yet'}"
        out.print(f"\n[bold green]serving[/] [bold]{served}[/] at [bold]{url}/v1[/]", soft_wrap=True)
        if key:
            out.print(f"[dim]development key, shown once:[/] [bold]{key}[/]", soft_wrap=True)
        how = "talk to it in another terminal with[/] bessemer chat[dim]" if models else "ask for jobs at /v1/datasets"
        out.print(f"[dim]{how}; stop with Ctrl-C[/]")

    made.serve(gateway, ready, secret, environment.traced(config.name))


@app.command()
def chat(
    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask once and leave.")] = None,
    url: Annotated[str | None, typer.Option(help="The gateway; the one that this home runs unless given.")] = None,
    model: Annotated[str | None, typer.Option(help="The first one served unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Talk to a running gateway."""
    from bessemer.cli.chat import ask_once, converse

    if as_json and message is None:
        raise ConfigError("with --json, chat answers one message", hint='Give it with -m "…".')
    if message is None:
        converse(environment.home(make=False), environment.api_key(), (url, model))
    else:
        ask_once(environment.home(make=False), environment.api_key(), (url, model), message, as_json=as_json)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where factory.yaml is written; made if it does not exist.")],
    as_json: Json = False,
) -> None:
    """Write a commented factory for your own folder of files."""
    from bessemer.products.template import write_template

    written = write_template(folder)
    emit(
        {"factory": written},
        as_json,
        lambda: escape(f"wrote {written}\nnext: put files into {folder / 'documents'}, then bessemer run {written}"),
    )


@app.command()
def schema(as_json: Json = False) -> None:
    """Print the JSON Schema of factory.yaml."""
    import json

    from bessemer.products.config import FactoryConfig

    found = FactoryConfig.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    if as_json:
        write_json(found)
    else:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False) -> None:
    """Take the options before the verb."""
    if version:
        out.print(f"bessemer {__version__}")
        raise typer.Exit


def run_app() -> None:
    """Run the command line and turn every outcome into an exit status."""
    environment.quiet_libraries()
    as_json = "--json" in sys.argv
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to terminate: stop in order, as after Ctrl-C
    try:
        app()
    except BessemerError as error:
        fail(error, as_json, INTERRUPTED if isinstance(error, Cancelled) else 1)
    except sqlite3.Error as error:
        hint = "books/ledger.sqlite may be deleted: it is made again from the journal beside it."
        fail(IntegrityError(f"a database of the state folder cannot be used: {error}", hint=hint), as_json)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "bessemer"):
            raise
        fail(MissingDependency(error.name or "", extra="all"), as_json)
    except OSError as error:
        fail(BessemerError(f"{error.strerror or error}: {error.filename or ''}", hint=_space_hint(error)), as_json)


def _usual(home: Home, config: FactoryConfig, base: Path) -> dict[str, float]:
    """Return what the steps are predicted to take here; nothing where the planner is not installed."""
    try:
        from bessemer.products.reconciliation import forecast
    except ModuleNotFoundError:
        return {}
    found = {line.stage: line.seconds for line in forecast([home], config.sources, config.llm, base)}
    names = [name for name, product in config.products.items() if product is config.llm]
    return found | {f"{name}.{stage}": seconds for name in names for stage, seconds in found.items()}


def _run(made: Factory) -> Receipt:
    try:
        return made.run()
    except KeyboardInterrupt as error:
        raise Cancelled("stopped", hint="`bessemer run` goes on where it was.") from error


def _say_unless_deployed(receipt: Receipt) -> None:
    if not receipt.deployed:
        for outcome in receipt.outcomes:
            err.print(("passed: " if outcome.passed else "failed: ") + outcome.sentence, soft_wrap=True)
        held = ", ".join(part.name for part in receipt.products if not part.deployed)
        err.print(f"the gate did not let {held} through; an earlier one is served if there is one")


def _space_hint(error: OSError) -> str:
    import errno

    if error.errno == errno.ENOSPC:
        return (
            "Free some (`bessemer prune`), or set BESSEMER_HOME to a folder on a larger disk; finished steps are kept."
        )
    return "Check that the path exists and may be read and written."


def _one(factory: Path | None, named: Path | None) -> Path | None:
    if factory and named and factory != named:
        raise ConfigError("two factories are named", hint="Name one, as argument or with --factory.")
    return factory or named
