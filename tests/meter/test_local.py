"""The meter as others use it: start, stop, steps, threads, and what happens when things go wrong."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bessemer.core.errors import BackendError, ConfigError, Conflict, NotFound
from bessemer.core.nouns import Boundary, EnergyClass, Subject, Usage
from bessemer.core.protocols import Following, Meter
from bessemer.core.units import Money
from bessemer.meter import LocalMeter, MeterConfig, StepCost, mispriced, open_ledger, open_meter
from bessemer.meter.unfinished import Note, so_far

from .conftest import Machine, request_subject

QUIET = MeterConfig(sample_seconds=60)


def test_it_is_a_meter_and_an_answer_leaves_an_entry(machine: Machine, tmp_path: Path) -> None:
    config = MeterConfig(region="FR", power_usage_effectiveness=1.5, sample_seconds=60)
    with open_meter(config, tmp_path, clock=lambda: 1000.0, paths=machine.paths) as meter:
        assert isinstance(meter, Meter)
        handle = meter.start(request_subject("r1", key_id="k"))
        time.sleep(0.05)
        entry = meter.stop(handle, Usage(input_tokens=1_000_000, output_tokens=1_000_000))
        model = meter._model
    assert entry.started_at == 1000.0
    assert entry.subject.key_id == "k"
    found = entry.measurement
    assert found.seconds >= 0.05
    watts = model.idle_watts.value + model.memory_watts.value
    assert watts * 0.05 <= found.joules <= watts * found.seconds
    assert 0 < found.joules_low < found.joules < found.joules_high
    assert (found.energy_class, found.boundary) == (EnergyClass.MODELLED, Boundary.HOST)
    assert entry.charge == Money(micros=500_000)
    assert entry.price_version.startswith("example-1@") and entry.price_version.endswith(" default")
    assert entry.carbon.grid == "FR"
    assert entry.carbon.grams == pytest.approx(found.joules / 3.6e6 * 1.5 * 56.04)
    ledger = open_ledger(tmp_path)
    assert ledger.entries() == [entry]
    assert mispriced(ledger.entries(), meter.prices) == []


def test_a_charge_that_was_altered_is_an_alarm(machine: Machine, tmp_path: Path) -> None:
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        good = meter.stop(meter.start(request_subject("a")), Usage(input_tokens=10**6))
        bad = good.model_copy(update={"charge": Money(micros=1)})
        assert mispriced([good, bad], meter.prices) == [bad]


@pytest.mark.parametrize("seed", range(5))
def test_joules_attributed_and_idle_are_the_meter(machine: Machine, tmp_path: Path, seed: int) -> None:
    counter = machine.add_package(0)
    chance = random.Random(seed)
    energy = 0
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        spans: list[str] = []
        booked = 0
        for number in range(60):
            energy += chance.randrange(0, 1_000_000)
            counter.write_text(str(energy))
            if not spans or chance.random() < 0.5:
                spans.append(meter.start(request_subject(f"r{number}")))
            else:
                entry = meter.stop(spans.pop(chance.randrange(len(spans))), Usage())
                booked += round(entry.measurement.joules * 1e6)
        for span in spans:
            booked += round(meter.stop(span, Usage()).measurement.joules * 1e6)
        books = meter.books()
    assert books.meter.measured == energy
    assert books.attributed + books.idle == books.meter
    assert booked == books.attributed.total
    assert round(open_ledger(tmp_path).totals()[0].joules.value * 1e6) == booked


def test_threads_share_and_nothing_is_lost(machine: Machine, tmp_path: Path) -> None:
    with open_meter(MeterConfig(sample_seconds=0.05), tmp_path, paths=machine.paths) as meter:
        entries = _in_threads(meter, threads=8, each=20)
        books = meter.books()
    assert books.attributed + books.idle == books.meter
    assert sum(round(entry.measurement.joules * 1e6) for entry in entries) == books.attributed.total
    total = open_ledger(tmp_path).totals()[0]
    assert (total.entries, total.usage.output_tokens) == (160, 160)
    assert total.charge.micros == sum(entry.charge.micros for entry in entries)


def _in_threads(meter: LocalMeter, threads: int, each: int) -> list:  # type: ignore[type-arg]
    entries = []

    def work(name: int) -> None:
        for number in range(each):
            handle = meter.start(request_subject(f"{name}-{number}"))
            entries.append(meter.stop(handle, Usage(input_tokens=50, output_tokens=1)))

    running = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return entries


def test_stopping_twice_or_an_unknown_handle_is_refused(machine: Machine, tmp_path: Path) -> None:
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        handle = meter.start(request_subject("a"))
        with pytest.raises(Conflict, match="is being metered already"):
            meter.start(request_subject("a"))
        meter.stop(handle, Usage())
        with pytest.raises(Conflict, match="stopped before"):
            meter.stop(handle, Usage())
        with pytest.raises(NotFound, match="no span"):
            meter.stop("nonsense", Usage())
    assert open_ledger(tmp_path).totals()[0].entries == 1


def test_two_threads_that_stop_one_span_book_it_once(machine: Machine, tmp_path: Path) -> None:
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        handle = meter.start(request_subject("a"))
        results: list[object] = []

        def stop() -> None:
            try:
                results.append(meter.stop(handle, Usage()))
            except Conflict as error:
                results.append(error)

        threads = [threading.Thread(target=stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(isinstance(result, Conflict) for result in results) == 3


def test_usage_that_does_not_add_up_leaves_the_span_open(machine: Machine, tmp_path: Path) -> None:
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        handle = meter.start(request_subject("a"))
        with pytest.raises(ConfigError):
            meter.stop(handle, Usage(cached_tokens=3))
        assert meter.stop(handle, Usage(input_tokens=3, cached_tokens=3)).status == "ok"


def test_a_booking_that_the_disk_refused_can_be_repeated(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        handle = meter.start(request_subject("a"))
        real: Callable[[object], object] = meter._journal.append

        def refuse(_: object) -> None:
            raise BackendError("disk full")

        monkeypatch.setattr(meter._journal, "append", refuse)
        with pytest.raises(BackendError):
            meter.stop(handle, Usage(output_tokens=9))
        step = Subject(kind="step", id="s")
        with pytest.raises(BackendError):
            meter.book_step(step, time.time(), 0.1, 0.1)
        monkeypatch.setattr(meter._journal, "append", real)
        entry = meter.stop(handle, Usage())  # what was counted first is booked
        assert entry.usage.output_tokens == 9
        meter.book_step(step, time.time(), 0.1, 0.1)
        books = meter.books()
    ledger = open_ledger(tmp_path)
    assert sum(total.entries for total in ledger.totals()) == 2
    assert round(ledger.totals()[0].joules.value * 1e6) == books.attributed.total


def test_a_request_that_failed_is_booked_and_not_charged(machine: Machine, tmp_path: Path) -> None:
    usage = Usage(input_tokens=10**6, output_tokens=10**6)
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        good, failed, left = (
            meter.stop(meter.start(request_subject(status)), usage, status)  # type: ignore[arg-type]
            for status in ("ok", "error", "cancelled")
        )
    assert failed.charge == Money() != good.charge == left.charge
    assert failed.usage == usage and failed.measurement.joules > 0
    assert failed.price_version == good.price_version
    assert mispriced(open_ledger(tmp_path).entries(), meter.prices) == []
    charged = failed.model_copy(update={"charge": good.charge})
    assert mispriced([charged], meter.prices) == [charged]


class FullDisk:
    """Refuses what a journal appends, until there is room."""

    def __init__(self, meter: LocalMeter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = False
        real = meter._journal.append

        def append(body: object) -> object:
            if not self.room:
                raise BackendError("disk full")
            return real(body)  # type: ignore[arg-type]

        monkeypatch.setattr(meter._journal, "append", append)


def test_an_answer_that_could_not_be_booked_is_booked_as_the_failure_that_it_became(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        disk = FullDisk(meter, monkeypatch)
        handle = meter.start(request_subject("a"))
        with pytest.raises(BackendError):
            meter.stop(handle, Usage(output_tokens=10**6))
        disk.room = True
        entry = meter.stop(handle, Usage(), "error")
    assert (entry.status, entry.usage.output_tokens, entry.charge) == ("error", 10**6, Money())
    assert open_ledger(tmp_path).entries() == [entry]


def test_what_the_disk_refused_is_booked_at_the_end(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        disk = FullDisk(meter, monkeypatch)
        for name in ("a", "b"):
            with pytest.raises(BackendError):
                meter.stop(meter.start(request_subject(name)), Usage(output_tokens=9), "error")
        disk.room = True
    assert {entry.id for entry in open_ledger(tmp_path).entries()} == {"request:a", "request:b"}


def test_what_the_disk_refuses_to_the_end_is_named(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = open_meter(QUIET, tmp_path, paths=machine.paths)
    FullDisk(meter, monkeypatch)
    for name in ("a", "b"):
        with pytest.raises(BackendError):
            meter.stop(meter.start(request_subject(name)), Usage(output_tokens=10**6))
    with pytest.raises(BackendError, match=r"2 entries were never booked.*request:a \(.* J, .*\), request:b"):
        meter.close()
    assert not any(thread.name == "meter-sampler" for thread in threading.enumerate())
    assert open_ledger(tmp_path).entries() == []


def test_the_cost_of_small_requests_adds_up(machine: Machine, tmp_path: Path) -> None:
    counter = machine.add_package(0)
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        costs = []
        for number in range(1, 101):
            handle = meter.start(request_subject(f"r{number}"))
            counter.write_text(str(number * 1_000_000))  # 1 J: 0.033 micro-units at 0.12 USD a kilowatt-hour
            costs.append(meter.stop(handle, Usage()).energy_cost.micros)
    assert sum(costs) == 3  # 100 J cost 3.33; each alone would round to nothing
    assert set(costs) == {0, 1}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_step_after_the_fact_takes_what_nobody_else_has(machine: Machine, tmp_path: Path) -> None:
    counter = machine.add_package(0)
    clock = Clock()
    with open_meter(QUIET, tmp_path, clock=clock, paths=machine.paths) as meter:
        clock.now += 10
        counter.write_text("100000000")
        handle = meter.start(request_subject("r"))
        clock.now += 10
        counter.write_text("150000000")
        meter.stop(handle, Usage())
        step = Subject(kind="step", id="s1", run="run")
        entry = meter.book_step(step, started_at=1005, wall_seconds=15, cpu_seconds=12)
        assert entry.measurement.joules == 50.0  # half of the first ten seconds; the rest belongs to the request
        assert entry.measurement.energy_class is EnergyClass.ATTRIBUTED
        assert entry.measurement.boundary is Boundary.CHIP
        assert entry.charge == Money() and entry.usage == Usage()
        books = meter.books()
    assert books.idle.measured == 50_000_000
    assert books.attributed + books.idle == books.meter


def test_a_modelled_step_takes_what_its_processor_time_explains(machine: Machine, tmp_path: Path) -> None:
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        began = time.time()
        time.sleep(0.1)
        machine.set_busy(40)  # the host worked for 0.4 s, the step for 0.1 s of them
        entry = meter.book_step(Subject(kind="step", id="s"), began, 0.1, 0.1)
        expected = meter._model.energy(0.1, 0.1)
        books = meter.books()
    assert entry.measurement.energy_class is EnergyClass.MODELLED
    assert entry.measurement.joules == pytest.approx(expected.modelled / 1e6, rel=0.25)
    assert books.attributed + books.idle == books.meter
    assert books.idle.modelled > 0


def test_a_step_that_began_before_the_meter_is_modelled_and_says_so(machine: Machine, tmp_path: Path) -> None:
    machine.add_package(0)
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        entry = meter.book_step(Subject(kind="step", id="s"), time.time() - 60, 30, 45)
        expected = meter._model.energy(30, 45)
    assert entry.measurement.joules == expected.modelled / 1e6
    assert entry.measurement.energy_class is EnergyClass.MODELLED
    assert "not running" in entry.measurement.source


STEP = Subject(kind="step", id="run/train/1", name="train", run="run")


def test_a_step_that_nobody_ended_is_booked_when_the_meter_closes(machine: Machine, tmp_path: Path) -> None:
    counter = machine.add_package(0)
    clock = Clock()
    with open_meter(QUIET, tmp_path, clock=clock, paths=machine.paths) as meter:
        clock.now += 10
        counter.write_text("100000000")
        meter.books()
        meter.begin_step(STEP, clock.now)
        clock.now += 10
        counter.write_text("150000000")
    (entry,) = open_ledger(tmp_path).entries()
    found = entry.measurement
    assert (entry.id, entry.status, entry.started_at, found.seconds) == ("step:run/train/1", "cancelled", 1010.0, 10.0)
    assert found.joules == 50.0
    assert found.joules_low <= 50.0 <= found.joules_high < 50.0 * 1.1, "nothing is missing: it was read at the end"
    assert found.energy_class is EnergyClass.ASSUMED


def test_a_step_that_the_disk_refused_to_the_end_is_booked_by_the_next_meter(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = open_meter(QUIET, tmp_path, paths=machine.paths)
    FullDisk(meter, monkeypatch)
    meter.begin_step(STEP, time.time())
    done = Subject(kind="step", id="key/run", name="train", run="run")
    with pytest.raises(BackendError):
        meter.book_step(done, time.time(), 0.1, 0.1)
    with pytest.raises(BackendError, match="step:key/run"):
        meter.close()
    with open_meter(QUIET, tmp_path, paths=machine.paths) as later:
        (entry,) = later.book_killed()
        assert (entry.id, entry.status) == ("step:run/train/1", "error")
        assert later.book_killed() == []
    assert open_ledger(tmp_path).entries() == [entry]


def test_a_note_without_a_reading_says_how_little_is_known(machine: Machine, tmp_path: Path) -> None:
    """Killed at once: between nothing and a second at full load."""
    note = Note(subject=STEP, started_at=5.0, seen_at=5.0, missing_seconds=1.0)
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        _, found = so_far(note, meter._model, Boundary.HOST, "model")
        full = meter._model.energy(1.0, 1.0 * meter._model.threads)
    assert (found.joules, found.joules_low, found.seconds) == (0.0, 0.0, 0.0)
    assert found.joules_high == full.high / 1e6 > 0


def test_notes_that_a_loss_of_power_tore_stop_nobody(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    for name in ("a.json", "a.lock"):
        (tmp_path / "unfinished" / name).write_bytes(b"\0" * 99)
    with open_meter(QUIET, tmp_path, paths=machine.paths) as meter:
        assert meter.book_killed() == []
    assert not list((tmp_path / "unfinished").iterdir())


def test_counters_are_sampled_between_events(machine: Machine, tmp_path: Path) -> None:
    counter = machine.add_package(0, 900, wrap=999)
    with open_meter(MeterConfig(sample_seconds=0.05), tmp_path, paths=machine.paths) as meter:
        for value in (950, 5, 955, 10):  # it wraps twice: seen only because somebody looks in between
            counter.write_text(str(value))
            time.sleep(0.2)
        assert meter.books().meter.measured == 50 + 55 + 950 + 55


@pytest.mark.parametrize("config", [{"region": "Atlantis"}, {"price_book": "/nowhere/price.toml"}])
def test_what_does_not_exist_is_refused_at_once(machine: Machine, tmp_path: Path, config: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        open_meter(MeterConfig(**config), tmp_path / "m", paths=machine.paths)  # type: ignore[arg-type]
    assert not (tmp_path / "m").exists()


def test_joules_go_by_the_work_of_requests_that_are_followed(machine: Machine, tmp_path: Path) -> None:
    """Two are open equally long; one reads and writes ten times as much and has ten times what is not fixed."""
    counter = machine.add_package(0)
    config = MeterConfig(sensors="measured", sample_seconds=60, step_cost=StepCost(attention=0, fixed_watts=0))
    taken = {"small": Usage(input_tokens=60, output_tokens=40), "large": Usage(input_tokens=600, output_tokens=400)}
    progress = dict.fromkeys(taken, Usage())
    entries = {}
    with open_meter(config, tmp_path, paths=machine.paths) as meter:
        assert isinstance(meter, Following)
        handles = {name: meter.start(request_subject(name)) for name in taken}
        for name, handle in handles.items():
            meter.follow(handle, lambda name=name: progress[name])
        progress.update(taken)
        counter.write_text("11000000")
        for name, handle in handles.items():
            entries[name] = meter.stop(handle, taken[name])
        books = meter.books()
    assert {name: entry.measurement.joules for name, entry in entries.items()} == {"small": 1.0, "large": 10.0}
    assert books.attributed + books.idle == books.meter
    assert books.attributed.total == 11_000_000
