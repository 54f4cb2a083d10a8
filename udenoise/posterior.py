"""The hidden frame has its say: fusion of the blind prior with the frame itself, in closed form.

    mean = μ + Σ (Σ + N)⁻¹ (y − μ),     covariance = Σ − Σ (Σ + N)⁻¹ Σ

with Σ = diag(d) + Φ Φᵀ on the lattice of `gaussian`. N is taken as diagonal here: correlated noise enters by its variance
at the scale of a cell (`FUSION_SCALE`), which is what the shared errors are weighed against.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from udenoise import gaussian
from udenoise.gaussian import HIGHEST
from udenoise.likelihood import SCALES, box_mean, box_moments, noise_in_whitened_units
from udenoise.network import Prior
from udenoise.recording import Scaling
from udenoise.regions import Regions

FUSION_SCALE = 3
"""Index into `likelihood.SCALES` (8 pixels): the square whose noise variance stands for correlated noise."""
CAUTION = 2.0
"""Factor on the noise in the fusion of pixels. Eight factor maps cannot hold all that may be wrong, so the model believes to
hear more than it does: the best gain, measured with the truth on simulated movies, is 0.5 to 0.6 of what it asks for."""


SQUARE_ERROR = np.array([1.0, 0.70, 0.43, 0.225, 0.115])
"""Error variance of the mean of a square (`likelihood.SCALES`) over that of a pixel: of blind predictions of the simulated
movies that settings are chosen on, which agree within a tenth."""
PIXEL_NOISE_DOUBT = 0.008
"""Relative error of the noise variance of small squares, whose error is as small."""
SHAPE_DOUBT, TILT = 0.1, 0.1
"""Relative error of that in another movie, of each square by itself and growing from each square to the next larger one."""


class Recalibration(NamedTuple):
    """Factors on the network's variances, measured from blind residuals: on what pixels share, and on each pixel's own."""

    shared: float = 1.0
    pixel: float = 1.0
    reported: float = 1.0
    """On the variance of single pixels as it is written: what pixels of a few micrometres share fits neither of the other two."""
    usual: float = 0.0
    """Blind variance of a pixel in the median frame, in units of its noise, before it is multiplied by `reported`."""


class Region(NamedTuple):
    """ROIs (k = 0) and rings (k = 1) in one frame: measured, and as the blind prior states them; counts and counts²."""

    raw: Float[Array, "*T K N"]
    noise_variance: Float[Array, "*T K N"]
    mean: Float[Array, "*T K N"]
    covariance: Float[Array, "*T N K K"]


class FramePosterior(NamedTuple):
    """One frame: pixels in counts, and the regions' moments (None without ROIs)."""

    mean: Float[Array, "Y X"]
    sd: Float[Array, "Y X"]
    prior_mean: Float[Array, "Y X"]
    prior_sd: Float[Array, "Y X"]
    regions: Region | None


class Evidence(NamedTuple):
    """One frame as measured: counts, which pixels are real, the mean image without it, and the noise's ratio to the line."""

    frame: Float[Array, "*B Y X"]
    good: Float[Array, "*B Y X"]
    mean: Float[Array, "*B Y X"]
    ratio: Float[Array, "*B Y X"]


def recalibrated(prior: Prior, by: Recalibration) -> Prior:
    """The prior with its variances scaled."""
    return Prior(prior.deviation, prior.diagonal * by.pixel, prior.factors * jnp.sqrt(by.shared))


def fuse(
    prior: Prior,
    evidence: Evidence,
    scale: Scaling,
    spacing: int,
    kernel_factors: tuple[float, ...],
    regions: Regions | None,
    usual: float | Float[Array, ""] = 0.0,
) -> FramePosterior:
    """Posterior of one frame (prior without batch axis, Y X): pixels, and regions when given.

    The frame takes away what is shared in the shapes that the network knows, which is most of a large error. The `usual` error
    has shapes of a few pixels, which no factor has and noise hides: that much of the variance stays, whatever the factors say, and
    half of it everywhere alike, for of small errors the network does not know well where they are larger.
    """
    shape = evidence.frame.shape
    prior, evidence = _pad(prior, evidence, gaussian.pad_to_cells(shape, spacing))
    sigma = scale.sigma(evidence.mean, evidence.ratio)
    residual = (evidence.frame - evidence.mean) / sigma - prior.deviation
    white = noise_in_whitened_units(prior.deviation, sigma, scale.gain * evidence.ratio)
    noise = jnp.where(evidence.good > 0, white * kernel_factors[FUSION_SCALE] * CAUTION, jnp.inf)
    given = gaussian.condition(residual, prior.diagonal, prior.factors, noise, spacing)
    kept = prior.factors * given.shrink[..., None]
    variance = given.diagonal + gaussian.shared_variance(kept, given.latents, spacing)
    before = prior.diagonal + jnp.sum(prior.factors**2, axis=-1)
    common = jnp.minimum(before, usual)
    stays = (usual + common) / 2
    variance, before = stays + (1 - common / before) * variance, stays + before - common
    blind = evidence.mean + sigma * prior.deviation
    images = blind + sigma * given.shift, sigma * jnp.sqrt(variance), blind, sigma * jnp.sqrt(before)
    measured = None
    if regions is not None:
        measured = _measure(_Pixels(evidence.frame, evidence.good, sigma, prior, white, blind), regions, shape)
    return FramePosterior(*(image[: shape[0], : shape[1]] for image in images), measured)


class _Pixels(NamedTuple):
    frame: Array
    good: Array
    sigma: Array
    prior: Prior
    noise: Array
    blind: Array


def _pad(prior: Prior, evidence: Evidence, padded: tuple[int, int]) -> tuple[Prior, Evidence]:
    Y, X = evidence.frame.shape
    add = ((0, padded[0] - Y), (0, padded[1] - X))
    nothing_measured = evidence._replace(good=jnp.pad(evidence.good, add))
    rest = {name: jnp.pad(getattr(evidence, name), add, mode="edge") for name in ("frame", "mean", "ratio")}
    deviation, diagonal = jnp.pad(prior.deviation, add), jnp.pad(prior.diagonal, add, constant_values=1.0)
    return Prior(deviation, diagonal, jnp.pad(prior.factors, (*add, (0, 0)))), nothing_measured._replace(**rest)


def _measure(p: _Pixels, regions: Regions, shape: tuple[int, int]) -> Region:
    """Weighted means over regions, `wᵀ Σ w` of the prior and `wᵀ N w`; masked rows are left out of the measured mean."""
    at = regions.index // shape[1], regions.index % shape[1]
    w = jnp.asarray(regions.weight)
    present = w * p.good[at]
    total = present.sum(-1)
    counts = w * p.sigma[at]
    blind = _project(counts, p.prior.factors[at], regions)
    own = jnp.sum(counts**2 * p.prior.diagonal[at], axis=-1)
    heard = present / jnp.where(total > 0, total, 1.0)[..., None]
    return Region(
        raw=jnp.where(total > 0.5, (heard * p.frame[at]).sum(-1), jnp.nan),
        noise_variance=jnp.sum((heard * p.sigma[at]) ** 2 * p.noise[at], axis=-1) * regions.kernel_factor,
        mean=(w * p.blind[at]).sum(-1),
        covariance=jnp.einsum("knijr,lnijr->nkl", blind, blind) + own.T[:, :, None] * jnp.eye(own.shape[0]),
    )


def _project(weights: Array, factors: Array, regions: Regions) -> Float[Array, "K N I J R"]:
    """`Φᵀ w` on the box of nodes of each region."""
    weighted = weights[..., None] * factors
    columns = jnp.einsum("knpj,knpr->knpjr", regions.columns, weighted)
    return jnp.einsum("knpi,knpjr->knijr", regions.rows, columns, precision=HIGHEST)


class ScaleMoments(NamedTuple):
    """Sums over the squares of each scale in some frames: residual², its own, shared and noise variance; how many."""

    squared: Float[Array, "*chunks scales"]
    own: Float[Array, "*chunks scales"]
    shared: Float[Array, "*chunks scales"]
    noise: Float[Array, "*chunks scales"]
    count: Float[Array, "*chunks scales"]


def scale_moments(
    prior: Prior, evidence: Evidence, scale: Scaling, spacing: int, kernel_factors: tuple[float, ...]
) -> ScaleMoments:
    """What blind residuals of a batch (B Y X) say about the stated variances, at every scale of the likelihood."""
    sigma = scale.sigma(evidence.mean, evidence.ratio)
    residual = (evidence.frame - evidence.mean) / sigma - prior.deviation
    boxes = box_moments(
        residual,
        prior,
        noise_in_whitened_units(prior.deviation, sigma, scale.gain * evidence.ratio),
        kernel_factors,
        spacing,
    )
    whole = [goodness > 0.999 for goodness in _box_goodness(evidence.good)]
    sums = [
        [
            jnp.sum(jnp.where(w, part, 0.0))
            for part in (r**2, own, jnp.sum(design**2, axis=(3, 4)), noise, jnp.ones_like(r))
        ]
        for (r, own, design, noise), w in zip(boxes, whole, strict=True)
    ]
    return ScaleMoments(*(jnp.stack(column) for column in zip(*sums, strict=True)))


def _box_goodness(good: Array) -> list[Array]:
    return [box_mean(good, side) for side in SCALES]


def fit_recalibration(chunks: ScaleMoments) -> Recalibration:
    """Factors from `E[r²] = λ_pixel d + λ_shared UUᵀ + N` at all scales: least squares weighted by the variance of a mean of
    squares, drawn towards 1 with a standard deviation of 1, kept within a tenth and ten."""
    moments = ScaleMoments(*(np.asarray(part, float).sum(0) for part in chunks))
    own, shared, noise = (part / moments.count for part in moments[1:4])
    excess, chance = moments.squared / moments.count - noise, _chance(moments)
    spread = chance + 0.003 * noise  # and 0.3 % of doubt in N
    design = np.stack([shared, own], axis=1) / spread[:, None]
    rows, right = np.vstack([design, np.eye(2)]), np.concatenate([excess / spread, np.ones(2)])
    factors = np.clip(np.linalg.lstsq(rows, right, rcond=None)[0], 0.1, 10.0)
    stated = factors[0] * shared[0] + factors[1] * own[0]
    reported = pixel_error(excess, noise, chance + PIXEL_NOISE_DOUBT * noise) / stated
    return Recalibration(float(factors[0]), float(factors[1]), reported, _usual_error(chunks) / reported)


def _chance(moments: ScaleMoments) -> Float[np.ndarray, "*chunks scales"]:
    """Standard error of the mean squared residual of Normal residuals."""
    return (moments.own + moments.shared + moments.noise) / moments.count * np.sqrt(2 / moments.count)


def _usual_error(chunks: ScaleMoments) -> float:
    """Error variance of single pixels in the median chunk."""
    rows = [ScaleMoments(*(np.asarray(part[i], float) for part in chunks)) for i in range(len(chunks.count))]
    noise = [row.noise / row.count for row in rows]
    found = [
        pixel_error(row.squared / row.count - n, n, _chance(row) + PIXEL_NOISE_DOUBT * n)
        for row, n in zip(rows, noise, strict=True)
    ]
    return float(np.median(found))


def pixel_error(
    measured: Float[np.ndarray, "scales"], noise: Float[np.ndarray, "scales"], doubt: Float[np.ndarray, "scales"]
) -> float:
    """Error variance of single pixels from that of squares: a pixel's own is lost in the doubt about its noise, but errors of
    squares fall with their side in much the same way in every movie (`SQUARE_ERROR`), or in one that is tilted: the larger of the
    two counts. In the unit of `measured`."""
    level = max(float(np.median(measured / SQUARE_ERROR)), 1e-4 * float(noise[0]))
    weight = 1 / np.hypot(doubt, SHAPE_DOUBT * level * SQUARE_ERROR)
    usual, tilt = SQUARE_ERROR * weight, SQUARE_ERROR * weight * np.arange(len(noise))
    as_usual = usual @ (measured * weight) / (usual @ usual)
    rows = np.vstack([np.stack([usual, tilt], axis=1), [0.0, 1 / (TILT * level)]])
    tilted = np.linalg.lstsq(rows, np.append(measured * weight, 0.0), rcond=None)[0][0]
    return float(max(as_usual, tilted, 0.2 * level))
