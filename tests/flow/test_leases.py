"""A lease holds a place in its queue only as long as its attempt lasts."""

from __future__ import annotations

from bessemer.flow import Flow, Step, open_store
from bessemer.flow.store import Claim


def test_renewing_does_not_bring_a_released_lease_back(database_url: str) -> None:
    steps = tuple(Step(name, run="os:getcwd") for name in ("one", "two", "three"))
    with open_store(database_url) as store:
        run = store.submit(Flow("line", steps))
        one, two, three = (Claim(run, step.name, f"key of {step.name}", "default") for step in steps)
        first = store.claim(one, "me", 60, limit=1)
        assert first is not None
        store.release(first)
        second = store.claim(two, "me", 60, limit=1)
        assert second is not None
        assert store.renew("me", 60) == {(second.key, second.fence)}
        store.release(second)
        assert store.claim(three, "me", 60, limit=1) is not None
