"""Which limits and budgets a request falls under, remembered until an administrator changes one.

Owns the finding. Knows no request: what is held of limits is in `holding`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bessemer.core.model_names import names_of
from bessemer.core.nouns import Subject
from bessemer.serve.accounts.budgets import Budget, Budgets
from bessemer.serve.accounts.database import Database
from bessemer.serve.accounts.holding import Holding
from bessemer.serve.accounts.rates import RateLimit, RateLimits
from bessemer.serve.accounts.refusing import refuse_currency
from bessemer.serve.accounts.standing import Standing
from bessemer.serve.accounts.tariffs import Pricing, Tariff
from bessemer.serve.refusals import Refused

_REMEMBERED_AT_MOST = 20_000

Name = tuple[str, str, str, str, bool]
"""Project, key, model, service tier, and whether in a batch: what rules depend on."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What limits the requests of a key to a model.

    Attributes:
        standing: the blocks that they are let in from.
        lasting: budgets in which they reserve in the database, by their id.
        tariff: what they may be charged at most.
        until: Unix seconds, until when this holds.
    """

    standing: Standing
    lasting: tuple[Budget, ...]
    tariff: Tariff
    until: float


class RuleBook:
    """The limits and budgets in force.

    Args:
        database: of the accounts.
        holding: has the blocks of limits and budgets.
        pricing: says what a request may cost at most.
        clock: gives Unix seconds.
    """

    def __init__(
        self, database: Database, holding: Holding, pricing: Pricing, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._holding, self._pricing, self._clock = database, holding, pricing, clock
        self._rates, self._budgets = RateLimits(database, clock), Budgets(database, clock)
        self._rules: dict[Name, Rules | None] = {}
        self._in_force: tuple[tuple[RateLimit, ...], tuple[Budget, ...]] = ((), ())
        self._rules_at = -1

    def rules(self, name: Name) -> Rules | None:
        """Return what limits the requests of a key to a model, None if nothing does.

        Raises:
            Refused: a budget is in another currency than the prices.
        """
        self._refresh()
        rules = self._rules.get(name)
        if rules is None:
            return None if name in self._rules else self._find(name)
        return rules if self._clock() < rules.until else self._find(name)

    def _refresh(self) -> None:
        """Believe nothing any more that an administrator has changed."""
        version = self._database.version()
        if version != self._rules_at:
            self._in_force = self._rates.list(), self._budgets.list()
            self._holding.keep(*self._in_force, self._clock())
            self._rules, self._rules_at = {}, version

    def _in_force_for(self, project: str, key_id: str, model: str) -> tuple[tuple[RateLimit, ...], tuple[Budget, ...]]:
        models = ("", *names_of(model))
        scopes = {("organization", ""), ("project", project), ("key", key_id)}
        rates = tuple(r for r in self._in_force[0] if (r.scope, r.scope_id) in scopes and r.model in models)
        return rates, tuple(b for b in self._in_force[1] if (b.scope, b.scope_id) in scopes)

    def _find(self, name: Name) -> Rules | None:
        """Find what limits a request, and remember it."""
        known = self._rules  # first: a thread that takes a job may find meanwhile that something was changed
        project, key_id, model, tier, batch = name
        rates, budgets = self._in_force_for(project, key_id, model)
        rules = None
        if rates or budgets:
            subject = Subject(
                kind="request", id="", project=project, key_id=key_id, model=model, service_tier=tier, batch=batch
            )
            tariff = self._pricing(subject)
            budgets = _comparable(budgets, tariff)
            standing = self._holding.stand(rates, () if batch else budgets, self._clock())
            rules = Rules(standing, budgets if batch else (), tariff, min(standing.until, tariff.until))
        if len(known) >= _REMEMBERED_AT_MOST:
            known.clear()
        known[name] = rules
        return rules

    def priced(self, subject: Subject) -> tuple[Tariff, tuple[Budget, ...]]:
        """Return what a subject may be charged at most, and the budgets that its charge counts to.

        Raises:
            Refused: a budget is in another currency than the prices.
        """
        self._refresh()
        tariff = self._pricing(subject)
        return tariff, _comparable(self._in_force_for(subject.project, subject.key_id, subject.model)[1], tariff)


def _comparable(budgets: tuple[Budget, ...], tariff: Tariff) -> tuple[Budget, ...]:
    """Return the budgets in the currency of the prices, which may have changed since one was set.

    What only tells has nothing to tell of another currency; what is to be kept to lets nobody in.
    """
    for budget in budgets:
        if budget.enforced and budget.limit.currency != tariff.currency:
            raise Refused(refuse_currency(budget, tariff.currency))
    return tuple(budget for budget in budgets if budget.limit.currency == tariff.currency)
