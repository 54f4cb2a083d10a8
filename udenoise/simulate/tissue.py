"""What a simulated field holds: somata with nuclei, dendrites, axons, boutons, cells out of focus, neuropil, vessels."""

from collections.abc import Callable
from functools import partial, reduce
from operator import add
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from udenoise.config import OpticsConfig, SimulationConfig, TissueConfig
from udenoise.simulate.shapes import Shape, blob, curve, draw_curve, lognormal, place, stamp, texture

Draw = Callable[[np.random.Generator, Shape], sparse.csc_array]


class Tissue(NamedTuple):
    """Brightness at rest and the footprints of everything that can change; P pixels; columns are components."""

    rest: np.ndarray
    """P, mean about 1 in the neuropil."""
    cells: sparse.csc_array
    """P N: soma and dendrites of each cell in focus."""
    neurites: sparse.csc_array
    """P M: dendrites and axons whose somata lie elsewhere."""
    boutons: sparse.csc_array
    """P B: bright points."""
    blurred: sparse.csc_array
    """P D: cells out of focus."""
    patches: sparse.csc_array
    """P L: patches of neuropil, the last one the whole field."""
    waves: list[sparse.csc_array]
    """P 4 for each astrocyte-like territory, in the order in which a wave passes."""
    outlines: np.ndarray
    """N Y X bool: somata, nuclei included."""
    centres: np.ndarray
    """N 2: row and column of the somata."""


def draw_tissue(rng: np.random.Generator, config: SimulationConfig, shape: Shape) -> Tissue:
    """Draw a field of `shape` (Y X). Raises InputError when more somata are asked for than fit."""
    tissue, optics = config.tissue, config.optics
    n = config.cells if config.cells is not None else max(1, config.height * config.width // 600)
    centres = place(rng, n, round(tissue.dark_cells * n), config.soma_diameter_px, shape)
    drawn = [_soma(rng, centre, config.soma_diameter_px, tissue, optics, shape) for centre in centres]
    bodies, somata = zip(*drawn, strict=True)
    room = _room(rng, bodies, shape)
    cells = [_cell(rng, centre, soma, tissue, optics, shape) for centre, soma in zip(centres, somata[:n], strict=False)]
    neurites = _several(rng, partial(_process, optics=optics), tissue.processes * n, shape)
    boutons = _several(rng, partial(_bouton, optics=optics), tissue.boutons * n, shape)
    blurred = _several(rng, partial(_blurred_cell, optics=optics), tissue.blurred_cells * n, shape)
    structure = room * _neuropil_rest(rng, shape, tissue.texture, optics)
    patches = neuropil_patches(rng, structure)
    waves = [_territory(rng, structure) for _ in range(tissue.astrocytes)]
    rest = structure.ravel() + sum(column.toarray().ravel() for column in (*cells, *neurites, *boutons, *blurred))
    light = _shading(rng, config, shape)
    rest = light * (rest + optics.haze / (1 - optics.haze) * rest.mean())
    groups = [_shaded(columns, light) for columns in (cells, neurites, boutons, blurred, patches)]
    outlines = np.stack([body.toarray().reshape(shape) > 0.5 for body in bodies[:n]])
    return Tissue(rest, *groups, [_shaded([wave], light) for wave in waves], outlines, centres[:n])


def _several(rng: np.random.Generator, draw: Draw, n: float, shape: Shape) -> list:
    """At least two of a kind that is wanted at all."""
    return [draw(rng, shape) for _ in range(max(2, round(n)) if n else 0)]


def _shaded(columns: list, light: np.ndarray) -> sparse.csc_array:
    stacked = sparse.hstack(columns) if columns else sparse.csc_array((len(light), 0))
    return sparse.csc_array(stacked.multiply(light[:, None]))


def _room(rng: np.random.Generator, bodies: tuple, shape: Shape) -> np.ndarray:
    """Share of each pixel that is left to the neuropil: somata displace it, some over only part of the focal depth."""
    room = np.ones(shape)
    for body in bodies:
        room *= 1 - rng.uniform(0.3, 0.7) * body.toarray().reshape(shape)
    return room


def _soma(
    rng: np.random.Generator,
    centre: np.ndarray,
    diameter: float,
    tissue: TissueConfig,
    optics: OpticsConfig,
    shape: Shape,
) -> tuple:
    """(filled body, fluorescence with the dark nucleus) of one cell, as columns (P 1)."""
    corner = np.floor(centre - 1.5 * diameter).astype(int)
    y, x = np.mgrid[: int(3 * diameter) + 2, : int(3 * diameter) + 2] - (centre - corner)[:, None, None]
    angle = np.arctan2(y, x) - rng.uniform(0, 2 * np.pi)
    radius = diameter / 2 * np.exp(tissue.size_spread * rng.normal())
    outline = radius * (1 + 0.1 * rng.normal() * np.cos(2 * angle) + 0.07 * rng.normal() * np.cos(3 * angle))
    body = expit((outline - np.hypot(y, x)) / 0.5)
    shift = 0.12 * radius * rng.normal(size=2)
    nucleus = expit((rng.uniform(0.5, 0.72) * outline - np.hypot(y - shift[0], x - shift[1])) / 0.6)
    depth, filled = rng.uniform(0.3, 0.9), rng.random() < tissue.filled_nuclei
    cytoplasm = np.exp(0.2 * texture(rng, body.shape, 1.2))
    light = body * (1 - (0 if filled else depth) * nucleus) * cytoplasm * (1.6 if filled else 1.0)
    return stamp(body, corner, shape), stamp(gaussian_filter(light, _blur(optics, rng.random())), corner, shape)


def _blur(optics: OpticsConfig, depth: float) -> float:
    """Standard deviation of the blur (pixels) at a distance from the focal plane, in focal depths."""
    return float(np.hypot(optics.psf_px, optics.defocus_px * depth))


def _cell(
    rng: np.random.Generator,
    centre: np.ndarray,
    soma: sparse.csc_array,
    tissue: TissueConfig,
    optics: OpticsConfig,
    shape: Shape,
) -> sparse.csc_array:
    """Soma and dendrites, active together."""
    dendrite = _dendrite(rng, centre, optics, shape) * lognormal(rng, 0.25 * tissue.dendrites, 0.6)
    return soma * lognormal(rng, 1.0, tissue.brightness_spread) + dendrite


def _dendrite(rng: np.random.Generator, centre: np.ndarray, optics: OpticsConfig, shape: Shape) -> sparse.csc_array:
    """One to three neurites that leave a soma."""
    curves = [curve(rng, centre, rng.uniform(12, 40))[24:] for _ in range(rng.integers(1, 4))]
    return reduce(add, [_neurite(rng, line, rng.uniform(0.5, 1.0), optics, shape) for line in curves])


def _neurite(
    rng: np.random.Generator, line: np.ndarray, width: float, optics: OpticsConfig, shape: Shape
) -> sparse.csc_array:
    """A line of this width (standard deviation, pixels) seen through the microscope, which keeps its light."""
    seen = float(np.hypot(width, optics.psf_px))
    return draw_curve(rng, line, seen, shape) * (width / seen)


def _process(rng: np.random.Generator, shape: Shape, optics: OpticsConfig) -> sparse.csc_array:
    """A dendrite or axon whose soma lies elsewhere."""
    line = curve(rng, rng.uniform(0, shape), rng.uniform(15, 70))
    return _neurite(rng, line, rng.uniform(0.4, 1.1), optics, shape) * lognormal(rng, 0.2, 0.6)


def _bouton(rng: np.random.Generator, shape: Shape, optics: OpticsConfig) -> sparse.csc_array:
    """A bright point: bouton, spine head, or a dendrite that crosses the plane."""
    line = curve(rng, rng.uniform(0, shape), rng.uniform(0.5, 3))
    return _neurite(rng, line, rng.uniform(0.6, 1.2), optics, shape) * lognormal(rng, 0.4, 0.6)


def _blurred_cell(rng: np.random.Generator, shape: Shape, optics: OpticsConfig) -> sparse.csc_array:
    """A soma 3 to 7 focal depths above or below the focal plane."""
    sigma = np.hypot(3.0, _blur(optics, rng.uniform(3, 7)))
    return blob(rng.uniform(0, shape), sigma, shape) * lognormal(rng, 0.12, 0.6)


def _neuropil_rest(rng: np.random.Generator, shape: Shape, contrast: float, optics: OpticsConfig) -> np.ndarray:
    """Mean brightness of the neuropil (Y X), about 1: fine structure on top of smooth."""
    levels = ((1.0, 0.16), (2.5, 0.1), (12.0, 0.1))
    scales = [np.hypot(scale, optics.psf_px) for scale, _ in levels]
    parts = [scale / blur * part for (scale, part), blur in zip(levels, scales, strict=True)]
    return np.exp(contrast * sum(part * texture(rng, shape, blur) for part, blur in zip(parts, scales, strict=True)))


def neuropil_patches(rng: np.random.Generator, structure: np.ndarray, spacing: int = 16) -> list:
    """Patches of neuropil with a life of their own, as columns (P 1): a jittered lattice, and the whole field."""
    shape = structure.shape
    lattice = np.mgrid[0 : shape[0] + spacing : spacing, 0 : shape[1] + spacing : spacing].reshape(2, -1).T
    columns = [
        _patch(rng, centre, rng.uniform(6, 13), structure)
        for centre in lattice + rng.integers(-spacing // 2, spacing // 2, lattice.shape)
    ]
    return [*columns, sparse.csc_array(0.7 * structure.reshape(-1, 1))]


def _patch(rng: np.random.Generator, centre: np.ndarray, sigma: float, structure: np.ndarray) -> sparse.csc_array:
    y, x = np.mgrid[-32:33, -32:33]
    window = np.exp(-(y**2 + x**2) / (2 * sigma**2)) * (1 + 0.5 * texture(rng, y.shape, 1.2))
    return sparse.csc_array(stamp(window, centre - 32, structure.shape) * structure.reshape(-1, 1))


def _territory(rng: np.random.Generator, structure: np.ndarray) -> sparse.csc_array:
    """Four overlapping patches (P 4) along a line, lit one after the other by a wave."""
    centre, angle = rng.uniform(0, structure.shape), rng.uniform(0, 2 * np.pi)
    step = 6 * np.array([np.sin(angle), np.cos(angle)])
    centres = [np.rint(centre + k * step).astype(int) for k in (-1.5, -0.5, 0.5, 1.5)]
    return sparse.csc_array(sparse.hstack([_patch(rng, at, rng.uniform(5, 8), structure) for at in centres]))


def _shading(rng: np.random.Generator, config: SimulationConfig, shape: Shape) -> np.ndarray:
    """Light that reaches each pixel (P): uneven illumination and the shadows of vessels."""
    light = np.exp(0.25 * texture(rng, shape, min(shape) / 4))
    for _ in range(config.vessels):
        points = curve(rng, rng.uniform(0, shape), 3.0 * max(shape), bend=0.02)
        row, column = np.rint(points[np.all((points > 0) & (points < np.array(shape) - 1), axis=1)]).astype(int).T
        shadow = np.zeros(shape)
        shadow[row, column] = 1
        width = rng.uniform(1.5, 4)
        light *= 1 - 0.75 * np.minimum(1, 1.4 * width * gaussian_filter(shadow, width))
    return light.ravel()
