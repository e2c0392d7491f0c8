"""How far a site's power swings when a large job's members wait together, and what its battery leaves of that.

Owns the course of such a swing. The depth of a dip and the battery are those of ``power``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bessemer.twin.power import draw, smoothed, swing_watts
from bessemer.twin.site import Site

STEP_SECONDS, DIP_SECONDS, PERIOD_SECONDS = 0.1, 2.0, 10.0
"""A dip of two seconds every ten. Source: assumed, a step of a large job and its exchange of gradients."""


@dataclass(frozen=True, slots=True)
class Swing:
    """From the lowest to the highest watts within a step.

    Attributes:
        drawn_watts: of the racks.
        grid_watts: that the grid sees behind the site's battery.
        battery_joules: that the site has.
        enough_joules: least battery that would leave nothing.
    """

    drawn_watts: float
    grid_watts: float
    battery_joules: float
    enough_joules: float


def swing(site: Site, load: float = 1.0) -> Swing:
    """Return the swing of a job that holds a share `load` of the site's accelerators.

    The battery is taken to have no losses and any power. Source: energy balance, ``power.smoothed``.
    """
    depth = swing_watts(site) * load
    times = np.arange(round(10 * PERIOD_SECONDS / STEP_SECONDS)) * STEP_SECONDS
    is_dip = times % PERIOD_SECONDS >= PERIOD_SECONDS - DIP_SECONDS
    wave = np.asarray(draw(site, 1.0).it_watts - depth * is_dip, dtype=np.float64)
    seen = smoothed(wave, STEP_SECONDS, site.power.battery_joules)
    steady = PERIOD_SECONDS - DIP_SECONDS
    # Half full at the start, the battery gives the mean's lack of eight seconds first: twice that must fit.
    enough = 2 * depth * DIP_SECONDS * steady / PERIOD_SECONDS
    return Swing(float(np.ptp(wave)), float(np.ptp(seen)), site.power.battery_joules, enough)
