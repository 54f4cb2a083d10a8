"""Did the program see the frame itself? A residual quieter than the noise says yes; nothing in a finished movie proves no."""

import numpy as np
from jaxtyping import Bool

from udenoise.arrays import Json
from udenoise.audit.doubt import Figure, ratio
from udenoise.audit.pixels import PixelRows
from udenoise.audit.regions import Series
from udenoise.audit.rois import MODEL_DOUBT

SIGNIFICANT = 3.0
"""Standard errors."""
PIXEL_MARGIN = 0.01
"""Share of the noise variance that a signal's own changes from frame to frame, and the noise model, may explain."""
ROI_MARGIN = 0.02


def blindness(pixels: PixelRows, series: Series, level: Figure) -> Json:
    """`E (y − D)²` over the known noise variance, of pixels and of ROIs at rest, and bounds on a pixel's leak `Cov(D, noise)/v`.

    Blind: `E (y − D)² = v + error`, never below v. Otherwise `v + error − 2 leak · v`. The covariance of y and D is the leak
    plus that of the signal with D, which is at most the signal's own variance for a denoiser that does not exaggerate; this is
    taken from successive raw frames, whose noise is independent.
    """
    count, variance = pixels.pixels.sum(1), pixels.variance.sum(1)
    noise = float(variance.sum() / count.sum())
    doubt = level.se / level.value
    pixel = ratio(pixels.square.sum(1), variance, other=doubt)
    quiet = _quiet(series)
    squared, expected = (
        np.where(quiet, part, 0).sum(0, dtype=np.float64) for part in (np.square(series.residual), series.variance)
    )
    roi = ratio(squared, expected, other=float(np.hypot(doubt, MODEL_DOUBT)))
    shared, signal = ratio(pixels.product, count), ratio(pixels.next, pixels.paired)
    least = Figure((shared.value - max(signal.value, 0)) / noise, float(np.hypot(shared.se, signal.se)) / noise)
    sees_pixel = _below(pixel, PIXEL_MARGIN) or least.value > PIXEL_MARGIN + SIGNIFICANT * least.se
    sees_roi = sees_pixel or _below(roi, ROI_MARGIN)
    return {
        "pixel_residual": pixel._asdict(),
        "roi_residual": roi._asdict(),
        "least_leak": least._asdict(),
        "largest_leak": {"value": shared.value / noise, "se": shared.se / noise},
        "sees_pixel": bool(sees_pixel),
        "sees_roi": bool(sees_roi),
    }


def _quiet(series: Series) -> Bool[np.ndarray, "N T"]:
    """The half of each ROI's frames around which the denoised trace moves least; the frame itself has no say."""
    moved = np.full(series.estimate.shape, np.inf)
    moved[:, 1:-1] = np.abs(series.estimate[:, 2:] - series.estimate[:, :-2])
    return (moved <= np.median(moved, axis=1, keepdims=True)) & series.whole & np.isfinite(moved)


def _below(figure: Figure, margin: float) -> bool:
    return figure.value < 1 - margin - SIGNIFICANT * figure.se
