"""The audit: stream both movies once, gather every number with its standard error, and write them as JSON, CSV and a page."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from udenoise.arrays import Json
from udenoise.audit import events
from udenoise.audit.blindness import blindness
from udenoise.audit.doubt import Figure, least_gain, root_ratio
from udenoise.audit.evidence import Denoised, Evidence, Piece, align, load_halves, raw_evidence, stream
from udenoise.audit.look import Look, in_counts, look
from udenoise.audit.page import render
from udenoise.audit.pixels import (
    CoverageRows,
    PixelRows,
    brightness_groups,
    brightness_table,
    coverage_rows,
    join_rows,
    pixel_error,
    pixel_rows,
)
from udenoise.audit.regions import Regions, Series, join, lay_regions, read_traces
from udenoise.audit.rois import RoiError, amplitude_table, noise_check, roi_error, spectrum_table
from udenoise.audit.stated import pixel_coverage, roi_coverage
from udenoise.audit.words import verdict, warnings, withheld
from udenoise.config import MovieConfig
from udenoise.errors import InputError
from udenoise.files import text_cell, whole_file, write_table
from udenoise.io import Rois, load_rois
from udenoise.io.formats import Source
from udenoise.io.store import write_json
from udenoise.metrics import SteadinessSums, add_steadiness, pooled_steadiness, start_steadiness, steadiness
from udenoise.progress import progress_bar

ROUNDING = 1 / 6
"""Mean variance of rounding up as often as the fraction says, counts²."""
FEWEST_FRAMES = 50


class Audit(NamedTuple):
    """How to judge."""

    sd: Source | None
    """A movie of stated standard deviations."""
    missing_ends: tuple[int, int]
    match: bool
    fdr: float | int
    """False discovery rate of events; 0 leaves the search out."""
    quiet: bool


class Gathered(NamedTuple):
    """One pass over both movies."""

    pixels: PixelRows
    coverage: CoverageRows | None
    series: Series
    steady: SteadinessSums
    found: events.Found | None


def score(
    folder: str | Path,
    denoised: Source,
    output: str | Path | None = None,
    rois: Rois | str | Path | None = None,
    sd: Source | None = None,
    missing_ends: tuple[int, int] = (0, 0),
    match: bool = False,
    fdr: float | int = 0.05,
    quiet: bool = False,
) -> Path:
    """Judge what a program made of FOLDER/input.tif by FOLDER/judge.tif (see `split`); returns the output folder.

    denoised: any file that `open_movie` reads, in counts of input.tif, with as many frames, less `missing_ends` at the start
    and at the end ((30, 30) for DeepInterpolation). `match` lays its mean image on that of the input first, for programs that
    rescale or subtract a mean. rois: as `load_rois`; without them tiles of 12 pixels stand for somata. sd: a movie of the stated
    standard deviation. `fdr` is the share of chance among the events listed; 0 leaves the search for events out, which takes
    most of the time.
    Writes audit.html, score.json, rois.csv and events.csv into `output` (FOLDER/score by default). Memory is a few frames and some
    numbers per ROI and frame. Raises InputError when files do not fit each other, and when the denoised movie is evidently not
    in counts.
    """
    evidence = load_halves(folder)
    return _judge(
        evidence, denoised, rois, Path(output or Path(folder) / "score"), Audit(sd, missing_ends, match, fdr, quiet)
    )


def quick(
    raw: Source,
    denoised: Source,
    output: str | Path,
    rois: Rois | str | Path | None = None,
    sd: Source | None = None,
    missing_ends: tuple[int, int] = (0, 0),
    match: bool = False,
    fdr: float | int = 0.05,
    config: MovieConfig = MovieConfig(),
    quiet: bool = False,
) -> Path:  # fmt: skip
    """Judge a finished denoised movie by the raw movie it was made of; returns `output`. Everything else as `score`.

    The raw frame judges fairly only what has not seen it. Whether the program was blind to the frame is tested as far as the movie
    tells; numbers that need it are withheld where it was not, and marked where it may not have been. What needs independent
    noise in *other* frames too (the spectrum of the error) takes `split`.
    """
    evidence = raw_evidence(raw, config, quiet)
    return _judge(evidence, denoised, rois, Path(output), Audit(sd, missing_ends, match, fdr, quiet))


def _judge(evidence: Evidence, source: Source, rois: Rois | str | Path | None, output: Path, audit: Audit) -> Path:
    if not 0 <= audit.fdr < 1:
        raise InputError(f"--fdr {audit.fdr} is no share of false discoveries; pass one below 1, e.g. --fdr 0.05")
    denoised = align(evidence, source, audit.sd, audit.missing_ends)
    if len(denoised.movie) < FEWEST_FRAMES:
        raise InputError(f"{len(denoised.movie)} frames are too few to judge by; pass at least {FEWEST_FRAMES}")
    known = load_rois(rois, evidence.mean.shape) if isinstance(rois, str | Path) else rois
    regions, output = lay_regions(evidence, known), _folder(output)
    seen = look(evidence, denoised)
    denoised = in_counts(seen, evidence, denoised, audit.match)
    seen = look(evidence, denoised) if audit.match else seen
    gathered = gather(evidence, denoised, regions, seen, audit)
    listed = [] if gathered.found is None else events.event_rows(gathered.found, evidence, seen.level.value)
    numbers = numbers_of(evidence, denoised, regions, seen, gathered, audit)
    if gathered.found is not None:
        frames, rate = len(denoised.movie), evidence.given.frame_rate_hz
        numbers["events"] = events.event_numbers(listed, audit.fdr, frames, rate)
    numbers = withheld(numbers)
    numbers |= {"warnings": warnings(numbers), "verdict": verdict(numbers)}
    _write(output, numbers, listed)
    return output


def _folder(output: Path) -> Path:
    if output.exists() and any(output.iterdir()) and not (output / "score.json").is_file():
        raise InputError(f"{output} is not empty and holds no audit; give another folder: -o OTHER")
    output.mkdir(parents=True, exist_ok=True)
    return output


def gather(
    evidence: Evidence, denoised: Denoised, regions: Regions, seen: Look, audit: Audit, piece: int | None = None
) -> Gathered:
    """Everything that needs the frames themselves; `piece` frames at once, on which nothing depends."""
    groups, level = brightness_groups(evidence), seen.level.value
    steady = start_steadiness(regions.cells, evidence.mean, evidence.dark, evidence.noise.kernel)
    search = events.start_search(evidence) if audit.fdr else None
    pixels, coverage, series = [], [], []
    for part in _watched(evidence, denoised, level, piece, audit.quiet):
        pixels.append(pixel_rows(part, groups, evidence))
        series.append(read_traces(regions, part))
        if part.stated is not None:
            coverage.append(coverage_rows(part, part.stated, seen.sd_edges))
        steady = add_steadiness(steady, part.measured, part.estimate, part.variance, part.good, part.stated)
        search = None if search is None else events.add_piece(search, part)
    T = len(denoised.movie)
    found = None if search is None else events.find(search, denoised.first, T, audit.fdr)
    rows = join_rows(coverage) if coverage else None
    return Gathered(join_rows(pixels), rows, join(series), steady, found)


def _watched(
    evidence: Evidence, denoised: Denoised, level: float, piece: int | None, quiet: bool
) -> Iterator[Piece]:  # fmt: skip
    with progress_bar("judge", len(denoised.movie), quiet) as bar:
        for part in stream(evidence, denoised, level, piece):
            yield part
            bar(part.first + len(part.good) - denoised.first)


def numbers_of(
    evidence: Evidence, denoised: Denoised, regions: Regions, seen: Look, gathered: Gathered, audit: Audit
) -> Json:
    """All numbers, in counts² unless they are ratios; a standard error stands beside each."""
    series, level, rate = gathered.series, seen.level, evidence.given.frame_rate_hz
    pixel, noise = pixel_error(gathered.pixels, level)
    roi, original = roi_error(series, level), evidence.louder
    check = noise_check(series)
    return {
        "halved": evidence.halved,
        "movie": {
            "source": evidence.source, "frames": evidence.given.shape[0], "rows": evidence.given.shape[1],
            "columns": evidence.given.shape[2], "frame_rate_hz": rate, "photons": evidence.noise.photons,
        },
        "denoised": {
            "source": denoised.movie.source, "frames": len(denoised.movie), "missing_ends": audit.missing_ends,
            "slope": denoised.slope, "intercept": denoised.intercept, "matched": audit.match,
        },
        "noise": {
            "level": level.value, "level_se": level.se, "roi_check": check.value, "roi_check_se": check.se,
            "difference_lag1": evidence.noise.difference_lag1, "warnings": evidence.noise.warnings,
        },
        "snr_of_half": 1 / np.sqrt(evidence.given_louder),
        "blindness": None if evidence.halved else blindness(gathered.pixels, series, level),
        "pixel": _gain(pixel, noise / original, evidence, _rounding(evidence)),
        "roi": {
            **_gain(roi.pooled, float(np.average(roi.noise, weights=series.whole.sum(1))) / original, evidence),
            "count": len(roi.value), "given": regions.given, "constant": roi.constant,
        },
        "successive": {
            "error": roi.successive._asdict(), "correlation": roi.correlation, "correlation_se": roi.correlation_se,
        },
        "brightness": brightness_table(gathered.pixels, evidence, brightness_groups(evidence)),
        "amplitude": amplitude_table(series),
        "steadiness": _pattern(gathered.steady, level),
        "spectrum": spectrum_table(series, level, rate),
        "coverage": None if gathered.coverage is None or series.stated is None else {
            "pixel": pixel_coverage(gathered.coverage, level), "roi": roi_coverage(series, series.stated, level),
        },
        "events": None,
        "rois": _rows(regions, roi, gathered, evidence, original),
    }  # fmt: skip


def _pattern(sums: SteadinessSums, level: Figure) -> Json:
    """Pooled, with the doubt about the noise's level in the error."""
    pooled, known = pooled_steadiness(sums), sums.brightness > 0
    noise = np.mean((sums.noise / np.maximum(sums.brightness, 1e-300) / sums.cells.size)[known]) if known.any() else 0.0
    return pooled._replace(error_se=float(np.hypot(pooled.error_se, noise * level.se / level.value)))._asdict()


def _rounding(evidence: Evidence) -> float:
    return ROUNDING if evidence.given.dtype.kind in "iu" and evidence.halved else 0.0


def _gain(error: Figure, noise: float, evidence: Evidence, rounding: float = 0.0) -> Json:
    """Error beside the noise of the recording and of what was denoised; gains are ratios of standard deviations."""
    given = Figure(noise * evidence.given_louder + rounding, 0.0)
    gain = root_ratio(given, error)
    return {
        "error": error.value, "error_se": error.se, "noise": noise, "given_noise": given.value,
        "gain": gain.value, "gain_se": gain.se, "least_gain": least_gain(given, error),
    }  # fmt: skip


def _rows(regions: Regions, roi: RoiError, gathered: Gathered, evidence: Evidence, original: float) -> list[Json]:
    steady = steadiness(gathered.steady)
    columns = {
        "name": regions.rois.names, "error": roi.value, "error_se": roi.se,
        "given_noise": roi.noise / original * evidence.given_louder, "shown_pattern": steady.shown,
        "real_share": steady.real_share, "real_share_se": steady.real_share_se,
    }  # fmt: skip
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _write(output: Path, numbers: Json, listed: list[Json]) -> None:
    (output / "score.json").unlink(missing_ok=True)
    rows = ([*({**row, "name": text_cell(row["name"])}).values()] for row in numbers["rois"])
    write_table(output / "rois.csv", list(numbers["rois"][0]), rows)
    if numbers["events"] is not None:
        events.write_events(output / "events.csv", listed)
    with whole_file(output / "audit.html") as part:
        part.write_text(render(numbers), encoding="utf-8")
    write_json(output / "score.json", numbers)  # last: its presence says that the audit is complete
