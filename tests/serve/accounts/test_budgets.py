"""A hard budget is never exceeded and nothing stays reserved for ever, over workers, crashes and any order."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.core.errors import BackendError, ConfigError, NotFound
from bessemer.core.units import Money
from bessemer.serve import Accounts, Worker, open_accounts
from bessemer.serve.accounts.audit import AuditFilter
from bessemer.serve.accounts.budgets import Budget
from bessemer.serve.accounts.database import Execute
from bessemer.serve.accounts.holding import Holding
from bessemer.serve.accounts.slates import boot
from bessemer.serve.accounts.standing import Permit
from bessemer.serve.accounts.workers import sweep
from bessemer.serve.refusals import Refused

DAY_SECONDS = 86_400.0


class Desk:
    """One worker: its own connection to the accounts, its own lock, its own blocks.

    Attributes:
        fault: what becomes of the next transaction: ``refused``, or done and its answer ``lost``.
    """

    def __init__(self, url: str, folder: Path, now: list[float]) -> None:
        self.now, self.fault = now, ""
        self.accounts = open_accounts(url, lambda: now[0])
        self.database = self.accounts.database
        self.database.clock = lambda: now[0]
        self._writing = self.database.writing
        self.database.writing = self._faulty  # type: ignore[method-assign]
        self.folder = folder
        self.start()

    def start(self) -> None:
        self.worker = Worker(self.folder)
        self.holding = Holding(self.database, self.accounts.budgets, self.worker, lambda: self.now[0])
        self.permits: dict[str, Permit] = {}

    def reserve(self, id: str, budgets: tuple[Budget, ...], micros: int) -> bool:
        standing = self.holding.stand((), budgets, self.now[0])
        try:
            found = self.holding.admit(standing, id, 0, micros) or self.holding.draw(standing, id, (0, micros))
        except (Refused, BackendError):
            return False
        finally:
            self.fault = ""
        if isinstance(found, Permit):
            self.permits[id] = found
        return isinstance(found, Permit)

    def settle(self, id: str, micros: int) -> None:
        self.holding.settle(self.permits.pop(id), micros, 0)

    def tend(self) -> None:
        with suppress(BackendError):
            self.holding.tend()
        self.fault = ""

    def let_go(self) -> None:
        self.holding.let_go()

    def crash(self) -> None:
        """End as a killed process does: the kernel lets go of the lock, and nothing else is tidied."""
        self.worker._lock.close()
        self.start()

    def stop(self) -> None:
        """End as a process does that is asked to."""
        with suppress(BackendError):
            self.holding.close()
        self.fault = ""
        self.worker.close()
        self.start()

    def sweep(self, books: dict[str, int]) -> int:
        def charged(ids: Sequence[str]) -> dict[str, int]:
            return {id: books.get(id, 0) for id in ids}

        with suppress(BackendError):
            return sweep(self.accounts.budgets, self.holding.leases, self.worker, charged)
        self.fault = ""
        return 0

    @contextmanager
    def _faulty(self, durable: bool = True) -> Iterator[Execute]:
        fault, self.fault = self.fault, ""
        if fault == "refused":
            raise BackendError("the database does not answer")
        with self._writing(durable) as execute:
            yield execute
        if fault == "lost":
            raise BackendError("the database did not answer")


@pytest.fixture
def desks(database_url, tmp_path):
    now = [1_000_000.0]
    made = [Desk(database_url, tmp_path / "workers", now) for _ in range(3)]
    yield made
    for desk in made:
        desk.worker.close()
        desk.accounts.close()


@pytest.fixture
def accounts(desks) -> Accounts:
    desks[0].accounts.projects.create("docs")
    return desks[0].accounts


def test_a_reservation_is_settled_to_what_was_charged(desks, accounts) -> None:
    budget = accounts.budgets.set("project", "docs", "total", Money(micros=100))
    assert desks[0].reserve("a", (budget,), 60)
    desks[0].let_go()
    assert not desks[1].reserve("b", (budget,), 41)
    assert desks[1].reserve("b", (budget,), 40)
    assert accounts.budgets.spending(budget).left_micros == 0
    desks[0].settle("a", 10)
    for _ in "ab":
        desks[0].let_go()
        found = accounts.budgets.spending(budget)
        assert (found.spent_micros, found.reserved_micros, found.overrun_micros) == (10, 40, 0)
    desks[1].settle("b", 45)
    desks[1].let_go()
    found = accounts.budgets.spending(budget)
    assert (found.spent_micros, found.reserved_micros, found.overrun_micros) == (55, 0, 5), "an overrun is told"


def test_all_budgets_of_a_request_hold_or_none_is_touched(desks, accounts) -> None:
    key, _ = accounts.keys.create("docs")
    wide = accounts.budgets.set("organization", "", "month", Money(micros=1000))
    narrow = accounts.budgets.set("key", key.id, "day", Money(micros=10))
    assert not desks[0].reserve("a", (wide, narrow), 11)
    assert [accounts.budgets.spending(each).reserved_micros for each in (wide, narrow)] == [0, 0]
    assert desks[0].reserve("a", (wide, narrow), 10)
    rotated, _ = accounts.keys.rotate(key.id)
    (moved,) = accounts.budgets.list("key", rotated.id)
    assert accounts.budgets.spending(moved).reserved_micros == 10, "a new secret is no new budget"


def test_periods_begin_anew_in_utc_and_a_request_counts_to_its_start(desks, accounts) -> None:
    day = accounts.budgets.set("project", "docs", "day", Money(micros=10))
    month = accounts.budgets.set("project", "docs", "month", Money(micros=15))
    desks[0].now[0] = 1_700_000_000.0  # 2023-11-14T22:13:20Z
    assert desks[0].reserve("a", (day, month), 10)
    assert not desks[0].reserve("b", (day, month), 1)
    desks[0].now[0] += 2 * 3600
    assert not desks[0].reserve("b", (day, month), 6), "the month goes on"
    assert desks[0].reserve("b", (day, month), 5)
    desks[0].settle("a", 9)
    desks[0].let_go()
    before, now = (accounts.budgets.spending(day, at) for at in (1_700_000_000.0, desks[0].now[0]))
    assert (before.span, before.spent_micros, now.span, now.spent_micros) == ("2023-11-14", 9, "2023-11-15", 0)
    assert accounts.budgets.spending(month).span == "2023-11"


def test_a_budget_that_only_tells_refuses_nobody_and_tells_once(desks, accounts) -> None:
    budget = accounts.budgets.set("project", "docs", "total", Money(micros=10), enforced=False)
    for name in "abc":
        assert desks[0].reserve(name, (budget,), 8)
        desks[0].settle(name, 8)
        desks[0].let_go()
    assert accounts.budgets.spending(budget).spent_micros == 24
    (event,) = accounts.audit.list(wanted=AuditFilter(acts=["budget.reached"])).items
    assert (event.target, event.project, event.details["spent_micros"]) == (budget.id, "docs", 16)


def test_credit_is_what_was_paid_in(desks, accounts) -> None:
    credit = accounts.budgets.add_credit("project", "docs", Money(micros=10), note="transfer 1")
    assert desks[0].reserve("a", (credit,), 10)
    assert not desks[0].reserve("b", (credit,), 1)
    more = accounts.budgets.add_credit("project", "docs", Money(micros=5))
    assert (more.id, more.limit.micros, more.enforced) == (credit.id, 15, True)
    assert desks[0].reserve("b", (credit,), 5), "what was remembered of the budget is not believed"
    for wrong in (Money(micros=0), Money(micros=-16), Money(micros=5, currency="EUR")):
        with pytest.raises(ConfigError):
            accounts.budgets.add_credit("project", "docs", wrong)
    assert accounts.budgets.list()[0].limit.micros == 15


def test_a_lifted_budget_limits_nothing_and_what_is_under_way_settles(desks, accounts) -> None:
    budget = accounts.budgets.set("project", "docs", "total", Money(micros=10))
    assert desks[0].reserve("a", (budget,), 10)
    accounts.budgets.remove(budget.id)
    assert accounts.budgets.list() == ()
    assert desks[0].reserve("b", (budget,), 99)
    desks[0].settle("a", 3)
    desks[0].let_go()
    assert accounts.budgets.spending(budget).spent_micros == 3
    with pytest.raises(NotFound):
        accounts.budgets.remove(budget.id)


def test_what_cannot_be_a_budget(accounts) -> None:
    for scope, id, error in (("project", "no", NotFound), ("organization", "x", ConfigError), ("key", "", ConfigError)):
        with pytest.raises(error):
            accounts.budgets.set(scope, id, "day", Money(micros=1))
    with pytest.raises(ConfigError):
        accounts.budgets.set("project", "docs", "day", Money(micros=-1))
    accounts.budgets.set("project", "docs", "day", Money(micros=1))
    with pytest.raises(ConfigError, match="EUR"):
        accounts.budgets.set("project", "docs", "day", Money(micros=1, currency="EUR"))


def test_only_dead_workers_of_the_same_books_are_swept(desks, accounts, database_url, tmp_path) -> None:
    budget = accounts.budgets.set("project", "docs", "total", Money(micros=100))
    elsewhere = Desk(database_url, tmp_path / "another host", desks[0].now)
    for desk, name in ((desks[0], "booked"), (desks[0], "unbooked"), (desks[1], "alive"), (elsewhere, "elsewhere")):
        assert desk.reserve(name, (budget,), 10)
        desk.let_go()
    desks[0].crash()
    elsewhere.crash()
    assert desks[2].sweep({"booked": 4, "alive": 9}) == 2
    found = accounts.budgets.spending(budget)
    assert (found.spent_micros, found.reserved_micros) == (4, 20)
    assert desks[2].sweep({"booked": 4}) == 0, "again changes nothing"
    assert elsewhere.sweep({}) == 1
    elsewhere.worker.close()
    elsewhere.accounts.close()


def test_what_the_books_cannot_say_stays_reserved(desks, accounts) -> None:
    budget = accounts.budgets.set("project", "docs", "total", Money(micros=100))
    for name in ("known", "unknown"):
        assert desks[0].reserve(name, (budget,), 10)
    desks[0].let_go()
    desks[0].crash()
    assert sweep(accounts.budgets, desks[1].holding.leases, desks[1].worker, lambda ids: {"known": 1}) == 0
    assert accounts.budgets.spending(budget).reserved_micros == 20
    assert desks[1].sweep({"known": 1, "unknown": 2}) == 2
    assert accounts.budgets.spending(budget).spent_micros == 3


def test_after_a_power_loss_what_was_held_counts_as_spent(desks, accounts) -> None:
    """What a slate says is not believed when the memory that it was written to is gone."""
    budget = accounts.budgets.set("project", "docs", "total", Money(micros=100))
    for name in "ab":
        assert desks[0].reserve(name, (budget,), 10)
    desks[0].let_go()
    desks[0].crash()
    with accounts.database.writing() as execute:
        execute("UPDATE slates SET boot = 'an earlier one'")
    assert desks[1].sweep({"a": 4, "b": 5}) == 2
    state = accounts.budgets.spending(budget)
    assert (state.spent_micros, state.reserved_micros) == (20, 0)
    (event,) = accounts.audit.list(wanted=AuditFilter(acts=["budget.counted_as_spent"])).items
    assert (event.target, event.details["micros"]) == (budget.id, 11)
    assert boot()


def test_workers_share_a_nearly_spent_budget_to_the_last_micro_unit(desks, accounts) -> None:
    budget = accounts.budgets.set("project", "docs", "total", Money(micros=1000))
    done = 0
    for number in range(1000):
        desk = desks[number % 3]
        if desk.reserve(f"r{number}", (budget,), 7):
            desk.settle(f"r{number}", 5)
            done += 1
        desk.now[0] += 0.3
        desk.tend()
    for number in range(10):
        desks[0].now[0] += 2
        for desk in desks:
            desk.tend()
        if desks[2].reserve(f"last{number}", (budget,), 1000 - 5 * done):
            desks[2].settle(f"last{number}", 1000 - 5 * done)
            break
    desks[2].let_go()
    assert done == 199, "as many as one worker alone could let in"
    assert accounts.budgets.spending(budget).spent_micros == 1000


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["admit"] * 8 + ["book"] * 4 + ["settle"] * 4 + ["tend"] * 2 + ["crash", "stop", "sweep", "time", "pause"]
        ),
        st.integers(0, 2),
        st.integers(0, 15),
        st.integers(0, 100),
        st.sampled_from([""] * 6 + ["refused", "lost"]),
    ),
    min_size=30,
    max_size=90,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=STEPS)
def test_no_order_of_things_exceeds_a_budget_or_leaves_anything_reserved(desks, steps) -> None:
    admin = desks[0].accounts
    number = len(admin.projects.list(limit=10_000).items)
    project = admin.projects.create(f"p{number}").id
    budgets = (
        admin.budgets.set("project", project, "total", Money(micros=300)),
        admin.budgets.set("project", project, "day", Money(micros=140)),
    )
    books: dict[str, int] = {}
    begun: dict[str, float] = {}
    under_way: dict[str, tuple[int, int]] = {}  # request -> worker, worst case

    def check() -> None:
        spans: Counter[tuple[str, str]] = Counter()
        for id, charge in books.items():
            for budget in budgets:
                spans[budget.id, budget.span(begun[id])] += charge
        for budget in budgets:
            for at in {desks[0].now[0], *begun.values()}:
                state = admin.budgets.spending(budget, at)
                booked = spans[budget.id, state.span]
                assert booked <= budget.limit.micros
                assert booked <= state.spent_micros + state.reserved_micros <= budget.limit.micros
                assert state.overrun_micros == 0

    for number_of_step, (act, worker, amount, percent, fault) in enumerate(steps):
        mine = [id for id, (of, _) in under_way.items() if of == worker]
        chosen = mine[percent % len(mine)] if mine else ""
        desks[worker].fault = fault if act in ("admit", "tend", "stop", "sweep") else ""
        if act == "admit":
            id = f"{project}-{number_of_step}"
            if desks[worker].reserve(id, budgets, amount):
                under_way[id], begun[id] = (worker, amount), desks[worker].now[0]
        elif act == "book" and chosen and chosen not in books:
            books[chosen] = under_way[chosen][1] * percent // 100
        elif act == "settle" and chosen:
            desks[worker].settle(chosen, books.setdefault(chosen, 0))
            del under_way[chosen]
        elif act == "crash":
            desks[worker].crash()
            under_way = {id: of for id, of in under_way.items() if of[0] != worker}
        elif act == "sweep":
            desks[worker].sweep(books)
        elif act == "tend":
            desks[worker].tend()
        elif act == "stop":
            desks[worker].stop()
            under_way = {id: of for id, of in under_way.items() if of[0] != worker}
        elif act in ("time", "pause"):
            desks[0].now[0] += DAY_SECONDS / 2 if act == "time" else 1.5
        desks[worker].fault = ""
        check()
    for desk in desks:
        desk.crash()
    desks[0].sweep(books)
    check()
    for budget in budgets:
        for at in {desks[0].now[0], *begun.values()}:
            state = admin.budgets.spending(budget, at)
            booked = sum(c for id, c in books.items() if budget.span(begun[id]) == state.span)
            assert (state.reserved_micros, state.spent_micros) == (0, booked)


PROGRAM = """
import json, os, random, signal, sys, threading, time
from pathlib import Path
from bessemer.core.units import Money
from bessemer.serve import Worker, open_accounts
from bessemer.serve.accounts.holding import Holding
from bessemer.serve.accounts.workers import sweep
from bessemer.serve.refusals import Refused

url, folder, limit, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
books = folder / "books.txt"
books.touch()
random.seed(4)

def charged(ids):
    known = dict(line.split() for line in books.read_text().splitlines())
    return {id: int(known.get(id, 0)) for id in ids}

def work():
    accounts, worker = open_accounts(url), Worker(folder / "workers")
    (budget,) = accounts.budgets.list()
    chance = random.Random(os.getpid())
    journal = os.open(books, os.O_WRONLY | os.O_APPEND)
    holding = Holding(accounts.database, accounts.budgets, worker)
    standing = holding.stand((), (budget,), time.time())

    def tend():
        while True:
            time.sleep(0.005)
            holding.tend()

    threading.Thread(target=tend, daemon=True).start()
    while True:
        id, worst = f"{worker.id}-{chance.getrandbits(48):x}", chance.randint(1, 50)
        permit = holding.admit(standing, id, 0, worst)
        if permit is None:
            try:
                permit = holding.draw(standing, id, (0, worst))
            except Refused as refused:
                permit = refused.refusal
        if not hasattr(permit, "place"):
            holding.let_go()
            sweep(accounts.budgets, holding.leases, worker, charged)
            time.sleep(0.001)
            continue
        actual = chance.randint(0, worst)
        os.write(journal, f"{id} {actual}\\n".encode())
        holding.settle(permit, actual, 0)
        if limit > 10**6:
            time.sleep(0.0002)

accounts = open_accounts(url)
accounts.budgets.set("organization", "", "total", Money(micros=limit))
accounts.close()

def start():
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    return child

children = [start() for _ in range(3)]
for _ in range(kills):
    time.sleep(random.uniform(0.0, 0.06))
    at = random.randrange(3)
    os.kill(children[at], signal.SIGKILL)
    _, status = os.waitpid(children[at], 0)
    assert os.WIFSIGNALED(status), "a worker ended by itself"
    children[at] = start()
accounts = open_accounts(url)
(budget,) = accounts.budgets.list()
for _ in range(3000 if limit < 10**6 else 0):  # let those that live use it up
    if accounts.budgets.spending(budget).spent_micros > limit - 50:
        break
    time.sleep(0.02)
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
time.sleep(0.3)  # Postgres may still be committing what a killed client sent
worker = Worker(folder / "workers")
holding = Holding(accounts.database, accounts.budgets, worker)
sweep(accounts.budgets, holding.leases, worker, charged)
state = accounts.budgets.spending(budget)
booked = [int(line.split()[1]) for line in books.read_text().splitlines()]
print(json.dumps({"state": state.model_dump(), "requests": len(booked), "booked": sum(booked)}))
"""


def killed(url: str, folder: Path, limit: int, kills: int) -> dict[str, Any]:
    command = [sys.executable, "-c", PROGRAM, url, str(folder), str(limit), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("limit", [2_000, 10**9])
def test_killed_at_any_instant_the_books_and_the_budget_agree(database_url, tmp_path, limit) -> None:
    """Three processes answer and are killed, 40 times; then every reservation is settled to what the books say."""
    found = killed(database_url, tmp_path, limit, 40)
    state = found["state"]
    assert found["requests"] > 50
    assert (state["spent_micros"], state["reserved_micros"]) == (found["booked"], 0)
    assert found["booked"] <= limit
    if limit == 2_000:
        assert found["booked"] > limit - 50, "the whole of it can be spent, whatever was killed"


@pytest.mark.parametrize("fault", ["refused", "lost"])
def test_what_the_database_did_not_answer_is_counted_once(desks, accounts, fault) -> None:
    """Whether it had taken in what it was told, or not; also when the process dies before it asks again."""
    budget = accounts.budgets.set("project", "docs", "total", Money(micros=1000))
    for name, ends in (("a", desks[0].let_go), ("b", desks[0].crash)):
        assert desks[0].reserve(name, (budget,), 10)
        desks[0].settle(name, 7)
        desks[0].fault = fault
        with pytest.raises(BackendError):
            desks[0].let_go()
        ends()
    desks[1].sweep({"a": 7, "b": 7})
    found = accounts.budgets.spending(budget)
    assert (found.spent_micros, found.reserved_micros, found.overrun_micros) == (14, 0, 0)


def test_a_draw_without_an_answer_leaves_nothing_reserved(desks, accounts) -> None:
    budget = accounts.budgets.set("project", "docs", "total", Money(micros=1000))
    assert desks[0].reserve("a", (budget,), 10)
    desks[0].settle("a", 10)
    desks[0].let_go()
    desks[0].fault = "lost"
    assert not desks[0].reserve("b", (budget,), 500)
    assert accounts.budgets.spending(budget).reserved_micros > 0, "the database did it"
    desks[0].let_go()
    found = accounts.budgets.spending(budget)
    assert (found.spent_micros, found.reserved_micros) == (10, 0)
