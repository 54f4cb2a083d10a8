"""The noise of a movie, from the movie alone: gain, intercept, correlation in space and time, and what is broken."""

from udenoise.noise.estimate import estimate_noise
from udenoise.noise.model import NoiseModel, good_rows, load_noise, noise_json, save_noise

__all__ = ["NoiseModel", "estimate_noise", "good_rows", "load_noise", "noise_json", "save_noise"]
