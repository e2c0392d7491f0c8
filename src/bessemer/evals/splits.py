"""What is held out of users' histories: a random share of each user's events, or their last ones.

Owns the splits. Knows no model: histories come as flat arrays of owners, the oldest event of each user first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bessemer.evals.bootstrap import _numpy

if TYPE_CHECKING:
    import numpy as np

    Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Split:
    """Which events are for fitting, which for choosing settings, and which for the one last test; one flag each."""

    fit: Flags
    valid: Flags
    test: Flags


def random_split(users: Any, *, valid_ratio: float = 0.1, test_ratio: float = 0.1, seed: int = 0) -> Split:
    """Return a split that draws, of each user's events, these shares for validation and test, at least one of each.

    A user of fewer than three events is for fitting alone. RecBole's ``RS: [0.8, 0.1, 0.1]`` by user draws the same
    shares.

    Args:
        users: the number of each event's user; shape (events,).
        valid_ratio: share for validation.
        test_ratio: share for the test.
        seed: the same seed draws the same events.
    """
    np = _numpy()
    users = np.asarray(users)
    drawn = np.lexsort((np.random.default_rng(seed).random(len(users)), users))
    lengths = np.bincount(users)[users[drawn]]
    starts = np.searchsorted(users[drawn], users[drawn], side="left")
    places = np.arange(len(users)) - starts
    enough = lengths >= 3
    test = enough & (places < np.maximum(1, np.round(lengths * test_ratio)))
    valid = enough & ~test & (places < np.maximum(1, np.round(lengths * test_ratio)) + _least(lengths * valid_ratio))
    return _in_order(drawn, valid, test)


def last_split(users: Any) -> Split:
    """Return leave-last-out: each user's last event for the test, the one before it for validation.

    A user of fewer than three events is for fitting alone.

    Args:
        users: the number of each event's user, each user's oldest first; shape (events,).
    """
    np = _numpy()
    users = np.asarray(users)
    order = np.argsort(users, kind="stable")
    owners = users[order]
    enough = np.bincount(users)[owners] >= 3
    left = np.searchsorted(owners, owners, side="right") - np.arange(len(users))
    return _in_order(order, enough & (left == 2), enough & (left == 1))


def _least(shares: Any) -> Any:
    np = _numpy()
    return np.maximum(1, np.round(shares))


def _in_order(order: Any, valid: Any, test: Any) -> Split:
    np = _numpy()
    flags = np.zeros((2, len(order)), bool)
    flags[0, order], flags[1, order] = valid, test
    return Split(fit=~(flags[0] | flags[1]), valid=flags[0], test=flags[1])
