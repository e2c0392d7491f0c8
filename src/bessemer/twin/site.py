"""A site: what stands there, how it is joined, fed, cooled, and what it costs; declared in TOML.

Owns the declaration and its reading. What follows from it (watts, switches, dollars) is counted elsewhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from bessemer.core.config import Config, explain
from bessemer.core.errors import ConfigError
from bessemer.twin.accelerators import Accelerator, Measured, accelerator
from bessemer.twin.catalogue import unknown

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Efficiency = Annotated[float, Field(ge=0.5, le=1)]
"""What comes out over what goes in; below a half nothing is built."""


class Nodes(Config):
    """Servers of one kind.

    Attributes:
        accelerator: name in the catalogue, or ``cpu`` for a machine without one.
        count: how many servers.
        accelerators: in each server.
        scaleup: accelerators in one scale-up domain (72 in an NVL72 rack); 0: those of the server.
        nics: network adapters of the compute fabric in each server.
        nic_bits_per_second: of each adapter, in one direction.
        host_watts: processors, memory, fans and disks of a server at work.
        rated_watts: of a server, by its plate; 0: from its parts.
        nvme_bytes: local flash of a server.
        cores: processor cores of a server.
        measured: what was measured of one accelerator; the catalogue is not asked then.
    """

    accelerator: str = "cpu"
    count: Annotated[int, Field(ge=1)] = 1
    accelerators: Annotated[int, Field(ge=0)] = 0
    scaleup: Annotated[int, Field(ge=0)] = 0
    nics: Annotated[int, Field(ge=0)] = 0
    nic_bits_per_second: Annotated[float, Field(ge=0)] = 0.0
    host_watts: Annotated[float, Field(ge=0)] = 1500.0
    rated_watts: Annotated[float, Field(ge=0)] = 0.0
    nvme_bytes: Annotated[float, Field(ge=0)] = 0.0
    cores: Annotated[int, Field(ge=1)] = 2
    measured: Measured | None = None

    @property
    def device(self) -> Accelerator:
        """One of the accelerators, as measured or from the catalogue.

        Raises:
            NotFound: it was not measured, and the catalogue has none of that name.
        """
        return self.measured.accelerator(self.accelerator) if self.measured else accelerator(self.accelerator)


class Fabric(Config):
    """The compute network. `oversubscription` is host over core bandwidth, 1 is none; `planes` run side by side."""

    kind: Literal["none", "fat_tree", "rail", "multi_plane", "dragonfly", "torus"] = "none"
    protocol: Literal["infiniband", "ethernet"] = "infiniband"
    radix: Annotated[int, Field(ge=2)] = 64
    port_bits_per_second: Positive = 400e9
    oversubscription: Annotated[float, Field(ge=1)] = 1.0
    planes: Annotated[int, Field(ge=1)] = 1
    endpoint_seconds: Annotated[float, Field(ge=0)] = 5e-6
    is_optical: bool = True


class Storage(Config):
    """Shared storage: `tier` says what kind, the rates are those of the whole system."""

    tier: Literal["local", "nvme", "parallel", "object"] = "local"
    capacity_bytes: Annotated[float, Field(ge=0)] = 0.0
    read_bytes_per_second: Positive = 2e9
    write_bytes_per_second: Positive = 1e9
    watts: Annotated[float, Field(ge=0)] = 0.0


class Power(Config):
    """From the grid to the rack. Efficiencies are shares of what goes in; `envelope_watts` is what the grid gives.

    `diversity_ratio` is the most that the site ever draws at once, over its draw with every server at full load: below
    1 where many jobs and tenants share it. It sizes power and cooling; one job over all servers leaves it at 1.
    """

    envelope_watts: Annotated[float, Field(ge=0)] = 0.0
    diversity_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    ups_efficiency: Efficiency = 0.96
    transformer_efficiency: Efficiency = 0.985
    distribution_efficiency: Efficiency = 0.985
    supply_efficiency: Efficiency = 0.94
    cap_watts: Annotated[float, Field(ge=0)] = 0.0
    battery_joules: Annotated[float, Field(ge=0)] = 0.0
    usd_per_kwh: Annotated[float, Field(ge=0)] = 0.10
    gco2e_per_kwh: Annotated[float, Field(ge=0)] = 400.0


class Cooling(Config):
    """How heat leaves: `kind`, the share that liquid takes, and the weather (a station of the climate catalogue)."""

    kind: Literal["none", "air", "rear_door", "direct_liquid", "immersion"] = "air"
    rejection: Literal["chiller", "wet", "dry"] = "chiller"
    climate: str = "USA_VA_Leesburg.Exec"
    liquid_ratio: Share = 0.0
    supply_celsius: Annotated[float, Field(ge=5, le=60)] = 24.0
    heat_reuse_ratio: Share = 0.0


class Operations(Config):
    """How often things break and how long it takes to go on.

    Attributes:
        node_failures_per_day: hazard of one server at work.
        small_job_ratio: what a job of few servers meets beyond its servers' failures, per one of these; fades above a
            few thousand accelerators.
        job_failures_per_day: hazard of a job, whatever its size, beyond both.
        detect_seconds: until a failure is noticed; the default is half of the five minutes between health checks
            (arXiv:2410.21680).
        restart_seconds: from then until training goes on, without reading the checkpoint; the default is the geometric
            middle of 5 to 20 minutes (arXiv:2410.21680).
        repair_seconds: until a broken server is back.
        spare_ratio: servers kept free, as a share of all.
        straggler_ratio: step time lost to slow members.
        maintenance_ratio: share of the time that a server is out for planned work.
        background_checkpoints: whether work goes on while a checkpoint is written.
    """

    node_failures_per_day: Annotated[float, Field(ge=0)] = 6.5e-3
    small_job_ratio: Annotated[float, Field(ge=0)] = 2.225
    job_failures_per_day: Annotated[float, Field(ge=0)] = 0.0
    detect_seconds: Annotated[float, Field(ge=0)] = 150.0
    restart_seconds: Annotated[float, Field(ge=0)] = 600.0
    repair_seconds: Annotated[float, Field(ge=0)] = 2 * 86400.0
    spare_ratio: Share = 0.02
    straggler_ratio: Annotated[float, Field(ge=0, le=0.9)] = 0.02
    maintenance_ratio: Share = 0.01
    background_checkpoints: bool = True


class Money(Config):
    """What the site costs its owner, or its tenant.

    Attributes:
        tenure: owned, or rented by the accelerator-hour.
        provider: of the price catalogue, when rented.
        capital_usd: of everything that stands there; 0: from the catalogue's prices.
        life_years: over which it is written off.
        staff_usd_per_year: people.
        discount_ratio: interest a year.
        utilisation_ratio: share of the accelerator-hours that do useful work.
        price_decline_ratio: how much cheaper a rented hour gets each year; left out: by the catalogue's price history.
    """

    tenure: Literal["owned", "rented"] = "owned"
    provider: str = ""
    capital_usd: Annotated[float, Field(ge=0)] = 0.0
    life_years: Positive = 5.0
    staff_usd_per_year: Annotated[float, Field(ge=0)] = 0.0
    discount_ratio: Share = 0.08
    utilisation_ratio: Annotated[float, Field(gt=0, le=1)] = 0.7
    price_decline_ratio: Share | None = None


class Site(Config):
    """Everything the planner knows of a place.

    Source of each default: ``catalogue/defaults.csv``; `bessemer.twin.defaults` says which of them hold for a site.

    Attributes:
        name: short, as on the command line.
        description: one sentence.
        nodes: kinds of servers.
        published: totals that others published, by name (``exaflops_bf16``, ``switches``, ``megawatts``, …).
        sources: dotted path of a value -> where it is from; ``assumed`` is an answer.
    """

    name: str = "site"
    description: str = ""
    nodes: tuple[Nodes, ...] = (Nodes(),)
    fabric: Fabric = Fabric()
    storage: Storage = Storage()
    power: Power = Power()
    cooling: Cooling = Cooling()
    operations: Operations = Operations()
    money: Money = Money()
    published: Mapping[str, float] = {}
    sources: Mapping[str, str] = {}

    @property
    def accelerators(self) -> int:
        """How many accelerators stand there."""
        return sum(nodes.count * nodes.accelerators for nodes in self.nodes)


def reference_sites() -> list[str]:
    """Return the names of the sites that come with the catalogue."""
    folder = files("bessemer.twin") / "catalogue" / "sites"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_site(name: str) -> Site:
    """Return a site: one of the catalogue by name, or a TOML file by path.

    Raises:
        NotFound: neither is there; names the nearest.
        ConfigError: the file is not what a site is declared with.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise unknown("site", name, reference_sites())
        try:
            return parse_site(path.read_text("utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is no UTF-8 text", hint="Save it as UTF-8.") from error
    if name not in reference_sites():
        raise unknown("site", name, reference_sites())
    return parse_site((files("bessemer.twin") / "catalogue" / "sites" / f"{name}.toml").read_text("utf-8"), name)


def parse_site(text: str, where: str) -> Site:
    """Return the site that TOML text declares.

    Raises:
        ConfigError: it is no TOML, or no site; says which key, and the nearest valid one.
    """
    try:
        values: dict[str, Any] = tomllib.loads(text)
        return Site.model_validate(values)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is no TOML: {error}", hint="Mend that line.") from error
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, place))}: {said}" for place, said in explain(error, Site))
        raise ConfigError(f"{where}: {told}", hint="Compare with a site of the catalogue.") from error
