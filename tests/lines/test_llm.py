"""The language model's line on a person's own folder, end to end, with the packaged base model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from bessemer.core.nouns import EnergyClass, Example
from bessemer.flow.attempt import FolderCheckpoints
from bessemer.lake import open_lake
from bessemer.meter import open_ledger
from bessemer.products.config import load_factory
from bessemer.products.home import Home
from bessemer.products.llm.config import RetrievalConfig
from bessemer.products.llm.serving import open_search
from bessemer.products.receipt import Receipt
from bessemer.products.rows import rows_tag
from bessemer.train import LoraTrainer

from .conftest import GATE, Line, Ran

SECRET = "struck with a hammer"
"""What a document says that is erased."""
DOWN_FROM_TRAIN = {"train", "merge", "compile", "evaluate", "gate", "speed"}


def test_the_receipt_says_what_went_in_and_what_came_out(line: Line, receipt: Receipt) -> None:
    assert receipt.llm
    documents, llm = receipt.llm.documents, receipt.llm
    assert documents.documents == documents.kept + sum(documents.dropped.values())
    assert {"binary", "duplicate"} <= set(documents.dropped)
    assert documents.examples_train > 0
    stages = [stage.step for stage in receipt.stages]
    assert stages.index("evaluate_base") < stages.index("train"), "a base that cannot be served fails before training"
    assert documents.groups_heldout > 0
    assert llm.training.tokens > 0
    assert len(llm.training.curve) == llm.training.steps
    assert {m.metric for m in llm.metrics} == {"exact_match", "token_f1", "bits_per_byte"}
    assert all(m.after_low <= m.after <= m.after_high for m in llm.metrics)
    (bits,) = (m for m in llm.metrics if m.metric == "bits_per_byte")
    assert bits.after < bits.before, "even a few steps teach the default base something"
    assert receipt.deployed
    assert [s.streams for s in llm.speed.lines] == [1, 4]
    folder = line.home / "runs" / receipt.run
    assert Receipt.model_validate_json((folder / "receipt.json").read_text()) == receipt
    assert "token_f1" in (folder / "receipt.html").read_text()


def test_every_stage_has_joules_grams_and_money_with_provenance(receipt: Receipt) -> None:
    for stage in receipt.stages:
        assert stage.bill is not None, stage.step
        measured = stage.bill.measurement
        assert 0 < measured.joules_low <= measured.joules <= measured.joules_high
        assert measured.energy_class in EnergyClass
        assert measured.source
        assert stage.bill.carbon.source
    assert receipt.total is not None
    assert receipt.total.measurement.joules == sum(s.bill.measurement.joules for s in receipt.stages if s.bill)
    assert receipt.llm and receipt.llm.serving
    assert receipt.llm.serving.per_1000_tokens.measurement.joules > 0
    assert receipt.llm.serving.charge.micros > 0


def test_what_was_predicted_of_a_run_is_kept_beside_it(line: Line, receipt: Receipt) -> None:
    folder = line.home / "runs" / receipt.run
    kept = json.loads((folder / "reconciliation.json").read_text())
    known = json.loads((folder / "amounts.json").read_text())
    assert {stage["stage"] for stage in kept["stages"]} == {stage.step for stage in receipt.stages}
    assert all(stage["amount"] == known.get(stage["stage"], 1.0) for stage in kept["stages"])
    assert all(stage["actual_seconds"] > 0 and stage["actual_joules"] > 0 for stage in kept["stages"])
    assert line.json("reconcile", receipt.run)["stages"] == kept["stages"]


def test_the_lineage_leads_from_the_served_model_to_the_sources(receipt: Receipt) -> None:
    links = {link.key: link for link in receipt.lineage}
    served, seen = receipt.lineage[0], set()
    assert served.step == "compile"
    waiting = [served.key]
    while waiting:
        key = waiting.pop()
        seen.add(links[key].step)
        waiting += links[key].made_from
    assert {"compile", "merge", "train", "base", "pairs", "curate", "ingest"} == seen
    ingest = next(link for link in receipt.lineage if link.step == "ingest")
    assert "documents" in ingest.what


def test_held_out_groups_are_in_no_training_example(line: Line, receipt: Receipt) -> None:
    from bessemer.lake import open_lake

    rows = open_lake(str(line.home / "lake")).get("tools.examples")
    groups = {split: {row["group"] for row in rows if row["split"] == split} for split in ("train", "heldout")}
    assert groups["train"]
    assert groups["heldout"]
    assert not groups["train"] & groups["heldout"]


def test_a_second_run_finds_everything_in_the_cache(line: Line, receipt: Receipt, ran: Ran) -> None:
    again = line.run()
    assert ran(again) == set()
    assert again.llm and receipt.llm and again.llm.metrics == receipt.llm.metrics
    assert [s.bill for s in again.stages] == [s.bill for s in receipt.stages]


def test_a_touched_document_trains_nothing(line: Line, receipt: Receipt, ran: Ran) -> None:
    os.utime(line.factory.parent / "documents" / "valve.md")
    again = line.run()
    assert ran(again) == {"ingest"}
    assert again.deployed
    assert again.llm and receipt.llm and again.llm.metrics == receipt.llm.metrics


def test_a_changed_gate_runs_the_gate_alone_and_a_failed_one_keeps_what_is_deployed(
    line: Line, receipt: Receipt, ran: Ran
) -> None:
    deployed = line.json("status")["deployments"]
    strict = line.declare("strict", gate=GATE.replace("0.0", "1.0")).run(status=3)
    assert ran(strict) == {"gate"}
    assert not strict.deployed
    assert not all(outcome.passed for outcome in strict.outcomes)
    assert line.json("status")["deployments"] == deployed


def test_a_dropped_document_is_listed_with_its_reason(line: Line, receipt: Receipt) -> None:
    assert receipt.llm
    listed = line.json("documents", "tools", "--dropped")["documents"]
    assert {Path(d["source"]).name for d in listed if d["dropped"].startswith("binary")} == {"photo.md"}
    assert len(listed) == sum(receipt.llm.documents.dropped.values())
    shown = line.call("documents", "tools", "--dropped").stdout
    assert all(d["id"][:12] in shown for d in listed), "ids are there to be erased by"


def test_a_lake_that_was_deleted_by_hand_is_filled_again(line: Line, ran: Ran) -> None:
    shutil.rmtree(line.home / "lake")
    again = line.run()
    assert ran(again) == {"ingest", "curate", "pairs", "evaluate_base", "evaluate", "gate"}, (
        "the models are still there"
    )
    assert again.llm and again.llm.answers


def disk(line: Line) -> int:
    """Return the bytes of a home."""
    return sum(path.stat().st_size for path in line.home.rglob("*") if path.is_file())


def weights(line: Line, receipt: Receipt) -> str:
    """Return the digest of the adapter that a run trained."""
    key = next(link.key for link in receipt.lineage if link.step == "train")
    (found,) = (line.home / "artifacts" / "published").glob(f"{key}-*/adapter/adapter_model.safetensors")
    return hashlib.sha256(found.read_bytes()).hexdigest()


def test_erased_documents_are_gone_from_tables_and_receipts(line: Line, receipt: Receipt) -> None:
    listed = line.json("documents", "tools", "--limit", "100")["documents"]
    of_file = [d["id"] for d in listed if "anvil" in d["source"] and not d["dropped"]]
    passage = next(name for name in of_file if SECRET in text_of(line, name))
    assert len(of_file) > 1, "the other passages of its file stay, and examples of theirs may have quoted it"
    before = line.run()
    assert before.llm
    answers = before.llm.answers
    quoted = max(answers, key=lambda answer: len(answer.reference))
    erased = {passage, quoted.document_ids[0]}
    assert {path.relative_to(line.home).parts[0] for path in holding(line, quoted.reference)} >= {"lake", "runs"}
    assert holding(line, SECRET), "this test would find nothing to erase"
    home = Home(line.home)
    searches = [open_search(home.lake_url, home.deployments()[0], RetrievalConfig(passages=3))]
    assert any(SECRET in page for page in searches[0]("What is an anvil?"))

    assert line.json("erase", *erased)
    searches.append(open_search(home.lake_url, home.deployments()[0], RetrievalConfig(passages=3)))
    for search in searches:  # the one that was open, and one of a gateway that starts now
        assert search("What is a lantern?")
        assert not any(SECRET in page for page in search("What is an anvil?"))
    assert not holding(line, SECRET)
    assert not holding(line, quoted.reference)
    left = line.json("receipt", before.run)["products"][0]["answers"]
    assert left == [a.model_dump(mode="json") for a in answers if erased.isdisjoint(a.document_ids)]


def test_the_next_model_is_made_without_them_and_the_same_however_often_it_is_stopped(
    line: Line, receipt: Receipt, ran: Ran, tmp_path: Path
) -> None:
    """Stop the run with Ctrl-C, kill it with SIGKILL, both in the middle of training, and compare the weights."""
    before = weights(line, receipt)
    with under_way(line, "1-2") as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "`bessemer run` goes on where it was" in said
    with under_way(line, "2-1") as process:
        os.killpg(process.pid, signal.SIGKILL)
    after = line.run()
    assert ran(after) == DOWN_FROM_TRAIN
    assert after.llm and after.llm.documents.dropped["erased"] == 2
    assert not holding(line, SECRET)

    with closing(open_ledger(line.home / "books")) as ledger:
        attempts = [e for e in ledger.entries(run=after.run) if e.subject.name == "train"]
    assert sorted(e.status for e in attempts) == ["cancelled", "error", "ok"], "what lost attempts took is booked"
    killed = next(e for e in attempts if e.status == "error")
    assert killed.measurement.energy_class is EnergyClass.ASSUMED
    (stage,) = (stage for stage in after.stages if stage.step == "train")
    assert stage.lost_attempts == 2
    assert stage.bill is not None
    assert stage.bill.measurement.joules == pytest.approx(sum(e.measurement.joules for e in attempts))

    made = weights(line, after)
    assert made != before
    assert made == weights_in_peace(line, after, tmp_path)


@contextmanager
def under_way(line: Line, checkpoint: str) -> Iterator[subprocess.Popen[str]]:
    """Give a run, in a process group of its own, that has just kept a checkpoint: the fence, and its number."""
    process = subprocess.Popen(
        line.command("run", str(line.factory)),
        env=line.environment,
        cwd=line.factory.parent,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            deadline = time.monotonic() + 300
            while not any((line.home / "artifacts" / "checkpoints").glob(f"*/{checkpoint}")):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def weights_in_peace(line: Line, receipt: Receipt, folder: Path) -> str:
    """Return the digest of the adapter that the same examples give in one go."""
    config, _ = load_factory(line.factory)
    assert config.llm and receipt.llm
    settings = config.llm.train.model_copy(update={"precision": receipt.llm.training.precision})  # it was timed
    keys = {link.step: link.key for link in receipt.lineage}
    rows = open_lake(Home(line.home).lake_url).get("tools.examples", version=rows_tag(keys["pairs"]))
    (base,) = (line.home / "artifacts" / "published").glob(f"{keys['base']}-*/model")
    checkpoints = FolderCheckpoints(folder / "kept", folder / "scratch", 1, lambda: None)
    LoraTrainer(settings).train(base, [Example.model_validate(row) for row in rows], folder / "adapter", checkpoints)
    return hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_what_nothing_needs_any_more_is_pruned_and_the_last_run_is_found_whole(
    line: Line, receipt: Receipt, ran: Ran
) -> None:
    last = line.run()
    before = disk(line)
    promised = line.json("prune", "--dry-run")
    assert disk(line) == before
    assert line.json("prune") == promised
    assert promised["results"].keys() >= {"train", "merge", "compile"}, "of the model before the erasure"
    assert promised["freed_bytes"] > 400e6, "a merged model and a compiled one"
    assert abs(before - disk(line) - promised["freed_bytes"]) < 10e6
    again = line.run()
    assert ran(again) == set()
    assert again.products == last.products


def text_of(line: Line, name: str) -> str:
    """Return the text of one of the line's documents."""
    lake = open_lake(Home(line.home).lake_url)
    return next(d.text for d in lake.get_documents("tools.curated") if d.id == name)


def holding(line: Line, text: str) -> list[Path]:
    """Return the files of a home in which a text stands."""
    files = [path for path in line.home.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]
