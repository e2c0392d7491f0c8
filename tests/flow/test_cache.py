"""A finished step is never redone; a change redoes what depends on it and nothing else."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bessemer.core import events
from bessemer.core.errors import IntegrityError, NotFound
from bessemer.flow import Flow


def diamond(step, **values):
    names = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    return Flow("diamond", tuple(step(name, needs=needs, value=values.get(name, 1)) for name, needs in names.items()))


def ran(bench):
    return [line[0] for line in bench.journal() if line[1] == "start"]


def test_a_finished_step_is_never_redone_in_any_run_of_any_flow(bench, step):
    first = bench.run(diamond(step))
    assert (first.status, first.artifacts["d"].meta) == ("finished", {"value": 5})
    assert Path(first.artifacts["d"].path, "deep", "value.txt").read_text() == "5"
    again = bench.run(diamond(step))
    other = bench.run(Flow("other", diamond(step).steps[:2]))
    assert again.run != first.run and again.artifacts == first.artifacts
    assert other.artifacts == {name: first.artifacts[name] for name in ("a", diamond(step).steps[1].name)}
    assert sorted(ran(bench)) == ["a", "b", "c", "d"]
    assert all(event.cached for event in bench.of(events.StepFinished))


def test_a_changed_parameter_redoes_only_what_depends_on_it(bench, step):
    bench.run(diamond(step))
    result = bench.run(diamond(step, b=2))
    assert result.artifacts["d"].meta == {"value": 6}
    assert sorted(ran(bench)) == ["a", "b", "b", "c", "d", "d"]
    assert {event.step: event.cached for event in bench.of(events.StepFinished)} == {
        "a": True, "b": False, "c": True, "d": False
    }  # fmt: skip


def test_a_step_that_gives_the_same_again_stops_the_change(bench, step):
    bench.run(diamond(step))
    flow = diamond(step)
    steps = {each.name: each for each in flow.steps}
    steps["b"] = replace(steps["b"], inputs={"source": "touched"})
    bench.run(Flow("diamond", tuple(steps.values())))
    assert sorted(ran(bench)) == ["a", "b", "b", "c", "d"]


def test_changed_code_redoes_the_step(bench, tmp_path, monkeypatch):
    from bessemer.flow import Step

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "edited_package").mkdir()
    (tmp_path / "edited_package" / "__init__.py").write_text("LEVEL = 1\n")
    (tmp_path / "edited_step.py").write_text(
        "import edited_package\ndef run(ctx, config):\n    return {'level': edited_package.LEVEL}\n"
    )
    flow = Flow("edited", (Step("only", "edited_step:run", code=("edited_package",)),))
    assert bench.run(flow, "process").artifacts["only"].meta == {"level": 1}
    (tmp_path / "edited_package" / "__init__.py").write_text("LEVEL = 20\n")
    assert bench.run(flow, "process").artifacts["only"].meta == {"level": 20}


@pytest.mark.parametrize("damage", ["deleted", "shorter", "folder"])
def test_a_damaged_artifact_is_redone_rather_than_used(bench, step, damage):
    flow = diamond(step)
    before = bench.run(flow).artifacts["b"]
    file = Path(before.path, "deep", "value.txt")
    if damage == "folder":
        shutil.rmtree(before.path)
    elif damage == "deleted":
        file.unlink()
    else:
        file.write_text("")
    with pytest.raises(IntegrityError):
        bench.runner().verify(before.key)
    after = bench.run(flow).artifacts["b"]
    assert Path(after.path, "deep", "value.txt").read_text() == "2"
    assert (after.key, after.digest) == (before.key, before.digest)
    assert sorted(ran(bench)) == ["a", "b", "b", "c", "d"]
    bench.runner().verify(after.key)


def test_damage_that_keeps_the_size_is_found_by_verify(bench, step):
    artifact = bench.run(diamond(step)).artifacts["d"]
    bench.runner().verify(artifact.key)
    Path(artifact.path, "deep", "value.txt").write_text("7")
    with pytest.raises(IntegrityError, match="not what was published"):
        bench.runner().verify(artifact.key)
    assert Path(bench.run(diamond(step)).artifacts["d"].path, "deep", "value.txt").read_text() == "5"
    with pytest.raises(NotFound):
        bench.runner().verify("0" * 64)


def test_twelve_cached_steps_resolve_in_a_tenth_of_a_second_without_a_process(bench, step):
    names = [f"s{number}" for number in range(12)]
    flow = Flow("line", tuple(step(name, needs=tuple(names[:n][-1:])) for n, name in enumerate(names)))
    bench.run(flow)

    class Refuses:
        name, capabilities = "refuses", frozenset()

        def submit(self, task):
            raise AssertionError("a cached step was started")

    best = min(_timed(lambda: bench.run(flow, Refuses())) for _ in range(5))
    assert len(bench.of(events.StepFinished)) == 12
    assert best < 0.1


def _timed(call):
    began = time.process_time()
    assert call().status == "finished"
    return time.process_time() - began
