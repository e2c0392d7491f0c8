"""Who runs next, and where: queue orders, backfill, preemption, and packing of servers by block of the network.

Owns the rules and the free servers. Knows no time but what it is told, no failure and no power.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.twin.site import Site

Allocation = tuple[tuple[int, int], ...]
"""Blocks and how many servers in each."""


class Policy(Config):
    """How the scheduler decides.

    Attributes:
        order: of the queue within a priority: first come, or who has used least lately.
        backfill: whether short jobs may pass one that waits for room, if they do not delay it.
        preempt: whether a job of higher priority may stop others.
        packing: fill blocks of the network, or spread over all of them.
        cycle_seconds: how often the scheduler looks.
        depth: how many waiting jobs it looks at.
        block_nodes: servers of a scale-up domain, or under one leaf of the network; 0: as the site has them.
        crossing_ratio: step time that a job loses when it lies in more blocks than it needs.
        usage_days: half-life of the memory for fair shares.
        estimate_ratio: what users say a job takes over what it takes, for backfill.
    """

    order: Literal["fifo", "fair"] = "fifo"
    backfill: bool = True
    preempt: bool = False
    packing: Literal["packed", "spread"] = "packed"
    cycle_seconds: Annotated[float, Field(gt=0)] = 60.0
    depth: Annotated[int, Field(ge=1)] = 200
    block_nodes: Annotated[int, Field(ge=0)] = 0
    crossing_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.02
    usage_days: Annotated[float, Field(gt=0)] = 7.0
    estimate_ratio: Annotated[float, Field(ge=1)] = 1.5


def block_nodes(site: Site) -> int:
    """Return how many servers stand in one scale-up domain; if that is one server, under one leaf switch.

    Half of a leaf's ports lead down, and each of a server's rails has a leaf of its own.
    """
    kind = max(site.nodes, key=lambda nodes: nodes.count * nodes.accelerators)
    if kind.scaleup > kind.accelerators > 0:
        return kind.scaleup // kind.accelerators
    return max(1, site.fabric.radix // 2)


class Floor:
    """The free servers, block by block.

    Attributes:
        free: servers that nobody has.
        size: servers in a block; the last one may have fewer.
    """

    def __init__(self, nodes: int, size: int, packed: bool) -> None:
        self.size, self.free, self.packed = size, nodes, packed
        counts = [size] * (nodes // size) + ([nodes % size] if nodes % size else [])
        self._count = counts
        self._by_count: list[dict[int, None]] = [{} for _ in range(size + 1)]
        for block, count in enumerate(counts):
            self._by_count[count][block] = None

    def take(self, nodes: int) -> Allocation | None:
        """Return blocks that hold so many servers, now taken; None if there are too few."""
        if nodes > self.free:
            return None
        found = tuple(self._packed(nodes) if self.packed else self._spread(nodes))
        self.free -= nodes
        return found

    def give(self, allocation: Allocation) -> None:
        """Take servers back."""
        for block, nodes in allocation:
            self._move(block, nodes)
            self.free += nodes

    def crosses(self, allocation: Allocation) -> bool:
        """Return whether an allocation lies in more blocks than it would need."""
        nodes = sum(count for _, count in allocation)
        return len(allocation) > -(-nodes // self.size)

    def _packed(self, nodes: int) -> Iterator[tuple[int, int]]:
        """Fill whole free blocks, then the block that the rest fits best; else take from the fullest on."""
        while nodes >= self.size and self._by_count[self.size]:
            yield self._grab(next(iter(self._by_count[self.size])), self.size)
            nodes -= self.size
        while nodes:
            fits = next((count for count in range(nodes, self.size + 1) if self._by_count[count]), 0)
            count = fits or next(count for count in range(self.size, 0, -1) if self._by_count[count])
            taken = min(nodes, count)
            yield self._grab(next(iter(self._by_count[count])), taken)
            nodes -= taken

    def _spread(self, nodes: int) -> Iterator[tuple[int, int]]:
        """Take one part from each of the emptiest blocks."""
        part = max(1, -(-nodes // max(1, len(self._count))))
        while nodes:
            count = next(count for count in range(self.size, 0, -1) if self._by_count[count])
            taken = min(nodes, part, count)
            yield self._grab(next(iter(self._by_count[count])), taken)
            nodes -= taken

    def _grab(self, block: int, nodes: int) -> tuple[int, int]:
        self._move(block, -nodes)
        return block, nodes

    def _move(self, block: int, nodes: int) -> None:
        count = self._count[block]
        del self._by_count[count][block]
        self._count[block] = count + nodes
        self._by_count[count + nodes][block] = None


class Waiting:
    """The queue: jobs by priority, then by the policy's order; a job is known by its number."""

    def __init__(self, policy: Policy, priorities: Sequence[int], owners: Sequence[str]) -> None:
        self.fair = policy.order == "fair"
        self.half_life_seconds = policy.usage_days * 86400.0
        self._priorities, self._owners = priorities, owners
        self._used: dict[str, float] = {}
        self._since = 0.0
        self._line: list[tuple[int, float, int]] = []

    def __len__(self) -> int:
        return len(self._line)

    def first(self, depth: int) -> list[int]:
        """Return the numbers of the first jobs."""
        return [number for _, _, number in self._line[:depth]]

    def join(self, number: int) -> None:
        """Put a job where it belongs."""
        insort(self._line, self._key(number))

    def leave(self, numbers: set[int]) -> None:
        """Take jobs out that start."""
        places, left = [], len(numbers)
        for place, (_, _, number) in enumerate(self._line):
            if not left:
                break
            if number in numbers:
                places.append(place)
                left -= 1
        for place in reversed(places):
            del self._line[place]

    def used(self, number: int, accelerator_seconds: float) -> None:
        """Note what a job's owner has used."""
        owner = self._owners[number]
        self._used[owner] = self._used.get(owner, 0.0) + accelerator_seconds

    def age(self, now: float) -> None:
        """Forget old usage, and order the queue again by what is left; does nothing for first come, first served."""
        if not self.fair:
            return
        kept = 0.5 ** ((now - self._since) / self.half_life_seconds)
        self._since = now
        self._used = {owner: used * kept for owner, used in self._used.items()}
        self._line = sorted(self._key(number) for _, _, number in self._line)

    def _key(self, number: int) -> tuple[int, float, int]:
        return -self._priorities[number], self._used.get(self._owners[number], 0.0) if self.fair else 0.0, number
