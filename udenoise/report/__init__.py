"""What a run found: the numbers as report.json, and one self-contained report.html to look at."""

import json
from pathlib import Path

from udenoise.arrays import Json
from udenoise.io import Movie
from udenoise.report.numbers import report_numbers
from udenoise.report.page import page_data, render
from udenoise.report.pictures import read_moments
from udenoise.report.sources import read_sources

__all__ = ["write_report"]


def write_report(run: Path, movie: Movie) -> Json:
    """Write RUN/report.json and RUN/report.html from what stands in RUN; returns the content of report.json.

    Reads config.json, noise.json, anatomy.zarr, denoiser/training.json, posterior.zarr, traces.zarr, rois.npz,
    calibration.json, timing.json, and at most 60 single frames of `movie`. A file that is absent or unreadable is named
    under `missing` and on the page. Errors are in counts, times in seconds, ν in %/√Hz.
    Raises: InputError where the movie's own frames cannot be read.
    """
    sources = read_sources(run)
    moments = read_moments(movie, sources)
    numbers = report_numbers(sources, movie, moments)
    page = render(numbers, page_data(sources, numbers, moments, movie.shape))
    _replace(run / "report.html", page)
    _replace(run / "report.json", json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    return numbers


def _replace(path: Path, text: str) -> None:
    """The file appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", errors="replace")  # paths may hold bytes that are no text
    part.replace(path)
