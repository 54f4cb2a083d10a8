"""Standard errors that come from noise alone: the error of this movie is what it is, the measurement of it is noisy."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Real


class Figure(NamedTuple):
    """A number and its standard error."""

    value: float
    se: float


NOTHING = Figure(float("nan"), float("nan"))


def ratio(
    above: Real[np.ndarray, "T"], below: Real[np.ndarray, "T"], block: int = 1, other: float = 0.0
) -> Figure:  # fmt: skip
    """Σ above / Σ below, each a sum of its frame, with the standard error of noise that is independent between blocks of frames.

    Successive blocks differ by noise, and by little of what changes slowly: the noise variance is half the mean square of
    their differences (von Neumann et al. 1941). `other` is a further, independent standard error of the ratio.
    """
    total = float(below.sum())
    if len(above) < 2 * block or total == 0:
        return NOTHING
    value = float(above.sum()) / total
    starts = np.arange(0, len(above) - len(above) % block, block)
    left = np.add.reduceat((above - value * below)[: starts[-1] + block], starts)
    noise = len(left) * np.mean(np.diff(left) ** 2) / 2 if len(left) > 1 else np.nan
    return Figure(value, float(np.hypot(np.sqrt(noise) / abs(total), other)))


def widened(figure: Figure, other: float) -> Figure:
    """With a further, independent standard error."""
    return figure._replace(se=float(np.hypot(figure.se, other)))


def root_ratio(above: Figure, below: Figure) -> Figure:
    """√(above/below) and its standard error to first order; NaN where one is not above zero."""
    if not (above.value > 0 and below.value > 0):
        return NOTHING
    value = float(np.sqrt(above.value / below.value))
    return Figure(value, value / 2 * float(np.hypot(above.se / above.value, below.se / below.value)))


def least_gain(above: Figure, below: Figure) -> float:
    """What √(above/below) exceeds, two standard errors off: for errors too small to be measured."""
    return float(np.sqrt(max(above.value, 0) / max(below.value + 2 * below.se, 1e-300)))
