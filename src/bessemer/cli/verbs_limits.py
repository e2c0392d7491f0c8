"""The verbs below `bessemer limits`: show, rate, budget, credit, alert, spend-alert, remove."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bessemer.cli import environment
from bessemer.cli.output import emit, err
from bessemer.cli.verbs_keys import accounts
from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.units import MICROS_PER_UNIT, Money
from bessemer.serve import Accounts, Budget, RateLimit, Scope, Spending

app = typer.Typer(
    help="Set and show how much may be asked and spent: rates, budgets, prepaid credit.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]
OfProject = Annotated[str, typer.Option("--project", help="Of this project; of the whole organization unless given.")]
OfKey = Annotated[str, typer.Option("--key", help="Of the key with this id.")]
Currency = Annotated[str, typer.Option(help="Of the amount; that of the price book unless given.", show_default=False)]
_MOST_MICROS = 10**18
_CURRENCY = "USD"
"""Where no factory ran yet and none is declared, whose price book would say."""
PERIODS: dict[str, Literal["day", "month", "total"]] = {"day": "day", "month": "month", "total": "total"}


@app.command()
def show(project: OfProject = "", key: OfKey = "", as_json: Json = False) -> None:
    """Show all limits, or those of one project or key, and where each stands."""
    scope, id = _scope(project, key)
    wanted = (scope, id) if id else (None, None)
    with accounts(make=False) as found:
        rates = found.rates.list(*wanted)
        states = [found.budgets.spending(budget) for budget in found.budgets.list(*wanted)]
    emit({"rates": rates, "budgets": states}, as_json, lambda: _tables(rates, states))


@app.command()
def rate(
    project: OfProject = "",
    key: OfKey = "",
    model: Annotated[str, typer.Option(help="Count requests to this model only.")] = "",
    requests: Annotated[int | None, typer.Option(min=0, help="Per minute; no limit unless given.")] = None,
    tokens: Annotated[int | None, typer.Option(min=0, help="Per minute, in and out; no limit unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Limit requests and tokens per minute."""
    if requests is None and tokens is None:
        raise ConfigError("no limit is given", hint="Give --requests or --tokens, or lift one with limits remove.")
    _check_model(model)
    with accounts(make=not (project or key)) as found:  # where there are no accounts, nobody of that name is in them
        limit = found.rates.set(*_scope(project, key), model, requests, tokens)
    emit(limit, as_json, lambda: _tables((limit,), []))


@app.command()
def budget(
    amount: Annotated[str, typer.Argument(help="Such as 12.50.")],
    project: OfProject = "",
    key: OfKey = "",
    period: Annotated[str, typer.Option(help="day, month or total; begins anew in UTC.")] = "month",
    alert: Annotated[bool, typer.Option("--alert", help="Only tell when it is reached, and refuse nobody.")] = False,
    currency: Currency = "",
    as_json: Json = False,
) -> None:
    """Set what may be spent from now on; requests whose worst case does not fit are refused."""
    if period not in PERIODS:
        raise ConfigError(f"there is no period '{period}'", hint="Say day, month or total.")
    with accounts(make=not (project or key)) as found:
        limit = _money(amount, currency, found)
        made = found.budgets.set(*_scope(project, key), PERIODS[period], limit, not alert)
        state = found.budgets.spending(made)
    emit(state, as_json, lambda: _tables((), [state]))


@app.command(context_settings={"ignore_unknown_options": True})  # -40 is an amount, and no option
def credit(
    amount: Annotated[str, typer.Argument(help="Paid in, such as 100, or paid back, such as -40.")],
    project: OfProject = "",
    key: OfKey = "",
    note: Annotated[str, typer.Option(help="For the audit log, such as the number of a transfer.")] = "",
    currency: Currency = "",
    as_json: Json = False,
) -> None:
    """Add prepaid credit, or take some back: when it is used up, requests are refused."""
    with accounts(make=not (project or key)) as found:
        paid = _money(amount, currency, found)
        state = found.budgets.spending(found.budgets.add_credit(*_scope(project, key), paid, note))
    emit(state, as_json, lambda: _tables((), [state]))


@app.command()
def alert(
    budget_id: Annotated[str, typer.Argument(help="From `bessemer limits show`.")],
    at: Annotated[str, typer.Argument(help="Percents of the budget, such as 60,90; or never.")],
    as_json: Json = False,
) -> None:
    """Say at which parts of a budget webhooks are told; 50, 80 and 100 % unless said."""
    with accounts(make=False) as found:
        thresholds = found.alerts.set(budget_id, percents(at))
    told = ", ".join(f"{percent} %" for percent in thresholds) or "nothing"
    emit({"budget": budget_id, "percents": thresholds}, as_json, lambda: escape(f"{budget_id}: told of {told}"))


@app.command()
def spend_alert(
    amount: Annotated[str, typer.Argument(help="Spent in a month, such as 12.50.")],
    project: OfProject = "",
    key: OfKey = "",
    currency: Currency = "",
    as_json: Json = False,
) -> None:
    """Have webhooks told when a month's spending reaches an amount; several stand beside each other."""
    with accounts(make=not (project or key)) as found:
        at = _money(amount, currency, found)
        state = found.budgets.spending(found.budgets.set_alert(*_scope(project, key), at))
    emit(state, as_json, lambda: _tables((), [state]))


@app.command()
def remove(
    limit_id: Annotated[str, typer.Argument(help="From `bessemer limits show`.")], as_json: Json = False
) -> None:
    """Lift a rate limit or a budget."""
    with accounts(make=False) as found:
        (found.budgets if limit_id.startswith("bud_") else found.rates).remove(limit_id)
    emit({"removed": limit_id}, as_json, lambda: escape(f"removed {limit_id}"))


def percents(said: str) -> tuple[int, ...]:
    """Return the thresholds of a budget.

    >>> percents("80, 100%"), percents("never")
    ((80, 100), ())
    """
    try:
        return () if said == "never" else tuple(int(part.strip().removesuffix("%")) for part in said.split(","))
    except ValueError as error:
        raise ConfigError(f"'{said}' are no percents", hint="Give some such as 50,80,100, or never.") from error


def money(amount: str, currency: str) -> Money:
    """Return an amount as whole micro-units.

    >>> money("12.5", "EUR").micros
    12500000
    """
    try:
        exact = Decimal(amount) * MICROS_PER_UNIT
        if exact != int(exact):
            raise ConfigError(f"{amount} is not a whole number of millionths", hint="Give fewer decimals.")
        if abs(exact) > _MOST_MICROS:
            raise ConfigError(f"{amount} is more money than there is", hint="Give one such as 12.50.")
        return Money(micros=int(exact), currency=currency)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ConfigError(f"'{amount}' {currency} is no amount of money", hint="Give one such as 12.50.") from error


def _money(amount: str, currency: str, found: Accounts) -> Money:
    """Return an amount in the currency that is given, that of the prices, or one that is assumed, which is said."""
    return money(amount, currency or found.currency or _declared() or _assumed())


def _declared() -> str:
    """Return the currency of the prices that the working folder declares; empty if it declares no factory."""
    from bessemer.products.prices import find_prices

    path = Path("factory.yaml")
    return find_prices(path, environment.home(make=False)).currency if path.exists() else ""


def _assumed() -> str:
    told = f"no factory ran here, and no factory.yaml says by which prices: {_CURRENCY} is assumed (--currency)"
    err.print(f"[dim]{told}[/]", soft_wrap=True)
    return _CURRENCY


def _scope(project: str, key: str) -> tuple[Scope, str]:
    if project and key:
        raise ConfigError("a project and a key are named", hint="Name one of them.")
    return ("key", key) if key else ("project", project) if project else ("organization", "")


def _check_model(model: str) -> None:
    """Refuse a limit that would never bite; while no gateway runs here, nobody knows what it will serve."""
    gateway = environment.home(make=False).gateway()
    if model and gateway and model not in gateway.models and not model.startswith("ft:"):
        known = ", ".join(gateway.models)
        raise NotFound(f"the gateway that runs here serves no model '{model}'", hint=f"It serves {known}.")


def _of(limit: RateLimit | Budget) -> str:
    return escape(f"{limit.scope} {limit.scope_id}".strip())


def _tables(rates: tuple[RateLimit, ...], states: list[Spending]) -> RenderableType:
    drawn: list[RenderableType] = []
    if rates:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("rate limit", no_wrap=True)
        for column in ("of", "model"):
            table.add_column(column, overflow="fold")
        for column in ("requests/min", "tokens/min"):
            table.add_column(column, justify="right")
        for rate in rates:
            most = (rate.requests_per_minute, rate.tokens_per_minute)
            told = ("no limit" if count is None else f"{count:,}" for count in most)
            table.add_row(rate.id, _of(rate), escape(rate.model) or "all", *told)
        drawn.append(table)
    if states:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("budget", no_wrap=True)
        table.add_column("of", overflow="fold")  # alone gives way to the amounts
        table.add_column("period", no_wrap=True)
        for column in ("limit", "spent", "reserved", "left"):
            table.add_column(column, justify="right", no_wrap=True)
        for state in states:
            of, currency = state.budget, state.budget.limit.currency
            amounts = (of.limit.micros, state.spent_micros, state.reserved_micros, state.left_micros)
            shown = [str(Money(micros=micros, currency=currency)) for micros in amounts]
            shown = [shown[0], *(amount.partition(" ")[0] for amount in shown[1:])]
            shown[-1] = f"[{'green' if state.left_micros > 0 else 'red'}]{shown[-1]}[/]"
            period = (state.span or of.period) + ("" if of.enforced else "\n[dim]only tells[/]")
            table.add_row(of.id, _of(of), period, *shown)
        drawn.append(table)
    return Group(*(part for table in drawn for part in (table, ""))) if drawn else Text("nothing is limited")
