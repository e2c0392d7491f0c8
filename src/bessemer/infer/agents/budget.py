"""What an answer of an agent may take: acts of its model, tokens, money, joules, seconds.

Nothing is begun that could exceed a budget: before its model is asked, the most that this can take is added to what
was taken. Owns that sum. Knows no price: what tokens cost is handed in as a `Rate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.nouns import Usage
from bessemer.infer.engines import add

Rate = Callable[[Usage], float]
"""From tokens to what they come to, in the unit of the budget that it is for."""


class AgentBudget(Config):
    """The most that one answer may take.

    Attributes:
        steps: how often the model is asked; the last time without tools, so that it must answer.
        tokens: read and written, by all acts of the model together.
        step_tokens: written in one act of the model.
        calls: calls of tools.
        cost_micros: of what the tokens are charged with, in millionths of a currency unit; None sets no limit.
        joules: estimated from the tokens; None sets no limit.
        seconds: after which nothing new is begun.
    """

    steps: Annotated[int, Field(ge=1, le=1000)] = 8
    tokens: Annotated[int, Field(ge=1)] = 20_000
    step_tokens: Annotated[int, Field(ge=1, le=131_072)] = 256
    calls: Annotated[int, Field(ge=0, le=10_000)] = 16
    cost_micros: Annotated[int, Field(ge=0)] | None = None
    joules: Annotated[float, Field(gt=0)] | None = None
    seconds: Annotated[float, Field(gt=0)] = 300.0

    def most(self) -> Usage:
        """Return the most that an answer may take; it reads at most all of `tokens` and writes what it may.

        >>> AgentBudget(steps=2, step_tokens=10, tokens=100).most().output_tokens
        20
        """
        return Usage(input_tokens=self.tokens, output_tokens=min(self.tokens, self.steps * self.step_tokens))


@dataclass(slots=True)
class Purse:
    """What is left while an answer is made.

    Attributes:
        budget: what there was.
        price: from tokens to millionths of a currency unit; None knows no prices.
        energy: from tokens to joules; None knows none.
        usage: what was taken.
        steps: how often the model was asked.
        calls: of tools.
    """

    budget: AgentBudget
    price: Rate | None = None
    energy: Rate | None = None
    usage: Usage = field(default_factory=Usage)
    steps: int = 0
    calls: int = 0

    def refuses(self, more: Usage, seconds: float) -> str:
        """Return which budget an act of the model with these tokens at most could exceed; empty if none.

        Args:
            more: the most that the act can take.
            seconds: that have passed.
        """
        if self.steps >= self.budget.steps:
            return "steps"
        return "seconds" if seconds >= self.budget.seconds else self.lacks(more)

    def lacks(self, more: Usage) -> str:
        """Return which budget so much more could exceed; empty if none."""
        budget, total = self.budget, add(self.usage, more)
        if total.total_tokens > budget.tokens:
            return "tokens"
        if budget.cost_micros is not None and self.price and self.price(total) > budget.cost_micros:
            return "cost_micros"
        if budget.joules is not None and self.energy and self.energy(total) > budget.joules:
            return "joules"
        return ""
