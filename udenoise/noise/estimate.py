"""From a movie to its noise model: find the faults, fit the photon-transfer line around them, say what is unusual."""

from typing import NamedTuple

import numpy as np

from udenoise.errors import InputError
from udenoise.io import Movie
from udenoise.noise.dropouts import Faults, Progress, Scan, find_faults, scan
from udenoise.noise.model import NoiseModel
from udenoise.noise.transfer import (
    Line,
    Moments,
    fit_line,
    measure_field,
    measure_kernel,
    measure_moments,
    measure_pulse_spread,
    usable_pixels,
    whiteness,
)
from udenoise.noise.warnings import describe

FEWEST_FRAMES = 10


class Wall(NamedTuple):
    """A value at which counts pile up."""

    at: float | None
    fraction: float


def estimate_noise(movie: Movie, progress: Progress = None) -> NoiseModel:
    """Noise model of a movie (T Y X counts), from frame differences alone.

    The variance is the mean of `2 D₁ - D₂` over frames, with `D_k` half the mean squared difference of frames k apart
    (photon transfer, Janesick 2007, made robust to slow activity and drift), fitted against the mean over groups of
    pixels. Bad rows and frames, trial breaks, and pixels at floor or ceiling are left out. What is identifiable is the
    line over the range of brightness that the movie has; gain and intercept apart need pixels of different brightness.

    The whole movie is read once for the faults, at most 4096 frames spread over it for the rest; memory is a chunk of
    frames and T Y numbers. `progress(frames done)` is called during the first. Raises InputError when the movie is too
    short, constant, saturated, or has no noise.
    """
    if len(movie) < FEWEST_FRAMES:
        raise InputError(f"movie has {len(movie)} frames; noise needs at least {FEWEST_FRAMES}: pass a longer movie")
    seen = scan(movie, progress)
    _check_alive(seen, movie)
    faults = find_faults(seen)
    good = _good(faults, movie.shape[0], movie.shape[1])
    moments = measure_moments(movie, good, faults.breaks, seen.low, seen.high)
    usable = usable_pixels(moments)
    if usable.all(0).sum() < 100:
        raise InputError(
            "movie has fewer than 100 pixels that change in time without touching its smallest "
            "or largest value; pass the raw movie, not a processed, thresholded or saturated one"
        )
    return _model(movie, seen, faults, moments, fit_line(moments))


def _check_alive(seen: Scan, movie: Movie) -> None:
    if seen.low == seen.high:
        what = "saturated" if movie.dtype.kind in "iu" and seen.high == np.iinfo(movie.dtype).max else "constant"
        raise InputError(f"movie is {what} (every value is {seen.low:g}); pass the recording, and check --channel")
    if len(seen.repeated) > 0.5 * len(movie):
        raise InputError(f"{len(seen.repeated)} of {len(movie)} frames repeat the frame before; pass the raw recording")


def _good(faults: Faults, T: int, Y: int) -> np.ndarray:
    good = np.ones((T, Y), bool)
    good[faults.bad_rows[:, 0], faults.bad_rows[:, 1]] = False
    good[faults.bad_frames] = False
    return good


def _model(movie: Movie, seen: Scan, faults: Faults, moments: Moments, line: Line) -> NoiseModel:
    usable = usable_pixels(moments)
    floor = 0.05 * line.bin_variance.min()
    mean = np.nanmean(moments.mean, axis=0)
    sd = np.sqrt(np.maximum(line.gain * np.nan_to_num(mean) + line.intercept, floor))
    kernel = measure_kernel(movie, _good(faults, *movie.shape[:2]), faults.breaks, sd, line.quiet)
    changing = np.isfinite(mean) & (moments.lag1.sum(0) > 0)
    clipped, saturated = (
        _wall(at, fraction, near, moments.values)
        for at, fraction, near in (
            (seen.low, float(np.nanmean(moments.at_low)), moments.near_low),
            (seen.high, float(np.nanmean(moments.at_high)), moments.near_high),
        )
    )
    model = NoiseModel(
        gain=line.gain,
        intercept=line.intercept,
        kernel=kernel,
        difference_lag1=whiteness(moments, usable, line),
        field=measure_field(moments, line.quiet, line),
        bin_mean=line.bin_mean,
        bin_variance=line.bin_variance,
        photons=float(np.median(line.gain * mean[changing] + line.intercept) / line.gain**2),
        bad_rows=faults.bad_rows,
        bad_frames=faults.bad_frames,
        breaks=faults.breaks,
        saturated_at=saturated.at,
        saturated_fraction=saturated.fraction,
        clipped_at=clipped.at,
        clipped_fraction=clipped.fraction,
        ramp=faults.ramp,
        frame_mean=faults.frame_mean,
        warnings=(),
    )
    model = model._replace(pulse_spread=measure_pulse_spread(moments, line.quiet, model))
    return model._replace(warnings=describe(model, movie, float(1 - changing.mean()), len(seen.repeated)))


def _wall(at: float, fraction: float, near: float, values: int) -> Wall:
    """A pile-up: at least 5 values, and 5 times as many as at each of the levels next to it."""
    return Wall(at, fraction) if fraction * values >= 5 and fraction > 5 * near else Wall(None, 0.0)
