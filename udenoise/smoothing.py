"""What the neighbouring frames of a trace still say about this one: a filter in time found without ground truth.

The blind prediction μ of a region's trace is itself jittery, and the residuals `r = y − μ` of its neighbours hold its slow
errors beside their noise. Both are averaged over windows W_b that grow with distance and added with the weights of least
expected error (W₀ r, the frame itself, stays hidden). At rest long windows are best and in action short ones, so every window
counts again times gates g_l(t) in [0, 1], which open as the expected error rises above its median:

    μ_t + Σ_lb g_l(t) (c_lb (W_b r)_t + d_lb (W_b μ)_t)

The error `e = r − n` is never seen, but `E[e_t (W_b x)_t] = E[r_t (W_b x)_t] − E[n_t (W_b x)_t]`, and how the noise of frame t
passes into its neighbours' r and μ is known from their response to fresh noise (Stein 1981; by Monte Carlo as in Ramani et
al. 2008). So the weights are found without ground truth, and the little of y_t that leaks in through the neighbours is taken
out again: the result is blind to first order. Weights are those of all regions, and what each region differs from them as far
as its own frames show it (empirical Bayes); a frame's weights come from other stretches of the recording, so that its
residual measures the error of the result as it measured that of the prediction.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

EDGES = (0, 1, 3, 6, 11, 21, 41, 81, 161)
"""First distance (frames) of each window, and the end of the last."""
HIDDEN = len(EDGES) - 2
"""The window of a frame itself among those that count: it is of the prediction, which is blind."""
GATES = (1.0, 10.0, 100.0)
"""Multiples of a region's median expected error at which its gates are half open."""
FOLDS = 10
"""Parts of the recording; a frame's weights come from the other parts."""
PRIOR_FRAMES = 100
"""Weight of no filter at all against the response to fresh noise, in frames of one region."""
OWN_SPREADS = (1e-5, 1e-4, 3e-4, 1e-3)
"""Variances that the regions' own weights may have about the common ones, in units of one over a window's mean square."""
SIGNIFICANT = 2.0
"""Standard errors by which the squared residuals must become smaller."""
BLOCK_VALUES = 20_000_000
"""Numbers of windows in memory at a time."""


class Blind(NamedTuple):
    """Blind predictions of traces and what they left; all in units of each region's noise, predictions about their mean."""

    residual: Float[np.ndarray, "T N"]
    prediction: Float[np.ndarray, "T N"]
    expected: Float[np.ndarray, "T N"]
    """Error variance to expect; it may not have seen the frame itself."""
    segment: Int[np.ndarray, "T"]


class Answer(NamedTuple):
    """Fresh noise in frames [start, start + t) and what it changed in the prediction, in the same units."""

    start: int
    fresh: Float[np.ndarray, "t N"]
    left: Float[np.ndarray, "t N"]


class Smoother(NamedTuple):
    """Weights for each part of the recording and each region; all zero where nothing is to be gained."""

    weights: Float[np.ndarray, "folds N gates windows"]
    leak: Float[np.ndarray, "windows"]
    """How much of a frame's own noise is in each of its windows."""


class _Moments(NamedTuple):
    """Sums over the frames of each fold: of products of windows, and of windows times the error."""

    square: Float[np.ndarray, "folds N F F"]
    right: Float[np.ndarray, "folds N F"]
    count: Float[np.ndarray, "folds N"]


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


def windows(
    residual: Float[np.ndarray, "T N"], prediction: Float[np.ndarray, "T N"], segment: Int[np.ndarray, "T"]
) -> Float[np.ndarray, "windows T N"]:
    """Those that count: of the residual without the frame itself, and of the prediction."""
    return np.concatenate([windowed(residual, segment)[1:], windowed(prediction, segment)])


def gates(expected: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "gates T N"]:
    """1, and how far each of `GATES` is open."""
    usual = np.median(expected, axis=0)
    return np.stack([np.ones_like(expected), *(expected / (expected + many * usual) for many in GATES)])


def fold_of(T: int) -> Int[np.ndarray, "T"]:
    """To which part of the recording each frame belongs: two stretches each."""
    return np.arange(T) * 2 * FOLDS // T % FOLDS


def fit_smoother(blind: Blind, answer: Answer) -> Smoother:
    """Weights of least expected error."""
    leak, size = _leak(blind, answer), answer.fresh.size
    common = _common(_moments(blind, leak, 0.5), PRIOR_FRAMES / size)
    weights = _own(_moments(blind, leak, 1.0), common)
    smoother = Smoother(weights.reshape(*weights.shape[:2], len(GATES) + 1, -1), leak)
    return smoother if _gains(smoother, blind) else smoother._replace(weights=np.zeros_like(smoother.weights))


def _leak(blind: Blind, answer: Answer) -> Float[np.ndarray, "windows"]:
    """`E[n_t (W_b x)_t]`, pooled over regions."""
    span = slice(answer.start, answer.start + len(answer.fresh))
    heard = windows(answer.fresh - answer.left, answer.left, blind.segment[span])
    leak = (heard * answer.fresh).sum((1, 2)) / (answer.fresh**2).sum()
    leak[HIDDEN] = 0.0
    return leak


def _blocks(T: int, N: int) -> Iterator[slice]:
    """Regions whose windows are in memory together."""
    step = max(BLOCK_VALUES // (T * (len(GATES) + 1) * (HIDDEN + len(EDGES) - 1)), 1)
    yield from (slice(first, min(first + step, N)) for first in range(0, N, step))


def _of(blind: Blind, some: slice) -> Blind:
    return Blind(*(part[:, some] for part in blind[:3]), blind.segment)


def _moments(blind: Blind, leak: np.ndarray, power: float) -> _Moments:
    """Frames weigh as their variance, 1 + expected, to minus this power: 1 tells most, less minds large errors more."""
    parts = [_block_moments(_of(blind, some), leak, power) for some in _blocks(*blind.residual.shape)]
    return _Moments(*(np.concatenate(part, axis=1) for part in zip(*parts, strict=True)))


def _block_moments(blind: Blind, leak: np.ndarray, power: float) -> _Moments:
    known = ~np.isnan(blind.residual)
    weight = known / (1 + blind.expected) ** power
    seen, gate = windows(blind.residual, blind.prediction, blind.segment), gates(blind.expected)
    design = np.einsum("ltn,btn->nlbt", gate, seen).reshape(known.shape[1], -1, len(known))
    answer = np.where(known, blind.residual, 0.0)
    fold, square, right = fold_of(len(known)), [], []
    for f in range(FOLDS):
        there = fold == f
        w, part = weight[there].T[:, None], design[..., there]
        square.append((part * w) @ part.swapaxes(1, 2))
        heard = np.einsum("ltn,b,tn->nlb", gate[:, there], leak, weight[there]).reshape(len(part), -1)
        right.append(((part * w) @ answer[there].T[..., None])[..., 0] - heard)
    count = [weight[fold == f].sum(0) for f in range(FOLDS)]
    return _Moments(np.stack(square), np.stack(right), np.stack(count))


def _without(sums: np.ndarray) -> np.ndarray:
    """What the other folds hold."""
    return sums.sum(0) - sums


def _common(moments: _Moments, prior: float) -> Float[np.ndarray, "folds F"]:
    """Weights for each fold, from all regions in the others."""
    square, right = _without(moments.square.sum(1)), _without(moments.right.sum(1))
    ridge = prior * np.trace(square, axis1=1, axis2=2) / square.shape[-1]
    return np.linalg.solve(square + (ridge[:, None, None] + 1e-12) * np.eye(square.shape[-1]), right[..., None])[..., 0]


def _own(moments: _Moments, common: np.ndarray) -> Float[np.ndarray, "folds N F"]:
    """The regions' own weights: Normal about the common ones, with the spread that makes the residuals likeliest."""
    square, right = _without(moments.square), _without(moments.right)
    beyond = right - np.einsum("fnij,fj->fni", square, common)
    size = np.einsum("fnii->i", moments.square) / max(moments.count.sum(), 1.0)
    best, likeliest = np.zeros_like(right), 0.0
    for spread in OWN_SPREADS:
        precision = np.maximum(size, 1e-12) / spread
        inside = square + np.diag(precision)
        own = np.linalg.solve(inside, beyond[..., None])[..., 0]
        gain = (beyond * own).sum() - np.sum(np.linalg.slogdet(inside)[1] - np.log(precision).sum())
        if gain > likeliest:
            best, likeliest = own, gain
    return common[:, None] + best


def _gains(smoother: Smoother, blind: Blind) -> bool:
    """Whether the residuals of frames that the weights have not seen become smaller, beyond chance."""
    after = np.square(blind.residual - smooth(smoother, blind))
    change = (after - np.square(blind.residual)) / (1 + blind.expected) ** 0.5
    change = change[~np.isnan(change)]
    return bool(change.sum() < -SIGNIFICANT * np.sqrt(np.square(change).sum()))


def smooth(smoother: Smoother, blind: Blind) -> Float[np.ndarray, "T N"]:
    """What is to be added to the prediction, in the unit of the residual; where the frame is unknown, all that was found."""
    parts = [_added(smoother, blind, some, gates(blind.expected[:, some]), fold_of(len(blind.segment)))
             for some in _blocks(*blind.residual.shape)]  # fmt: skip
    return np.concatenate(parts, axis=1)


def answered(smoother: Smoother, blind: Blind, answer: Answer) -> Float[np.ndarray, "t N"]:
    """What fresh noise leaves in the filtered prediction: the filter is linear, its gates and weights those of the frames."""
    span = slice(answer.start, answer.start + len(answer.fresh))
    gate, fold = gates(blind.expected)[:, span], fold_of(len(blind.segment))[span]
    noise = Blind(answer.fresh - answer.left, answer.left, blind.expected[span], blind.segment[span])
    parts = [_added(smoother, noise, some, gate[..., some], fold) for some in _blocks(*noise.residual.shape)]
    return answer.left + np.concatenate(parts, axis=1)


def _added(smoother: Smoother, blind: Blind, some: slice, gate: np.ndarray, fold: np.ndarray) -> np.ndarray:
    part = _of(blind, some)
    seen, weights = windows(part.residual, part.prediction, part.segment), smoother.weights[:, some]
    added, leak = np.zeros(part.residual.shape), np.zeros(part.residual.shape)
    for f in np.unique(fold):
        there = fold == f
        added[there] = np.einsum("ltn,nlb,btn->tn", gate[:, there], weights[f], seen[:, there], optimize=True)
        leak[there] = np.einsum("ltn,nlb,b->tn", gate[:, there], weights[f], smoother.leak, optimize=True)
    return np.where(np.isnan(part.residual), added, (added - leak * part.residual) / (1 - leak))
