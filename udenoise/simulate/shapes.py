"""What a field is drawn with: places, smooth textures, wandering curves, and patches stamped into sparse columns.

A column (P 1) is one footprint over the P = Y · X pixels of the field, mostly zero.
"""

import numpy as np
from scipy import sparse
from scipy.ndimage import gaussian_filter

from udenoise.errors import InputError

Shape = tuple[int, int]


def lognormal(rng: np.random.Generator, median: float, spread: float) -> float:
    """One number of this median; `spread` is the standard deviation of its logarithm."""
    return median * np.exp(spread * rng.normal())


def place(rng: np.random.Generator, n: int, dark: int, diameter: float, shape: Shape) -> np.ndarray:
    """Centres of n somata and then of up to `dark` more (as many as there is room for), none on top of another."""
    centres = np.empty((0, 2))
    margin = 0.6 * diameter
    for _ in range(60 * (n + dark)):
        candidate = rng.uniform(margin, np.array(shape) - 1 - margin)
        if np.all(np.hypot(*(centres - candidate).T) > 0.85 * diameter):
            centres = np.vstack([centres, candidate])
        if len(centres) == n + dark:
            break
    if not 1 <= n <= len(centres):
        raise InputError(f"cells is {n}; 1 to {len(centres)} fit into {shape[0]} x {shape[1]} pixels: --cells 1")
    return centres


def stamp(patch: np.ndarray, corner: np.ndarray, shape: Shape) -> sparse.csc_array:
    """A drawn patch as one column (P 1) of the footprints; what sticks out of the field is cut."""
    rows, columns = np.nonzero(np.abs(patch) > 1e-3 * np.abs(patch).max())
    values, rows, columns = patch[rows, columns], rows + corner[0], columns + corner[1]
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    index = rows[inside] * shape[1] + columns[inside]
    return sparse.csc_array((values[inside], (index, np.zeros_like(index))), shape=(shape[0] * shape[1], 1))


def blob(centre: np.ndarray, sigma: float, shape: Shape, reach: float = 3.0) -> sparse.csc_array:
    """A Gaussian of height 1 as a column (P 1)."""
    corner = np.floor(centre - reach * sigma).astype(int)
    side = int(2 * reach * sigma) + 2
    y, x = np.mgrid[:side, :side] - (centre - corner)[:, None, None]
    return stamp(np.exp(-(y**2 + x**2) / (2 * sigma**2)), corner, shape)


def texture(rng: np.random.Generator, shape: Shape, sigma: float) -> np.ndarray:
    """Smooth Gaussian field (Y X) with mean 0 and standard deviation 1."""
    field = gaussian_filter(rng.normal(size=shape), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


def curve(rng: np.random.Generator, start: np.ndarray, length: float, bend: float = 0.04) -> np.ndarray:
    """Points (n 2), a quarter pixel apart, of a line that wanders."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(bend * rng.normal(size=max(2, int(4 * length))))
    return start + np.cumsum(0.25 * np.stack([np.sin(heading), np.cos(heading)], 1), axis=0)


def draw_curve(rng: np.random.Generator, points: np.ndarray, width: float, shape: Shape) -> sparse.csc_array:
    """A neurite of brightness about 1 with varicosities, as a column (P 1)."""
    margin = int(4 * width) + 2
    corner = np.floor(points.min(0)).astype(int) - margin
    size = np.ceil(points.max(0)).astype(int) + margin + 1 - corner
    weight = np.exp(0.5 * gaussian_filter(rng.normal(size=len(points)), 6) * np.sqrt(12 * np.sqrt(np.pi)))
    row, column = np.rint(points - corner).astype(int).T
    patch = np.zeros(size)
    np.add.at(patch, (row, column), weight)
    return stamp(gaussian_filter(patch, width) * width * np.sqrt(2 * np.pi) / 4, corner, shape)
