"""Superseded results go, and what anything still needs stays."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError, Conflict
from bessemer.flow import Flow, Runner, RunResult, Step, open_store
from bessemer.flow.store import Claim
from bessemer.lake import open_lake
from bessemer.products.home import Deployment, Gateway, Home
from bessemer.products.pruning import prune
from bessemer.serve import JobsConfig, open_work
from bessemer.serve.work.jobs import Hyperparameters, Job
from bessemer.serve.work.models import TunedModel

from .prune_steps import MakeConfig


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "state")
    made.claim_artifacts()
    return made


def run(home: Home, flow: str, value: int, *, fails: bool = False, table: str = "") -> RunResult:
    config = MakeConfig(value=value, fails=fails, table=table)
    step = Step("make", run=f"{MakeConfig.__module__}:make", config=config)
    with closing(open_store(home.database_url)) as store:
        runner = Runner(store, home.artifacts, "inline", resources={"lake": home.lake_url})
        return runner.run(runner.submit(Flow(flow, (step,))))


def left(home: Home) -> set[str]:
    """Return the keys whose results are there, on the disk and in the database alike."""
    on_disk = {path.name.partition("-")[0] for path in (home.artifacts / "published").iterdir()}
    with closing(open_store(home.database_url)) as store:
        assert {name.partition("-")[0] for name in store.folders()[1]} == on_disk
    return on_disk


def key(result: RunResult) -> str:
    return result.artifacts["make"].key


def deploy(home: Home, result: RunResult, **more: object) -> None:
    facts = {"name": "m", "run": result.run, "key": key(result), "path": result.artifacts["make"].path}
    home.deploy(Deployment.model_validate({**facts, "deployed_at": 1.0, **more}))


def test_what_is_deployed_served_or_newest_stays_and_the_rest_goes(home: Home) -> None:
    old, deployed, served, last, other = (run(home, flow, n) for n, flow in enumerate("mmmmo"))
    deploy(home, deployed)
    home.announce(Gateway(url="http://127.0.0.1:1", pid=os.getpid(), models=("m",), started_at=0.0, runs=(served.run,)))
    every = {key(result) for result in (old, deployed, served, last, other)}
    said = prune(home, dry=True)
    assert (said.results, said.freed_bytes) == ({"make": 1}, 1000)
    assert left(home) == every, "only said"
    assert prune(home) == said
    assert left(home) == every - {key(old)}
    assert prune(home).results == {}, "there is nothing more"
    assert key(run(home, "m", 0)) == key(old), "what is wanted again is made again"
    home.announce(None)
    assert prune(home).results == {"make": 2}
    assert left(home) == {key(deployed), key(old), key(other)}


def test_what_a_failed_run_would_go_on_with_stays(home: Home) -> None:
    finished = run(home, "m", 1)
    abandoned = run(home, "m", 2, fails=True)
    newest = run(home, "m", 3, fails=True)
    assert {abandoned.status, newest.status} == {"failed"}
    with closing(open_store(home.database_url)) as store:
        (wanted,) = (step.key for step in store.steps(newest.run))
    assert prune(home).checkpoints == 1
    assert [path.name for path in (home.artifacts / "checkpoints").iterdir()] == [wanted]
    assert left(home) == {key(finished)}


def test_fine_tuned_models_stay_until_their_project_deletes_them(tmp_path: Path, database_url: str) -> None:
    home = Home(tmp_path / "state", database_url)
    ended, running = run(home, "tune-ftjob-1", 1), run(home, "tune-ftjob-2", 2)
    factory = run(home, "tune-up", 3)
    with closing(open_work(home.work, JobsConfig(), database=home.ledger_url)) as work:
        facts = {"created_at": 0, "base": "b", "path": "p", "source": "s"}
        job = Job(
            id="ftjob-2", created_at=0, model="b", seed=0, training_file="f", hyperparameters=Hyperparameters(),
            status="running",
        )  # fmt: skip
        with work.records.writing() as on:
            work.records.add(on, "model", "shop", TunedModel(id="ft:b:1", job="ftjob-1", **facts))
            work.records.add(on, "fine-tuning job", "shop", job, tag="running")
        assert prune(home).results == {}
        with work.records.writing() as on:
            work.records.drop(on, "ft:b:1")
        assert prune(home).results == {"make": 1}
    assert left(home) == {key(running), key(factory)}
    assert key(ended) not in left(home)


def test_versions_of_tables_go_with_what_wrote_them(home: Home) -> None:
    runs = [run(home, "m", n, table="m.curated") for n in range(3)]
    lake = open_lake(home.lake_url)
    first, second, third = (version.version for version in lake.history("m.curated"))
    deploy(home, runs[2], table="m.curated", table_version=first)
    assert prune(home, dry=True).versions == 1
    assert len(lake.history("m.curated")) == 3
    assert prune(home).versions == 1
    assert [version.version for version in lake.history("m.curated")] == [first, third], "a deployment reads the first"
    with pytest.raises(Exception, match=f"no version {second}"):
        lake.open("m.curated", version=second)
    again = run(home, "m", 1, table="m.curated")
    assert lake.get("m.curated", version=f"step-{key(again)[:32]}") == [{"value": 1}]


def test_nothing_is_removed_while_a_run_is_under_way(home: Home) -> None:
    run(home, "m", 1)
    run(home, "m", 2)
    with home.results(), pytest.raises(Conflict, match="a run is under way"):
        prune(home)
    with closing(open_store(home.database_url)) as store:
        (step,) = store.flow(store.runs()[0].id).steps
        waiting = store.submit(Flow("n", (step,)))
        claimed = store.claim(Claim(waiting, step.name, key="k"), "elsewhere-1-abc", 60.0, 1)
        assert claimed is not None
        with pytest.raises(Conflict, match="a run is under way"):
            prune(home)
        store.release(claimed)
    assert prune(home).results == {"make": 1}


def test_results_of_another_database_are_let_alone(home: Home, tmp_path: Path) -> None:
    run(home, "m", 1)
    other = Home(home.path, f"sqlite:///{tmp_path / 'other.sqlite'}")
    with pytest.raises(ConfigError, match="another database"):
        prune(other)
    assert len(left(home)) == 1


def test_pruning_makes_no_home(tmp_path: Path) -> None:
    assert prune(Home(tmp_path / "none", make=False)).results == {}
    assert list(tmp_path.iterdir()) == []
