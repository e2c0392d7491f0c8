"""Shared storage: how fast a site reads data and writes checkpoints, how long work stalls, how capacity fills.

Owns rates and capacities. Knows not how often a checkpoint is written.
"""

from __future__ import annotations

from bessemer.twin.site import Site


def write_bytes_per_second(site: Site, writers: int) -> float:
    """Return the rate that so many servers reach together: the storage's, or that of their adapters."""
    adapters = max((nodes.nics * nodes.nic_bits_per_second / 8 for nodes in site.nodes), default=0.0)
    if site.storage.tier in ("local", "nvme") or adapters == 0:
        return site.storage.write_bytes_per_second
    return min(site.storage.write_bytes_per_second, max(writers, 1) * adapters)


def checkpoint_seconds(site: Site, size_bytes: float, writers: int) -> float:
    """Return the seconds until a checkpoint lies on the shared storage."""
    return size_bytes / write_bytes_per_second(site, writers)


def stall_seconds(site: Site, size_bytes: float, writers: int, copy_bytes_per_second: float = 25e9) -> float:
    """Return how long work stands still: all of the writing, or the copy to the host if it goes on in the background.

    Args:
        site: its operations say whether checkpoints are written in the background.
        size_bytes: of the checkpoint.
        writers: servers that write it.
        copy_bytes_per_second: of one server to its memory. Source: PCI Express 4.0, 16 lanes.
    """
    if not site.operations.background_checkpoints:
        return checkpoint_seconds(site, size_bytes, writers)
    return size_bytes / max(writers, 1) / copy_bytes_per_second


def read_bytes_per_second_each(site: Site) -> float:
    """Return the share of the reading rate that each accelerator has."""
    return site.storage.read_bytes_per_second / max(site.accelerators, 1)


def days_until_full(site: Site, bytes_per_day: float, kept_bytes: float = 0.0) -> float:
    """Return how long the capacity lasts at a steady growth; infinite without growth."""
    free = max(site.storage.capacity_bytes - kept_bytes, 0.0)
    return free / bytes_per_day if bytes_per_day > 0 else float("inf")
