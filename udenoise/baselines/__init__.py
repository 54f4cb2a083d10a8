"""Other ways to denoise, each well tuned, and other programs' results: what udenoise is measured against."""

from dataclasses import replace

from udenoise.baselines.deepinterpolation import deepinterpolation
from udenoise.baselines.filters import gaussian, median, raw
from udenoise.baselines.foreign import load_foreign
from udenoise.baselines.method import Denoised, Method, roi_traces
from udenoise.baselines.noise2void import noise2void
from udenoise.baselines.pmd import pmd
from udenoise.baselines.tuning import Trial, Tuned, roi_score, tune, wiener_traces
from udenoise.config import (
    DeepInterpolationConfig,
    GaussianConfig,
    MedianConfig,
    Noise2VoidConfig,
    PmdConfig,
    RawConfig,
)
from udenoise.metrics import SIGMAS

PMD_GRID = {"block_px": (8, 12, 16), "false_rate": (0.005, 0.05, 0.2), "smooth_frames": (0.0, 1.0, 2.0, 3.0)}
RATES = {"learning_rate": (2e-4, 5e-4, 1e-3), "decay": (0.0, 0.5)}

_SMALL = replace(DeepInterpolationConfig(), widths=(16, 32, 64, 128, 256))
_ALL = (
    Method("raw", raw, RawConfig(), {}),
    Method("temporal-gaussian", gaussian, GaussianConfig(), {"sigma_frames": SIGMAS}),
    Method(
        "gaussian", gaussian, GaussianConfig(sigma_px=1.0), {"sigma_frames": SIGMAS[::2], "sigma_px": (0.5, 1.0, 2.0)}
    ),
    Method("temporal-median", median, MedianConfig(), {"window_frames": (3, 5, 7, 9, 13, 19, 27)}),
    Method("pmd", pmd, PmdConfig(), PMD_GRID),
    Method("noise2void", noise2void, Noise2VoidConfig(), RATES),
    Method("deepinterpolation", deepinterpolation, DeepInterpolationConfig(), RATES),
    Method("deepinterpolation-small", deepinterpolation, _SMALL, RATES),
)
METHODS = {method.name: method for method in _ALL}
"""All methods that turn a movie into a movie, by the name that tables show; `-small` has a quarter of the channels."""

__all__ = [
    "METHODS", "Denoised", "Method", "Trial", "Tuned", "load_foreign", "roi_score", "roi_traces", "tune", "wiener_traces",
]  # fmt: skip
