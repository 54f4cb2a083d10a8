"""A trained network that can be saved, loaded and handed on. Noise and normalisation belong to the movie, not to it."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jaxtyping import Array

from udenoise import network
from udenoise.config import NetworkConfig, from_json, to_json
from udenoise.errors import InputError
from udenoise.io.store import read_json, write_json
from udenoise.network import Prior
from udenoise.recording import Scaling


@dataclass(frozen=True)
class Denoiser:
    """Network settings (context resolved), parameters, and the recording it learned from (rate, photons per pixel)."""

    config: NetworkConfig
    params: Any
    frame_rate_hz: float | None
    photons: float


def resolve(config: NetworkConfig, frame_rate_hz: float | None, frames: int) -> NetworkConfig:
    """Settings with the context filled in from the frame rate; never longer than half the movie."""
    wanted = config.context
    if wanted is None:
        wanted = network.default_context(frame_rate_hz, config.indicator_time_constant_s)
    if wanted < 1:
        raise InputError(f"context is {wanted} frames; the network needs at least 1 on each side: --context 15")
    return replace(config, context=min(wanted, max(frames // 2, 1), network.EDGES[-1] - 1))


def predict(
    params: Any,
    config: NetworkConfig,
    scale: Scaling,
    averages: Array,
    weights: Array,
    mean: Array,
    ratio: Array,
    maps: Array,
    key: Array | None = None,
) -> Prior:
    """The prior of hidden frames (B Y X, whitened), from window averages (B K Y X), their weights, and what is known without
    the hidden frames: their mean images, noise ratio (B Y X) and further maps (B Y X E)."""
    sigma = scale.sigma(mean, ratio)
    windows = network.whiten_windows(averages, weights, mean, sigma)
    missing = 1.0 - (jnp.sum(weights, axis=-1) > 0.5)
    anatomy = network.anatomy_features(mean, sigma, scale.level, maps, config.anatomy)
    return network.apply(params, config, windows, missing, anatomy, key)


def save_denoiser(denoiser: Denoiser, path: Path, record: dict[str, Any] | None = None) -> None:
    """Write `path/` (settings and how training went as JSON, parameters by Orbax); complete or absent, never half."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((part / "params").absolute(), denoiser.params)
    about = {"network": to_json(denoiser.config), "frame_rate_hz": denoiser.frame_rate_hz, "photons": denoiser.photons}
    write_json(part / "denoiser.json", about)
    if record is not None:
        write_json(part / "training.json", record)
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)


def load_denoiser(path: Path) -> Denoiser:
    """Read what `save_denoiser` wrote. Raises InputError when it is something else."""
    if not (path / "denoiser.json").is_file():
        raise InputError(
            f"{path} is not a udenoise denoiser (no denoiser.json); give the folder RUN/denoiser of a finished run"
        )
    try:
        about = read_json(path / "denoiser.json")
        config = from_json(NetworkConfig, about["network"])
        shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), config))
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore((path / "params").absolute(), shapes)
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(f"the denoiser in {path} cannot be read ({reason}); train it again or give another") from error
    return Denoiser(config, params, about["frame_rate_hz"], about["photons"])
