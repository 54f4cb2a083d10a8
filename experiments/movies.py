"""Movies on which settings are chosen, and movies on which numbers are reported: other seeds, other settings, other types."""

from dataclasses import asdict, replace
from typing import NamedTuple

from udenoise.config import (
    DetectorConfig,
    NuisanceConfig,
    OpticsConfig,
    PopulationConfig,
    RareConfig,
    SimulationConfig,
    TissueConfig,
)

RARE = RareConfig(flashes=40, dendritic_events=12, planted_dff=2.5, lone_cells=1, coupled_pairs=2, decoupled_events=3)
SMALL, FULL = (
    {"frames": 1200, "height": 80, "width": 80, "cells": 12},
    {"frames": 6000, "height": 256, "width": 256, "cells": 90},
)


class Choosing(NamedTuple):
    """A movie to choose settings on; it never appears in a table."""

    name: str
    config: SimulationConfig


class Reported(NamedTuple):
    """A movie to report; nothing may be chosen on it."""

    name: str
    config: SimulationConfig


CHOOSING = (
    Choosing("OGB-1, 1 photon", SimulationConfig(
        frames=1200, height=80, width=80, photons=1.0, gain=90.0, population=PopulationConfig("OGB-1"),
        rare=RareConfig(flashes=8, dendritic_events=4), seed=431)),
    Choosing("GCaMP6s, 2.5 photons, flicker and waves", SimulationConfig(
        frames=1200, height=80, width=80, cells=12, photons=2.5, gain=110.0, event_rate_hz=0.06,
        tissue=TissueConfig(astrocytes=2), optics=OpticsConfig(haze=0.2), nuisance=NuisanceConfig(flicker=0.03),
        population=PopulationConfig("GCaMP6s", sparse_cells=0.3), seed=433)),
    Choosing("GCaMP6f, 4 photons, correlated noise", SimulationConfig(
        frames=1200, height=80, width=80, photons=4.0, gain=110.0, correlation_x=0.25, soma_diameter_px=10.0,
        population=PopulationConfig("GCaMP6f"), rare=RareConfig(flashes=8, dendritic_events=4), seed=432)),
)  # fmt: skip
REPORTED = (
    Reported("GCaMP6f, 0.5 photons", SimulationConfig(
        **SMALL, photons=0.5, gain=60.0, read_noise=8.0, offset=50.0, population=PopulationConfig("GCaMP6f"),
        rare=RARE, seed=611)),
    Reported("GCaMP6s, 2 photons", SimulationConfig(
        **SMALL, photons=2.0, event_rate_hz=0.06, tissue=TissueConfig(astrocytes=2), optics=OpticsConfig(haze=0.2),
        nuisance=NuisanceConfig(flicker=0.03), population=PopulationConfig("GCaMP6s", sparse_cells=0.3), rare=RARE,
        seed=622)),
    Reported("jGCaMP8m, 8 photons, correlated noise", SimulationConfig(
        **SMALL, photons=8.0, gain=140.0, excess_noise=1.4, bleaching=0.15, detector=DetectorConfig(bandwidth_px=0.6),
        nuisance=NuisanceConfig(jitter_px=0.1), population=PopulationConfig("jGCaMP8m"), rare=RARE, seed=613)),
)  # fmt: skip


def reported(full: bool) -> tuple[Reported, ...]:
    """The movies of the tables, small for two cores or full size for a GPU."""
    return tuple(m._replace(config=replace(m.config, **FULL)) for m in REPORTED) if full else REPORTED


def ladder(photons: tuple[float, ...]) -> tuple[Reported, ...]:
    """One kind of field at many photon levels; tissue, activity and noise are new at each."""
    base = SimulationConfig(**SMALL, population=PopulationConfig("GCaMP6f"), rare=RARE)
    return tuple(
        Reported(f"{level:g} photons", replace(base, photons=level, seed=630 + k)) for k, level in enumerate(photons)
    )


def null(movie: Reported) -> Reported:
    """The same field and detector without any activity."""
    from udenoise.simulate import quiet

    return Reported(f"{movie.name}, no activity", replace(quiet(movie.config), seed=movie.config.seed))


def check_apart(choosing: tuple[Choosing, ...], reporting: tuple[Reported, ...]) -> None:
    """ValueError where a reported movie shares its seed, or all settings but the seed, with one that settings were chosen on."""
    for one in choosing:
        for other in reporting:
            if one.config.seed == other.config.seed:
                raise ValueError(f"{other.name} has the seed of {one.name}: give the reported movie another")
            if asdict(replace(one.config, seed=0)) == asdict(replace(other.config, seed=0)):
                raise ValueError(f"{other.name} has the settings of {one.name}: give the reported movie others")


check_apart(CHOOSING, REPORTED)
