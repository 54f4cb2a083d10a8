"""Movies whose answer is known: cells, neuropil, kinetics, photons, detector, rare events; null and semi-real movies."""

from udenoise.simulate.activity import INDICATORS, Kinetics
from udenoise.simulate.events import Events
from udenoise.simulate.plan import plan_simulation, quiet, simulate, write_simulation
from udenoise.simulate.simulation import Plan, Simulation, load_simulation, make, save_simulation, write

__all__ = [
    "INDICATORS", "Events", "Kinetics", "Plan", "Simulation", "load_simulation", "make", "plan_simulation", "quiet",
    "save_simulation", "simulate", "write", "write_simulation",
]  # fmt: skip
