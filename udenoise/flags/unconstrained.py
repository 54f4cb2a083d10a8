"""Unconstrained: the picture shows a change that stands out of it and yet lies inside its own error bar.

Somebody who looks at the denoised movie would call it an event; the data do not say that there is one. p is the probability of a
change of this size or more where nothing happens, as the stated error has it: the larger, the less is known.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage, stats
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from udenoise.flags.contradicted import Found, footprint_of
from udenoise.flags.field import Field, mask_of, region_of, sized, timed, touching
from udenoise.flags.table import Flag
from udenoise.metrics import own_sd
from udenoise.scan import SIGMAS_PX, Peaks, some_peaks
from udenoise.watch import CERTAIN, VISIBLE

NEAR = np.array([3.0, 12.0, 12.0])
"""Frames and pixels within which two changes of the picture to the same side are one event."""
WHY = "the picture shows a change that lies inside its own error bar: the data do not say that it is there"


def unconstrained_places(shown: Peaks, field: Field) -> list[Found]:
    """Events of the picture at any place (`watch.uncertain_sights`), the most conspicuous first."""
    event = _joined(shown)
    found = [_place(some_peaks(shown, event == e), field) for e in range(event.max(initial=-1) + 1)]
    return sorted(found, key=lambda one: -abs(one.flag.size))


def _joined(shown: Peaks) -> Int[np.ndarray, "P"]:
    """The event that each change belongs to; chains of them are one, such as where a whole field brightens at the movie's end."""
    where = np.stack([shown.frame, shown.y, shown.x], axis=1) / NEAR
    first, second = cKDTree(where).query_pairs(1.0, p=np.inf, output_type="ndarray").T
    alike = np.sign(shown.z[first]) == np.sign(shown.z[second])
    links = coo_matrix((alike[alike], (first[alike], second[alike])), shape=(len(where), len(where)))
    return connected_components(links, directed=False)[1]


def _place(peaks: Peaks, field: Field) -> Found:
    best = int(np.abs(peaks.height).argmax())
    footprint = footprint_of(peaks._replace(z=peaks.height), field)
    mask, z = mask_of(footprint, field.mean.shape), float(peaks.z[best])
    flag = Flag(
        "unconstrained", int(footprint.start.min()), int(footprint.stop.max()), float(peaks.y[best]), float(peaks.x[best]),
        float(mask.sum()), score=z, p=float(2 * stats.norm.sf(abs(z))), roi=touching(mask, field), sign=int(np.sign(z)),
        sigma_px=SIGMAS_PX[int(peaks.spot[best])], frames=float(footprint.stop.max() - footprint.start.min()), reason=WHY,
    )  # fmt: skip
    return Found(timed(sized(flag, float(peaks.height[best]), field), field), footprint)


def unconstrained_traces(mean: Float[np.ndarray, "N T"], sd: Float[np.ndarray, "N T"], field: Field) -> list[Found]:
    """Rises and falls of denoised traces (counts) that stand out of the trace and not of its corridor, the largest first."""
    change = mean - np.median(mean, axis=1, keepdims=True)
    rest = own_sd(change)[:, None]
    labels, count = ndimage.label(np.abs(change) >= VISIBLE * rest, [[0, 0, 0], [1, 1, 1], [0, 0, 0]])
    found = []
    for number, (roi, span) in enumerate(ndimage.find_objects(labels), 1):
        n, inside = roi.start, labels[roi.start, span] == number
        z = change[n, span] / sd[n, span]
        if np.abs(z[inside]).max() < CERTAIN:
            found.append(_trace(n, span.start, span.stop, change[n, span], z, field))
    return sorted(found, key=lambda one: -abs(one.flag.score))


def _trace(n: int, start: int, stop: int, change: np.ndarray, z: np.ndarray, field: Field) -> Found:
    best, roi = int(np.abs(change).argmax()), region_of(n, field)
    size = float(change[best])
    flag = Flag(
        "unconstrained", start, stop, roi.y, roi.x, roi.area, size, float(z[best]), float(2 * stats.norm.sf(abs(z[best]))),
        roi=field.names[n], sign=int(np.sign(size)), dff=size / roi.light if roi.light > 0 else np.nan,
        sigma_px=roi.sigma_px, frames=float(stop - start), reason=WHY,
    )  # fmt: skip
    return Found(timed(flag, field), roi.footprint(start, stop))
