"""`bessemer sites` shows a site's totals beside what was published of it, on 80 columns."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from bessemer.cli.app import app
from bessemer.twin.site import load_site, reference_sites


def call(*words: str) -> str:
    done = CliRunner().invoke(app, ["sites", *words], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", reference_sites())
def test_a_site_fits_and_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("bessemer.cli.output.out.width", 80, raising=False)
    said = call(name)
    assert max(len(line) for line in said.splitlines()) <= 80
    assert "…" not in said


def test_what_was_published_stands_beside_what_is_modelled() -> None:
    said = call("superpod-h100-127")
    (leaf,) = [line.split() for line in said.splitlines() if line.strip().startswith("leaf switches")]
    assert leaf == ["leaf", "switches", "32", "32", "(+0%)"]
    assert "RA-11333" in said
    totals = json.loads(call("superpod-h100-127", "--json"))["totals"]
    assert (totals["leaf_switches"]["mid"], totals["leaf_switches"]["published"]) == (32, 32)
    assert totals["pue"]["published"] is None
    assert "nothing was published of it" in call("laptop")


@pytest.mark.parametrize("name", reference_sites())
def test_every_site_tells_its_main_totals_and_who_published_each(name: str) -> None:
    told = json.loads(call(name, "--json"))["totals"]
    assert {"exaflops_bf16", "switches", "petabytes", "megawatts", "capital_usd", "tonnes_co2e_per_day"} <= set(told)
    given = {each: told[each]["published"] for each in told if told[each]["published"] is not None}
    assert given == dict(load_site(name).published)
    assert {each for each in told if told[each]["source"]} == set(given)


def test_what_nobody_published_says_so_and_a_source_names_its_totals() -> None:
    said = " ".join(call("colossus").split())
    assert "not published" in said
    assert "from the grid: TVA approved 150 MW" in said
    assert "switches" in call("laptop")


def test_what_a_site_does_not_declare_is_told_with_its_source() -> None:
    said = " ".join(call("dgx-h100").split())
    assert "money.discount_ratio 0.08: assumed: usual cost of capital" in said
    planned = CliRunner().invoke(app, ["plan", "--site", "dgx-h100", "--model", "Llama-3.1-8B"]).output
    assert "not declared, so by default: usd_per_kwh 0.1, life_years 5, discount_ratio 0.08" in " ".join(
        planned.split()
    )
