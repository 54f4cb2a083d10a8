"""ROIs of both movies, or tiles of about a soma where there are none: their traces, and the noise they should have."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse

from udenoise.audit.evidence import Evidence, Piece
from udenoise.io import Rois
from udenoise.metrics import Cells
from udenoise.regions import correlated_share

TILE_PX = 12
"""Side of a tile, about a soma."""
TILES = 256
"""Tiles at most, evenly spread."""
Traces = Float[np.ndarray, "N T"]


class Regions(NamedTuple):
    """N weighted sums over a frame."""

    rois: Rois
    weights: sparse.csr_array
    """N × pixels."""
    factor: Float[np.ndarray, "N"]
    """`wᵀρw / wᵀw`: noise variance over that of independent pixels."""
    given: bool
    """Whether these are the user's ROIs; else they are tiles."""

    @property
    def cells(self) -> Cells:
        """The pixels of each, without their weights."""
        size = np.diff(self.weights.indptr)
        return Cells(self.weights.indices.astype(int), np.cumsum(size) - size, size)


class Stated(NamedTuple):
    """Stated variance of the regions, counts²."""

    apart: Traces
    """If errors of pixels were independent."""
    together: Traces
    """If they were all alike."""


class Series(NamedTuple):
    """Traces of N regions over the judged frames, counts; where a region is not whole, residual and variance are 0."""

    residual: Traces
    """wᵀ(y − D)."""
    estimate: Traces
    """wᵀD."""
    variance: Traces
    """Noise variance of the residual, right on average (counts²)."""
    whole: Bool[np.ndarray, "N T"]
    """Whether all rows of the region may be believed."""
    stated: Stated | None


def lay_regions(evidence: Evidence, rois: Rois | None) -> Regions:
    """The user's ROIs or tiles, with the noise's correlation in them."""
    used = rois or tiles(evidence.mean.shape)
    N, P = used.index.shape
    size = used.shape[0] * used.shape[1]
    row = np.repeat(np.arange(N), P)
    weights = sparse.csr_array((used.weight.ravel().astype(np.float64), (row, used.index.ravel())), shape=(N, size))
    weights.eliminate_zeros()
    weights.sort_indices()
    parts = [_cut(used.index[n], used.weight[n], used.shape[1]) for n in range(N)]
    factor = np.array([correlated_share(part, evidence.noise.kernel) for part in parts])
    return Regions(used, weights, factor, rois is not None)


def _cut(index: np.ndarray, weight: np.ndarray, X: int) -> Float[np.ndarray, "H W"]:
    y, x, w = index[weight > 0] // X, index[weight > 0] % X, weight[weight > 0]
    image = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1))
    image[y - y.min(), x - x.min()] = w
    return image


def tiles(shape: tuple[int, int]) -> Rois:
    """Squares of 12 pixels (smaller in a smaller field), at most 256, evenly spread."""
    side = min(TILE_PX, *shape)
    corners = [(y, x) for y in range(0, shape[0] - side + 1, side) for x in range(0, shape[1] - side + 1, side)]
    chosen = np.unique(np.linspace(0, len(corners) - 1, min(TILES, len(corners))).astype(int))
    square = (np.arange(side)[:, None] * shape[1] + np.arange(side)).ravel()
    index = np.stack([corners[i][0] * shape[1] + corners[i][1] + square for i in chosen]).astype(np.int32)
    names = tuple(f"tile_{corners[i][0]}_{corners[i][1]}" for i in chosen)
    return Rois(names, index, np.full(index.shape, 1 / side**2, np.float32), shape)


def read_traces(regions: Regions, piece: Piece) -> Series:
    """Traces of one piece."""
    W = regions.weights
    squared = sparse.csr_array(W.multiply(W) * regions.factor[:, None])

    def summed(weights: sparse.csr_array, frames: np.ndarray) -> np.ndarray:
        return np.asarray(weights @ frames.reshape(len(frames), -1).T.astype(np.float64)).astype(np.float32)

    bad = np.repeat(~piece.good, piece.measured.shape[2], axis=1).T.astype(np.float64)
    whole = np.asarray(W @ bad) == 0
    stated = None
    if piece.stated is not None:
        together = np.square(summed(W, np.sqrt(piece.stated)))
        stated = Stated(summed(sparse.csr_array(W.multiply(W)), piece.stated), together)
    residual, variance = summed(W, piece.measured - piece.estimate), summed(squared, piece.variance)
    return Series(np.where(whole, residual, 0), summed(W, piece.estimate), np.where(whole, variance, 0), whole, stated)


def join(parts: Sequence[Series]) -> Series:
    """One after the other in time."""
    residual, estimate, variance, whole = (
        np.concatenate([getattr(part, name) for part in parts], axis=1) for name in Series._fields[:4]
    )
    said = [part.stated for part in parts if part.stated is not None]
    stated = Stated(*(np.concatenate(part, axis=1) for part in zip(*said, strict=True))) if said else None
    return Series(residual, estimate, variance, whole, stated)
