"""What the neighbouring frames of a trace still say about this one: a filter in time found without ground truth.

An estimate f of a region's trace is itself jittery, and leaves residuals `r = y − f` that hold its slow errors beside the
noise. Both are averaged over windows that grow with distance and added back, `f_t + Σ_b c_b (W_b r)_t + Σ_b d_b (W_b f)_t`,
with the weights of least expected error; every filter of the raw trace is among what can be had. The error `e = r − n` is
never seen, but `E[e_t (W_b x)_t] = E[r_t (W_b x)_t] − E[n_t (W_b x)_t]`, and how noise passes into x = r, f is known from the
estimate's response to fresh noise (Stein 1981; by Monte Carlo as in Ramani et al. 2008): `E[n_t (W_b x)_t]/E[n²]`. So the
weights, and the error that remains, are found without ground truth.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

EDGES = (0, 1, 3, 6, 11, 21, 41, 81, 161)
"""First distance (frames) of each window, and the end of the last."""
SIGNIFICANT = 4.0
"""The gain must exceed what as many weights would gain from noise alone by this factor."""


class Smoother(NamedTuple):
    """Weights (c, then d) and noise shares of the windows; all weights zero where nothing is to be gained."""

    weights: Float[np.ndarray, "windows"]
    heard: Float[np.ndarray, "windows"]


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
    estimate: Float[np.ndarray, "T N"],
    segment: Int[np.ndarray, "T"],
    fresh: Float[np.ndarray, "t N"],
    response: Float[np.ndarray, "t N"],
    fresh_segment: Int[np.ndarray, "t"],
) -> Smoother:
    """Weights of least error, pooled over regions; everything in units of each region's noise, `estimate` about its mean."""
    V = _both(residual, estimate, segment)
    known = ~np.isnan(residual)
    z = np.where(known, residual, 0.0)
    count = known.sum()
    heard = (_both(fresh - response, response, fresh_segment) * fresh).sum((1, 2)) / (fresh**2).sum()
    R = np.einsum("btn,ctn,tn->bc", V, V, known) / count
    right = np.einsum("btn,tn->b", V, z) / count - heard
    weights = np.linalg.solve(R + 1e-6 * np.trace(R) / len(R) * np.eye(len(R)), right)
    worthwhile = right @ weights > SIGNIFICANT * len(R) / count
    return Smoother(weights * worthwhile, heard)


def _both(residual: np.ndarray, estimate: np.ndarray, segment: np.ndarray) -> Float[np.ndarray, "windows T N"]:
    return np.concatenate([windowed(residual, segment), windowed(estimate, segment)])


def smooth(
    smoother: Smoother,
    residual: Float[np.ndarray, "T N"],
    estimate: Float[np.ndarray, "T N"],
    segment: Int[np.ndarray, "T"],
) -> Float[np.ndarray, "T N"]:
    """What is to be added to the estimate, in the unit of the residual."""
    return np.einsum("b,btn->tn", smoother.weights, _both(residual, estimate, segment))


def influence(smoother: Smoother, gain: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "T N"]:
    """`E[n_t f_t]/E[n²]` of the smoothed estimate, where that of the estimate was `gain`: 1 − gain of it is left in r_t."""
    B = len(EDGES) - 1
    w, a = smoother
    elsewhere = np.delete(w * a, [0, B]).sum()
    return gain + w[0] * (1 - gain) + w[B] * gain + elsewhere
