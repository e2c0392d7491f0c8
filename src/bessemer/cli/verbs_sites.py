"""The verb that lists the reference sites, and shows one with its totals beside what was published of it.

Owns how a site is drawn.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bessemer.cli import environment
from bessemer.cli.output import emit

if TYPE_CHECKING:
    from bessemer.twin.site import Site

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]


def add_to(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(sites)


def sites(
    name: Annotated[
        str | None, typer.Argument(help="A site, or the path of its TOML; all of the catalogue without it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the reference sites, or show one: its totals beside what was published of it."""
    from bessemer.products.machine import find_site
    from bessemer.products.planning import site_totals
    from bessemer.twin.defaults import defaults
    from bessemer.twin.site import load_site, reference_sites

    if name:
        site = find_site(environment.home(make=False), name)
        value = {**site.model_dump(mode="json"), "totals": site_totals(site)}
        value["defaults"] = [asdict(each) for each in defaults(site)]
        emit(value, as_json, lambda: _one(site))
        return
    found = [load_site(each) for each in reference_sites()]
    values = [{**site.model_dump(mode="json"), "totals": site_totals(site)} for site in found]
    emit(values, as_json, lambda: _all(found))


def _all(found: list[Site]) -> RenderableType:
    from bessemer.products.figures import said
    from bessemer.twin.totals import totals

    table = Table("site", "accelerators", "USD, modelled", "what it is", box=SIMPLE_HEAD, pad_edge=False)
    for site in found:
        usd = next(total.modelled.mid for total in totals(site) if total.name == "capital_usd")
        table.add_row(site.name, f"{site.accelerators:,}", said(usd), escape(site.description))
    return Group(table, "[dim]One of them beside what was published: bessemer sites NAME[/]")


ALWAYS = ("exaflops_bf16", "switches", "petabytes", "megawatts", "capital_usd", "tonnes_co2e_per_day")
"""Totals that are shown even of a site that has none of them."""


def _one(site: Site) -> RenderableType:
    from bessemer.products.figures import counted, reading, said, scale, words
    from bessemer.twin.defaults import defaults
    from bessemer.twin.totals import totals

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(escape(site.name))
    for column in ("modelled", "low – high"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("published", no_wrap=True)
    sources: dict[str, list[str]] = {}
    for total in totals(site):
        if ":" in total.name or not (total.modelled.high or total.published or total.name in ALWAYS):
            continue  # a part of a total, or what such a site has none of
        size, _ = scale(total.name, total.modelled.mid)
        middle, unit, around = reading(total.name, total.modelled)
        told = "[dim]not published[/]" if total.published is None else counted(total.published / size)
        difference = "" if total.difference is None else f" ({total.difference:+.0%})"
        table.add_row(words(total.name)[0], middle, around, unit, told + difference)
        if total.published is not None:
            sources.setdefault(total.source, []).append(words(total.name)[0])
    where = "; ".join(f"{', '.join(names)}: {source}" for source, names in sources.items())
    where = where or "nothing was published of it"
    taken = [f"[dim]  {each.path} {each.value:g}: {escape(each.source)}[/]" for each in defaults(site)]
    parts = [total for total in totals(site) if total.name.startswith("capital: ")]
    bought = ", ".join(f"{total.name.removeprefix('capital: ')} {said(total.modelled.mid)}" for total in parts)
    return Group(
        escape(site.description),
        table,
        f"[dim]{escape(f'Capital in USD: {bought}.')}[/]",
        f"[dim]{escape(f'Published: {where}. All else: the sources in its TOML, also with --json.')}[/]",
        *(["[dim]Not declared, so by default:[/]", *taken] if taken else []),
    )
