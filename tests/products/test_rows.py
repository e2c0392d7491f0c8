"""What the lake's steps hand on is named by its rows: the same rows make nothing run again, other rows do."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError
from bessemer.core.events import Event, StepFinished
from bessemer.core.nouns import Verdict
from bessemer.flow import Flow, Runner, RunResult, open_store
from bessemer.lake import CurateConfig, FolderSource, open_lake
from bessemer.meter import PriceBook
from bessemer.products.config import FactoryConfig
from bessemer.products.documents import compact_lake, erase_documents, list_documents
from bessemer.products.factory import Factory
from bessemer.products.filling import what
from bessemer.products.home import Home
from bessemer.products.line import Declared, build_line, open_products
from bessemer.products.llm.config import LlmConfig, RetrievalConfig
from bessemer.products.llm.serving import open_search
from bessemer.products.product import Finished
from bessemer.products.rows import rows_tag

TOOLS = ("valve", "ledger", "lantern", "anvil", "sextant", "loom", "kiln", "bellows")
LAKE_STEPS = {"ingest", "curate", "pairs"}


def text(tool: str, use: str = "work") -> str:
    return (
        f"# {tool.capitalize()}\n\nA {tool} is a tool that people have used for {use} since long before there were"
        f" factories, and the best ones are made by hand, of brass or of oak, in small workshops by the sea.\n"
    )


@dataclass(frozen=True)
class Place:
    """A folder of documents and a home, and the part of the line that makes tables."""

    base: Path
    home: Home
    lake_url: str
    name: str = "tools"
    curate: CurateConfig = field(default_factory=CurateConfig)

    def run(self) -> tuple[set[str], RunResult]:
        """Return which steps did not come from the cache, and the result."""
        source, done = FolderSource(path="documents"), set[str]()
        declared = Declared(self.name, (source,), self.curate, {}, {self.name: LlmConfig()}, self.base, self.lake_url)
        whole = build_line(declared, open_products(declared), self.home.erased())
        flow = Flow(self.name, tuple(step for step in whole.steps if step.name in LAKE_STEPS))

        def sink(event: Event) -> None:
            if isinstance(event, StepFinished) and not event.cached:
                done.add(event.step)

        where = {"lake": self.lake_url, "base": str(self.base)}
        with closing(open_store(self.home.database_url)) as store:
            runner = Runner(store, self.home.artifacts, sink=sink, resources=where)
            result = runner.run(runner.submit(flow))
        assert result.status == "finished", result.error
        return done, result

    def ids(self, word: str) -> list[str]:
        _, found = list_documents(self.home, self.name, dropped=False, reason=None, limit=100)
        return [line.id for line in found if word in line.source]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "documents").mkdir()
    for tool in TOOLS:
        (tmp_path / "documents" / f"{tool}.md").write_text(text(tool))
    home = Home(tmp_path / "state")
    return Place(tmp_path, home, home.lake_url)


def test_a_touched_file_is_read_again_and_nothing_else_runs(place: Place) -> None:
    ran, first = place.run()
    assert ran == LAKE_STEPS
    os.utime(place.base / "documents" / "anvil.md", (1, 1))
    ran, second = place.run()
    assert ran == {"ingest"}
    assert second.artifacts["ingest"].key != first.artifacts["ingest"].key
    assert second.artifacts["pairs"].digest == first.artifacts["pairs"].digest
    (place.base / "documents" / "anvil.md").write_text(text("anvil", "forging"))
    ran, third = place.run()
    assert ran == LAKE_STEPS
    assert third.artifacts["pairs"].digest != first.artifacts["pairs"].digest
    lake = open_lake(place.lake_url)
    for result, use in ((first, "work"), (third, "forging")):  # time travel: each artifact opens its own rows
        rows = lake.get_documents("tools.documents", version=rows_tag(result.artifacts["ingest"].key))
        assert any(f"used for {use}" in document.text for document in rows if "anvil" in document.source)


def test_the_lineage_names_tags_that_open_the_rows(place: Place) -> None:
    _, result = place.run()
    lake = open_lake(place.lake_url)
    for step in LAKE_STEPS:
        artifact = result.artifacts[step]
        table, tag = what(step, artifact, {}).partition(",")[0].split(" tagged ")
        assert lake.digest(table, version=tag) == artifact.meta["rows"]


def test_the_digest_of_documents_tells_what_their_ids_do_not(place: Place) -> None:
    place.run()
    lake, table = open_lake(place.lake_url), "tools.documents"
    before, documents = lake.digest(table), list(lake.get_documents(table))
    for change in ({"title": "other"}, {"dropped": "empty"}, {"meta": {"kind": "other"}}, {"group": "other"}):
        lake.put_documents(table, [documents[0].model_copy(update=change), *documents[1:]])
        assert lake.digest(table) != before, change
    lake.put_documents(table, documents[::-1])
    assert lake.digest(table) != before
    lake.put_documents(table, documents)
    assert lake.digest(table) == before


def test_after_an_erasure_all_that_depended_on_the_document_runs_again(place: Place) -> None:
    _, before = place.run()
    erase_documents(place.home, place.ids("anvil"))
    ran, after = place.run()
    assert ran == LAKE_STEPS
    assert after.artifacts["pairs"].digest != before.artifacts["pairs"].digest
    lake = open_lake(place.lake_url)
    assert not any("anvil" in row["answer"] for row in lake.get("tools.examples"))
    assert place.run()[0] == set()


def test_an_erasure_by_another_factory_of_the_home_changes_nothing_here(place: Place) -> None:
    _, before = place.run()
    lake = open_lake(place.lake_url)
    lake.put_documents("other.documents", [next(lake.get_documents("tools.documents")).model_copy(update={"id": "z"})])
    erase_documents(place.home, ["z"])
    ran, after = place.run()
    assert ran == {"ingest"}
    assert after.artifacts["curate"].digest == before.artifacts["curate"].digest


def test_what_an_erasure_took_along_is_made_again_when_it_is_needed(place: Place) -> None:
    """The rows of an earlier curation hold nothing that was erased, but their version ended with the others."""
    (place.base / "documents" / "secret.md").write_text(text("secret"))
    place.run()
    secret = place.ids("secret")
    (place.base / "documents" / "secret.md").unlink()
    _, plain = place.run()
    strict = replace(place, curate=CurateConfig(min_characters=100))
    strict.run()
    erase_documents(place.home, secret)
    ran, again = place.run()
    assert ran == LAKE_STEPS, "their tables lost versions"
    assert again.artifacts["pairs"].digest == plain.artifacts["pairs"].digest
    lake = open_lake(place.lake_url)
    for step, table in (("ingest", "documents"), ("curate", "curated"), ("pairs", "examples")):
        tag = rows_tag(again.artifacts[step].key)
        assert lake.digest(f"tools.{table}", version=tag) == again.artifacts[step].meta["rows"]


def test_a_lake_in_an_object_store_is_found_by_every_verb(place: Place, tmp_path: Path) -> None:
    url = f"file-object-store://{tmp_path}/bucket"
    config = FactoryConfig(name="tools", sources=(FolderSource(path="documents"),), lake_url=url)
    factory = Factory(config, place.base, place.home)
    assert factory.lake_url == url
    place.home.use_lake("tools", url)
    far = replace(place, lake_url=url)
    ran, result = far.run()
    assert ran == LAKE_STEPS
    assert not Path(place.home.lake_url).exists()
    made = result.artifacts["curate"]
    (tmp_path / "verdict.json").write_text(Verdict(passed=True, outcomes=()).model_dump_json())
    more = {"compile": made, "gate": made.model_copy(update={"path": str(tmp_path)})}
    done = Finished("tools", result.run, 0.0, 1.0, {**result.artifacts, **more}, {}, {}, (), url, PriceBook())
    factory._deploy(done, factory.products())
    (deployment,) = place.home.deployments()
    assert deployment.lake == url
    search = open_search(url, deployment, RetrievalConfig())
    assert "anvil" in search("What is an anvil?")[0]
    assert erase_documents(place.home, far.ids("anvil"))["tools.curated"] == 1
    (deployment,) = place.home.deployments()
    assert open_lake(url).history("tools.curated")[-1].version == deployment.table_version
    assert not any("anvil" in page for page in open_search(url, deployment, RetrievalConfig())("What is an anvil?"))
    assert set(compact_lake(place.home)) == {f"{url}/tools.{table}" for table in ("documents", "curated", "examples")}


def test_another_lake_makes_the_tables_again_and_the_earlier_one_is_still_erased(place: Place, tmp_path: Path) -> None:
    _, near = place.run()
    url = f"file-object-store://{tmp_path}/bucket"
    place.home.use_lake("tools", url)
    far = replace(place, lake_url=url)
    ran, moved = far.run()
    assert ran == LAKE_STEPS
    assert moved.artifacts["pairs"].digest == near.artifacts["pairs"].digest, "the same rows, so nothing trains again"
    assert place.home.lakes() == [place.home.lake_url, url]
    (anvil,) = far.ids("anvil")
    assert erase_documents(place.home, [anvil])["tools.documents"] == 2
    for lake in map(open_lake, place.home.lakes()):
        assert anvil not in {document.id for document in lake.get_documents("tools.documents")}
    place.home.use_lake("tools", place.home.lake_url)
    assert place.home.lake_of("tools") == place.home.lake_url
    assert set(place.home.lakes()) == {place.home.lake_url, url}


@pytest.mark.parametrize("bad", ["s3:/bucket/lake", "s3://", "ftp://host/lake"])
def test_a_bad_url_ends_a_run_before_it_begins(place: Place, bad: str) -> None:
    config = FactoryConfig(name="tools", sources=(FolderSource(path="documents"),), lake_url=bad)
    with pytest.raises(ConfigError, match="the lake '"):
        Factory(config, place.base, place.home).run()
    assert place.home.lakes() == [place.home.lake_url]


def test_a_relative_lake_lies_beside_the_declaration(place: Place) -> None:
    config = FactoryConfig(name="tools", sources=(FolderSource(path="documents"),), lake_url="../lake")
    assert Factory(config, place.base, place.home).lake_url == str(place.base / "../lake")
