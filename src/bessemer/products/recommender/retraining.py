"""Making recommenders anew of what the gateway was told meanwhile: when something asks for it, or by themselves.

Owns when. Any number of processes may ask; one of them runs. What passes the gate is deployed, and a gateway that
serves the recommender lets it take over (`renewing`), so a worse model never replaces a better one by itself. Beside a
gateway one driver of a home works, who holds the lock, which the kernel takes from the dead; what was under way then
goes on under the next.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bessemer.core.errors import BessemerError, Cancelled
from bessemer.core.nouns import Noun
from bessemer.flow import Trigger, open_store
from bessemer.meter import LocalMeter
from bessemer.products.home import Home, write_whole
from bessemer.products.receipt import Receipt
from bessemer.products.recommender.config import RecommenderConfig, RetrainConfig
from bessemer.products.watching import Beside, Shift
from bessemer.serve import EventStore

if TYPE_CHECKING:
    from bessemer.products.factory import Factory

logger = logging.getLogger("bessemer.products")
_LOOK_SECONDS = 1.0


class Retraining(Noun):
    """How far the retraining of a recommender is.

    Attributes:
        product: its name.
        wish: when it is made anew.
        projects: whose events count.
        last: number of the last event that was there when it began last, or at its first training.
        state: ``failed`` waits as ``waiting`` does, for what comes next.
        run: the last one that it asked for; empty: none yet.
        at: when that ended or, while it goes on, began; Unix seconds.
        said: what came of it.
    """

    product: str
    wish: RetrainConfig
    projects: tuple[str, ...]
    last: int = 0
    state: Literal["waiting", "running", "failed"] = "waiting"
    run: str = ""
    at: float = 0.0
    said: str = ""


def retrain(
    factory: Factory, every_seconds: float = 86_400.0, clock: Callable[[], float] = time.time
) -> Receipt | None:
    """Run a factory if it was told of new events, at most once in an interval; return the receipt, None if not.

    Args:
        factory: with a recommender that learns from projects (`learning.projects`).
        every_seconds: length of the interval, counted from 1970.
        clock: Unix time in seconds.

    Raises:
        BackendError: a step failed for good; a re-run resumes.
        Cancelled: somebody asked to stop.
    """
    made = factory.config.made.values()
    named = {name for each in made if isinstance(each, RecommenderConfig) for name in each.learning.projects}
    asked = _Asked(f"retrain {factory.config.name}", sorted(named), (), 0)
    found = asked.fingerprint(factory.home, RetrainConfig(every_hours=every_seconds / 3_600), clock())
    run = asked.submit(factory, found) if found else ""
    return factory.run(run) if run else None


class _Asked:
    """One wish for retraining.

    Args:
        name: of its trigger in the store of runs.
        projects: whose events count.
        products: that are made; empty is all.
        trained: number of the last event that was trained on before the first wish.
    """

    def __init__(self, name: str, projects: Sequence[str], products: Sequence[str], trained: int) -> None:
        self._name, self._projects, self._products, self._trained = name, projects, products, trained

    def fingerprint(self, home: Home, wish: RetrainConfig, now: float) -> str:
        """Return what a run is asked for with, or "" where none is due."""
        if not self._projects or not home.events.exists():
            return ""
        with open_store(home.database_url) as store:
            known = (store.fingerprint(self._name) or f"- 0 to {self._trained}").split()
        with closing(EventStore(home.events)) as events:
            count, last = events.state(self._projects)
            new = events.since(self._projects, int(known[-1]))
        changed = new > 0 or (known[0] != "-" and known[1] != str(count))  # some may have been forgotten
        interval = str(int(now // (wish.every_hours * 3_600))) if wish.every_hours else "-"
        due = interval != known[0] if wish.every_hours else False
        enough = wish.after_events is not None and new >= wish.after_events
        return f"{interval} {count} to {last}" if count and changed and (due or enough) else ""

    def submit(self, factory: Factory, fingerprint: str) -> str:
        """Return the run that is submitted, or "" where another process was faster."""
        trigger = Trigger(self._name, lambda _: factory.line(factory.products(self._products)), lambda: fingerprint)
        with open_store(factory.home.database_url) as store:
            return trigger.tick(store)


class RetrainDriver(Shift):
    """Retrains a factory's recommenders beside its gateway, until it is closed.

    Args:
        factory: whose declaration says when.
        meter: the gateway's, which books what it takes.
        clock: Unix time in seconds.
        pause_seconds: between two looks.
    """

    def __init__(
        self,
        factory: Factory,
        meter: LocalMeter,
        clock: Callable[[], float] = time.time,
        pause_seconds: float = _LOOK_SECONDS,
    ) -> None:
        folder = _folder(factory.home)
        super().__init__("retraining", folder / f"{factory.config.name}.lock", pause_seconds)
        self._factory, self._meter, self._clock = factory, meter, clock
        self._wishes = {wish.product: wish for wish in _wishes(factory)}
        self._begun: set[str] = set()
        self._seen: dict[str, tuple[int, int]] = {}

    def start(self) -> None:
        """Begin, if the declaration wishes for it."""
        if self._wishes:
            _folder(self._factory.home).mkdir(parents=True, exist_ok=True)
            super().start()

    def turn(self) -> bool:
        """Look at each product; one whose turn fails is looked at again after the pause."""
        for product, wish in self._wishes.items():
            if product not in self._begun:
                self._begin(wish)
                self._begun.add(product)
            self._look(product)
        return False

    def _begin(self, wish: Retraining) -> None:
        """Note what is declared now; finish what another driver had begun."""
        home = self._factory.home
        known = read_retraining(home, wish.product)
        if known is None:
            self._note(wish.model_copy(update={"last": _trained(home, wish.product)}))
            return
        known = known.model_copy(update={"wish": wish.wish, "projects": wish.projects})
        self._note(known)
        if known.state == "running":
            with open_store(home.database_url) as store:  # one that was stopped is begun anew: its results are used
                goes_on = any(each.id == known.run for each in store.runs("running"))
            run, asked = known.run if goes_on else "", self._asked(known)
            if not known.run and (found := asked.fingerprint(home, wish.wish, self._clock())):
                run = asked.submit(self._factory, found)  # else it was submitted: the same flow is the same run
            self._make(wish.product, run)

    def _look(self, product: str) -> None:
        """Look whether a product is due, and make it."""
        home, known = self._factory.home, read_retraining(self._factory.home, product)
        if known is None or not home.events.exists():
            return
        hours, now = known.wish.every_hours, self._clock()
        with closing(EventStore(home.events)) as events:
            seen = events.last(), int(now // (hours * 3_600)) if hours else 0
        if self._seen.get(product) == seen:
            return
        asked = self._asked(known)
        if found := asked.fingerprint(home, known.wish, now):
            # Noted before: if we are killed in between, the next driver finishes what is asked for.
            begun = {"state": "running", "run": "", "at": now, "last": int(found.split()[-1])}
            self._note(known.model_copy(update=begun))
            try:
                run = asked.submit(self._factory, found)
            except Exception:
                self._note(known)
                raise
            if run:
                self._make(product, run)
            else:
                self._note(known)
        self._seen[product] = seen

    def _asked(self, known: Retraining) -> _Asked:
        name = f"retrain {self._factory.config.name}/{known.product}"
        return _Asked(name, known.projects, (known.product,), known.last)

    def _make(self, product: str, run: str) -> None:
        """Make a product, and note what came of it."""
        known = read_retraining(self._factory.home, product)
        assert known is not None
        self._note(known.model_copy(update={"state": "running", "run": run, "at": self._clock(), "said": ""}))
        state: Literal["waiting", "failed"] = "waiting"
        try:
            receipt = self._factory.run(run, Beside(self._meter, (product,), self._stop.is_set))
            run, said = receipt.run, "deployed" if receipt.deployed else "the gate did not let it through"
            said += ": " + "; ".join(outcome.sentence for outcome in receipt.outcomes)
        except Cancelled as error:
            if self._stop.is_set():
                return  # it is noted as running: the next driver goes on with it
            said = error.message
        except BessemerError as error:
            state, said = "failed", error.message
            logger.error("the retraining of '%s' failed: %s: %s", product, error.code, error.message)
        except Exception as error:  # a mistake of ours, or of a step's code: it must not look as if it went on
            state, said = "failed", f"{type(error).__name__}: {error}"
            logger.exception("the retraining of '%s' failed", product)
        known = known.model_copy(update={"state": state, "run": run, "at": self._clock(), "said": said})
        self._note(known)

    def _note(self, known: Retraining) -> None:
        write_whole(_folder(self._factory.home) / f"{known.product}.json", known.model_dump_json(indent=2))


def read_retraining(home: Home, product: str) -> Retraining | None:
    """Return how far a product's retraining is; None where none was ever wished for."""
    path = _folder(home) / f"{product}.json"
    return Retraining.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None


def retrainings(home: Home) -> list[tuple[Retraining, int]]:
    """Return how far the retraining of each product of a home is, and how many events are new to each."""
    files = sorted(_folder(home).glob("*.json"))
    found = [known for path in files if (known := read_retraining(home, path.stem))]
    if not (found and home.events.exists()):
        return [(each, 0) for each in found]
    with closing(EventStore(home.events)) as events:
        return [(each, events.since(each.projects, each.last)) for each in found]


def _wishes(factory: Factory) -> list[Retraining]:
    made: Mapping[str, object] = factory.config.made
    return [
        Retraining(product=name, wish=each.learning.retrain, projects=each.learning.projects)
        for name, each in made.items()
        if isinstance(each, RecommenderConfig) and each.learning.retrain
    ]


def _trained(home: Home, product: str) -> int:
    """Return the number of the last event that what is deployed was trained on."""
    found = next((each for each in home.deployments() if each.name == product), None)
    card = Path(found.path) / "ranker.json" if found else None
    told = json.loads(card.read_text(encoding="utf-8"))["told"] if card and card.exists() else {}
    return max(told.values(), default=0)


def _folder(home: Home) -> Path:
    return home.path / "retraining"
