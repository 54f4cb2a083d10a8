"""A first look at some frames of both movies: is it the same unit, and how loud is the noise really?"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from udenoise.arrays import Frames, Image
from udenoise.audit.doubt import Figure
from udenoise.audit.evidence import Denoised, Evidence, read_piece
from udenoise.audit.halves import PIECE
from udenoise.errors import InputError
from udenoise.noise import good_rows

VALUES = 2**26
"""Pixels times frames that are looked at, at most (but no fewer than `FEWEST` frames)."""
FEWEST = 60
TILE_PX = 8
LEVEL_WITHIN = 0.3
"""Mean of the denoised movie may differ from what was denoised by this share of its light; beyond that it is another unit."""
SLOPE_WITHIN = 1.7
"""And its bright places may stand out this many times more, or less."""
SD_SHARES = (0.2, 0.4, 0.6, 0.8)
"""Quantiles of the stated sd between which coverage is told apart."""


class Look(NamedTuple):
    """What some frames tell."""

    level: Figure
    """Noise variance of what judges over the noise model's."""
    given: Float[np.ndarray, "H W"]
    """What was denoised, mean of tiles, counts of the recording."""
    shown: Float[np.ndarray, "H W"]
    """What came back, in its own unit."""
    sd_edges: Float[np.ndarray, "E"]
    """Quantiles of the stated sd (counts); empty where none is stated."""


def look(evidence: Evidence, denoised: Denoised) -> Look:
    """Look at triples of successive frames spread over the movie. InputError when none is whole.

    Noise variance without a model: `2 D₁ − D₂`, D_k half the mean squared difference of frames k apart, which steps and
    slow changes leave alone (as `noise` measures it). Where the noise of the denoised movie is not that of what judges, each
    difference is multiplied by that of what judges less the denoised movie: what signal is left in it goes too.
    """
    T, Y, X = evidence.measured.shape
    starts = _triples(evidence, denoised)
    if not len(starts):
        raise InputError(
            f"no three successive frames of {evidence.source} are whole; pass a recording without dropouts"
        )
    sums, sd = np.zeros((4, Y, X)), []
    for run in _runs(starts, max(PIECE // (Y * X), 1)):
        first, last = int(run[0]), int(run[-1])
        piece = read_piece(evidence, denoised, 1.0, first, last + 3)
        y, d = piece.measured.astype(np.float64), piece.estimate
        given = evidence.given.read(first, last + 1) - evidence.offset
        noise = _noise(y, y - d if evidence.halved else y)
        model = (piece.variance[:-2] + piece.variance[1:-1] + piece.variance[2:]) / 3
        sums += np.stack([part.sum(0, dtype=np.float64) for part in (noise, model, given, d[:-2])])
        if piece.stated is not None:
            sd.append(np.sqrt(piece.stated).ravel()[:: max(Y * X * len(starts) // 200_000, 1)])
    edges = np.quantile(np.concatenate(sd), SD_SHARES) if sd else np.zeros(0)
    given, shown = (_tiles(part / len(starts)) for part in sums[2:])
    return Look(_level(sums[0], sums[1]), given, shown, edges)


def _runs(starts: np.ndarray, most: int) -> list[np.ndarray]:
    """First frames that follow each other, at most so many together."""
    begun = np.flatnonzero(np.diff(starts, prepend=starts[0] - 2) != 1)
    return [run[n : n + most] for run in np.split(starts, begun[1:]) for n in range(0, len(run), most)]


def _noise(one: Frames, other: Frames) -> Float[np.ndarray, "triples Y X"]:
    """`2 D₁ − D₂` of every three successive frames, one factor of each square from each."""

    def moved(frames: np.ndarray, a: int, b: int) -> np.ndarray:
        return frames[b : len(frames) - 2 + b] - frames[a : len(frames) - 2 + a]

    first, second, both = (moved(one, a, b) * moved(other, a, b) for a, b in ((0, 1), (1, 2), (0, 2)))
    return (first + second - both) / 2


def _triples(evidence: Evidence, denoised: Denoised) -> np.ndarray:
    """First frames of the triples: all of them, or some that are evenly spread."""
    (T, Y, X), first, last = evidence.measured.shape, denoised.first, denoised.first + len(denoised.movie)
    good = np.asarray(good_rows(evidence.noise, 0, T, Y).all(1))
    begun = np.zeros(T, bool)
    begun[evidence.noise.breaks] = True
    whole = good[:-2] & good[1:-1] & good[2:] & ~begun[1:-1] & ~begun[2:]
    starts = np.flatnonzero(whole)
    starts = starts[(starts >= first) & (starts + 3 <= last)]
    count = max(VALUES // (Y * X), FEWEST)
    return starts if len(starts) <= count else starts[np.linspace(0, len(starts) - 1, count).astype(int)]


def _level(noise: Image, model: Image) -> Figure:
    """Ratio of sums over the field; its standard error from tile to tile, so that a misfit of the model counts as well."""
    above, below = _tile_sums(noise), _tile_sums(model)
    total = below.sum()
    value = above.sum() / total
    return Figure(float(value), float(np.sqrt(np.sum((above - value * below) ** 2)) / total))


def _tile_sums(image: Image) -> Float[np.ndarray, "H W"]:
    starts = (np.arange(0, side, TILE_PX) for side in image.shape)
    rows, columns = starts
    return np.add.reduceat(np.add.reduceat(image, rows, axis=0), columns, axis=1)


def _tiles(image: Image) -> Float[np.ndarray, "H W"]:
    return _tile_sums(image) / _tile_sums(np.ones_like(image))


def in_counts(seen: Look, evidence: Evidence, denoised: Denoised, match: bool) -> Denoised:
    """The denoised movie with the unit it is in. InputError when that is not the counts of what was denoised.

    With `match` the unit is the line that lays its mean image on that of what was denoised; the mean brightness of the
    result says nothing any more. InputError when the two images are not alike.
    """
    given, shown = seen.given.ravel(), seen.shown.ravel()
    spread, light = given.std(), max(given.mean() - evidence.dark, 1e-9)
    alike = float(np.corrcoef(given, shown)[0, 1]) if spread > 0 and shown.std() > 0 else 0.0
    slope = alike * shown.std() / spread if spread > 0 else 0.0
    intercept = shown.mean() - slope * given.mean()
    if match:
        if alike < 0.8:
            raise InputError(
                f"the mean image of {denoised.movie.source} is not that of {evidence.given.source} (correlation {alike:.2f}); "
                "--match needs the same field: pass a movie that keeps its mean image"
            )
        return denoised._replace(slope=float(slope), intercept=float(intercept))
    structured = spread > 0.1 * light
    off = abs(shown.mean() - given.mean()) > LEVEL_WITHIN * light
    if off or (structured and not 1 / SLOPE_WITHIN < slope < SLOPE_WITHIN):
        raise InputError(
            f"{denoised.movie.source} is not in the counts of {evidence.given.source}: its mean image is {slope:.3g} times "
            f"the other {intercept:+.4g}; write it in counts, or let it be matched: --match"
        )
    return denoised
