"""The verbs that need no run: each with words for people and one JSON value for machines."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from bessemer.cli import environment
from bessemer.core.nouns import Subject, Usage
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.config import FactoryConfig, load_factory

from .calling import call


@pytest.mark.parametrize("verb", ["status", "usage", "profit", "doctor", "schema"])
def test_a_verb_on_a_fresh_home(tmp_path: Path, verb: str) -> None:
    words = call(tmp_path, verb)
    assert words.returncode == 0, words.stderr
    assert words.stdout.strip()
    machine = call(tmp_path, verb, "--json")
    assert machine.returncode == 0
    json.loads(machine.stdout)


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize(
    ("verb", "status", "words"),
    [
        ("status", 0, "nothing has run here yet"),
        ("usage", 0, "nothing is booked yet"),
        ("profit", 0, "nothing is booked yet"),
        ("doctor", 0, "not made yet"),
        ("receipt", 1, "no run has finished"),
        ("prune", 0, "nothing to remove"),
        ("keys list", 0, "keys create"),
        ("projects list", 0, "projects create"),
        ("projects log", 0, "nothing was done yet"),
        ("limits show", 0, "nothing is limited"),
        ("keys revoke none", 1, "no key has the id"),
        ("keys rotate none", 1, "no key has the id"),
        ("projects archive none", 1, "no project"),
        ("projects rename none other", 1, "no project"),
        ("limits remove bud_none", 1, "no budget"),
        ("limits alert bud_none 50", 1, "no budget"),
        ("limits rate --project none --requests 1", 1, "no project"),
        ("limits budget 5 --key none", 1, "no key"),
        ("limits credit 5 --project none", 1, "no project"),
    ],
)
def test_a_verb_that_only_looks_makes_no_state_folder(
    tmp_path: Path, verb: str, status: int, words: str, options: tuple[str, ...]
) -> None:
    done = call(tmp_path, *verb.split(), *options, COLUMNS="400")
    assert done.returncode == status, done.stderr
    assert list(tmp_path.iterdir()) == []
    if options and status == 0:
        found = json.loads(done.stdout)
        assert verb in ("doctor", "profit") or found == [] or not any(found[what] for what in found if what != "home")
    else:
        assert words in done.stdout + done.stderr


def test_looking_at_keys_makes_none_where_something_ran(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    assert call(tmp_path, "keys", "list", "--json").stdout.strip() == "[]"
    assert list((tmp_path / "state").iterdir()) == []


def test_profit_is_shown_for_each_product(tmp_path: Path) -> None:
    with open_meter(MeterConfig(sensors="model"), tmp_path / "state" / "books") as meter:
        for model in ("docs", "shop"):
            handle = meter.start(Subject(kind="request", id=model, project="p", model=model))
            meter.stop(handle, Usage(input_tokens=10**6, output_tokens=10**6))
    (tmp_path / "price.toml").write_text(
        'version = "v"\nhardware = {micros_per_hour = 1_000_000, source = "a lease"}\n'
    )
    (tmp_path / "factory.yaml").write_text(
        "name: docs\nsources: [{kind: folder, path: .}]\nmeter: {price_book: price.toml}\n"
    )
    found = json.loads(call(tmp_path, "profit", "factory.yaml", "--json").stdout)
    assert [product["product"] for product in found["products"]] == ["docs", "shop"]
    assert found["products"][0]["revenue"] == {"micros": 500_000, "currency": "USD"}
    assert found["hardware"] == "a lease"
    words = call(tmp_path, "profit", "factory.yaml", COLUMNS="200").stdout
    assert words.count("fully loaded profit") == 2 and "a lease" in words
    later = json.loads(call(tmp_path, "profit", "--since", "2999-01-01", "--json").stdout)
    assert later["products"] == []


def test_usage_says_what_its_figures_rest_on(tmp_path: Path) -> None:
    with open_meter(MeterConfig(region="FR", sensors="model"), tmp_path / "state" / "books") as meter:
        for subject in (Subject(kind="request", id="r", project="shop", model="m"), Subject(kind="step", id="s")):
            carbon = meter.stop(meter.start(subject), Usage(input_tokens=9, output_tokens=9, units=1234)).carbon
        meter.book_step(Subject(kind="step", id="r/train/1", name="train"), time.time(), 1.0, 1.0, "cancelled")
    request, step, stopped = json.loads(call(tmp_path, "usage", "--json").stdout)
    assert [line["what"] for line in (request, step, stopped)] == ["requests", "steps", "steps that were stopped"]
    for line in (request, step, stopped):
        assert (line["energy_class"], line["boundary"]) == ("modelled", "host")
        assert line["grids"] == [f"FR, {carbon.grams_per_kilowatt_hour:g} g/kWh, {carbon.source}"]
        assert line["price_versions"] == [meter.prices.stamp()]
    said = " ".join(call(tmp_path, "usage", COLUMNS="400").stdout.split())
    for words in (
        "modelled (host)",
        request["grids"][0],
        f"Price book: {meter.prices.stamp()}.",
        "were stopped",
        "1,234",
    ):
        assert words in said


def test_what_a_project_used_has_its_training_by_model(tmp_path: Path) -> None:
    tuned = "ft:mine:shop::1"
    with open_meter(MeterConfig(sensors="model"), tmp_path / "state" / "books") as meter:
        whose = {"project": "shop", "key_id": "k", "model": tuned}
        meter.stop(meter.start(Subject(kind="request", id="r", **whose)), Usage(input_tokens=1, output_tokens=1))
        meter.stop(meter.start(Subject(kind="step", id="job", name="fine_tuning", **whose)), Usage(input_tokens=526))
        meter.book_step(Subject(kind="step", id="x/train/1", **whose), time.time(), 1.0, 1.0, "ok")
        meter.book_step(Subject(kind="step", id="y/train/1", **whose), time.time(), 1.0, 1.0, "error")
        theirs = Subject(kind="step", id="z/make/1", project="other", model="rows")
        meter.book_step(theirs, time.time(), 1.0, 1.0, "ok")
        meter.book_step(Subject(kind="step", id="own", name="merge"), time.time(), 1.0, 1.0, "ok")
    found = json.loads(call(tmp_path, "usage", "--project", "shop", "--json").stdout)
    assert [(line["what"], line["model"], line["entries"], line["input_tokens"]) for line in found] == [
        ("requests", tuned, 1, 1),
        ("training steps", tuned, 2, 526),
        ("training steps that failed", tuned, 1, 0),
    ]
    everything = json.loads(call(tmp_path, "usage", "--json").stdout)
    assert [(line["what"], line["project"]) for line in everything[1:]] == [
        ("job steps", "other"),
        ("training steps", "shop"),
        ("training steps that failed", "shop"),
        ("steps", ""),
    ]
    said = " ".join(call(tmp_path, "usage", "--project", "shop", COLUMNS="200").stdout.split())
    assert f"shop · {tuned}, training steps 2 526 / 0" in said


def test_usage_in_buckets_of_time_and_by_group(tmp_path: Path) -> None:
    with open_meter(MeterConfig(sensors="model"), tmp_path / "state" / "books") as meter:
        for number in range(3):
            subject = Subject(kind="request", id=f"r{number}", project="shop" if number else "home", model="m")
            meter.stop(meter.start(subject), Usage(input_tokens=10, output_tokens=2))
        meter.stop(meter.start(Subject(kind="step", id="s")), Usage())
    rows = json.loads(call(tmp_path, "usage", "--bucket", "1h", "--group-by", "project,batch", "--json").stdout)
    assert [(row["group"], row["entries"], row["usage"]["input_tokens"]) for row in rows] == [
        ({"project": "home", "batch": ""}, 1, 10),
        ({"project": "shop", "batch": ""}, 2, 20),
    ]
    assert all(row["start"] % 3600 == 0 and 0 <= time.time() - row["start"] < 7200 for row in rows)
    words = call(tmp_path, "usage", "--group-by", "model", "--project", "shop", COLUMNS="80").stdout
    assert "20 / 4" in words and time.strftime("%Y-%m-%d", time.gmtime(rows[0]["start"])) in words
    assert max(map(len, words.splitlines())) <= 80
    assert json.loads(call(tmp_path, "usage", "--until", "2001-01-01", "--json").stdout) == []


def test_what_usage_is_told_by_can_be_read(tmp_path: Path) -> None:
    """Three columns of long names would each have room for four letters."""
    project, model = f"proj_{'7' * 24}", "assistant"
    with open_meter(MeterConfig(sensors="model"), tmp_path / "state" / "books") as meter:
        subject = Subject(kind="request", id="r", project=project, model=model, key_id="0123456789ab")
        meter.stop(meter.start(subject), Usage(input_tokens=123_456, output_tokens=123_456))
    words = call(tmp_path, "usage", "--bucket", "1h", "--group-by", "model,key,project", COLUMNS="80").stdout
    assert model in words and "0123456789ab" in words and max(map(len, words.splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--bucket", "2h"), "no bucket of '2h'"),
        (("--group-by", "project,colour"), "nothing is called 'colour'"),
        (("--since", "2026-02-02", "--until", "2026-02-01"), "not later"),
    ],
)
def test_usage_that_cannot_be_told_is_refused(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    done = call(tmp_path, "usage", *options)
    assert done.returncode == 1 and words in done.stderr
    assert list(tmp_path.iterdir()) == []
    empty = call(tmp_path, "usage", "--bucket", "1m")
    assert empty.returncode == 1 and "bessemer up" in empty.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_verb(tmp_path: Path) -> None:
    said = call(tmp_path, "--help", COLUMNS="100").stdout
    for verb in ("run", "up", "chat", "status", "usage", "doctor", "keys", "init", "schema", "documents", "erase"):
        assert verb in said


def test_the_schema_accepts_what_the_factory_accepts(tmp_path: Path) -> None:
    schema = json.loads(call(tmp_path, "schema").stdout)
    assert set(schema["properties"]) == set(FactoryConfig.model_fields)
    assert schema["additionalProperties"] is False


def test_init_writes_a_factory_that_loads(tmp_path: Path) -> None:
    done = call(tmp_path, "init", "My Notes", "--json")
    assert done.returncode == 0, done.stderr
    path = Path(json.loads(done.stdout)["factory"])
    config, _ = load_factory(tmp_path / path)
    assert config.name == "my-notes"
    uncommented = "\n".join(
        line.replace("# ", "", 1) if line.strip().startswith("# ") and ":" in line else line
        for line in (tmp_path / path).read_text().splitlines()
        if not line.startswith("#")
    )
    assert yaml.safe_load(uncommented)["name"] == "my-notes"


def test_doctor_says_what_to_do_about_what_is_missing(tmp_path: Path) -> None:
    findings = json.loads(call(tmp_path, "doctor", "--json").stdout)
    assert {"machine", "package", "model", "device", "sensor", "engine", "space"} <= {f["area"] for f in findings}
    assert all(f["advice"] for f in findings if f["state"] == "missing")


def test_keys_are_listed_without_their_secret(tmp_path: Path) -> None:
    made = json.loads(call(tmp_path, "keys", "create", "--project", "p", "--admin", "--json").stdout)
    assert made["key"].startswith("bk-")
    listed = call(tmp_path, "keys", "list", "--json").stdout
    assert made["key"] not in listed
    assert json.loads(listed)[0]["admin"] is True


def test_spans_are_sent_when_the_environment_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert environment.traced("pydocs") == ""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")
    assert environment.traced("pydocs") == "pydocs"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "assistant")
    assert environment.traced("pydocs") == "assistant"
