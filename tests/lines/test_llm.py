"""The language model's line on a person's own folder, end to end, with the packaged base model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

from bessemer.core.nouns import EnergyClass
from bessemer.lake import open_lake
from bessemer.meter import open_ledger
from bessemer.products.home import Home
from bessemer.products.llm.config import RetrievalConfig
from bessemer.products.llm.serving import open_search
from bessemer.products.receipt import Receipt

from .conftest import GATE, Line, Ran

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
    assert not strict.verdict.passed
    assert line.json("status")["deployments"] == deployed


def test_a_dropped_document_is_listed_with_its_reason(line: Line, receipt: Receipt) -> None:
    assert receipt.llm
    listed = line.json("documents", "tools", "--dropped")["documents"]
    assert {Path(d["source"]).name for d in listed if d["dropped"].startswith("binary")} == {"photo.md"}
    assert len(listed) == sum(receipt.llm.documents.dropped.values())


def test_training_that_is_killed_goes_on_and_gives_the_same_weights(line: Line, receipt: Receipt, ran: Ran) -> None:
    """Kill the whole process group with SIGKILL after the first checkpoint, run again, compare with a run in peace."""
    train = "  train: {max_tokens: 3000, batch_tokens: 512, checkpoint_steps: 1, seed: 7}\n"
    killed = line.declare("killed", train=train)
    checkpoints = line.home / "artifacts" / "checkpoints"
    process = subprocess.Popen(
        killed.command("run", str(killed.factory)),
        env=killed.environment,
        cwd=killed.factory.parent,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not any(checkpoints.glob("*/*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert any(checkpoints.glob("*/*")), "it was killed before its first checkpoint, or after its last"
    resumed = killed.run()
    assert ran(resumed) == DOWN_FROM_TRAIN
    with closing(open_ledger(line.home / "books")) as ledger:
        lost = [e for e in ledger.entries(run=resumed.run) if (e.subject.name, e.status) == ("train", "error")]
    assert [e.measurement.energy_class for e in lost] == [EnergyClass.ASSUMED], "what the killed attempt took is booked"
    assert bill_of(resumed, "train") == sum(e.measurement.joules for e in lost) + made_with(line, resumed, "train")
    resumed_weights = weights(killed, resumed)
    assert resumed_weights != weights(line, receipt)

    forget(killed, resumed)
    peaceful = killed.run()
    assert "train" in ran(peaceful)
    assert weights(killed, peaceful) == resumed_weights
    assert bill_of(peaceful, "train") == made_with(line, peaceful, "train"), "the newest of two with one key"


def test_a_lake_that_was_deleted_by_hand_is_filled_again(line: Line, ran: Ran) -> None:
    shutil.rmtree(line.home / "lake")
    again = line.run()
    assert ran(again) == {"ingest", "curate", "pairs", "evaluate_base", "evaluate", "gate"}, (
        "the models are still there"
    )
    assert again.answers


def bill_of(receipt: Receipt, step: str) -> float:
    """Return the joules that a receipt tells of a step."""
    found = next(stage.bill for stage in receipt.stages if stage.step == step)
    assert found is not None
    return found.measurement.joules


def made_with(line: Line, receipt: Receipt, step: str) -> float:
    """Return the joules that the ledger has for the attempt of a run that published a step."""
    with closing(open_ledger(line.home / "books")) as ledger:
        (entry,) = (e for e in ledger.entries(run=receipt.run) if (e.subject.name, e.status) == (step, "ok"))
    return entry.measurement.joules


def weights(line: Line, receipt: Receipt) -> str:
    """Return the digest of the adapter that a run trained."""
    key = next(link.key for link in receipt.lineage if link.step == "train")
    found = [*(line.home / "artifacts" / "published").glob(f"{key}-*/adapter/adapter_model.safetensors")]
    assert len(found) == 1
    return hashlib.sha256(found[0].read_bytes()).hexdigest()


def forget(line: Line, receipt: Receipt) -> None:
    """Damage the result of training, so that the next run does it again."""
    key = next(link.key for link in receipt.lineage if link.step == "train")
    for path in (line.home / "artifacts" / "published").glob(f"{key}-*/adapter/adapter_model.safetensors"):
        path.unlink()


def test_erasing_a_document_takes_it_out_of_the_next_model(line: Line, receipt: Receipt, ran: Ran) -> None:
    listed = line.json("documents", "tools", "--limit", "100")["documents"]
    of_file = [d["id"] for d in listed if "anvil" in d["source"] and not d["dropped"]]
    passage = next(name for name in of_file if "struck with a hammer" in text_of(line, name))
    assert len(of_file) > 1, "the other passages of its file stay, and examples of theirs may have quoted it"
    home = Home(line.home)
    searches = [open_search(home.lake_url, home.deployments()[0], RetrievalConfig(passages=3))]
    assert any("struck with a hammer" in page for page in searches[0]("What is an anvil?"))
    assert holding(line, "struck with a hammer"), "this test would find nothing to erase"
    assert line.json("erase", passage)
    searches.append(open_search(home.lake_url, home.deployments()[0], RetrievalConfig(passages=3)))
    for search in searches:  # the one that was open, and one of a gateway that starts now
        assert search("What is a lantern?")
        assert not any("struck with a hammer" in page for page in search("What is an anvil?"))
    assert not holding(line, "struck with a hammer")
    after = line.run()
    assert ran(after) >= {"ingest", "curate", "pairs"} | DOWN_FROM_TRAIN
    assert after.documents.dropped["erased"] == 1
    assert not holding(line, "struck with a hammer")


def test_erasing_a_document_takes_it_out_of_evaluations_and_receipts(line: Line) -> None:
    before = line.run()
    assert before.llm
    answers = before.llm.answers
    quoted = max(answers, key=lambda answer: len(answer.reference))
    kinds = {path.relative_to(line.home).parts[0] for path in holding(line, quoted.reference)}
    assert {"lake", "runs"} <= kinds, "this test would find nothing to erase"
    erased = quoted.document_ids[0]
    assert line.json("erase", erased)
    assert not holding(line, quoted.reference)
    left = line.json("receipt", before.run)["products"][0]["answers"]
    assert left == [a.model_dump(mode="json") for a in answers if erased not in a.document_ids]


def text_of(line: Line, name: str) -> str:
    """Return the text of one of the line's documents."""
    lake = open_lake(Home(line.home).lake_url)
    return next(d.text for d in lake.get_documents("tools.curated") if d.id == name)


def holding(line: Line, text: str) -> list[Path]:
    """Return the files of a home in which a text stands."""
    files = [path for path in line.home.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]
