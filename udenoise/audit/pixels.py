"""Single pixels: the sums of each frame, by brightness, from which the errors of pixels follow."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from scipy import sparse, stats

from udenoise.arrays import Frames
from udenoise.audit.doubt import Figure, ratio
from udenoise.audit.evidence import Evidence, Piece

BRIGHTNESS = 10
"""Groups of pixels of equal size by their mean."""
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Of the predictive intervals."""


Table = TypeVar("Table", bound=tuple)


class PixelRows(NamedTuple):
    """Sums over the good pixels of each frame, by brightness (B groups)."""

    pixels: Float[np.ndarray, "T B"]
    residual: Float[np.ndarray, "T B"]
    """Σ (y − D)."""
    square: Float[np.ndarray, "T B"]
    """Σ (y − D)²."""
    variance: Float[np.ndarray, "T B"]
    """Σ noise variance of y."""
    product: Float[np.ndarray, "T"]
    """Σ (y − m)(D − m): covariance with the denoised movie; m is the mean image."""
    next: Float[np.ndarray, "T"]
    """Σ (y − m) (next y − m): covariance of successive frames; 0 in the last of a piece that has no next."""
    paired: Float[np.ndarray, "T"]
    """Pixels in it."""


class CoverageRows(NamedTuple):
    """The same by stated sd (G groups)."""

    pixels: Float[np.ndarray, "T G"]
    square: Float[np.ndarray, "T G"]
    variance: Float[np.ndarray, "T G"]
    stated: Float[np.ndarray, "T G"]
    """Σ sd²."""
    z2: Float[np.ndarray, "T G"]
    """Σ (y − D)²/(sd² + noise variance at the level of D)."""
    inside: Float[np.ndarray, "T G L"]
    """How many lie in the predictive interval of each level."""


def brightness_groups(evidence: Evidence) -> sparse.csr_array:
    """B × pixels: 1 where a pixel belongs to a group of brightness."""
    mean = evidence.mean.ravel()
    count = max(min(BRIGHTNESS, len(np.unique(mean))), 1)
    group = np.minimum(stats.rankdata(mean, "ordinal") - 1, len(mean) - 1) * count // len(mean)
    return sparse.csr_array((np.ones(len(mean), np.float32), (group.astype(int), np.arange(len(mean)))))


def pixel_rows(piece: Piece, groups: sparse.csr_array, evidence: Evidence) -> PixelRows:
    """Sums of one piece."""
    good = np.broadcast_to(piece.good[..., None], piece.measured.shape)
    residual = np.where(good, piece.measured - piece.estimate, 0)

    def summed(frames: np.ndarray) -> np.ndarray:
        return (groups @ frames.reshape(len(frames), -1).T.astype(np.float64)).T

    mean = evidence.mean.astype(np.float32)
    y, d = np.where(good, piece.measured - mean, 0), piece.estimate - mean
    both = good[1:] & good[:-1]
    following = np.append((y[1:] * y[:-1]).sum((1, 2), dtype=np.float64), 0.0)
    return PixelRows(
        summed(good), summed(residual), summed(residual**2), summed(np.where(good, piece.variance, 0)),
        (y * d).sum((1, 2), dtype=np.float64), following, np.append(both.sum((1, 2)), 0.0),
    )  # fmt: skip


def coverage_rows(piece: Piece, stated: Frames, edges: Float[np.ndarray, "E"]) -> CoverageRows:
    """Sums of one piece whose stated variance is given (counts²)."""
    square = (piece.measured - piece.estimate) ** 2
    z2 = square / (stated + piece.expected)
    group = np.searchsorted(edges, np.sqrt(stated))
    inside = [z2 <= stats.norm.ppf((1 + p) / 2) ** 2 for p in LEVELS]
    G = len(edges) + 1
    rows = [
        [
            _by(group[t], part[t], piece.good[t], G)
            for part in (np.ones_like(z2), square, piece.variance, stated, z2, *inside)
        ]
        for t in range(len(z2))
    ]
    count, square, variance, stated, z2, *inside = np.moveaxis(np.array(rows, np.float64), 1, 0)
    return CoverageRows(count, square, variance, stated, z2, np.stack(inside, axis=-1))


def _by(group: np.ndarray, values: np.ndarray, good: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(group[good].ravel(), values[good].ravel(), minlength=count)


def join_rows(parts: Sequence[Table]) -> Table:
    """Pieces one after the other in time."""
    return type(parts[0])(*map(np.concatenate, zip(*parts, strict=True)))


def pixel_error(rows: PixelRows, level: Figure) -> tuple[Figure, float]:
    """Mean squared error of a pixel (counts²) and the noise variance of what judges it.

    `E (y − D)² − N`; the standard error has the noise's and that of its measured level.
    """
    count, variance = rows.pixels.sum(1), rows.variance.sum(1)
    noise = float(variance.sum() / count.sum())
    return ratio(rows.square.sum(1) - variance, count, other=level.se / level.value * noise), noise


def brightness_table(rows: PixelRows, evidence: Evidence, groups: sparse.csr_array) -> list[dict]:
    """Mean residual y − D (counts) by the mean of a pixel: above 0 the denoised movie is too dark there."""
    mean = groups @ evidence.mean.ravel() / groups.sum(1)
    table = []
    for b in range(len(mean)):
        bias = ratio(rows.residual[:, b], rows.pixels[:, b])
        table.append({"mean": float(mean[b]), "residual": bias.value, "se": bias.se})
    return table
