"""The verbs that need no run: each with words for people and one JSON value for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bessemer.products.factory import FactoryConfig, load_factory

from .test_bad_input import call


@pytest.mark.parametrize("verb", ["status", "usage", "doctor", "schema"])
def test_a_verb_on_a_fresh_home(tmp_path: Path, verb: str) -> None:
    words = call(tmp_path, verb)
    assert words.returncode == 0, words.stderr
    assert words.stdout.strip()
    machine = call(tmp_path, verb, "--json")
    assert machine.returncode == 0
    json.loads(machine.stdout)


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
