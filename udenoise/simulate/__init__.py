"""Movies whose answer is known: cells, neuropil, kinetics, photons, detector, rare events; null, semi-real, re-noised."""

from udenoise.simulate.activity import INDICATORS, Kinetics
from udenoise.simulate.events import Events
from udenoise.simulate.measured import add_noise, load_footprints, plan_null, plan_semireal
from udenoise.simulate.plan import plan_simulation, quiet, simulate, write_simulation
from udenoise.simulate.renoise import Halves, thin, write_renoised
from udenoise.simulate.simulation import Plan, Simulation, load_simulation, make, save_simulation, write

__all__ = [
    "INDICATORS", "Events", "Halves", "Kinetics", "Plan", "Simulation", "add_noise", "load_footprints",
    "load_simulation", "make", "plan_null", "plan_semireal", "plan_simulation", "quiet", "save_simulation", "simulate",
    "thin", "write", "write_renoised", "write_simulation",
]  # fmt: skip
