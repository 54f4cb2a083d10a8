"""What else happens in a recording: bleaching, flicker, drift, jitter and bursts of motion."""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import shift

from udenoise.config import SimulationConfig
from udenoise.simulate.activity import slow_noise


def brightness(config: SimulationConfig, rng: np.random.Generator) -> Float[np.ndarray, "T"]:
    """Brightness of every frame: exponential decay to 1 − bleaching, times slow flicker."""
    remaining = (1 - config.bleaching) ** (np.arange(config.frames) / config.frames)
    flicker = slow_noise(rng, 1, config.frames, 20 * config.frame_rate_hz)[0] if config.nuisance.flicker else 0.0
    return remaining * np.exp(config.nuisance.flicker * flicker)


def motion(config: SimulationConfig, rng: np.random.Generator) -> Float[np.ndarray, "T 2"]:
    """Displacement (y, x) of every frame in pixels: straight drift, white jitter, and bursts that come back."""
    nuisance, frames = config.nuisance, config.frames
    angle = rng.uniform(0, 2 * np.pi)
    drift = nuisance.drift_px * np.linspace(0, 1, frames)[:, None] * np.array([np.sin(angle), np.cos(angle)])
    jitter = nuisance.jitter_px * rng.normal(size=(frames, 2))
    starts = np.flatnonzero(rng.random(frames) < nuisance.motion_bursts_hz / config.frame_rate_hz)
    return drift + jitter + sum((_burst(config, rng, int(start)) for start in starts), np.zeros((frames, 2)))


def _burst(config: SimulationConfig, rng: np.random.Generator, start: int) -> Float[np.ndarray, "T 2"]:
    """Out fast and back slowly: (t/τ) exp(1 − t/τ), τ about 0.15 s, mostly along one axis."""
    t = (
        np.maximum(np.arange(config.frames) - start + 0.5, 0)
        / config.frame_rate_hz
        / (0.15 * np.exp(0.3 * rng.normal()))
    )
    height = config.nuisance.motion_burst_px * np.exp(0.4 * rng.normal())
    direction = rng.normal(size=2) * (0.5, 1.0)
    return (t * np.exp(1 - t))[:, None] * height * direction / np.hypot(*direction) * (t > 0)[:, None]


def move(frames: Float[np.ndarray, "t V W"], shifts: Float[np.ndarray, "t 2"], margin: int) -> np.ndarray:
    """Each frame displaced by its shift (cubic splines), then cut by `margin` pixels on every side (t Y X)."""
    if not margin:
        return frames
    moved = np.stack([shift(frame, by, order=3, mode="nearest") for frame, by in zip(frames, shifts, strict=True)])
    return moved[:, margin:-margin, margin:-margin]
