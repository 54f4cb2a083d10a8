"""Movies whose answer is known."""

from udenoise.simulate.simulation import Simulation, save_simulation, simulate

__all__ = ["Simulation", "save_simulation", "simulate"]
