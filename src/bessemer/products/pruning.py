"""Gives back the disk that superseded results take: models of earlier declarations, and the rows they were made from.

Owns which results are still wanted. A result that is gone costs time and nothing else: a run that needs it makes it
again, under the same key.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from contextlib import closing
from pathlib import Path

from bessemer.core.errors import Conflict
from bessemer.core.nouns import Noun
from bessemer.flow import RunRecord, Store, open_store
from bessemer.flow.folders import Folders
from bessemer.flow.store import Result
from bessemer.lake import open_lake
from bessemer.products.home import Home, is_there
from bessemer.products.rows import rows_tag
from bessemer.products.tuning.line import flow_name
from bessemer.serve.work.jobs import KIND as JOB
from bessemer.serve.work.jobs import UNFINISHED, Job
from bessemer.serve.work.models import KIND as MODEL
from bessemer.serve.work.models import TunedModel
from bessemer.serve.work.records import Records

_JOB_FLOW = flow_name("ftjob-")
"""How flows of fine-tuning jobs begin: a factory may be called tune-something, too."""


class Pruned(Noun):
    """What was, or would be, removed.

    Attributes:
        results: of steps, by the step's name.
        checkpoints: of trainings that no wanted run would go on with.
        freed_bytes: of their files; tables of the lake come on top.
        versions: of tables of the lake, which those steps wrote.
    """

    results: dict[str, int]
    checkpoints: int
    freed_bytes: int
    versions: int


def prune(home: Home, *, dry: bool = False) -> Pruned:
    """Remove the results that nothing here needs any more, and return what that was.

    Kept is what these runs made: those of deployed models and of those that the gateway serves, of each factory the
    newest and the newest that finished, and of fine-tuning jobs those that are not over or whose model is still there.

    Args:
        home: whose results.
        dry: only say what would be removed.

    Raises:
        Conflict: a run is under way.
    """
    if not home.artifacts.exists():
        return Pruned(results={}, checkpoints=0, freed_bytes=0, versions=0)
    with home.results(alone=True), closing(open_store(home.database_url)) as store:
        home.claim_artifacts()
        folders = Folders(home.artifacts)
        if any(not folders.is_dead(owner) for owner in store.owners()):  # perhaps on another machine
            raise Conflict("a run is under way", hint="Wait until it has ended, then prune.")
        kept = {step.key for run in _wanted(home, store) for step in store.steps(run)}
        kept |= {deployment.key for deployment in home.deployments()}
        gone = [result for result in _results(store) if result.key not in kept]
        stale = [folder for folder in folders.checkpoints.iterdir() if folder.name not in kept]
        places = [*(folders.published / result.folder for result in gone), *stale]
        freed = sum(_bytes(place) for place in places)
        versions = _prune_lake(home, gone, dry=dry)  # first: were it cut off here, the next one would find it again
        if not dry:
            for result in gone:
                store.drop(result)
            for place in places:
                shutil.rmtree(place, ignore_errors=True)  # what is left when we are killed here, the next run sweeps
    counts = Counter(result.step for result in gone)
    return Pruned(results=dict(sorted(counts.items())), checkpoints=len(stale), freed_bytes=freed, versions=versions)


def _wanted(home: Home, store: Store) -> set[str]:
    """Return the runs whose results are kept."""
    gateway = home.gateway()
    wanted = {deployment.run for deployment in home.deployments()} | set(gateway.runs if gateway else ())
    by_flow: dict[str, list[RunRecord]] = defaultdict(list)
    for run in store.runs():
        by_flow[run.flow].append(run)
    jobs = _wanted_jobs(home)
    for flow, runs in by_flow.items():
        if not flow.startswith(_JOB_FLOW) or flow in jobs:
            wanted |= {runs[-1].id, *[run.id for run in runs if run.status == "finished"][-1:]}
    return wanted


def _wanted_jobs(home: Home) -> Set[str]:
    """Return the flows of fine-tuning jobs that are not over, and of models and checkpoints that nobody deleted."""
    if not is_there(home.records):
        return frozenset()
    with closing(Records(home.records)) as records:
        models = records.tagged(MODEL, ("",), TunedModel)
        made = {flow_name(model.job, model.id) for _, model in models}
        return made | {flow_name(job.id) for _, job in records.tagged(JOB, UNFINISHED, Job)}


def _results(store: Store) -> Iterator[Result]:
    for name in sorted(store.folders()[1]):
        if result := store.result(name.partition("-")[0]):
            yield result


def _prune_lake(home: Home, gone: list[Result], *, dry: bool) -> int:
    """Remove the versions that removed steps wrote and no deployment reads; return how many those are."""
    tags: Mapping[str, set[str]] = defaultdict(set)
    for result in gone:
        if table := result.outcome.meta.get("table"):
            tags[table].add(rows_tag(result.key))
    read = {(each.lake or home.lake_url, each.table): each.table_version for each in home.deployments()}
    found = 0
    for url in home.lakes() if tags else ():
        lake = open_lake(url)
        for table in set(lake.list()) & tags.keys():
            keep = {read[url, table]} if (url, table) in read else set()
            found += lake.forget(table, tags[table], keep=keep, dry=dry)
    return found


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
