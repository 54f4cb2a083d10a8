"""What the neighbouring frames of a trace still say about this one: a filter in time found without ground truth.

The blind prediction μ of a region's trace is itself jittery, and the residuals `r = y − μ` of its neighbours hold its slow
errors beside their noise. Both are averaged over windows that grow with distance and added, `μ_t + Σ_b c_b (W_b r)_t +
Σ_b d_b (W_b μ)_t` (W₀ r, the frame itself, stays hidden), with the weights of least expected error: every filter of the
neighbouring raw frames is among what can be had. The error `e = r − n` is never seen, but `E[e_t (W_b x)_t] = E[r_t (W_b x)_t] −
E[n_t (W_b x)_t]`, and how the noise of frame t passes into its neighbours' r and μ is known from their response to fresh noise
(Stein 1981; by Monte Carlo as in Ramani et al. 2008). So the weights are found without ground truth, and the little of y_t
that leaks in through the neighbours, `h = Σ_b w_b E[n_t (W_b x)_t]/E[n²]`, is taken out again: the result is blind to first order.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

EDGES = (0, 1, 3, 6, 11, 21, 41, 81, 161)
"""First distance (frames) of each window, and the end of the last."""
SIGNIFICANT = 4.0
"""The gain must exceed what as many weights would gain from noise alone by this factor."""

PRIOR_FRAMES = 100
"""Weight of no filter at all against the response to fresh noise, in frames of one region."""


class Smoother(NamedTuple):
    """Weights (c, then d) of the windows, all zero where nothing is to be gained, and the leak h of the frame itself."""

    weights: Float[np.ndarray, "windows"]
    leak: float


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
    prediction: Float[np.ndarray, "T N"],
    segment: Int[np.ndarray, "T"],
    fresh: Float[np.ndarray, "t N"],
    response: Float[np.ndarray, "t N"],
    fresh_segment: Int[np.ndarray, "t"],
) -> Smoother:
    """Weights of least error, pooled over regions; everything in units of each region's noise, `prediction` about its mean.

    `response` is what `fresh` noise in the movie changed in the prediction.
    """
    V = _windows(residual, prediction, segment)
    known = ~np.isnan(residual)
    count = known.sum()
    heard = (_windows(fresh - response, response, fresh_segment) * fresh).sum((1, 2)) / (fresh**2).sum()
    heard[len(EDGES) - 2] = 0.0  # W₀ μ is μ_t, which is blind
    R = np.einsum("btn,ctn,tn->bc", V, V, known) / count
    right = np.einsum("btn,tn->b", V, np.where(known, residual, 0.0)) / count - heard
    ridge = PRIOR_FRAMES / fresh.size * np.trace(R) / len(R)
    weights = np.linalg.solve(R + ridge * np.eye(len(R)), right)
    weights = weights * (right @ weights > SIGNIFICANT * len(R) / count)
    return Smoother(weights, float(weights @ heard))


def _windows(residual: np.ndarray, prediction: np.ndarray, segment: np.ndarray) -> Float[np.ndarray, "windows T N"]:
    return np.concatenate([windowed(residual, segment)[1:], windowed(prediction, segment)])


def smooth(
    smoother: Smoother,
    residual: Float[np.ndarray, "T N"],
    prediction: Float[np.ndarray, "T N"],
    segment: Int[np.ndarray, "T"],
) -> Float[np.ndarray, "T N"]:
    """What is to be added to the prediction, in the unit of the residual; linear in both, NaN where the frame is unknown."""
    added = np.einsum("b,btn->tn", smoother.weights, _windows(residual, prediction, segment))
    return np.where(np.isnan(residual), added, (added - smoother.leak * residual) / (1 - smoother.leak))
