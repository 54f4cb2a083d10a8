"""What is wrong with whole rows and frames: dropouts, flashes, repeats, trial breaks, ramps; and values at a wall.

Everything here follows from one pass over the movie that keeps a mean per row and frame (T Y).
"""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import maximum_filter1d, median_filter, minimum_filter1d
from scipy.optimize import isotonic_regression

from udenoise.io import Movie

Progress = Callable[[int], object] | None
RowMeans = Float[np.ndarray, "T Y"]
PIXELS_AT_ONCE = 2**24


class Scan(NamedTuple):
    """One pass over the movie."""

    rows: RowMeans
    """Mean of every row of every frame, counts."""
    repeated: Int[np.ndarray, "repeated"]
    """Frames that equal the frame before, value by value."""
    low: float
    """Smallest value of the movie."""
    high: float
    """Largest value of the movie."""


class Faults(NamedTuple):
    """Which rows and frames not to use, and where trials begin."""

    bad_rows: Int[np.ndarray, "bad_rows 2"]
    bad_frames: Int[np.ndarray, "bad_frames"]
    breaks: Int[np.ndarray, "breaks"]
    ramp: float
    frame_mean: Float[np.ndarray, "T"]
    """Mean of each frame without its bad rows, counts."""


def scan(movie: Movie, progress: Progress = None) -> Scan:
    """Row means, repeated frames and extremes of a movie; memory is one chunk of frames and T Y numbers."""
    T, Y, X = movie.shape
    rows, repeated, lows, highs, last = np.empty((T, Y), np.float32), [], [], [], None
    for start, frames in movie.chunks(max(1, PIXELS_AT_ONCE // (Y * X))):
        rows[start : start + len(frames)] = frames.mean(2, dtype=np.float64)
        before = frames[:1] if last is None else last[None]
        repeated += [start + i for i in _repeats(np.concatenate([before, frames]), first=last is None)]
        lows.append(float(frames.min()))
        highs.append(float(frames.max()))
        last = frames[-1]
        if progress:
            progress(start + len(frames))
    return Scan(rows, np.array(repeated, np.int64), min(lows), max(highs))


def _repeats(frames: np.ndarray, first: bool) -> list[int]:
    return [i for i in range(int(first), len(frames) - 1) if np.array_equal(frames[i], frames[i + 1])]


def find_faults(seen: Scan) -> Faults:
    """Bad rows, bad frames, trial breaks and ramp from the row means."""
    dropped, local = find_dropouts(seen.rows)
    frame_mean = np.where(dropped, local, seen.rows).mean(1, dtype=np.float64)
    bad = _blank_or_flashed(seen.rows, dropped)
    bad[seen.repeated] = True
    dropped[bad] = False
    smooth = np.interp(np.arange(len(bad)), np.flatnonzero(~bad), frame_mean[~bad]) if not bad.all() else frame_mean
    return Faults(
        bad_rows=np.argwhere(dropped).astype(np.int64).reshape(-1, 2),
        bad_frames=np.flatnonzero(bad).astype(np.int64),
        breaks=find_breaks(smooth),
        ramp=brightness_ramp(smooth),
        frame_mean=np.where(bad, seen.rows.mean(1), frame_mean).astype(np.float32),
    )


def find_dropouts(rows: RowMeans) -> tuple[Bool[np.ndarray, "T Y"], RowMeans]:
    """Rows that go dark, or flare up, for a few frames, and what each row should have been (running median).

    A row is dark when it lies 8 standard deviations below its own running median (9 frames) *and* half of the way to
    the darkest row of the movie below the dimmest of the rows within 3 rows of it: so neither activity, nor a falling
    brightness, nor motion (which only brings in a neighbouring row) counts. Rows that are always dark never count.
    """
    local = median_filter(rows, size=(9, 1), mode="mirror")
    sd = 1.4826 * np.median(np.abs(np.diff(rows, axis=0)), axis=0) / np.sqrt(2) + 1e-6
    floor = float(rows.min())
    dim = minimum_filter1d(local, 7, axis=1, mode="nearest")
    dark = (rows - floor < 0.5 * (dim - floor)) & (local - rows > 8 * sd)
    flickering = _flickering(rows, floor, sd)
    local = np.where(flickering, np.median(rows, axis=0), local)
    return dark | flickering | _flares(rows, local, floor, sd), local


def _flickering(rows: RowMeans, floor: float, sd: np.ndarray) -> Bool[np.ndarray, "T Y"]:
    """Rows at less than 30 % of their movie's median, scaled to the brightness around them in this frame.

    This finds rows that are dark so often that their running median is dark too.
    """
    usual = np.median(rows, axis=0, keepdims=True)
    near = median_filter(rows, size=(1, 7), mode="mirror") - floor
    usually_near = np.maximum(median_filter(usual, size=(1, 7), mode="mirror") - floor, 1e-12)
    expected = (usual - floor) * np.minimum(1, near / usually_near)
    return (rows - floor < 0.3 * expected) & (expected - (rows - floor) > 8 * sd)


def _flares(rows: RowMeans, local: RowMeans, floor: float, sd: np.ndarray) -> Bool[np.ndarray, "T Y"]:
    """One frame long, at most two rows high, twice as bright as anything near: no cell is like that."""
    beside = np.pad(rows, ((1, 1), (3, 3)), mode="edge")
    T, Y = rows.shape
    around = reduce(np.maximum, (beside[1 : T + 1, 3 + k : 3 + k + Y] for k in (-3, -2, 2, 3)))
    times = np.maximum(beside[:-2, 3:-3], beside[2:, 3:-3])
    calm = np.maximum(np.maximum(around, times), maximum_filter1d(local, 7, axis=1, mode="nearest"))
    inside = np.zeros((T, Y), bool)
    inside[1:-1] = True
    return inside & (rows - floor > 2 * (calm - floor)) & (rows - local > 10 * sd)


def _blank_or_flashed(rows: RowMeans, dropped: Bool[np.ndarray, "T Y"]) -> Bool[np.ndarray, "T"]:
    """Frames that are dark in most rows or far below the movie's level, or twice as bright as both their neighbours."""
    mean, floor = rows.mean(1, dtype=np.float64), float(rows.min())
    usual = np.median(mean) - floor
    blank = (dropped.mean(1) > 0.5) | (mean - floor < 0.2 * usual)
    beside = np.pad(mean, 1, mode="edge")
    calm = np.maximum(np.maximum(beside[:-2], beside[2:]), np.median(mean)) - floor
    flash = (mean - floor > 2 * calm) & (mean - np.median(mean) > 10 * _step_sd(mean))
    return (blank if blank.mean() < 0.5 else np.zeros_like(blank)) | flash


def _step_sd(series: Float[np.ndarray, "T"]) -> float:
    return 1.4826 * float(np.median(np.abs(np.diff(series)))) + 1e-12


BREAK_FRAMES = 4


def find_breaks(frame_mean: Float[np.ndarray, "T"]) -> Int[np.ndarray, "breaks"]:
    """Frames at which the field's brightness falls in one step and stays down: a new trial has begun.

    An indicator may light up within a frame but needs several to decay, so only a fall is told apart from activity:
    all of 4 frames before lie above all of 4 frames after, by more than 1 % of the mean, by more than 3 usual steps
    (robust) and by 0.8 of the spread on either side; and the step itself is 5 usual ones. Motion that comes back is
    no break. A joint without a fall in brightness cannot be seen here, and does less harm.
    """
    T, K = len(frame_mean), BREAK_FRAMES
    if T < 4 * K:
        return np.zeros(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(frame_mean, K)
    before, after = windows[: T - 2 * K + 1], windows[K:]
    gap = before.min(1) - after.max(1)
    spread = np.maximum(np.ptp(before, axis=1), np.ptp(after, axis=1))
    usual = _step_sd(frame_mean)
    step = before[:, -1] - after[:, 0]
    is_break = (gap > 3 * usual) & (step > 5 * usual) & (gap > 0.8 * spread) & (gap > 0.01 * frame_mean.mean())
    return np.flatnonzero(is_break).astype(np.int64) + K


def brightness_ramp(frame_mean: Float[np.ndarray, "T"]) -> float:
    """Relative change of a steady (monotone) trend; 0 where that explains less than 70 % of the variance."""
    fits = [isotonic_regression(frame_mean, increasing=up).x for up in (True, False)]
    trend = min(fits, key=lambda fit: np.sum((frame_mean - fit) ** 2))
    left, total = np.var(frame_mean - trend), np.var(frame_mean)
    level = abs(float(frame_mean.mean())) + 1e-12
    return float((trend[-1] - trend[0]) / level) if left < 0.3 * total else 0.0
