"""What an agent practises in: tools over small worlds, tasks that can be checked, and how each is solved.

Owns the shape. Knows no domain: ``package.module:NAME`` finds one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal

from bessemer.core.errors import ConfigError
from bessemer.evals import State, Trial, World
from bessemer.infer.agents import Capability

Split = Literal["train", "heldout"]
Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Practice:
    """A task with the calls that solve it, and the answer that says so."""

    trial: Trial
    calls: tuple[Call, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Domain:
    """Where an agent practises.

    Attributes:
        instructions: told to the agent before everything else.
        tools: from a world to the tools that act in it.
        practices: from a split, a number and a seed to so many tasks; those of the two splits should share no wording.
        start: a world to talk about when the agent is served.
    """

    instructions: str
    tools: Callable[[World], Sequence[Capability]]
    practices: Callable[[Split, int, int], Iterator[Practice]]
    start: State


def find_domain(path: str) -> Domain:
    """Return the domain under a path such as ``mine.clinic:CLINIC``.

    Raises:
        ConfigError: there is none.
    """
    try:
        found = resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"the domain '{path}' cannot be found: {error}", hint="Write package.module:NAME.") from error
    if not isinstance(found, Domain):
        raise ConfigError(f"'{path}' is no Domain", hint="See docs/howto/agents.md, `Practice`.")
    return found
