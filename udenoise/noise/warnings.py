"""What is unusual about a movie's noise, in sentences: the fact, its consequence, and what the user can do."""

from collections.abc import Iterator

import numpy as np

from udenoise.io import Movie
from udenoise.noise.model import NoiseModel


def describe(noise: NoiseModel, movie: Movie, still: float, repeated: int) -> tuple[str, ...]:
    """All warnings; `still` is the fraction of pixels that never change, `repeated` the number of repeated frames."""
    return (*_fit(noise), *_walls(noise), *_correlation(noise), *_time(noise), *_faults(noise, movie, still, repeated))


def _fit(noise: NoiseModel) -> Iterator[str]:
    if not noise.gain > 0:
        yield (
            f"noise variance does not grow with brightness (gain {noise.gain:.3g}): it is not raw counts, or has "
            "no pixels of different brightness; error bars rest on a constant variance"
        )
    elif noise.photons < 0.1:
        yield (
            f"very dim: {noise.photons:.2g} photons per pixel per frame; single pixels are far from Gaussian, "
            "rely on ROIs, not on pixels"
        )


def _walls(noise: NoiseModel) -> Iterator[str]:
    if noise.clipped_fraction > 0.005:
        yield (
            f"{_percent(noise.clipped_fraction)} of values are clipped to {noise.clipped_at:g}: the darkest regions "
            "look brighter and less noisy than they are, and are left out of the fit; record with a higher offset"
        )
    if noise.saturated_fraction > 1e-5:
        yield (
            f"{_percent(noise.saturated_fraction)} of values are saturated at {noise.saturated_at:g}: the largest "
            "transients are cut off there; lower the laser power or the detector gain"
        )


def _correlation(noise: NoiseModel) -> Iterator[str]:
    centre = len(noise.kernel) // 2
    for axis, value in (("x", noise.kernel[centre, centre + 1]), ("y", noise.kernel[centre + 1, centre])):
        if abs(value) > 0.1:
            yield (
                f"noise of neighbouring pixels is correlated along {axis} ({value:.2f}): averages over few pixels "
                "are noisier than they seem; the error bars take it into account"
            )


def _time(noise: NoiseModel) -> Iterator[str]:
    if abs(noise.difference_lag1 + 0.5) > 0.02:
        yield (
            f"noise is not white in time (difference lag-1 {noise.difference_lag1:.3f}, white is -0.5), or activity "
            "is strong against it: if the movie was averaged in time, error bars are off; pass it as recorded"
        )
    if noise.breaks.size:
        yield f"trial breaks at frames {_list(noise.breaks)}: context does not cross them"
    if abs(noise.ramp) > 0.1:
        way = "rises" if noise.ramp > 0 else "falls"
        yield (
            f"brightness {way} by {_percent(abs(noise.ramp))} over the movie: ΔF/F against one baseline is biased; "
            "use a running baseline (--f0 maximin or rolling-percentile) or cut the ramp off"
        )


def _faults(noise: NoiseModel, movie: Movie, still: float, repeated: int) -> Iterator[str]:
    if len(noise.bad_rows):
        share = len(noise.bad_rows) / (movie.shape[0] * movie.shape[1])
        yield f"{_percent(share)} of rows ({len(noise.bad_rows)}) dropped out or flashed: masked"
    if noise.bad_frames.size:
        kind = f", {repeated} of them repeats of the frame before" if repeated else ""
        yield f"{noise.bad_frames.size} frames are blank, flashed or repeated{kind} ({_list(noise.bad_frames)}): masked"
    if still > 0.001:
        yield (
            f"{_percent(still)} of pixels never change (a border left by registration?): nothing can be said about "
            "them; crop them away"
        )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g} %" if fraction < 0.1 else f"{100 * fraction:.0f} %"


def _list(frames: np.ndarray) -> str:
    shown = ", ".join(map(str, frames[:8]))
    return shown if len(frames) <= 8 else f"{shown}, …"
