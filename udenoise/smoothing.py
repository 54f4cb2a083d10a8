"""Slow errors: what the residuals of neighbouring frames still say about this one.

An estimate f of a region's trace leaves residuals `r = y − f` that hold its own slow errors beside the noise. They are added
back through windows that grow with distance, `f_t + Σ_b c_b (W_b r)_t`, with the weights of least expected error. The error
`e = r − n` is never seen, but `E[e_t (W_b r)_t] = E[r_t (W_b r)_t] − E[n_t (W_b r)_t]`, and what noise leaves in the
residuals is known from the estimate's response to fresh noise (Stein 1981; by Monte Carlo as in Ramani et al. 2008):
`E[n_t (W_b r)_t]/E[n²] = a_b`. So the weights, and the error that remains, are found without ground truth.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

EDGES = (0, 1, 3, 6, 11, 21, 41, 81, 161)
"""First distance (frames) of each window, and the end of the last."""
SIGNIFICANT = 4.0
"""The gain must exceed what as many weights would gain from noise alone by this factor."""


class Smoother(NamedTuple):
    """Weights `c` and noise shares `a` of the windows; all weights zero where nothing is to be gained."""

    weights: Float[np.ndarray, "B"]
    heard: Float[np.ndarray, "B"]


def windowed(residual: Float[np.ndarray, "T N"], segment: Int[np.ndarray, "T"]) -> Float[np.ndarray, "B T N"]:
    """Means of the residual over frames at distances [first, stop) on both sides, within the same trial; NaN counts nowhere."""
    out = np.zeros((len(EDGES) - 1, *residual.shape))
    for trial in np.unique(segment):
        frames = np.flatnonzero(segment == trial)
        part = residual[frames]
        known = ~np.isnan(part)
        sums, counts = _running(np.where(known, part, 0.0)), _running(known.astype(float))
        for b, (first, stop) in enumerate(zip(EDGES, EDGES[1:], strict=False)):
            out[b, frames] = _within(sums, first, stop) / np.maximum(_within(counts, first, stop), 1.0)
    return out


def _running(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])


def _within(running: np.ndarray, first: int, stop: int) -> np.ndarray:
    """Sum over distances first … stop − 1 on both sides (the frame itself once)."""
    T = len(running) - 1
    t = np.arange(T)
    after = running[np.minimum(t + stop, T)] - running[np.minimum(t + first, T)]
    first = max(first, 1)
    return after + running[np.maximum(t - first + 1, 0)] - running[np.maximum(t - stop + 1, 0)]


def fit_smoother(
    residual: Float[np.ndarray, "T N"],
    segment: Int[np.ndarray, "T"],
    fresh: Float[np.ndarray, "t N"],
    response: Float[np.ndarray, "t N"],
    fresh_segment: Int[np.ndarray, "t"],
) -> Smoother:
    """Weights of least error, pooled over regions; residual, fresh noise and response in units of each region's noise."""
    V = windowed(residual, segment)
    known = ~np.isnan(residual)
    z = np.where(known, residual, 0.0)
    count = known.sum()
    heard = (windowed(fresh - response, fresh_segment) * fresh).sum((1, 2)) / (fresh**2).sum()
    R = np.einsum("btn,ctn,tn->bc", V, V, known) / count
    right = np.einsum("btn,tn->b", V, z) / count - heard
    weights = np.linalg.solve(R + 1e-6 * np.eye(len(R)), right)
    worthwhile = right @ weights > SIGNIFICANT * len(R) / count
    return Smoother(weights * worthwhile, heard)


def smooth(
    smoother: Smoother, residual: Float[np.ndarray, "T N"], segment: Int[np.ndarray, "T"]
) -> Float[np.ndarray, "T N"]:
    """What is to be added to the estimate, in the unit of the residual."""
    return np.einsum("b,btn->tn", smoother.weights, windowed(residual, segment))


def influence(smoother: Smoother, gain: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "T N"]:
    """`E[n_t f_t]/E[n²]` of the smoothed estimate, where that of the estimate was `gain`."""
    c, a = smoother
    return gain + c[0] * (1 - gain) + np.sum(c[1:] * a[1:])
