"""What a denoised movie is held against, and both of them frame by frame, in counts of the recording."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from udenoise.arrays import Frames, Rows
from udenoise.audit.halves import PIECE, measure_range, own_variance, settled, smooth_level
from udenoise.baselines.foreign import check_aligned
from udenoise.config import MovieConfig
from udenoise.errors import InputError
from udenoise.io import Movie, open_movie
from udenoise.io.formats import Source
from udenoise.io.store import read_json
from udenoise.noise import NoiseModel, estimate_noise, good_rows, load_noise
from udenoise.progress import progress_bar

TYPED = "--missing-ends {} {}"
"""How a user says which frames a movie lacks."""
SMOOTH_PX = 2.0
"""Smoothing of what the estimate adds to the mean image before the noise is taken from it, standard deviation in pixels."""


class Evidence(NamedTuple):
    """A measurement of every frame whose noise is known, and was not seen (`split`) or should not have been (`quick`)."""

    source: str
    given: Movie
    """What was denoised."""
    measured: Movie
    """What judges: counts of the recording."""
    noise: NoiseModel
    mean: Float[np.ndarray, "Y X"]
    """Mean image of what was denoised, counts of the recording."""
    louder: float
    """Noise variance of what judges over that of the recording: 1 + 1/τ², or 1."""
    given_louder: float
    """Noise variance of what was denoised over that of the recording: 1 + τ², or 1."""
    offset: float
    """Counts that were added to what was denoised."""
    halved: bool
    """Whether the noise of what judges is independent of what was denoised."""

    @property
    def dark(self) -> float:
        """Counts at zero light, −intercept/gain, where the read noise is small; never above the field's dimmest pixel."""
        level = -self.noise.intercept / self.noise.gain if self.noise.gain > 0 else 0.0
        return float(min(level, self.mean.min() - 1e-3 * max(np.ptp(self.mean), 1.0)))


class Denoised(NamedTuple):
    """A foreign movie, aligned: its frame i is frame first + i of the recording, value `slope · counts + intercept`."""

    movie: Movie
    first: int
    slope: float = 1.0
    intercept: float = 0.0
    sd: Movie | None = None
    """Its stated standard deviation, in the same unit."""


class Piece(NamedTuple):
    """Some successive frames of both, counts of the recording."""

    first: int
    measured: Frames
    estimate: Frames
    variance: Frames
    """Noise variance of what was measured, at its own value: right on average, sometimes negative (counts²)."""
    expected: Frames
    """The same at the level of the estimate, smooth and positive: it knows nothing of the noise of what judges."""
    good: Rows
    stated: Frames | None
    """Stated variance of the estimate, counts²."""


def load_halves(folder: str | Path) -> Evidence:
    """What `split` wrote. Raises InputError when the folder holds no halves."""
    folder = Path(folder)
    if not (folder / "audit.json").is_file():
        raise InputError(f"{folder} holds no halves; make them: udenoise audit split MOVIE -o {folder}")
    about = read_json(folder / "audit.json")
    rate = MovieConfig(frame_rate_hz=about["frame_rate_hz"])
    tau = about["tau"]
    return Evidence(
        about["source"], open_movie(folder / "input.tif", rate), open_movie(folder / "judge.tif", rate),
        load_noise(folder / "noise.json"), np.load(folder / "mean.npy").astype(np.float64), 1 + tau**-2, 1 + tau**2,
        float(about["offset_added"]), True,
    )  # fmt: skip


def raw_evidence(raw: Source, config: MovieConfig, quiet: bool) -> Evidence:
    """The raw movie as its own judge. Raises InputError where its noise cannot be measured."""
    movie = open_movie(raw, config)
    with progress_bar("noise", len(movie), quiet) as bar:
        noise = settled(estimate_noise(movie, bar), movie.shape)
    with progress_bar("mean", len(movie), quiet) as bar:
        mean = measure_range(movie, noise, bar).mean
    return Evidence(movie.source, movie, movie, noise, mean, 1.0, 1.0, 0.0, False)


def align(evidence: Evidence, denoised: Source, sd: Source | None, missing_ends: tuple[int, int]) -> Denoised:
    """The foreign movie and its stated sd beside the recording. Raises InputError when frames differ in size or number."""
    movie = open_movie(denoised)
    check_aligned(movie, evidence.given.shape, missing_ends, TYPED)
    stated = None if sd is None else open_movie(sd)
    if stated is not None:
        check_aligned(stated, evidence.given.shape, missing_ends, TYPED)
    return Denoised(movie, missing_ends[0], sd=stated)


def read_piece(evidence: Evidence, denoised: Denoised, level: float, start: int, stop: int) -> Piece:
    """Frames start ≤ t < stop of the recording; `level` is the factor on the noise variance that was measured."""
    measured = evidence.measured.read(start, stop).astype(np.float32)
    inside = slice(start - denoised.first, stop - denoised.first)
    estimate = denoised.movie.read(inside.start, inside.stop).astype(np.float32)
    estimate = (estimate - (denoised.intercept + evidence.offset * denoised.slope)) / denoised.slope
    stated = None
    if denoised.sd is not None:
        stated = np.square(denoised.sd.read(inside.start, inside.stop).astype(np.float32) / denoised.slope)
    louder = evidence.louder * level
    expected = evidence.noise.pixel_variance(smooth_level(estimate, evidence.mean, SMOOTH_PX)) * louder
    variance = own_variance(measured, evidence.noise) * louder
    good = good_rows(evidence.noise, start, stop, measured.shape[1])
    estimate, variance, expected = (part.astype(np.float32) for part in (estimate, variance, expected))
    return Piece(start, measured, estimate, variance, expected, good, stated)


def stream(evidence: Evidence, denoised: Denoised, level: float, piece: int | None = None) -> Iterator[Piece]:
    """All frames that the denoised movie has, in order; memory is a piece."""
    T, (Y, X) = len(denoised.movie), evidence.measured.shape[1:]
    size = piece or max(PIECE // (Y * X), 1)
    for start in range(denoised.first, denoised.first + T, size):
        yield read_piece(evidence, denoised, level, start, min(start + size, denoised.first + T))
