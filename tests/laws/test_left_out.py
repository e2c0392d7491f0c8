"""Left-out errors are filed figures: they hold for the constants and models that they were made with."""

from __future__ import annotations

import csv
import shutil
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from bessemer.twin import cooling, decode, hazards, operations, power, training
from bessemer.twin.interval import Interval
from bessemer.twin.operations import Goodput

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("left_out")


@pytest.fixture
def apart(room: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("TABLE", "MARKS"):
        monkeypatch.setattr(room, name, Path(shutil.copy(getattr(room, name), tmp_path)))
    return room


@pytest.mark.parametrize("group", ["training", "inference", "facts"])
def test_left_out_errors_are_those_of_what_stands(room: ModuleType, group: str) -> None:
    changed = room.stale(group)
    assert not changed, f"left-out errors were made before {changed} changed: {room.COMMANDS[group]}"


def test_every_left_out_error_is_of_a_group(room: ModuleType) -> None:
    lines = csv.DictReader(room.TABLE.read_text("utf-8").splitlines())
    made = {line["source"].replace(",", " ").split()[0] for line in lines}
    assert made == {command.split()[1] for command in room.COMMANDS.values()}


@pytest.mark.parametrize("path", ["fitted_training.toml", "fitted_inference.toml", "fitted_facility.toml"])
def test_a_constant_that_was_fitted_again_makes_them_stale(
    room: ModuleType, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (group,) = (name for name, files in room.FILES.items() if any(file.name == path for file in files))
    for file in room.FILES[group]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        text = (room.ROOT / file).read_text("utf-8")
        (tmp_path / file).write_text(text.replace("0.", "0.1", 1) if file.name == path else text, "utf-8")
    monkeypatch.setattr(room, "ROOT", tmp_path)
    assert [Path(each).name for each in room.stale(group)] == [path]


@pytest.mark.parametrize(("module", "group"), [(training, "training"), (decode, "inference")])
def test_what_is_asked_of_a_model_depends_on_each_of_its_constants(
    room: ModuleType, module: ModuleType, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, before = module.fitted(), room.SAYS[group]()
    for each in fields(kept.constants):
        nudged = replace(kept.constants, **{each.name: getattr(kept.constants, each.name) * 1.1})
        monkeypatch.setattr(module, "fitted", lambda nudged=nudged: replace(kept, constants=nudged))
        assert abs(room.SAYS[group]() - before) > 1e-7, each.name
    assert room.stale(group) == ["what the models say"]


def test_what_is_asked_of_facts_depends_on_the_models_of_failures_power_and_cooling(
    room: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((hazards, "mttf_hours"), (operations, "goodput"), (power, "node_watts"), (cooling, "pue")):
        with monkeypatch.context() as patch:
            whole = getattr(module, name)
            patch.setattr(module, name, lambda *given, whole=whole: scaled(whole(*given)))
            assert room.stale("facts") == ["what the models say"]


def scaled(found: float | Interval | Goodput) -> float | Interval | Goodput:
    if isinstance(found, Goodput):
        return replace(found, effective_ratio=found.effective_ratio.scaled(1.001))
    return found.scaled(1.001) if isinstance(found, Interval) else found * 1.001


def test_a_comment_changes_nothing_and_a_number_does(room: ModuleType, tmp_path: Path) -> None:
    told = []
    for number, text in enumerate(('A = 1\n"""One."""\n', '# first\nA  =  1\n"""Two\nlines."""\n', "A = 2\n")):
        (tmp_path / f"{number}.py").write_text(text)
        told.append(room.digest(tmp_path / f"{number}.py"))
    assert told[0] == told[1] != told[2]


def test_what_is_made_anew_is_kept_with_what_it_was_made_with(apart: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id\n1\n")
    before, lines = apart.TABLE.read_text("utf-8"), list(csv.DictReader(apart.TABLE.read_text("utf-8").splitlines()))
    told = {(line["families"], line["left_out"]): (3, 1.26, 2.0) for line in lines if "fit_inference" in line["source"]}
    apart.MARKS.unlink()
    with pytest.raises(SystemExit, match="no rows of 'joules"):
        apart.keep("inference", {key: told[key] for key in told if "joules" not in key[0]}, [])
    assert apart.TABLE.read_text("utf-8") == before and not apart.MARKS.exists()
    apart.keep("inference", told, [tmp_path / "rows.csv"])
    after = list(csv.DictReader(apart.TABLE.read_text("utf-8").splitlines()))
    made = {"rows": "3", "mean": "1.3", "median": "2.0"}
    for old, new in zip(lines, after, strict=True):
        is_told = (old["families"], old["left_out"]) in told
        assert new == (old | made | {"source": new["source"]} if is_told else old)
    assert apart.stale("inference") == []
    assert apart.digest(tmp_path / "rows.csv") in apart.MARKS.read_text()
