"""Every subcommand as a function of the same name. (On the package itself `noise` or `traces` are the rooms, so they live here.)"""

from udenoise.demonstration import demo
from udenoise.null import null
from udenoise.pipeline import denoise, noise, report, run, traces, train
from udenoise.pipeline import flag as flags
from udenoise.simulate import simulate

__all__ = ["demo", "denoise", "flags", "noise", "null", "report", "run", "simulate", "traces", "train"]
