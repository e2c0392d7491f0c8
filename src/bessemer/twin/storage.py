"""Shared storage: how fast servers read from it and write to it, how capacity fills.

Owns rates and capacities. Knows not how often a checkpoint is written.
"""

from __future__ import annotations

from math import inf

from bessemer.twin.site import Site


def bytes_per_second(site: Site, servers: float) -> tuple[float, float]:
    """Return the rates that so many servers read and write with together: the storage's, or that of their adapters.

    A server without adapters has its own disks, or reaches storage some way that nobody declared.
    """
    adapters = max((nodes.nics * nodes.nic_bits_per_second / 8 for nodes in site.nodes), default=0.0)
    most = max(servers, 1.0) * adapters if adapters and site.storage.tier in ("parallel", "object") else inf
    return min(site.storage.read_bytes_per_second, most), min(site.storage.write_bytes_per_second, most)


def days_until_full(site: Site, bytes_per_day: float, kept_bytes: float = 0.0) -> float:
    """Return how long the capacity lasts at a steady growth; infinite without growth."""
    free = max(site.storage.capacity_bytes - kept_bytes, 0.0)
    return free / bytes_per_day if bytes_per_day > 0 else float("inf")
