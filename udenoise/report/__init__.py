"""What a run found: the numbers as report.json, and one self-contained report.html to look at."""

from pathlib import Path

from udenoise.arrays import Json
from udenoise.files import whole_file
from udenoise.io import Movie
from udenoise.io.store import write_json
from udenoise.report.gallery import gallery
from udenoise.report.numbers import report_numbers
from udenoise.report.page import page_data, render
from udenoise.report.pictures import read_moments
from udenoise.report.sources import read_sources

__all__ = ["write_report"]


def write_report(run: Path, movie: Movie) -> Json:
    """Write RUN/report.json and RUN/report.html from what stands in RUN; returns the content of report.json.

    Reads config.json, noise.json, anatomy.zarr, denoiser/training.json, posterior.zarr, traces.zarr, rois.npz,
    calibration.json, timing.json, flags.csv, flags.json, flags.zarr, and of `movie` at most 60 single frames and those
    near the strongest flags. A file that is absent or unreadable is named under `missing` and on the page. Errors are in
    counts, times in seconds, ν in %/√Hz.
    Raises: InputError where the movie's own frames cannot be read.
    """
    sources = read_sources(run)
    moments = read_moments(movie, sources)
    numbers = report_numbers(sources, movie, moments)
    data = page_data(sources, numbers, moments, movie.shape)
    page = render(numbers, data | {"gallery": gallery(sources, movie)})
    with whole_file(run / "report.html") as part:
        part.write_text(page, encoding="utf-8")
    write_json(run / "report.json", numbers)  # last: its presence says that the run is complete
    return numbers
