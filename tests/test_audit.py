"""Judging anyone's denoiser: halves that are independent, numbers with true standard errors, and what is refused."""

import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import GAIN, OFFSET, READ, noise_model
from scipy import ndimage

import udenoise
from udenoise import audit
from udenoise.audit.doubt import Figure, ratio
from udenoise.audit.evidence import align, load_halves
from udenoise.audit.halves import halve, own_variance, safe_offset
from udenoise.audit.judge import Audit, gather
from udenoise.audit.look import look
from udenoise.audit.page import render
from udenoise.audit.regions import Series, lay_regions, tiles
from udenoise.audit.rois import spectrum_table
from udenoise.errors import InputError
from udenoise.metrics import steadiness
from udenoise.sampling import split_noise

T, SIDE, RATE = 300, 40, 10.0
y, x = np.mgrid[:SIDE, :SIDE]
CENTRES = ((9, 9), (9, 28), (28, 10), (29, 29))
MASKS = np.stack([(y - a) ** 2 + (x - b) ** 2 <= 16 for a, b in CENTRES])
SEEDS = range(4)


@cache
def truth(seed: int = 0, T: int = T) -> np.ndarray:
    """Noiseless counts: four cells with transients over uneven ground."""
    rng = np.random.default_rng([seed, 1])
    photons = np.full((T, SIDE, SIDE), 5.0) + 0.08 * x
    decay = np.exp(-np.arange(T) / 8)
    for a, b in CENTRES:
        cell = np.exp(-(((y - a) ** 2 + (x - b) ** 2) ** 2) / 500)
        trace = 1 + np.convolve((rng.random(T) < 0.03) * rng.uniform(1, 3, T), decay)[:T]
        photons += 6 * trace[:, None, None] * cell
    return OFFSET + GAIN * photons


@cache
def recorded(seed: int = 0) -> np.ndarray:
    """Counts with photon and read noise, uint16."""
    rng = np.random.default_rng([seed, 2])
    counts = GAIN * rng.poisson((truth(seed) - OFFSET) / GAIN) + rng.normal(OFFSET, READ, truth(seed).shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Halves of each seed's movie, made once."""

    @cache
    def make(seed: int = 0) -> Path:
        config = udenoise.MovieConfig(frame_rate_hz=RATE)
        return audit.split(recorded(seed), tmp_path_factory.mktemp("half"), seed, config, quiet=True)

    return make


def given(folder: Path) -> np.ndarray:
    """The input half in counts of the recording."""
    added = json.loads((folder / "audit.json").read_text())["offset_added"]
    return tifffile.imread(folder / "input.tif").astype(np.float32) - added


def judged(folder: Path, frames: np.ndarray, tmp_path: Path, **more) -> dict:
    """The numbers of an audit without the search for events."""
    added = json.loads((folder / "audit.json").read_text())["offset_added"]
    np.save(tmp_path / "denoised.npy", (frames + added).astype(np.float32))
    settings = {"rois": udenoise.rois_from_masks(MASKS), "fdr": 0, "quiet": True} | more
    out = audit.score(folder, tmp_path / "denoised.npy", tmp_path / "score", **settings)
    return json.loads((out / "score.json").read_text())


def traces(frames: np.ndarray) -> np.ndarray:
    """Means over the cells, N T."""
    return np.stack([frames[:, mask].mean(1) for mask in MASKS])


# The halves


def test_halves_are_independent_in_bright_transients_too():
    clean = np.full((400, 32, 32), OFFSET + GAIN * 4.0)
    clean[200:220, 8:24, 8:24] += GAIN * 16  # five times brighter for twenty frames
    rng = np.random.default_rng(0)
    movie = (GAIN * rng.poisson((clean - OFFSET) / GAIN) + rng.normal(OFFSET, READ, clean.shape)).astype(np.float32)
    noise, mean = noise_model(movie)._replace(field=np.ones((2, 2))), movie.mean(0)
    one, two = halve(movie, np.ones(movie.shape[:2], bool), mean, noise, 0, 1)
    v = GAIN * (clean - OFFSET) + READ**2

    def leak(first, second, where):
        return np.mean(((first - clean) * (second - clean))[where]) / v[where].mean()

    bright, dim = np.zeros(clean.shape, bool), np.ones(clean.shape, bool)
    bright[200:220, 9:23, 9:23], dim[200:220] = True, False
    assert abs(leak(one, two, bright)) < 0.05 and abs(leak(one, two, dim)) < 0.01  # se 0.016, 0.0016
    flat = np.sqrt(np.broadcast_to(own_variance(mean, noise, 0.0), movie.shape))
    naive = split_noise(movie, flat, noise.kernel, 0, 1)
    assert leak(*naive, bright) > 0.5  # what the time average would do


def test_halves_do_not_depend_on_the_pieces(tmp_path, monkeypatch, halves):
    monkeypatch.setattr("udenoise.audit.halves.PIECE", 7 * SIDE * SIDE)
    other = audit.split(recorded(), tmp_path, 0, udenoise.MovieConfig(frame_rate_hz=RATE), quiet=True)
    for name in ("input.tif", "judge.tif"):
        np.testing.assert_array_equal(tifffile.imread(other / name), tifffile.imread(halves() / name))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32])
def test_the_type_is_kept_without_bias_or_clipping(tmp_path, kind):
    scale, shift = {np.uint8: (0.5, -12), np.int16: (1, -90)}.get(kind, (1, -25))
    movie = np.maximum(
        np.rint(scale * recorded()[:150].astype(float)) + shift, 0 if np.dtype(kind).kind == "u" else -90
    ).astype(kind)
    folder = audit.split(movie, tmp_path, quiet=True)
    about, stored = json.loads((folder / "audit.json").read_text()), tifffile.imread(folder / "input.tif")
    assert stored.dtype == kind and about["dtype"] == np.dtype(kind).name and about["clipped_share"] < 1e-4
    added = stored.astype(float) - about["offset_added"] - movie.astype(float)
    assert abs(added.mean()) < 5 * added.std() / np.sqrt(added.size)
    assert (about["offset_added"] == 0) == (kind in (np.int16, np.float32))
    back = (given(folder) + 0.49 * tifffile.imread(folder / "judge.tif")) / 1.49  # y = (y₁ + τ² y₂)/(1 + τ²)
    assert np.abs(back - movie).max() < 1.0


def test_offsets_are_added_only_where_the_type_would_clip():
    of = safe_offset
    assert of(5.0, 60_000.0, np.dtype(np.uint16)) == 0 and of(-5.5, 60_000.0, np.dtype(np.uint16)) == 6
    assert of(-5.5, 252.0, np.dtype(np.uint8)) == 3 and of(-5.0, 300.0, np.dtype(np.uint8)) == 0
    assert of(40.0, 260.0, np.dtype(np.uint8)) == -5 and of(-1e9, 1e9, np.dtype(np.float32)) == 0


def test_a_movie_that_fills_its_type_is_refused(tmp_path):
    movie = np.clip(np.rint(recorded()[:150] * 1.2 - 60), 0, 255).astype(np.uint8)
    with pytest.raises(InputError, match="do not fit uint8; convert the movie to uint16"):
        audit.split(movie, tmp_path / "half", quiet=True)
    assert not (tmp_path / "half" / "input.tif").exists()
    (tmp_path / "other.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        audit.split(recorded(), tmp_path, quiet=True)


def test_dropped_rows_stay_as_they_are_and_are_not_judged(tmp_path):
    movie = recorded().copy()
    movie[40, 9], movie[41, 20] = 0, 0
    folder = audit.split(movie, tmp_path / "half", quiet=True)
    about = json.loads((folder / "audit.json").read_text())
    assert (tifffile.imread(folder / "input.tif")[40, 9] == about["offset_added"]).all()
    assert (tifffile.imread(folder / "judge.tif")[40, 9] == 0).all()
    numbers = judged(folder, truth(), tmp_path)
    assert abs(numbers["pixel"]["error"]) < 4 * numbers["pixel"]["error_se"]
    assert max(abs(row["residual"] / row["se"]) for row in numbers["brightness"]) < 4


# The numbers


def denoisers(seed: int, y1: np.ndarray) -> dict[str, np.ndarray]:
    """What three programs might make of the input."""
    rng = np.random.default_rng([seed, 3])
    jitter = ndimage.gaussian_filter(rng.normal(0, 60, y1.shape), (0.7, 1, 1))
    return {
        "blurs": ndimage.gaussian_filter(y1, (2, 0.7, 0.7)),
        "noisy": ndimage.gaussian_filter(y1, (1, 0, 0)),
        "invents": truth(seed) + jitter,
    }


def deviations(numbers: dict, seed: int, D: np.ndarray) -> dict[str, float]:
    """(reported − true)/reported standard error."""
    error, e = D - truth(seed), traces(D - truth(seed))
    d, f = (part - part.mean(1, keepdims=True) for part in (traces(D), traces(truth(seed))))
    unit = traces(np.sqrt(GAIN * (truth(seed) - OFFSET) + READ**2)).mean(1, keepdims=True)
    amplitude, last = numbers["amplitude"][-1], numbers["successive"]["error"]
    expected = {
        "pixel": (numbers["pixel"]["error"], numbers["pixel"]["error_se"], np.mean(error**2)),
        "roi": (numbers["roi"]["error"], numbers["roi"]["error_se"], np.mean(e**2)),
        "lasting": (last["value"], last["se"], np.mean(e[:, 1:] * e[:, :-1])),
        "slope": (amplitude["slope"], amplitude["se"], (f * d / unit**2).sum() / (d * d / unit**2).sum()),
    }
    each = {f"roi {n}": (row["error"], row["error_se"], np.mean(e[n] ** 2)) for n, row in enumerate(numbers["rois"])}
    return {name: (value - true) / se for name, (value, se, true) in (expected | each).items()}


def test_the_standard_errors_are_true(halves, tmp_path):
    found = []
    for seed in SEEDS:
        for D in denoisers(seed, given(halves(seed))).values():
            found += deviations(judged(halves(seed), D, tmp_path), seed, D).values()
    found = np.array(found)
    assert np.mean(np.abs(found) < 2) > 0.9 and np.abs(found).max() < 4 and abs(found.mean()) < 0.4


def test_programs_rank_as_the_truth_ranks_them(halves, tmp_path):
    rng = np.random.default_rng(7)
    clean = truth()
    shapes = ndimage.gaussian_filter(rng.normal(0, 40, clean.shape), (1, 1, 1))
    cut = np.minimum(clean, ndimage.percentile_filter(clean, 70, (151, 1, 1)))
    movies = {
        "honest": clean + ndimage.gaussian_filter(rng.normal(0, 15, clean.shape), (1, 1, 1)),
        "blurs": ndimage.gaussian_filter(clean, (0, 2, 2)),
        "invents": clean + shapes,
        "swallows": 0.5 * cut + 0.5 * clean,
    }
    numbers = {name: judged(halves(), frames, tmp_path) for name, frames in movies.items()}
    measured = {name: n["roi"]["error"] for name, n in numbers.items()}
    true = {name: np.mean(traces(frames - clean) ** 2) for name, frames in movies.items()}
    assert sorted(measured, key=measured.get) == sorted(true, key=true.get)
    assert (
        numbers["swallows"]["amplitude"][-2]["slope"] > 1.2
        and abs(numbers["honest"]["amplitude"][-2]["slope"] - 1) < 0.1
    )
    share = {name: n["steadiness"]["real_share"] for name, n in numbers.items()}
    assert share["invents"] < 0.4 < share["blurs"] and share["invents"] < share["honest"]
    lost = {n: sum(r["lost"] * (r["to_hz"] - r["from_hz"]) for r in numbers[n]["spectrum"]) for n in movies}
    assert lost["swallows"] > 10 * max(abs(lost["invents"]), abs(lost["honest"]))
    assert "swallow" not in " ".join(numbers["honest"]["verdict"]) and "only" in " ".join(numbers["invents"]["verdict"])


def test_nothing_depends_on_the_pieces(halves, tmp_path):
    evidence, rois = load_halves(halves()), udenoise.rois_from_masks(MASKS)
    sd = np.full(truth().shape, 10.0, np.float32)
    denoised = align(evidence, (truth() + 3).astype(np.float32), sd, (0, 0))
    seen, regions = look(evidence, denoised), lay_regions(evidence, rois)
    whole, parts = (
        gather(evidence, denoised, regions, seen, Audit(None, (0, 0), False, 0, True), n) for n in (300, 11)
    )
    for a, b in (
        (whole.pixels[:5], parts.pixels[:5]),
        (whole.coverage, parts.coverage),
        (whole.series[:4], parts.series[:4]),
    ):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)
    for one, other in zip(steadiness(whole.steady), steadiness(parts.steady), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_bands_of_the_spectrum_add_up_to_the_error():
    rng = np.random.default_rng(0)
    e, d = rng.normal(size=(3, 256)), rng.normal(size=(3, 256))
    zero, whole = np.zeros((3, 256)), np.ones((3, 256), bool)
    rows = spectrum_table(Series(e, d, zero, whole, None), Figure(1.0, 0.0), None)
    width = [row["to_hz"] - row["from_hz"] for row in rows]
    power = np.sum([row["error"] * w for row, w in zip(rows, width, strict=True)])
    assert power == pytest.approx(e.var(axis=1).mean())
    assert [row["lost"] + row["invented"] for row in rows] == pytest.approx([row["error"] for row in rows])


def test_a_ratio_and_its_standard_error():
    rng = np.random.default_rng(0)
    slow = 5 + np.sin(np.arange(400) / 40)
    found = [ratio(slow + rng.normal(0, 1, 400), np.full(400, 2.0)) for _ in range(300)]
    assert np.mean([f.se for f in found]) == pytest.approx(1 / 40, rel=0.05)  # noise alone, not the slow change
    assert np.std([f.value for f in found]) == pytest.approx(1 / 40, rel=0.12)


def test_a_stated_sd_is_judged(halves, tmp_path):
    rng = np.random.default_rng(3)
    sd = np.where(np.arange(SIDE) < 20, 6.0, 14.0) * np.ones(truth().shape)
    frames = truth() + sd * rng.normal(size=sd.shape)
    for factor, expected in ((1.0, 1.0), (0.5, 4.0)):
        np.save(tmp_path / "sd.npy", (factor * sd).astype(np.float32))
        coverage = judged(halves(), frames, tmp_path, sd=tmp_path / "sd.npy")["coverage"]
        found, roi = coverage["pixel"][-1]["ratio"], coverage["roi"]["independent"]
        assert abs(found["value"] - expected) < 3 * found["se"] and abs(roi["value"] - expected) < 3 * roi["se"]
    assert [abs(100 * coverage["pixel"][-1]["inside"][p]["value"] - float(p)) < 5 for p in ("50", "95")] == [True, True]


# What does not fit


def test_frames_missing_at_the_ends(halves, tmp_path):
    whole = judged(halves(), truth() + 2, tmp_path)
    cut = judged(halves(), (truth() + 2)[5:-8], tmp_path, missing_ends=(5, 8))
    assert cut["denoised"]["frames"] == T - 13
    assert cut["brightness"][3]["residual"] == pytest.approx(whole["brightness"][3]["residual"], abs=0.5)
    with pytest.raises(InputError, match="--missing-ends 6 7"):
        judged(halves(), truth()[5:-8], tmp_path)
    with pytest.raises(InputError, match="frames of 20 x 40"):
        judged(halves(), truth()[:, :20], tmp_path)


def test_another_unit_is_refused_or_matched(halves, tmp_path):
    right = judged(halves(), truth(), tmp_path)
    for frames in (truth() * 0.01, truth() - truth().mean()):
        with pytest.raises(InputError, match="is not in the counts of .*--match"):
            judged(halves(), frames, tmp_path)
        matched = judged(halves(), frames, tmp_path, match=True)
        assert matched["roi"]["error"] == pytest.approx(right["roi"]["error"], abs=2 * right["roi"]["error_se"])
        assert any("laid on the input" in warning for warning in matched["warnings"])
    with pytest.raises(InputError, match="needs the same field"):
        judged(halves(), truth() - truth().mean(0), tmp_path, match=True)


def test_what_is_no_audit(tmp_path, halves):
    with pytest.raises(InputError, match="holds no halves; make them: udenoise audit split"):
        audit.score(tmp_path, truth())
    with pytest.raises(InputError, match="too few to judge by"):
        audit.score(halves(), truth()[:40], missing_ends=(0, T - 40), quiet=True)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no audit"):
        audit.score(halves(), truth(), tmp_path, quiet=True)


# The raw movie as judge


def quickly(frames: np.ndarray, tmp_path: Path) -> dict:
    np.save(tmp_path / "denoised.npy", frames.astype(np.float32))
    rois, config = udenoise.rois_from_masks(MASKS), udenoise.MovieConfig(frame_rate_hz=RATE)
    settings = {"rois": rois, "fdr": 0, "config": config, "quiet": True}
    out = audit.quick(recorded(), tmp_path / "denoised.npy", tmp_path / "quick", **settings)
    return json.loads((out / "score.json").read_text())


def test_quick_believes_only_what_has_not_seen_the_frame(tmp_path):
    raw = recorded().astype(np.float32)
    blind = ndimage.convolve1d(raw, np.array([0.1, 0.4, 0, 0.4, 0.1]), axis=0)
    numbers = quickly(blind, tmp_path)
    assert not numbers["blindness"]["sees_roi"] and numbers["spectrum"] is None and "pixel" in numbers["needs"]
    deviation = (numbers["pixel"]["error"] - np.mean((blind - truth()) ** 2)) / numbers["pixel"]["error_se"]
    assert abs(deviation) < 3
    around = np.array([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]])[None] / 8
    beside = 0.4 * ndimage.convolve(raw, around) + 0.6 * blind
    for frames, sees_pixel in ((raw, True), (ndimage.gaussian_filter(raw, (2, 0.5, 0.5)), True), (beside, False)):
        numbers = quickly(frames, tmp_path)
        assert numbers["blindness"]["sees_pixel"] == sees_pixel and numbers["blindness"]["sees_roi"]
        assert numbers["roi"] is None and (numbers["pixel"] is None) == sees_pixel
        assert "has seen" in " ".join(numbers["verdict"]) and "independent" in numbers["withheld"]["spectrum"]
        assert max(abs(row["residual"]) for row in numbers["brightness"]) < 3  # needs nothing


# Events and the page


def test_swallowed_and_invented_events_are_found_and_chance_is_not(halves, tmp_path, monkeypatch):
    monkeypatch.setattr("udenoise.scan.chance.SAMPLE_PLACES", 1_000_000)
    frames = truth().astype(np.float64).copy()
    spot = np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / (2 * 1.5**2))
    frames[100:103] -= 90 * spot  # the recording has light that is not shown
    frames[200:203] += 90 * spot  # shown light that the recording does not have
    numbers = judged(halves(), frames, tmp_path, fdr=0.05)
    rows = list(csv.DictReader((tmp_path / "score" / "events.csv").open()))
    near = {
        (r["kind"], round(float(r["frame"]), -1))
        for r in rows
        if abs(int(r["y"]) - 20) < 3 and abs(int(r["x"]) - 20) < 3
    }
    assert near >= {("swallowed", 100), ("invented", 200)} and len(rows) <= 5
    assert numbers["events"]["swallowed"] + numbers["events"]["invented"] + numbers["events"]["moved"] == len(rows)


def test_the_page_stands_alone_and_believes_no_name(halves, tmp_path):
    numbers = judged(halves(), truth(), tmp_path)
    numbers["denoised"]["source"] = "<script>alert(1)</script>.tif"
    page = render(numbers)
    assert "<script" not in page and "http://" not in page and "https://" not in page
    for words in ("Errors", "Amplitudes", "Pattern inside cells", "Frequencies", "What was compared", "<svg"):
        assert words in page
    assert numbers["verdict"][0].startswith("The denoised movie was judged by a half") and "{" not in " ".join(
        numbers["verdict"]
    )


def test_tiles_stand_for_somata_where_there_are_no_rois(halves, tmp_path):
    numbers = judged(halves(), truth(), tmp_path, rois=None)
    assert not numbers["roi"]["given"] and numbers["roi"]["count"] == 9 and len(numbers["rois"]) == 9
    assert len(tiles((512, 512)).names) == 256 and tiles((8, 30)).index.shape == (3, 64)
    with pytest.raises(InputError, match="--fdr"):
        judged(halves(), truth(), tmp_path, fdr=2)


def test_a_mean_brightness_that_is_off_is_told_apart(halves, tmp_path):
    numbers = judged(halves(), truth() + 3.0, tmp_path)
    assert numbers["roi"]["constant"] == pytest.approx(9.0, abs=1.5)
    assert "a mean brightness that is off" in " ".join(numbers["verdict"])
    assert sum(r["error"] * (r["to_hz"] - r["from_hz"]) for r in numbers["spectrum"]) < 3  # none of it at any frequency
