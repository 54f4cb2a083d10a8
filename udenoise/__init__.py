"""udenoise: denoise calcium-imaging movies with error bars that are true, from the pixel to the ΔF/F trace."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "run": "pipeline", "train": "pipeline", "denoise": "pipeline", "demo": "demonstration", "flag": "pipeline",
    "Config": "config", "MovieConfig": "config", "NetworkConfig": "config", "TrainConfig": "config",
    "DenoiseConfig": "config", "TraceConfig": "config", "FlagConfig": "config", "SimulationConfig": "config",
    "open_movie": "io", "load_rois": "io", "Movie": "io", "Rois": "io", "rois_from_masks": "io",
    "estimate_noise": "noise", "NoiseModel": "noise", "estimate_anatomy": "anatomy", "Anatomy": "anatomy",
    "load_draws": "results", "propagate": "draws", "Corridor": "draws",
    "load_denoiser": "denoiser", "Denoiser": "denoiser", "InputError": "errors",
}  # fmt: skip
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'udenoise' has no attribute '{name}'")
    return getattr(import_module(f"udenoise.{_PUBLIC[name]}"), name)
