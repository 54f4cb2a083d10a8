"""What flags are made of, kept while the movie streams by: residuals in units of noise, displacements, what the picture shows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy import ndimage, sparse

from udenoise.innovation import Residual
from udenoise.io import Rois, rois_dense
from udenoise.network import Prior
from udenoise.posterior import Evidence, FramePosterior, Recalibration
from udenoise.recording import Recording, Scaling
from udenoise.scan import STEPS_PX, WAYS, Ground, Peaks, Whitened, gradient_of, spot_means

SHOWN_SPOT = 2
"""The spot of `scan` over which the picture is looked at: about half a soma."""
FAMILIAR_PX = 16
"""Side of the cells over which input and disagreement are averaged, pixels."""
VISIBLE, VISIBLE_DFF, CERTAIN = 5.0, 0.1, 1.96
"""A change of the picture stands out from 5 times its spread at rest on, and from a tenth of the brightness; it is certain from
1.96 stated standard deviations on."""
DARK, DARK_PX = 0.05, 4
"""A pixel with less of the median noise variance is dark; within so many pixels of it no displacement is measured."""
AROUND_PX = 3
"""Of a ROI's surroundings, in which its borders lie, pixels."""
SLOPE_PX = 0.5
"""Gaussian smoothing of the mean image before it is displaced, pixels."""
SIDES = np.concatenate([WAYS, -WAYS])
"""Directions (Y X) in which a ROI's borders are displaced."""
MIX = np.maximum(np.stack([SIDES[:, 0], -SIDES[:, 0], SIDES[:, 1], -SIDES[:, 1]], axis=1), 0.0)
"""Each of them by displacements up and down Y and X: a displacement of a whole pixel is none of a slope's, which has no side."""


class Sight(NamedTuple):
    """Successive frames."""

    residual: Whitened
    """The recording less the denoised movie."""
    displacement: Float[Array | np.ndarray, "F 2"]
    """Of the whole frame against the mean image along Y and X, pixels; NaN where nothing was measured."""
    shown: Float[Array | np.ndarray, "F y x"]
    """Deviation of the denoised movie from the mean image, over spots, in standard deviations of a pixel's noise."""
    stated: Float[Array | np.ndarray, "F y x"]
    """Its stated standard deviation, as if wrong together over the spot."""
    given: Float[Array | np.ndarray, "F cy cx"]
    """How far from the mean image what the network is given is, over cells, at most of all windows, in units of their noise."""
    disagreement: Float[Array | np.ndarray, "F cy cx"]
    """Standard deviation of passes or networks over cells, in units of a pixel's noise; 0 where there is one."""


class Blind(NamedTuple):
    """Successive frames (F Y X, counts and counts²): as measured, as predicted without them, and how much either may be off."""

    measured: Array | np.ndarray
    predicted: Array | np.ndarray
    noise_variance: Array | np.ndarray
    stated_variance: Array | np.ndarray
    """Of each pixel's own error."""
    good: Array | np.ndarray
    """Rows that were measured (F Y)."""


class Still(NamedTuple):
    """What does not change from frame to frame: the mean image (counts), and what a frame's deviation from it is multiplied by to
    give its displacement along Y and X (pixels per count)."""

    mean: Float[np.ndarray, "Y X"]
    lever: Float[np.ndarray, "2 Y X"]


def see(
    averages: Array,
    weights: Array,
    evidence: Evidence,
    prior: Prior,
    residual: Residual,
    result: FramePosterior,
    by: Recalibration,
    scale: Scaling,
    factors: int,
    still: Still,
) -> tuple[Sight, Blind]:
    """What is kept of a batch of frames; to be compiled. `factors`: of the factor maps, those of a single pass."""
    sigma = scale.sigma(evidence.mean, evidence.ratio)
    sight = Sight(
        whitened(residual, prior, evidence, result, by, sigma),
        displacements(evidence, still),
        *pictured(result, evidence, sigma),
        given(averages, weights, evidence, sigma),
        disagreement(prior, factors),
    )
    return sight, blind_frames(residual, prior, evidence, by, sigma)


def blind_frames(residual: Residual, prior: Prior, evidence: Evidence, by: Recalibration, sigma: Array) -> Blind:
    """What the check of borders (`metrics.steadiness`) wants to see."""
    good = evidence.good > 0
    variance = jnp.where(good, residual.variance, 0.0)
    own = by.pixel * sigma**2 * prior.diagonal
    return Blind(evidence.frame, evidence.frame - residual.value, variance, own, good.all(2))


class Borders(NamedTuple):
    """How the surroundings of N ROIs would change if they were displaced by a pixel: weights of whitened pixels."""

    weights: sparse.csr_array
    """4 N × P: up Y of all ROIs, then down Y, up X and down X."""
    power: Float[np.ndarray, "N 4 4"]
    """Of noise: covariance of the sums."""
    unit: Float[np.ndarray, "N 4 4"]
    """What these displacements add to them."""
    third: Float[np.ndarray, "N 8"]
    """Σ |w|³ · skewness in each of `SIDES`: as if all of it were on one side."""


def borders_of(rois: Rois, recording: Recording, ground: Ground) -> Borders:
    """Of each ROI and `AROUND_PX` around it."""
    ball, slopes = ndimage.generate_binary_structure(2, 1), _slopes(recording)
    inside = (ndimage.binary_dilation(mask, ball, AROUND_PX) for mask in rois_dense(rois) > 0)
    images = [mask * slopes for mask in inside]  # 4 Y X each
    power = np.stack([_power(image, ground.kernel) for image in images])
    unit = np.stack([np.einsum("iyx,jyx->ij", image, image) for image in images]).astype(float)
    third = np.stack(
        [[(np.abs(np.tensordot(mix, image, 1)) ** 3 * ground.skewness).sum() for mix in MIX] for image in images]
    )
    rows = [sparse.csr_array(np.stack([image[axis].ravel() for image in images])) for axis in range(len(slopes))]
    return Borders(sparse.csr_array(sparse.vstack(rows)), power, unit, third.astype(float))


def _slopes(recording: Recording) -> Float[np.ndarray, "4 Y X"]:
    """What the mean image has beyond itself displaced by 1 pixel up and down Y and X, in standard deviations of the noise."""
    mean = recording.anatomy.mean
    smooth = ndimage.gaussian_filter(mean, SLOPE_PX, mode="nearest")
    wide, (Y, X) = np.pad(smooth, 1, mode="edge"), mean.shape
    moved = (wide[1 - dy : 1 - dy + Y, 1 - dx : 1 - dx + X] for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1)))
    return (np.stack([smooth - one for one in moved]) / np.sqrt(recording.noise.pixel_variance(mean))).astype(
        np.float32
    )


def _power(image: Float[np.ndarray, "n Y X"], kernel: np.ndarray) -> Float[np.ndarray, "n n"]:
    coloured = np.stack([ndimage.correlate(part.astype(float), kernel, mode="constant") for part in image])
    return np.einsum("iyx,jyx->ij", image.astype(float), coloured)


def border_sums(residual: Whitened, borders: Borders) -> tuple[Float[np.ndarray, "F M"], Float[np.ndarray, "F M"]]:
    """Of residuals and of stated errors, in the order of `Borders.weights`."""
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
    skewness = noise.skew * np.maximum(noise.gain, 0) * recording.ratio / sd
    return Ground(noise.kernel, skewness.astype(np.float32), gradient_of(mean, sd))


def brightness(recording: Recording) -> Float[np.ndarray, "y x"]:
    """The mean image above the level at which noise vanishes, over the spots of `Sight.shown` and in its units."""
    mean, noise = recording.anatomy.mean, recording.noise
    dark = -noise.intercept / noise.gain if noise.gain > 0 else 0.0
    light = np.maximum(mean - dark, 0) / np.sqrt(noise.pixel_variance(mean))
    return np.asarray(spot_means(light[None].astype(np.float32), SHOWN_SPOT)[0])


def still_of(recording: Recording, ground: Ground) -> Still:
    """Least squares of a frame's deviation from the mean image on the image's gradient (Lucas & Kanade 1981).

    What is bright for other reasons than motion does not look like a gradient; a line along the mean image takes flicker out.
    Where there is no light, and next to it, nothing is asked: the black edges that registration leaves move by themselves.
    """
    mean, sd = recording.anatomy.mean, np.sqrt(recording.noise.pixel_variance(recording.anatomy.mean))
    design = np.stack([*-ground.gradient, mean / sd, 1 / sd]).astype(float) * _lit(sd)
    design = design.reshape(4, -1)
    lever = (np.linalg.pinv(design @ design.T) @ design)[:2].reshape(2, *mean.shape) / sd
    return Still(mean.astype(np.float32), lever.astype(np.float32))


def _lit(sd: Float[np.ndarray, "Y X"]) -> Bool[np.ndarray, "Y X"]:
    """Pixels with noise of light, and `DARK_PX` away from those without; all where they are few."""
    dark = sd**2 < DARK * np.median(sd**2)
    lit = ~ndimage.binary_dilation(dark, iterations=DARK_PX)
    return lit if lit.mean() > 0.1 else np.ones_like(lit)


def displacement_sd(recording: Recording, ground: Ground) -> Float[np.ndarray, "2"]:
    """Standard deviation of a frame's displacement along Y and X as noise alone makes it, pixels."""
    sd = np.sqrt(recording.noise.pixel_variance(recording.anatomy.mean))
    return np.sqrt(np.diag(_power(still_of(recording, ground).lever * sd, ground.kernel)))


def displacements(evidence: Evidence, still: Still) -> Float[Array, "F 2"]:
    """`Sight.displacement`."""
    value = jnp.where(evidence.good > 0, evidence.frame - still.mean, 0.0)
    found = jnp.einsum("fyx,iyx->fi", value, still.lever, precision=jax.lax.Precision.HIGHEST)
    return jnp.where(evidence.good.any((1, 2))[:, None], found, jnp.nan)


def whitened(
    residual: Residual,
    prior: Prior,
    evidence: Evidence,
    result: FramePosterior,
    by: Recalibration,
    sigma: Array | np.ndarray,
) -> Whitened:
    """The recording less the denoised movie, and what of its stated error neighbours share, in units of the noise.

    The noise includes each pixel's own stated error. What is left after fusion varies less than the noise, of which fusion has
    taken a part: what exceeds the noise all the same, the picture does not show.
    """
    sd = jnp.sqrt(residual.variance + by.pixel * sigma**2 * prior.diagonal)
    shared = jnp.sqrt(by.shared * jnp.square(prior.factors).sum(-1)) * sigma
    seen = jnp.isfinite(sd)
    after = result.sd / jnp.maximum(result.prior_sd, 1e-12)
    value = jnp.where(seen, (evidence.frame - result.mean) / jnp.where(seen, sd, 1.0), 0.0)
    return Whitened(value, jnp.where(seen, shared * after / jnp.where(seen, sd, 1.0), 0.0))


def given(averages: Array, weights: Array, evidence: Evidence, sigma: Array) -> Float[Array, "F cy cx"]:
    """`Sight.given`, from window averages (F K Y X, counts) and their weights (F K W)."""
    norm = jnp.sqrt(jnp.square(weights).sum(-1))[:, :, None, None]  # noise of a mean of n frames is 1/sqrt(n)
    away = _in_cells(averages) - _in_cells(evidence.mean)[:, None]
    z = jnp.where(norm > 0, away / (_in_cells(sigma)[:, None] * jnp.where(norm > 0, norm, 1.0)), 0.0)
    return jnp.abs(z).max(1).astype(jnp.float16)


def disagreement(prior: Prior, factors: int) -> Float[Array, "F cy cx"]:
    """`Sight.disagreement`: what passes add to the factor maps, wrong together over a cell."""
    added = _in_cells(jnp.moveaxis(prior.factors[..., factors:], -1, 0))
    return jnp.sqrt(jnp.square(added).sum(0)).astype(jnp.float16)


def _in_cells(images: Float[Array, "*n Y X"]) -> Float[Array, "*n cy cx"]:
    """Means over cells of `FAMILIAR_PX`; a rest at the border is left out, but for fields of less than a cell."""
    Y, X = images.shape[-2:]
    side = min(FAMILIAR_PX, Y, X)
    cut = images[..., : Y // side * side, : X // side * side]
    return cut.reshape(*images.shape[:-2], Y // side, side, X // side, side).mean((-3, -1))


def pictured(result: FramePosterior, evidence: Evidence, sigma: Array) -> tuple[Array, Array]:
    """`Sight.shown` and `Sight.stated`."""
    return tuple(spot_means(part, SHOWN_SPOT) for part in ((result.mean - evidence.mean) / sigma, result.sd / sigma))


def uncertain_sights(sight: Sight, bright: Float[np.ndarray, "y x"], start: int) -> Peaks:
    """Changes of the picture in some successive frames that stand out of it, but not of their own error bar.

    A change is from the median of these frames. It stands out where it is `VISIBLE` times the picture's own spread at rest (from
    the median to the quantile 0.159 or 0.841, the farther one) and `VISIBLE_DFF` of what is there (`brightness`), and the largest
    of its neighbours in space and time; z is what it is in stated standard deviations, `height` in those of a pixel's noise.
    """
    low, middle, high = np.quantile(sight.shown, [0.159, 0.5, 0.841], axis=0)
    change, spread = sight.shown - middle, np.maximum(middle - low, high - middle)
    rest = np.maximum(spread, np.median(spread))
    size, least = np.abs(change), np.maximum(VISIBLE * rest, VISIBLE_DFF * bright)
    t, y, x = np.nonzero((size >= least) & (size < CERTAIN * sight.stated))
    largest = ndimage.maximum_filter(size, 3, mode="nearest")[t, y, x] <= size[t, y, x]
    t, y, x = t[largest], y[largest], x[largest]
    step, height = STEPS_PX[SHOWN_SPOT], change[t, y, x]
    kind = np.full(len(t), SHOWN_SPOT, np.int8), np.zeros(len(t), np.int8)
    z = height / sight.stated[t, y, x]
    return Peaks(t + start, (y * step).astype(np.int32), (x * step).astype(np.int32), *kind, z, height.astype(float))
