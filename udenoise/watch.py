"""What flags are made of, kept while the movie streams by: residuals in units of noise, displacements, what the picture shows."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float
from scipy import ndimage, sparse

from udenoise.innovation import Residual
from udenoise.io import Rois, rois_dense
from udenoise.network import Prior
from udenoise.posterior import Evidence, FramePosterior, Recalibration
from udenoise.recording import Recording
from udenoise.regions import correlated_share
from udenoise.scan import PULSE_SPREAD, STEPS_PX, WAYS, Ground, Peaks, Whitened, gradient_of, mixing, spot_means

SHOWN_SPOT = 2
"""The spot of `scan` over which the picture is looked at: about half a soma."""
FAMILIAR_PX = 16
"""Side of the cells over which input and disagreement are averaged, pixels."""
VISIBLE, VISIBLE_DFF, CERTAIN = 5.0, 0.1, 1.96
"""A change of the picture stands out from 5 times its spread at rest on, and from a tenth of the brightness; it is certain from
1.96 stated standard deviations on."""
AROUND_PX = 2
"""Of a ROI's surroundings, in which its borders lie, pixels."""


class Sight(NamedTuple):
    """Successive frames."""

    residual: Whitened
    """The recording less the denoised movie."""
    displacement: Float[np.ndarray, "F 2"]
    """Of the whole frame against the mean image along Y and X, pixels; NaN where nothing was measured."""
    shown: Float[np.ndarray, "F y x"]
    """Deviation of the denoised movie from the mean image, over spots, in standard deviations of a pixel's noise."""
    stated: Float[np.ndarray, "F y x"]
    """Its stated standard deviation, as if wrong together over the spot."""
    given: Float[np.ndarray, "F cy cx"]
    """How far from the mean image what the network is given is, over cells, at most of all windows, in units of their noise."""
    disagreement: Float[np.ndarray, "F cy cx"]
    """Standard deviation of passes or networks over cells, in units of a pixel's noise; 0 where there is one."""


class Blind(NamedTuple):
    """Successive frames (F Y X, counts and counts²): as measured, as predicted without them, and how much either may be off."""

    measured: np.ndarray
    predicted: np.ndarray
    noise_variance: np.ndarray
    stated_variance: np.ndarray
    """Of each pixel's own error."""
    good: np.ndarray
    """Rows that were measured (F Y)."""


def blind_frames(residual: Residual, prior: Prior, evidence: Evidence, by: Recalibration, sigma: np.ndarray) -> Blind:
    """What the check of borders (`metrics.steadiness`) wants to see."""
    measured = np.asarray(evidence.frame)
    good = np.asarray(evidence.good) > 0
    variance = np.where(good, residual.variance, 0.0)
    own = by.pixel * sigma**2 * np.asarray(prior.diagonal)
    return Blind(measured, measured - residual.value, variance, own, good.all(2))


class Borders(NamedTuple):
    """How the surroundings of N ROIs would change if they were displaced: weights of whitened pixels, one row an axis."""

    weights: sparse.csr_array
    """2 N × P: along Y of all ROIs, then along X."""
    power: Float[np.ndarray, "N 2 2"]
    """Of noise: covariance of the two sums."""
    unit: Float[np.ndarray, "N 2 2"]
    """What a displacement of 1 pixel adds to them."""
    third: Float[np.ndarray, "N W"]
    """Σ |w|³ · skewness along each of `scan.WAYS`: as if all of it were on one side."""


def borders_of(rois: Rois, ground: Ground) -> Borders:
    """Of each ROI and `AROUND_PX` around it."""
    ball = ndimage.generate_binary_structure(2, 1)
    inside = (ndimage.binary_dilation(mask, ball, AROUND_PX) for mask in rois_dense(rois) > 0)
    images = [mask * ground.gradient for mask in inside]  # 2 Y X each
    power = np.stack([_power(image, ground.kernel) for image in images])
    unit = np.stack([np.einsum("iyx,jyx->ij", image, image) for image in images]).astype(float)
    third = np.stack(
        [[(np.abs(np.tensordot(way, image, 1)) ** 3 * ground.skewness).sum() for way in WAYS] for image in images]
    )
    rows = [sparse.csr_array(np.stack([image[axis].ravel() for image in images])) for axis in (0, 1)]
    return Borders(sparse.csr_array(sparse.vstack(rows)), power, unit, third.astype(float))


def _power(image: Float[np.ndarray, "2 Y X"], kernel: np.ndarray) -> Float[np.ndarray, "2 2"]:
    coloured = np.stack([ndimage.correlate(part.astype(float), kernel, mode="constant") for part in image])
    return np.einsum("iyx,jyx->ij", image.astype(float), coloured)


def border_sums(residual: Whitened, borders: Borders) -> tuple[Float[np.ndarray, "F M"], Float[np.ndarray, "F M"]]:
    """Of residuals and of stated errors, along Y of all ROIs and then along X."""
    parts = (part.reshape(len(part), -1) for part in residual)
    return tuple((borders.weights @ part.T).T.astype(np.float32) for part in parts)


class Sights(NamedTuple):
    """A whole movie."""

    peaks: Peaks
    """Of the residual, by score."""
    shown: Peaks
    """Changes that the picture shows inside their own error bar (`uncertain_sights`)."""
    displacement: Float[np.ndarray, "T 2"]
    given: Float[np.ndarray, "T cy cx"]
    disagreement: Float[np.ndarray, "T cy cx"]


def ground_of(recording: Recording) -> Ground:
    """What a scan of this recording's residuals holds constant."""
    mean, noise = recording.anatomy.mean, recording.noise
    sd = np.sqrt(noise.pixel_variance(mean))
    skewness = PULSE_SPREAD * np.sqrt(mixing(noise.kernel)) * np.maximum(noise.gain, 0) * recording.ratio / sd
    return Ground(noise.kernel, skewness.astype(np.float32), gradient_of(mean, sd))


def brightness(recording: Recording) -> Float[np.ndarray, "y x"]:
    """The mean image above the level at which noise vanishes, over the spots of `Sight.shown` and in its units."""
    mean, noise = recording.anatomy.mean, recording.noise
    dark = -noise.intercept / noise.gain if noise.gain > 0 else 0.0
    light = np.maximum(mean - dark, 0) / np.sqrt(noise.pixel_variance(mean))
    return np.asarray(spot_means(light[None].astype(np.float32), SHOWN_SPOT)[0])


def displacement_sd(ground: Ground) -> Float[np.ndarray, "2"]:
    """Standard deviation of a frame's displacement along Y and X as noise alone makes it, pixels."""
    line = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    inverse = np.linalg.pinv(_normal(ground.gradient))
    return np.sqrt(np.diag(inverse) * max(correlated_share(np.outer(line, line), ground.kernel), 1.0))


def _normal(gradient: np.ndarray) -> Float[np.ndarray, "2 2"]:
    return np.einsum("iyx,jyx->ij", gradient.astype(float), gradient)


def displacements(evidence: Evidence, ground: Ground, sigma: np.ndarray) -> Float[np.ndarray, "F 2"]:
    """Least squares of a frame's deviation from the mean image on the image's gradient (Lucas & Kanade 1981).

    What is bright for other reasons than motion does not look like a gradient; a line along the mean image takes flicker out.
    """
    value = np.where(np.asarray(evidence.good) > 0, (evidence.frame - evidence.mean) / sigma, 0.0)
    brightness = (evidence.mean[0] / sigma[0]).astype(float)
    design = np.stack([-ground.gradient[0], -ground.gradient[1], brightness, 1 / sigma[0]]).reshape(4, -1).astype(float)
    found = np.linalg.pinv(design @ design.T) @ (design @ value.reshape(len(value), -1).T)
    measured = np.asarray(evidence.good).any((1, 2))
    return np.where(measured[:, None], found[:2].T, np.nan).astype(np.float32)


def whitened(
    residual: Residual, prior: Prior, evidence: Evidence, result: FramePosterior, by: Recalibration, sigma: np.ndarray
) -> Whitened:
    """The recording less the denoised movie, and what of its stated error neighbours share, in units of the noise.

    The noise includes each pixel's own stated error. What is left after fusion varies less than the noise, of which fusion has
    taken a part: what exceeds the noise all the same, the picture does not show.
    """
    sd = np.sqrt(residual.variance + by.pixel * sigma**2 * np.asarray(prior.diagonal))
    shared = np.sqrt(by.shared * np.sum(np.square(prior.factors), axis=-1)) * sigma
    seen = np.isfinite(sd)
    left = np.asarray(evidence.frame) - np.asarray(result.mean)
    after = np.asarray(result.sd) / np.maximum(np.asarray(result.prior_sd), 1e-12)
    value = np.where(seen, left / np.where(seen, sd, 1.0), 0.0)
    doubt = np.where(seen, shared * after / np.where(seen, sd, 1.0), 0.0)
    return Whitened(value.astype(np.float32), doubt.astype(np.float32))


def given(
    averages: Array | np.ndarray, weights: np.ndarray, evidence: Evidence, sigma: np.ndarray
) -> Float[np.ndarray, "F cy cx"]:
    """`Sight.given`, from window averages (F K Y X, counts) and their weights (F K W)."""
    norm = np.sqrt(np.square(weights).sum(-1))[:, :, None, None]  # noise of a mean of n frames is 1/sqrt(n)
    away = _in_cells(np.asarray(averages)) - _in_cells(np.asarray(evidence.mean))[:, None]
    z = np.where(norm > 0, away / (_in_cells(sigma)[:, None] * np.where(norm > 0, norm, 1.0)), 0.0)
    return np.abs(z).max(1).astype(np.float16)


def disagreement(prior: Prior, factors: int) -> Float[np.ndarray, "F cy cx"]:
    """`Sight.disagreement`: what passes add to the factor maps, wrong together over a cell."""
    return np.sqrt(np.square(_in_cells(np.moveaxis(np.asarray(prior.factors)[..., factors:], -1, 0))).sum(0)).astype(
        np.float16
    )


def _in_cells(images: Float[np.ndarray, "*n Y X"]) -> Float[np.ndarray, "*n cy cx"]:
    """Means over cells of `FAMILIAR_PX`; a rest at the border is left out, but for fields of less than a cell."""
    Y, X = images.shape[-2:]
    side = min(FAMILIAR_PX, Y, X)
    cut = images[..., : Y // side * side, : X // side * side]
    return cut.reshape(*images.shape[:-2], Y // side, side, X // side, side).mean((-3, -1))


def pictured(result: FramePosterior, evidence: Evidence, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`Sight.shown` and `Sight.stated`."""
    parts = (result.mean - evidence.mean) / sigma, result.sd / sigma
    return tuple(np.asarray(spot_means(part, SHOWN_SPOT)) for part in parts)


def uncertain_sights(sight: Sight, bright: Float[np.ndarray, "y x"], start: int) -> Peaks:
    """Changes of the picture in some successive frames that stand out of it, but not of their own error bar.

    A change is from the median of these frames. It stands out where it is `VISIBLE` times the picture's own spread at rest (the
    distance from the median to the quantile 0.159) and `VISIBLE_DFF` of what is there (`brightness`), and the largest of its
    neighbours in space and time; z is what it is in stated standard deviations, `height` in those of a pixel's noise.
    """
    middle, low = np.quantile(sight.shown, [0.5, 0.159], axis=0)
    change = sight.shown - middle
    rest = np.maximum(middle - low, np.median(middle - low))
    size, least = np.abs(change), np.maximum(VISIBLE * rest, VISIBLE_DFF * bright)
    t, y, x = np.nonzero((size >= least) & (size < CERTAIN * sight.stated))
    largest = ndimage.maximum_filter(size, 3, mode="nearest")[t, y, x] <= size[t, y, x]
    t, y, x = t[largest], y[largest], x[largest]
    step, height = STEPS_PX[SHOWN_SPOT], change[t, y, x]
    kind = np.full(len(t), SHOWN_SPOT, np.int8), np.zeros(len(t), np.int8)
    z = height / sight.stated[t, y, x]
    return Peaks(t + start, (y * step).astype(np.int32), (x * step).astype(np.int32), *kind, z, height.astype(float))
