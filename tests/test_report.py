"""The report: right numbers, one harmless file, and words instead of a crash where something is missing."""

import base64
import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import zarr

from udenoise.io import Movie, open_movie
from udenoise.report import write_report
from udenoise.report.page import inert
from udenoise.report.pictures import outline, player, read_moments, shrink
from udenoise.report.series import TOP, bin_edges, pack, thin, trace_series, unpack
from udenoise.report.sources import read_sources
from udenoise.report.verdict import number

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
NAMES = ("soma 1", EVIL, "soma & <b>3</b>", "dendrite\u2028 4", "cell 5")
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
Z = (0.674, 1.282, 1.645, 1.960, 2.576)
T, Y, X, RATE = 60, 48, 64, 10.0


def make_run(run: Path, frames: int = T, names: tuple[str, ...] = NAMES, side: tuple[int, int] = (Y, X)) -> Movie:
    """A RUN folder as the pipeline leaves it, from a small movie of a few flashing disks."""
    rng = np.random.default_rng(0)
    masks, traces = _cells(rng, frames, len(names), side)
    clean = 100 + 20 * np.sin(np.linspace(0, 3, side[1])) + np.einsum("nt,nyx->tyx", traces, masks)
    raw = rng.normal(clean, np.sqrt(4 * clean)).clip(0).astype(np.uint16)
    run.mkdir(parents=True, exist_ok=True)
    _write_json(run, frames, side, clean, len(names))
    _write_arrays(run, clean.astype(np.float32), raw)
    _write_traces(run, clean, raw, masks, rng, names)
    write_flags(
        run, [a_flag(label=1), a_flag(sign=-1, frame_start=5, frame_stop=9, label=2, roi=names[0])], clean.shape
    )
    return open_movie(raw)


def a_flag(**changed) -> dict:
    """A row of flags.csv."""
    row = {"kind": "contradicted", "frame_start": 2, "frame_stop": 4, "y": 20, "x": 30, "area": 25, "size": 80.5}
    row |= {"score": 9.5, "p": 1e-20, "q": 1e-15, "roi": "", "sign": 1, "start_s": 0.2, "stop_s": 0.4, "dff": 0.4}
    return row | {"sigma_px": 2.4, "frames": 2, "label": 0, "reason": f"an event was swallowed {EVIL}"} | changed


def write_flags(run: Path, rows: list[dict], shape: tuple[int, int, int], **about) -> None:
    """flags.csv, flags.json and flags.zarr as the flags stage leaves them."""
    with (run / "flags.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(a_flag()))
        writer.writeheader()
        writer.writerows(rows)
    roi = {"name": NAMES[0], "flags": 1, "contradicted": 1, "swallowed": 0, "invented": 1, "unconstrained": 0}
    rois = [roi | {"unfamiliar": 0, "frames_flagged": 0.1, "verdict": f"look at 1 event {EVIL}"}]
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in dict.fromkeys(row["kind"] for row in rows)}
    known = {"fdr": 0.05, "counts": counts, "tested": {"places": 1234, "rois": 5}, "note": [f"A note {EVIL}"]}
    known |= {"rois": rois, "wobble": None, "null": None} | about
    (run / "flags.json").write_text(json.dumps(known))
    labels = np.zeros(shape, np.int32)
    for row in rows:
        if row["label"]:
            labels[row["frame_start"] : row["frame_stop"], row["y"] - 2 : row["y"] + 3, row["x"] - 2 : row["x"] + 3] = (
                row["label"]
            )
    group = zarr.open_group(run / "flags.zarr", mode="w")
    group.create_group("labels").create_group("flags").create_array("0", data=labels)


def _cells(rng, frames, count, side):
    yy, xx = np.mgrid[: side[0], : side[1]]
    centres = np.stack([rng.uniform(6, side[0] - 6, count), rng.uniform(6, side[1] - 6, count)], 1)
    masks = np.stack([(yy - y) ** 2 + (xx - x) ** 2 < 20 for y, x in centres]).astype(np.float32)
    spikes = rng.random((count, frames)) < 0.06
    kernel = np.exp(-np.arange(40) / 8)
    return masks, 80 * np.stack([np.convolve(s, kernel)[:frames] for s in spikes.astype(float)])


def _write_json(run, frames, side, clean, count):
    mean = np.linspace(90, 300, 20)
    rng = np.random.default_rng(1)
    noise = {
        "gain": 4.0,
        "intercept": -20.0,
        "kernel": [[0, 0.02, 0], [0.2, 1, 0.2], [0, 0.02, 0]],
        "difference_lag1": -0.497,
        "photons": 24.0,
        "bin_mean": mean.tolist(),
        "bin_variance": (4 * mean - 20 + rng.normal(0, 9, 20)).tolist(),
        "bad_rows": [[3, 4]],
        "bad_frames": [17],
        "breaks": [30],
        "saturated_at": None,
        "saturated_fraction": 0.0,
        "clipped_at": 0.0,
        "clipped_fraction": 0.01,
        "ramp": 0.0,
        "frame_mean": clean.mean((1, 2)).tolist(),
        "warnings": ["Noise is correlated along x: <b>0.20</b>.", "One bad frame."],
    }
    predicted = rng.uniform(2, 30, count)
    steps = list(range(0, 2500, 50))
    loss = [3 * float(np.exp(-s / 300)) + 1 + rng.normal(0, 0.03) for s in steps]
    files = {
        "config.json": {
            "config": {
                "movie": {"frame_rate_hz": RATE},
                "train": {"steps": 2500, "learning_rate": 2e-3},
                "network": {"widths": [32, 48, 64], "context": None},
                "seed": 7,
            },
            "movie": {
                "source": f"/data/{EVIL}/movie <1>.tif",
                "shape": [frames, *side],
                "dtype": "uint16",
                "frame_rate_hz": RATE,
            },
            "rois": "/data/rois.zip",
            "seed": 7,
            "versions": {"udenoise": "0.1.0", "jax": "0.9"},
            "device": "cpu",
        },
        "noise.json": noise,
        "denoiser/training.json": {
            "steps": steps,
            "loss": loss,
            "validation_steps": steps[::5],
            "validation_loss": loss[::5],
            "best_step": steps[-5],
            "seconds": 181.5,
        },
        "calibration.json": {
            "scales": [1, 2, 4, 8, 16],
            "predicted": [9.0, 7.0, 5.0, 3.0, 1.0],
            "stated": [8.0, 6.0, 4.0, 2.0, 0.5],
            "measured": [10.0, 7.0, 5.0, 3.0, -0.1],
            "noise": [400.0, 100.0, 25.0, 6.0, 1.5],
            "factor_shared": 1.1,
            "factor_pixel": 0.9,
            "roi": {
                "predicted": predicted.tolist(),
                "measured": (predicted + rng.normal(0, 3, count)).tolist(),
                "measured_se": [3.0] * count,
                "factor": [1.05] * count,
            },
        },
        "timing.json": {"noise": 0.4, "train": 181.5},
    }
    for name, content in files.items():
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(json.dumps(content))


def _write_arrays(run, clean, raw):
    anatomy = zarr.open_group(run / "anatomy.zarr", mode="w")
    images = {
        "mean": raw.mean(0),
        "std": raw.std(0),
        "excess": clean.var(0) - 0.1,
        "correlation": clean.std(0) / clean.max(),
        "maximum": raw.max(0),
    }
    for name, image in images.items():
        anatomy.create_array(name, data=image.astype(np.float32))
    posterior = zarr.open_group(run / "posterior.zarr", mode="w")
    for name, data in (("mean", clean), ("sd", np.sqrt(clean) / 3)):
        posterior.create_group(name).create_array("0", data=data, chunks=(8, *clean.shape[1:]))


def _write_traces(run, clean, raw, masks, rng, names):
    weights = masks / masks.sum((1, 2), keepdims=True)
    true, noisy = (np.einsum("nyx,tyx->nt", weights, movie) for movie in (clean, raw))
    sd = (2 + 0.02 * (true - true.min())).astype(np.float32)
    mean = (true + rng.normal(size=sd.shape) * sd).astype(np.float32)
    group = zarr.open_group(run / "traces.zarr", mode="w", attributes={"levels": list(LEVELS)})
    _write_bands(group, noisy.astype(np.float32), mean, sd)
    f0 = np.median(mean, 1, keepdims=True)
    _write_bands(group.create_group("dff"), ((noisy - f0) / f0).astype(np.float32), (mean - f0) / f0, sd / f0)
    group.create_array("nu", data=rng.uniform(1, 8, len(names)).astype(np.float32))
    index = [np.flatnonzero(m) for m in masks]
    P = max(map(len, index))
    padded = np.stack([np.pad(i, (0, P - len(i))) for i in index]).astype(np.int32)
    weight = np.stack([np.pad(np.full(len(i), 1 / len(i)), (0, P - len(i))) for i in index]).astype(np.float32)
    np.savez(run / "rois.npz", names=np.array(names), index=padded, weight=weight, shape=masks.shape[1:])


def _write_bands(group, raw, mean, sd):
    z = np.array(Z, np.float32)[:, None, None]
    for name, data in {"raw": raw, "mean": mean, "sd": sd, "lower": mean - z * sd, "upper": mean + z * sd}.items():
        group.create_array(name, data=data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("report") / "run"
    movie = make_run(run)
    return run, movie, write_report(run, movie)


def _data(run: Path) -> dict:
    page = (run / "report.html").read_text("utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_json_holds_the_numbers(finished):
    run, _, numbers = finished
    assert json.loads((run / "report.json").read_text("utf-8")) == numbers
    assert numbers["movie"]["frames"] == T and numbers["movie"]["seconds"] == T / RATE
    assert numbers["noise"]["gain"] == 4.0 and numbers["noise"]["bad_rows_count"] == 1
    assert [roi["name"] for roi in numbers["per_roi"]] == list(NAMES)
    group = zarr.open_group(run / "traces.zarr", mode="r")
    assert numbers["per_roi"][2]["nu"] == pytest.approx(float(group["nu"][2]))
    assert numbers["per_roi"][2]["median_sd"] == pytest.approx(float(np.median(group["sd"][2])))
    assert numbers["calibration"]["scale_ratio"][0] == pytest.approx(10 / 9)
    assert numbers["traces"]["shown_levels"] == [0.5, 0.95]
    assert (numbers["seed"], numbers["missing"]) == (7, [])
    assert not list(run.glob("*.part"))


def test_page_is_one_file_without_network(finished):
    run, _, _ = finished
    page = (run / "report.html").read_text("utf-8")
    assert len(page.encode()) < 15_000_000
    assert not re.search(r"<(script|img|iframe|link)[^>]+(src|href)=[\"']?https?:", page[:20_000])
    assert "default-src 'none'" in page


def test_only_our_two_scripts_may_run(finished):
    """The policy lists the hashes of exactly the inline scripts that stand in the page."""
    page = (finished[0] / "report.html").read_text("utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts}
    policy = re.search(r"script-src ([^;]+);", page)[1]
    assert len(scripts) == 2 and set(re.findall(r"sha256-([^']+)", policy)) == hashes and "unsafe" not in policy


def test_names_from_outside_are_harmless(finished):
    run, _, _ = finished
    page = (run / "report.html").read_text("utf-8")
    assert EVIL not in page and "<script>alert" not in page and "<img" not in page[: page.index("plotly.js")]
    assert "<b>0.20</b>" not in page
    assert _data(run)["names"] == list(NAMES)


def test_inert_json_reads_back():
    data = {"a": EVIL, "b": [1, float("nan"), "\u2028 & ü"]}
    text = inert(data)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": EVIL, "b": [1, None, "\u2028 & ü"]}


def test_frames_of_the_player_are_the_movie(finished):
    run, movie, _ = finished
    shown = _data(run)["player"]
    stack = shown["stacks"]["raw"]
    png = imagecodecs.png_decode(base64.b64decode(stack["png"][-1]))
    counts = stack["low"] + png / 255 * (stack["high"] - stack["low"])
    truth = movie.read(T - 1, T)[0].clip(stack["low"], stack["high"])
    assert shown["frames"][-1] == T - 1
    np.testing.assert_allclose(counts, truth, atol=(stack["high"] - stack["low"]) / 127)


def test_reads_only_a_few_single_frames(tmp_path):
    make_run(tmp_path, frames=300)
    read = []

    def reader(start, stop):
        read.append((start, stop))
        return np.zeros((stop - start, Y, X), np.uint16)

    read_moments(Movie((300, Y, X), np.dtype(np.uint16), None, "m", reader), read_sources(tmp_path))
    assert len(read) == 60 and all(stop == start + 1 for start, stop in read) and (read[0][0], read[-1][0]) == (0, 299)


def test_player_leaves_moments_out_to_fit(finished, monkeypatch):
    run, movie, _ = finished
    monkeypatch.setattr("udenoise.report.pictures.FRAME_BYTES", 100_000)
    shown = player(read_moments(movie, read_sources(run)), movie.shape)
    total = sum(len(png) for stack in shown["stacks"].values() for png in stack["png"])
    assert total <= 100_000 and 1 < len(shown["frames"]) < T and shown["frames"][-1] == T - 1


def test_shrinking_keeps_the_mean():
    image = np.random.default_rng(0).random((301, 517))
    small = shrink(image, 256)
    assert max(small.shape) == 256
    assert small.mean() == pytest.approx(image.mean(), rel=1e-12)
    np.testing.assert_allclose(shrink(np.arange(16.0).reshape(4, 4), 2), [[2.5, 4.5], [10.5, 12.5]])


def test_outline_encloses_its_pixels():
    """The shoelace area of all loops is the number of pixels; holes count negatively."""
    mask = np.random.default_rng(3).random((12, 15)) < 0.6
    area = 0.0
    for loop in outline(mask).split("Z")[:-1]:
        corners = np.array([list(map(int, p.split())) for p in loop[1:].split("L")])
        x, y = corners.T
        area += (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    assert area == mask.sum()
    assert outline(np.ones((2, 3), bool)) == "M0 0L3 0L3 2L0 2Z"
    assert outline(np.zeros((2, 3), bool)) == ""


def test_packed_traces_read_back():
    rows = np.random.default_rng(0).normal(100, 20, (6, 333))
    rows[3, 7] = np.nan
    back = unpack(pack(rows), 6)
    assert np.isnan(back[3, 7]) and np.isnan(back).sum() == 1
    np.testing.assert_allclose(back, rows, atol=(np.nanmax(rows) - np.nanmin(rows)) / TOP)


def test_thinning_keeps_events_and_the_outermost_corridor():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=1000)
    rows = np.stack([mean + rng.normal(size=1000), mean, mean - 1, mean + 1, mean - 2, mean + 2])
    thinned, starts = thin(rows, 100), bin_edges(1000, 100)[:-1]
    assert thinned.shape == (6, 100)
    np.testing.assert_array_equal(thinned[1, 1::2], np.maximum.reduceat(mean, starts))
    np.testing.assert_array_equal(thinned[4, 0::2], np.minimum.reduceat(mean - 2, starts))
    np.testing.assert_array_equal(thinned[4, 0::2], thinned[4, 1::2])
    np.testing.assert_array_equal(thinned[5, 0::2], np.maximum.reduceat(mean + 2, starts))


def test_embedded_traces_are_the_run_s(finished):
    run, _, _ = finished
    shown, group = _data(run)["traces"], zarr.open_group(run / "traces.zarr", mode="r")
    packed = shown["data"][3]["dff"]
    back = unpack(packed, 6)
    np.testing.assert_allclose(back[5], group["dff"]["upper"][3, 3], atol=(packed["high"] - packed["low"]) / TOP)
    assert (shown["points"], shown["bins"], shown["inner"], shown["outer"]) == (T, None, 0.5, 0.95)


@pytest.mark.parametrize(("budget", "rois"), [(24_000, 5), (8_000, 2)])
def test_many_traces_are_thinned_then_left_out(tmp_path, monkeypatch, budget, rois):
    make_run(tmp_path, frames=900, side=(20, 24))
    monkeypatch.setattr("udenoise.report.series.TRACE_BYTES", budget)
    monkeypatch.setattr("udenoise.report.series.FEWEST_POINTS", 100)
    shown = trace_series(read_sources(tmp_path))
    total = sum(len(kind["z"]) for roi in shown["data"] for kind in roi.values())
    assert total <= budget and shown["points"] < 900 and len(shown["bins"]) == shown["points"] // 2 + 1
    assert len(shown["rois"]) >= rois and shown["rois"][-1] == 4


def test_without_rois(tmp_path):
    movie = make_run(tmp_path)
    _remove(tmp_path / "traces.zarr", tmp_path / "rois.npz")
    config = json.loads((tmp_path / "config.json").read_text())
    calibration = json.loads((tmp_path / "calibration.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rois": None}))
    (tmp_path / "calibration.json").write_text(json.dumps({**calibration, "roi": None}))
    numbers = write_report(tmp_path, movie)
    assert numbers["missing"] == [] and numbers["per_roi"] == [] and numbers["traces"] is None
    assert _data(tmp_path)["traces"] is None


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "noise.json",
        "anatomy.zarr",
        "denoiser/training.json",
        "posterior.zarr",
        "posterior.zarr/sd",
        "traces.zarr",
        "rois.npz",
        "calibration.json",
        "timing.json",
        "flags.csv",
        "flags.json",
        "flags.zarr",
    ],
)
@pytest.mark.parametrize("how", ["absent", "damaged"])
def test_what_is_missing_is_named(tmp_path, name, how):
    movie = make_run(tmp_path, frames=12)
    _remove(tmp_path / name)
    if how == "damaged":
        (tmp_path / name).write_text("{ nonsense")
    numbers = write_report(tmp_path, movie)
    assert len(numbers["missing"]) == 1 and name in numbers["missing"][0]
    assert name in (tmp_path / "report.html").read_text("utf-8")


def test_an_empty_folder_still_gives_a_page(tmp_path):
    numbers = write_report(tmp_path, open_movie(np.ones((10, 4, 5), np.uint16)))
    assert numbers["noise"] is None and numbers["pixel_error"] is None and len(numbers["missing"]) == 8
    assert "Nothing unusual" not in (tmp_path / "report.html").read_text("utf-8")


def test_partial_files_give_no_numbers(tmp_path):
    movie = make_run(tmp_path, frames=12)
    for name in ("noise.json", "denoiser/training.json", "calibration.json"):
        (tmp_path / name).write_text("{}")
    numbers = write_report(tmp_path, movie)
    assert numbers["noise"]["gain"] is None and numbers["calibration"]["roi_ratio"] is None
    assert numbers["training"]["best_step"] is None


def test_without_frame_rate_and_dff(tmp_path):
    movie = make_run(tmp_path, frames=12)
    _remove(tmp_path / "traces.zarr" / "dff", tmp_path / "traces.zarr" / "nu")
    config = json.loads((tmp_path / "config.json").read_text())
    config["movie"]["frame_rate_hz"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    numbers = write_report(tmp_path, movie)
    assert numbers["movie"]["seconds"] is None and numbers["per_roi"][0]["nu"] is None
    assert _data(tmp_path)["traces"]["kinds"] == ["counts"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (1234.5, "1,234"),
        (0.01234, "0.0123"),
        (-2.5, "−2.5"),
        (2.5e7, "2.50e+07"),
        (153.2, "153"),
    ],
)
def test_numbers_in_words(value, text):
    assert number(value) == text


def _remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_path_that_is_no_text_does_not_break_the_page(tmp_path):
    movie = make_run(tmp_path, frames=12)
    config = json.loads((tmp_path / "config.json").read_text())
    config["movie"]["source"] = "/data/m\udcffvie.tif"  # what Python makes of a file name that is not UTF-8
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert write_report(tmp_path, movie)["movie"]["source"] == "/data/m?vie.tif"
    assert "vie.tif" in (tmp_path / "report.html").read_text("utf-8")


def test_an_earlier_report_survives_a_failure(finished, monkeypatch):
    run, movie, _ = finished
    before = (run / "report.html").read_bytes()
    monkeypatch.setattr("udenoise.report.page.inert", lambda data: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(run, movie)
    assert (run / "report.html").read_bytes() == before
