"""Errors of known size planted in the residual of a finished run: events that are missing in the picture, events that only it has,
and borders that lie in the wrong place; by what flags find, and by what two simpler maps find at as many false alarms."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, stats

from experiments.flags.sight import CERTAIN, Judged, Sight, judge, truly_wrong, voxels
from udenoise.flags import Found
from udenoise.regions import correlated_share

SOMA, LOCAL, DENDRITE = (3, 4, 5, 6, 8, 10), (3, 4, 5, 6, 8, 12), (3, 4, 5, 6, 8, 12)
DECAY_FRAMES, LONGEST = 20.0, 60
"""Of a transient: decay time, and how much of it is planted."""
SHIFT_FRAMES, SHIFTS_PX = 10, (0.5, 1.0, 2.0)
REPEATS = {"soma": 5, "local": 3, "dendrite": 3}
AT_ONCE = {"soma": 12, "local": 36, "dendrite": 18}
BORDER_REPEATS = 3
MAPS = ("y − D of pixels", "z of pixels")
TOUCH_PX = 1.5
"""A flag whose disc comes as near to an event is about it."""


class Plant(NamedTuple):
    """One planted error: counts added to y − D (`image` × `course`, signed), and where the event is said to be."""

    kind: str
    size: float
    sign: int
    start: int
    stop: int
    """After which less than a seventh of it is left."""
    image: Float[np.ndarray, "Y X"]
    course: Float[np.ndarray, "K"]
    distance: Float[np.ndarray, "Y X"]
    """From the pixels with more than a fifth of its height."""


Maker = Callable[[np.random.Generator, Sight, float, int, int], Plant]


def soma(random: np.random.Generator, sight: Sight, size: float, sign: int, number: int) -> Plant:
    """A transient of a whole ROI whose matched filter in its trace has this z, against noise and stated error together."""
    n, t = number % len(sight.field.names), int(random.integers(10, len(sight.error) - LONGEST - 10))
    weight = sight.field.weights[n].astype(float)
    course = np.exp(-np.arange(LONGEST) / DECAY_FRAMES)
    doubt = (sight.residual.doubt[t : t + LONGEST] * sight.unit[t : t + LONGEST] * weight).sum((1, 2))
    spread = np.sqrt((course**2).sum() * sight.noise_variance[n] + (course * doubt).sum() ** 2)
    return _plant("soma", size, sign, t, (weight > 0).astype(float), course, size * spread / (course**2).sum())


def local(random: np.random.Generator, sight: Sight, size: float, sign: int, number: int) -> Plant:
    """A Gaussian spot of one to three frames whose matched filter has this z against noise."""
    shape, (y, x) = sight.error.shape, (int(random.integers(8, side - 8)) for side in sight.error.shape[1:])
    sigma, frames = random.uniform(1.3, 2.3), int(random.integers(1, 4))
    ys, xs = np.ogrid[: shape[1], : shape[2]]
    spot = np.exp(-((ys - y) ** 2 + (xs - x) ** 2) / (2 * sigma**2))
    return _small(
        "local", size, sign, spot * (spot > 1e-3), np.ones(frames), int(random.integers(5, shape[0] - 8)), sight
    )


def dendrite(random: np.random.Generator, sight: Sight, size: float, sign: int, number: int) -> Plant:
    """A stretch of some 10 px, a pixel or two wide, with the indicator's transient."""
    (Y, X), angle = sight.error.shape[1:], random.uniform(0, np.pi)
    y, x = random.integers(10, Y - 10), random.integers(10, X - 10)
    ys, xs = np.mgrid[:Y, :X]
    along = (ys - y) * np.sin(angle) + (xs - x) * np.cos(angle)
    across = (ys - y) * np.cos(angle) - (xs - x) * np.sin(angle)
    image = np.exp(-(along**2) / (2 * 4.0**2) - across**2 / (2 * random.uniform(0.7, 1.2) ** 2))
    course, t = np.exp(-np.arange(LONGEST) / DECAY_FRAMES), int(random.integers(10, len(sight.error) - LONGEST - 10))
    return _small("dendrite", size, sign, image * (image > 1e-3), course, t, sight)


def _small(kind: str, size: float, sign: int, image: np.ndarray, course: np.ndarray, t: int, sight: Sight) -> Plant:
    kernel = image / sight.noise_sd[t : t + len(course)].mean(0)
    power = (kernel**2).sum() * (course**2).sum()
    widened = correlated_share(kernel, sight.recording.noise.kernel)
    return _plant(kind, size, sign, t, image, course, size * np.sqrt(widened / power))


def _plant(kind: str, size: float, sign: int, t: int, image: np.ndarray, course: np.ndarray, height: float) -> Plant:
    stop = t + int((course > course.max() / 7).sum())
    distance = ndimage.distance_transform_edt(image <= 0.2 * image.max())
    return Plant(kind, size, sign, t, stop, sign * height * image, course, distance)


KINDS: dict[str, tuple[Maker, Sequence[float]]] = {
    "soma": (soma, SOMA), "local": (local, LOCAL), "dendrite": (dendrite, DENDRITE),
}  # fmt: skip


def add(random: np.random.Generator, sight: Sight, plants: list[Plant]) -> Float[np.ndarray, "T Y X"]:
    """The residual (units of noise) with all of them: what was swallowed is in the measured frame and brings its own shot noise,
    what was invented is in the picture and brings none."""
    counts, gain = np.zeros_like(sight.unit), sight.recording.noise.gain
    for plant in plants:
        added = plant.image * plant.course[:, None, None]
        if plant.sign > 0 and gain > 0:
            added = gain * random.poisson(np.maximum(added, 0) / gain)
        counts[plant.start : plant.start + len(plant.course)] += added
    return sight.residual.value + counts / sight.unit


def measure(sight: Sight, seed: int) -> list[dict[str, Any]]:
    """Every planted event, one row each, and one row for each flag that is about none of them."""
    random, bare = np.random.default_rng(seed), judge(sight, sight.residual.value)
    rows = [own(sight, bare)]
    for kind, (make, sizes) in KINDS.items():
        for _ in range(REPEATS[kind]):
            for sign in (1, -1):
                chosen = random.permutation(np.resize(sizes, AT_ONCE[kind]))
                plants = [make(random, sight, float(size), sign, n) for n, size in enumerate(chosen)]
                rows += compare(sight, plants, add(random, sight, plants), bare)
    return rows


def own(sight: Sight, bare: Judged) -> dict[str, Any]:
    """The flags of the run itself, nothing planted: they come back in every residual that something is planted in."""
    wrong = sum(truly_wrong(sight, found) for found in bare.found)
    blind, flags = sum(truly_wrong(sight, found, blind=True) for found in bare.found), len(bare.found)
    z = np.abs(sight.residual.value * sight.unit / sight.noise_sd)
    strange = count_clusters(z, np.ones(z.shape, bool), sight, benjamini_hochberg(z))
    counts = {"flags": flags, "about": 0, "beside": flags, "false": flags - wrong, "alarms": max(flags - wrong, 1)}
    return {"kind": "nothing", "sign": 0, **counts, "wrong_blind": blind, "pixel_bh_false": strange}


def compare(sight: Sight, plants: list[Plant], value: np.ndarray, bare: Judged) -> list[dict[str, Any]]:
    """What flags and both maps find of these; `bare` is the residual without them, in whose noise the same places are looked at."""
    judged = judge(sight, value)
    about = [[i for i, plant in enumerate(plants) if touches(found, plant)] for found in judged.found]
    flagged = {i for some in about for i in some}
    free = free_of(plants, value.shape)
    false = [found for found, some in zip(judged.found, about, strict=True) if not some]
    wrong = [truly_wrong(sight, found) for found in false]
    alarms = max(len(false) - sum(wrong), 1)
    maps = [np.abs(v * sight.unit / scale) for v in (value, sight.residual.value) for scale in (1.0, sight.noise_sd)]
    limits = [threshold(part, free, sight, alarms) for part in maps[:2]]
    level = benjamini_hochberg(maps[1])
    rows = []
    for i, plant in enumerate(plants):
        inside = plant.distance == 0
        heights = [float(part[plant.start : plant.stop][:, inside].max()) for part in maps]
        strengths = [strongest(each.peaks, plant) for each in (judged, bare)]
        rows.append({
            "kind": plant.kind, "size": plant.size, "sign": plant.sign, "flagged": i in flagged,
            "flagged_without": any(touches(found, plant) for found in bare.found), "score": strengths[0],
            "score_without": strengths[1], "maps": [bool(h >= u) for h, u in zip(heights, limits, strict=False)],
            "map_scores": heights[:2], "map_scores_without": heights[2:], "pixel_bh": bool(heights[1] >= level),
        })  # fmt: skip
    strange = count_clusters(maps[1], free, sight, level)
    rows.append({
        "kind": plants[0].kind, "sign": plants[0].sign, "flags": len(judged.found), "about": sum(map(bool, about)),
        "false": len(false) - sum(wrong), "beside": len(false), "alarms": alarms, "pixel_bh_false": strange,
        "wrong_blind": sum(truly_wrong(sight, found, blind=True) for found in false),
    })  # fmt: skip
    return rows


def touches(found: Found, plant: Plant) -> bool:
    """Whether a flag is about an event: at its place and time, of its sign or a displacement."""
    if found.flag.sign * plant.sign < 0 or found.flag.frame_start >= plant.stop or found.flag.frame_stop <= plant.start:
        return False
    discs = found.footprint
    return bool((plant.distance[discs.y, discs.x] <= discs.radius + TOUCH_PX).any())


def strongest(peaks: Any, plant: Plant) -> float:
    """Largest |z| of the peaks with this sign at its place and time; 0 where none passes the scan's threshold."""
    near = (
        (peaks.frame < plant.stop)
        & (peaks.frame >= plant.start - 9)
        & (plant.distance[peaks.y, peaks.x] <= 2 * TOUCH_PX)
    )
    return float(np.abs(peaks.z[near & (np.sign(peaks.z) == plant.sign)]).max(initial=0))


def free_of(plants: list[Plant], shape: tuple[int, int, int]) -> Bool[np.ndarray, "T Y X"]:
    """Where no planted event is, nor its skirts."""
    free = np.ones(shape, bool)
    for plant in plants:
        free[max(plant.start - 2, 0) : plant.start + len(plant.course) + 2] &= plant.distance > 2 * TOUCH_PX + 2
    return free


def threshold(image: np.ndarray, free: np.ndarray, sight: Sight, alarms: int) -> float:
    """The level above which so many clusters of pixels lie where nothing was planted and the picture is not wrong."""
    heights = _clusters(image, free, sight, alarms + 1)
    return heights[-1]


def count_clusters(image: np.ndarray, free: np.ndarray, sight: Sight, level: float) -> int:
    """How many such clusters reach a level."""
    return int((np.array(_clusters(image, free, sight, 1000)) >= level).sum())


def _clusters(image: np.ndarray, free: np.ndarray, sight: Sight, most: int) -> list[float]:
    """Heights of the highest clusters, falling: pixels that touch a higher one in space or time are of its cluster."""
    inside = np.where(free & (np.abs(sight.error) <= CERTAIN * sight.sd), image, 0.0)
    few = min(max(20 * most, 2000), inside.size - 1)
    top = np.argpartition(inside.ravel(), -few)[-few:]
    top = top[np.argsort(-inside.ravel()[top])]
    heights, places = [], np.zeros((0, 3), int)
    for flat, place in zip(top, np.stack(np.unravel_index(top, inside.shape), 1), strict=True):
        if not (np.abs(places - place) <= 1).all(1).any():
            heights.append(float(inside.ravel()[flat]))
        places = np.concatenate([places, place[None]])
        if len(heights) == most:
            break
    return heights


def benjamini_hochberg(z: np.ndarray, fdr: float = 0.05) -> float:
    """Least |z| whose share of chance among pixels as large is at most `fdr`; all pixels are normal and alike."""
    top = np.sort(z[z > 3.0])[::-1]
    share = 2 * stats.norm.sf(top) * z.size / np.arange(1, len(top) + 1)
    passed = np.flatnonzero(share <= fdr)
    return float(top[passed[-1]]) if len(passed) else np.inf


def borders(sight: Sight, seed: int) -> list[dict[str, Any]]:
    """Cells whose denoised picture is displaced for ten frames: is it found?"""
    random, rows = np.random.default_rng([seed, 1]), []
    names = range(len(sight.field.names))
    for pixels in SHIFTS_PX:
        for _ in range(BORDER_REPEATS):
            value, planted = sight.residual.value.copy(), []
            for n in names:
                planted.append(_displace(random, sight, value, n, pixels))
            found = judge(sight, value).found
            for t, distance, ideal, contrast in planted:
                hits = [one for one in found if _near(one, t, distance)]
                rows.append({"pixels": pixels, "ideal": ideal, "contrast": contrast, "found": bool(hits)})
    return rows


def _displace(random: np.random.Generator, sight: Sight, value: np.ndarray, n: int, pixels: float) -> tuple:
    inside = sight.field.weights[n] > 0
    distance, t = ndimage.distance_transform_edt(~inside), int(random.integers(5, len(value) - 20))
    window, angle, span = distance <= 3, random.uniform(0, 2 * np.pi), slice(t, t + SHIFT_FRAMES)
    away = (0, pixels * np.sin(angle), pixels * np.cos(angle))
    moved = ndimage.shift(sight.mean[span], away, order=1, mode="nearest")
    change = np.where(window, sight.mean[span] - moved, 0) / sight.unit[span]
    value[span] += change
    ring = (distance > 0) & (distance <= 3)
    light = sight.field.mean[inside].mean(), sight.field.mean[ring].mean()
    return t, distance, float(np.sqrt((change**2).sum())), float((light[0] - light[1]) / light[1])


def _near(found: Found, t: int, distance: np.ndarray) -> bool:
    if found.flag.frame_start >= t + SHIFT_FRAMES or found.flag.frame_stop <= t:
        return False
    _, mask = voxels(found, (0, *distance.shape))
    return bool((mask & (distance <= 3)).any())
