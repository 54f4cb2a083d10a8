"""Where ROIs and their neuropil rings lie: on the lattice of the network's shared errors, and beside each other."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage, sparse

from udenoise.gaussian import window
from udenoise.io import Rois

RING_GAP_PX = 2
RING_PIXELS = 350
SHARED_PX = 24
"""Distance in pixels between the nodes at which errors are shared by ROIs nearby."""


class Regions(NamedTuple):
    """ROIs (k = 0) and their neuropil rings (k = 1) as padded pixel lists, and the box of lattice nodes each pair touches.

    `rows[k, n, p, i]` is the window of node row `first_row[n] + i` at pixel p; `columns` likewise.
    """

    index: Int[np.ndarray, "K N P"]
    weight: Float[np.ndarray, "K N P"]
    rows: Float[np.ndarray, "K N P I"]
    columns: Float[np.ndarray, "K N P J"]
    first_row: Int[np.ndarray, "N"]
    first_column: Int[np.ndarray, "N"]
    kernel_factor: Float[np.ndarray, "K N"]


def neuropil_rings(rois: Rois) -> Rois:
    """Equal weights on at least 350 pixels around each ROI, beyond a gap of 2 pixels, and in no ROI (as Suite2p's).

    Where the field leaves fewer such pixels, all of them.
    """
    occupied = np.zeros(rois.shape, bool)
    occupied.ravel()[rois.index[rois.weight > 0]] = True
    rings = [_ring(rois.index[n][rois.weight[n] > 0], rois.shape, occupied) for n in range(len(rois.names))]
    longest = max(len(ring) for ring in rings)
    index, weight = np.zeros((len(rings), longest), np.int32), np.zeros((len(rings), longest), np.float32)
    for n, ring in enumerate(rings):
        index[n, : len(ring)], weight[n, : len(ring)] = ring, 1 / len(ring)
    return Rois(rois.names, index, weight, rois.shape)


def _ring(pixels: np.ndarray, shape: tuple[int, int], occupied: np.ndarray) -> np.ndarray:
    own = np.zeros(shape, bool)
    own.ravel()[pixels] = True
    distance = np.where(occupied, np.inf, ndimage.distance_transform_edt(~own))
    distance[distance <= RING_GAP_PX] = np.inf
    free = np.isfinite(distance)
    if not free.any():
        return np.flatnonzero(~own) if not own.all() else pixels
    limit = np.sort(distance[free])[min(RING_PIXELS, free.sum()) - 1]
    return np.flatnonzero(distance <= limit)


def lay_out(parts: tuple[Rois, ...], spacing: int, kernel: Float[np.ndarray, "ky kx"]) -> Regions:
    """Stack ROIs and rings over the lattice; `kernel` is the noise correlation."""
    Y, X = parts[0].shape
    longest = max(part.index.shape[1] for part in parts)
    index = np.stack([np.pad(p.index, ((0, 0), (0, longest - p.index.shape[1]))) for p in parts])
    weight = np.stack([np.pad(p.weight, ((0, 0), (0, longest - p.weight.shape[1]))) for p in parts])
    used = weight > 0
    rows, first_row = _node_windows(index // X, used, spacing)
    columns, first_column = _node_windows(index % X, used, spacing)
    factor = np.stack([_kernel_factors(part, kernel) for part in parts])
    return Regions(index, weight, rows, columns, first_row, first_column, factor)


def _node_windows(position: np.ndarray, used: np.ndarray, spacing: int) -> tuple[np.ndarray, np.ndarray]:
    cell = position // spacing
    first = np.where(used, cell, np.iinfo(cell.dtype).max).min((0, 2))
    last = np.where(used, cell, -1).max((0, 2)) + 1
    span = int((last - first).max()) + 1
    w = window(spacing)
    node = first[None, :, None, None] + np.arange(span)
    before, after = node == cell[..., None], node == cell[..., None] + 1
    phase = position % spacing
    return (before * w[0][phase][..., None] + after * w[1][phase][..., None]).astype(np.float32), first


def _kernel_factors(rois: Rois, kernel: np.ndarray) -> Float[np.ndarray, "N"]:
    """`wᵀ ρ w / wᵀ w`: how much larger an ROI's noise variance is than for independent pixels."""
    Y, X = rois.shape
    return np.array(
        [_kernel_factor(i[w > 0], w[w > 0], X, kernel) for i, w in zip(rois.index, rois.weight, strict=True)]
    )


def _kernel_factor(index: np.ndarray, weight: np.ndarray, X: int, kernel: np.ndarray) -> float:
    y, x = index // X, index % X
    mask = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1))
    mask[y - y.min(), x - x.min()] = weight
    return correlated_share(mask, kernel)


def correlated_share(weight: Float[np.ndarray, "H W"], kernel: Float[np.ndarray, "ky kx"]) -> float:
    """`wᵀ ρ w / wᵀ w`: noise variance of a weighted sum over that of independent pixels."""
    return float((weight * ndimage.convolve(weight, kernel, mode="constant")).sum() / (weight**2).sum())


class Places(NamedTuple):
    """The four nodes of a lattice around each region, and their weights, whose squares sum to 1."""

    node: Int[np.ndarray, "N 4"]
    weight: Float[np.ndarray, "N 4"]


def locate(rois: Rois) -> Places:
    """Where the regions lie between the nodes; windows as in `gaussian`."""
    X = rois.shape[1]
    total = rois.weight.sum(1)
    centre = [(part * rois.weight).sum(1) / total / SHARED_PX for part in (rois.index // X, rois.index % X)]
    (row, column), columns = (np.floor(c).astype(int) for c in centre), X // SHARED_PX + 2
    y, x = ((c - np.floor(c)) * np.pi / 2 for c in centre)
    corners = [(i, j) for i in (0, 1) for j in (0, 1)]
    weight = [(np.sin(y) if i else np.cos(y)) * (np.sin(x) if j else np.cos(x)) for i, j in corners]
    return Places(
        np.stack([(row + i) * columns + column + j for i, j in corners], 1), np.stack(weight, 1).astype(np.float32)
    )


def nearness(places: Places) -> Float[np.ndarray, "N N"]:
    """Correlation of what two regions hear of the nodes: 1 at the same place, 0 where they have no node in common."""
    N = len(places.node)
    nodes, column = np.unique(places.node, return_inverse=True)
    heard = sparse.csr_array(
        (places.weight.ravel(), (np.repeat(np.arange(N), 4), column.ravel())), shape=(N, len(nodes))
    )
    return (heard @ heard.T).toarray()


def share_noise(rois: Rois, kernel: Float[np.ndarray, "ky kx"]) -> Bool[np.ndarray, "N N"]:
    """Which pairs of regions have pixels in common, or so close that their noise is correlated."""
    (N, P), X = rois.index.shape, rois.shape[1]
    size = rois.shape[0] * X
    used = rois.weight.ravel() > 0
    region, pixel = np.repeat(np.arange(N), P)[used], rois.index.ravel()[used]
    own = sparse.csr_array((np.ones(len(pixel), np.float32), (region, pixel)), shape=(N, size))
    middle = np.array(kernel.shape) // 2
    steps = (np.argwhere(kernel != 0) - middle) @ np.array([X, 1])
    moved = np.concatenate([np.clip(pixel + step, 0, size - 1) for step in steps])
    wide = sparse.csr_array((np.ones(len(moved), np.float32), (np.tile(region, len(steps)), moved)), shape=(N, size))
    return (own @ wide.T).toarray() > 0
