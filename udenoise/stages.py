"""Every subcommand as a function of the same name. (On the package itself `noise` or `traces` are the rooms, so they live here.)"""

from udenoise.demonstration import demo
from udenoise.pipeline import denoise, noise, report, run, traces, train
from udenoise.simulate import simulate

__all__ = ["demo", "denoise", "noise", "report", "run", "simulate", "traces", "train"]
