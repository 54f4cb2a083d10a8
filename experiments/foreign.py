"""Movies that other programs made of a movie of the table: which one it was, and the same score as everybody's."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import bench
from udenoise import open_movie
from udenoise.baselines import load_foreign
from udenoise.errors import InputError

ALIKE = 0.5
"""Least correlation of the mean images of a raw movie and of what was made of it."""
PROBE = 200
"""Frames of the mean image by which a movie is recognised."""


class Foreign(NamedTuple):
    """A denoised movie, the method's name in the table, and the movie it was made of."""

    method: str
    movie: str
    path: str


def parse(entry: str, scenes: list[bench.Scene]) -> Foreign:
    """`NAME=FILE`, or `NAME@MOVIE=FILE` where the movie is not to be recognised by its mean image. Raises InputError."""
    name, _, path = entry.partition("=")
    method, _, movie = name.partition("@")
    if not (method and path):
        raise InputError(f"--add {entry}: give NAME=denoised.tif, or NAME@MOVIE=denoised.tif")
    if movie and movie not in [scene.name for scene in scenes]:
        raise InputError(f"--add {entry}: there is no movie '{movie}'; there are: {'; '.join(s.name for s in scenes)}")
    return Foreign(method, movie or recognise(path, scenes), path)


def recognise(path: str, scenes: list[bench.Scene]) -> str:
    """The movie whose mean image is most like that of the file. InputError where none is."""
    movie = open_movie(path)
    image = movie.read(0, min(len(movie), PROBE)).mean(0)
    alike = {s.name: _correlation(image, s.movie[:PROBE].mean(0)) for s in scenes if s.movie.shape[1:] == image.shape}
    best = max(alike, key=alike.get, default=None)
    if best is None or alike[best] < ALIKE:
        raise InputError(f"{path} looks like no movie of the table; say which it was made of: NAME@MOVIE={path}")
    return best


def measure(scene: bench.Scene, path: str) -> dict[str, Any]:
    """The score of a file; frames that it lacks at both ends alike (DeepInterpolation: 30) do not count."""
    lost = max(len(scene.movie) - len(open_movie(path)), 0)
    start, stop = lost // 2, len(scene.movie) - (lost - lost // 2)
    denoised = load_foreign(path, scene.movie.shape, (start, len(scene.movie) - stop))
    part = cropped(scene, start, stop)
    return bench.score(part, denoised[start:stop]) | {"seconds": float("nan"), "settings": {"file": Path(path).name}}


def cropped(scene: bench.Scene, start: int, stop: int) -> bench.Scene:
    """Frames start ≤ t < stop, and the planted events that lie within with room for a baseline."""
    frames = slice(start, stop)
    rare = scene.rare
    if rare is not None:
        end = rare.planted.start + rare.planted.course.shape[1]
        inside = (rare.planted.start >= start + bench.ROOM) & (end <= stop - bench.ROOM)
        planted = [part[inside] for part in rare.planted]
        planted[1] = planted[1] - start
        rare = bench.Rare(
            type(rare.planted)(*planted), rare.kind[inside], rare.snr[inside], rare.roi[inside],
            rare.truth[inside][:, frames], rare.without[inside][:, frames],
        )  # fmt: skip
    return scene._replace(movie=scene.movie[frames], clean=scene.clean[frames], truth=scene.truth[:, frames], rare=rare)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
