"""Is a stated standard deviation true? Measured error variance over the stated one, and how often predictive intervals hold."""

import numpy as np

from udenoise.arrays import Json
from udenoise.audit.doubt import Figure, ratio
from udenoise.audit.pixels import LEVELS, CoverageRows
from udenoise.audit.regions import Series, Stated
from udenoise.audit.rois import MODEL_DOUBT


def pixel_coverage(rows: CoverageRows, level: Figure) -> list[Json]:
    """By stated sd, least first, and `all` last.

    `ratio` is the measured error variance over the stated one; `z2` the mean of (y − D)²/(sd² + N), 1 where both are right;
    `inside` how often y lies in the interval that sd and noise predict for it. Where the noise is much larger than sd,
    these two say little of sd: read the ratio.
    """
    groups = [(name, [g]) for g, name in enumerate(_names(rows.pixels.shape[1]))] + [
        ("all", range(rows.pixels.shape[1]))
    ]
    return [_group(name, rows, list(some), level) for name, some in groups]


def _names(count: int) -> list[str]:
    return [f"{100 * g // count}–{100 * (g + 1) // count} %" for g in range(count)]


def _group(name: str, rows: CoverageRows, some: list[int], level: Figure) -> Json:
    count, square, variance, stated, z2 = (part[:, some].sum(1) for part in rows[:5])
    if count.sum() == 0 or stated.sum() == 0:
        return {"sd": name, "count": int(count.sum())}
    doubt = level.se / level.value * variance.sum() / stated.sum()
    inside = [ratio(rows.inside[:, some, k].sum(1), count) for k in range(len(LEVELS))]
    return {
        "sd": name,
        "count": int(count.sum()),
        "stated_counts": float(np.sqrt(stated.sum() / count.sum())),
        "noise_counts": float(np.sqrt(max(variance.sum() / count.sum(), 0))),
        "ratio": ratio(square - variance, stated, other=doubt)._asdict(),
        "z2": ratio(z2, count, other=level.se / level.value)._asdict(),
        "inside": {f"{100 * p:g}": figure._asdict() for p, figure in zip(LEVELS, inside, strict=True)},
    }


def roi_coverage(series: Series, stated: Stated, level: Figure) -> Json:
    """Measured error variance of ROIs over the stated one, if errors of pixels were independent, and if they were all alike.

    A movie of standard deviations does not say which: a true one lies between the two.
    """
    e, v = series.residual.astype(np.float64), series.variance.astype(np.float64)
    error, doubt = (e**2 - v).sum(0), float(np.hypot(level.se / level.value, MODEL_DOUBT)) * v.sum()

    def over(variance: np.ndarray) -> Json:
        total = np.where(series.whole, variance, 0).sum(0, dtype=np.float64)
        return ratio(error, total, other=doubt / max(total.sum(), 1e-300))._asdict()

    return {"independent": over(stated.apart), "alike": over(stated.together)}
