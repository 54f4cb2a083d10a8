"""The contract of the run folder, and what an interruption, a second call and other settings do to it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import zarr

import udenoise
from udenoise import extraction, flagging, pipeline, training
from udenoise.config import (
    Config,
    DenoiseConfig,
    MovieConfig,
    NetworkConfig,
    SimulationConfig,
    TraceConfig,
    TrainConfig,
)
from udenoise.denoiser import load_denoiser
from udenoise.errors import InputError
from udenoise.io import store
from udenoise.results import load_draws
from udenoise.simulate import simulate

T, Y, X, N, RATE = 64, 32, 48, 3, 10.0
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
FRAMES_PER_SHARD = 16
TINY = Config(
    movie=MovieConfig(frame_rate_hz=RATE),
    network=NetworkConfig(context=3, projection=2, widths=(8, 8, 8), factors=2),
    train=TrainConfig(steps=20, batch=2, crop=32, validate_every=10),
    trace=TraceConfig(draws=60, f0_window_s=5.0, neuropil_coefficient=0.5),
    seed=3,
)
FILES = {
    "config.json", "noise.json", "anatomy.zarr", "denoiser", "posterior.zarr", "traces.zarr", "traces.csv",
    "report.json", "report.html", "flags.csv", "flags.json", "flags.zarr", "found.npz",
}  # fmt: skip


@pytest.fixture(scope="module")
def known():
    """A simulated movie with its ROIs."""
    made = simulate(SimulationConfig(frames=T, height=Y, width=X, cells=N, frame_rate_hz=RATE, photons=4.0, seed=1))
    return made.movie, udenoise.rois_from_masks(made.masks)


@pytest.fixture(scope="module", autouse=True)
def several_shards():
    """Small files, so that a tiny movie has several."""
    with pytest.MonkeyPatch.context() as patch:
        padded = FRAMES_PER_SHARD * Y * X * 4
        patch.setattr(store, "SHARD_BYTES", padded)
        yield


def go(known, folder, config=TINY, rois=True, **options) -> Path:
    """One quiet run."""
    return udenoise.run(known[0], folder, known[1] if rois else None, config, quiet=True, **options)


@pytest.fixture(scope="module")
def finished(known, tmp_path_factory):
    """A run that nothing disturbed; not to be changed."""
    return go(known, tmp_path_factory.mktemp("pipeline") / "run")


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """Every array below a zarr group."""
    members = zarr.open_group(folder, mode="r").members(max_depth=None)
    return {name: item[...] for name, item in members if isinstance(item, zarr.Array)}


def results(folder: Path) -> dict[str, np.ndarray]:
    """All numbers that a run is made for."""
    with np.load(folder / "found.npz") as found:
        flags = {f"found/{name}": found[name] for name in found}
    labels = {f"flags/{name}": part for name, part in arrays(folder / "flags.zarr").items()}
    return arrays(folder / "posterior.zarr") | arrays(folder / "traces.zarr") | flags | labels


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Bitwise."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def stamps(folder: Path) -> dict[str, int]:
    """When each file below a folder was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


# --- the contract


def test_the_folder_holds_what_the_contract_names(finished):
    assert {p.name for p in finished.iterdir()} >= FILES
    assert not [p for p in finished.rglob("*") if ".part" in p.name]
    assert not (finished / "moments").exists() and not (finished / "training").exists()


@pytest.mark.parametrize("name", ["mean", "sd"])
def test_denoised_movie_is_ome_zarr(finished, known, name):
    group = zarr.open_group(finished / "posterior.zarr", mode="r")
    image = group[f"{name}/0"]
    assert group.metadata.zarr_format == 3
    assert image.shape == (T, Y, X) and image.dtype == np.float32
    assert image.metadata.dimension_names == ("t", "y", "x")
    assert image.shards[0] == FRAMES_PER_SHARD
    ome = group[name].attrs["ome"]
    assert ome["version"] == "0.5"
    scale = ome["multiscales"][0]
    assert [(axis["name"], axis["type"]) for axis in scale["axes"]] == [("t", "time"), ("y", "space"), ("x", "space")]
    assert scale["axes"][0]["unit"] == "second"
    assert scale["datasets"][0]["path"] == "0"
    assert scale["datasets"][0]["coordinateTransformations"][0]["scale"][0] == pytest.approx(1 / RATE)
    frames = image[...]
    assert np.isfinite(frames).all()
    if name == "sd":
        assert (frames > 0).all()
    else:
        assert np.corrcoef(frames.mean(0).ravel(), known[0].mean(0).ravel())[0, 1] > 0.95


def test_traces_have_names_shapes_and_dimensions(finished, known):
    group = zarr.open_group(finished / "traces.zarr", mode="r")
    assert tuple(group.attrs["levels"]) == LEVELS
    assert tuple(group.attrs["roi_names"]) == known[1].names
    time, band = ("roi", "time"), ("level", "roi", "time")
    expected = {"raw": time, "mean": time, "sd": time, "lower": band, "upper": band, "simultaneous": ("level", "roi")}
    expected = {prefix + name: dims for prefix in ("", "neuropil/", "dff/") for name, dims in expected.items()}
    expected |= {"dff/f0": time, "dff/f0_shift": time, "neuropil/correlation": time, "nu": ("roi",), "still_sd": ("roi", "part")}
    size = {"roi": N, "part": 2, "time": T, "level": len(LEVELS)}
    for name, dims in expected.items():
        assert group[name].metadata.dimension_names == dims, name
        assert group[name].shape == tuple(size[d] for d in dims), name
        assert group[name].dtype.kind == "f", name
    assert set(arrays(finished / "traces.zarr")) == set(expected)
    found = arrays(finished / "traces.zarr")  # a part of sd
    assert (found["still_sd"][:, 0] < found["sd"].min(1)).all() and (found["still_sd"] > 0).all()


@pytest.mark.parametrize("kind", ["", "neuropil/", "dff/"])
def test_corridors_are_nested_around_the_mean(finished, kind):
    found = arrays(finished / "traces.zarr")
    lower, upper, mean, sd = (found[kind + name] for name in ("lower", "upper", "mean", "sd"))
    assert all(np.isfinite(part).all() for part in (lower, upper, mean, sd))
    assert (sd > 0).all()
    assert (np.diff(lower, axis=0) <= 0).all() and (np.diff(upper, axis=0) >= 0).all()
    widest = LEVELS.index(0.99)
    assert (lower[widest] <= mean).all() and (mean <= upper[widest]).all()
    assert (np.diff(found[kind + "simultaneous"], axis=0) >= 0).all()
    assert (found[kind + "simultaneous"][3] > 1.96).all()  # holding everywhere takes a wider band than holding once


def test_raw_traces_are_the_weighted_means(finished, known):
    movie, rois = known
    dense = udenoise.io.rois_dense(rois).reshape(N, -1)
    raw = arrays(finished / "traces.zarr")["raw"]
    np.testing.assert_allclose(raw, dense @ movie.reshape(T, -1).T, rtol=1e-5)


def test_traces_agree_with_the_denoised_movie(finished, known):
    dense = udenoise.io.rois_dense(known[1]).reshape(N, -1)
    found = results(finished)
    seen = dense @ found["mean/0"].reshape(T, -1).T
    assert (np.abs(seen - found["mean"]) < 5 * found["sd"]).mean() > 0.95


def test_spreadsheet(finished, known):
    with (finished / "traces.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == T
    assert float(rows[5]["time_s"]) == pytest.approx(5 / RATE)
    found, name = arrays(finished / "traces.zarr"), known[1].names[1]
    for column, value in {"raw": found["raw"], "lower95": found["lower"][3], "dff_mean": found["dff/mean"]}.items():
        np.testing.assert_allclose([float(r[f"{name}_{column}"]) for r in rows], value[1], rtol=1e-4, atol=1e-5)


def test_report_and_settings(finished):
    numbers = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert numbers["movie"]["frames"] == T and numbers["traces"]["rois"] == N
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html") and 'src="http' not in page
    about = json.loads((finished / "config.json").read_text(encoding="utf-8"))
    assert about["seed"] == 3 and about["versions"]["udenoise"] and about["config"]["train"]["steps"] == 20
    noise = json.loads((finished / "noise.json").read_text(encoding="utf-8"))
    assert noise["gain"] > 0 and "intercept" in noise


# --- again, otherwise, interrupted


def test_running_again_changes_nothing(finished, known):
    before = stamps(finished)
    go(known, finished)
    after = stamps(finished)
    assert {name for name in after if after[name] != before.get(name)} <= {"config.json"}


@pytest.mark.parametrize("change", [
    {"seed": 4}, {"trace": TraceConfig(draws=70)}, {"movie": MovieConfig(frame_rate_hz=20.0)},
])  # fmt: skip
def test_other_settings_are_an_error(finished, known, change):
    before = stamps(finished)
    with pytest.raises(InputError, match="--overwrite"):
        go(known, finished, replace(TINY, **change))
    assert stamps(finished) == before


def test_another_movie_or_other_rois_are_an_error(finished, known):
    with pytest.raises(InputError, match="--overwrite"):
        udenoise.run(known[0][:-4], finished, known[1], TINY, quiet=True)
    with pytest.raises(InputError, match="rois"):
        go(known, finished, rois=False)


class Stop:
    """Stands in for a function, and is interrupted at the given call: before the work, or after it."""

    def __init__(self, owner, name, call=1, after=False):
        self.owner, self.name, self.call, self.after = owner, name, call, after

    def __enter__(self):
        self.original, self.calls = getattr(self.owner, self.name), 0

        def interrupted(*args, **kwargs):
            self.calls += 1
            if self.calls == self.call and not self.after:
                raise KeyboardInterrupt
            result = self.original(*args, **kwargs)
            if self.calls == self.call:
                raise KeyboardInterrupt
            return result

        setattr(self.owner, self.name, interrupted)

    def __exit__(self, *_):
        setattr(self.owner, self.name, self.original)


INTERRUPTIONS = {
    "before anything": Stop(pipeline, "estimate_noise"),
    "after the noise": Stop(pipeline, "estimate_anatomy"),
    "before the first checkpoint": Stop(training._Checkpoints, "save"),
    "after the first checkpoint": Stop(training._Checkpoints, "save", after=True),
    "before the denoiser is saved": Stop(pipeline, "save_denoiser"),
    "before calibration": Stop(pipeline.posterior, "fit_recalibration"),
    "in the middle of denoising": Stop(store.MovieStore, "write", call=3, after=True),
    "when all is denoised": Stop(extraction.roi_error, "calibrate_rois"),
    "in the error's memory": Stop(extraction.sampling, "fit_memory"),
    "between traces.zarr and traces.csv": Stop(extraction, "write_csv"),
    "before the flags are judged": Stop(flagging, "find_flags"),
    "among the flags": Stop(flagging, "write_flags"),
    "before the report": Stop(pipeline, "write_report"),
    "after the report": Stop(pipeline, "write_report", after=True),
}  # fmt: skip


def test_interrupted_everywhere_ends_bitwise_the_same(finished, known, tmp_path):
    for stage, stop in INTERRUPTIONS.items():
        with stop, pytest.raises(KeyboardInterrupt):
            go(known, tmp_path / "run")
            pytest.fail(f"not interrupted {stage}")
        assert (tmp_path / "run" / "report.json").exists() == (stage == "after the report")
    go(known, tmp_path / "run")
    assert_same(results(tmp_path / "run"), results(finished))


def test_overwrite_starts_anew_and_the_seed_decides(finished, known, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"versions": {"udenoise": "0.0"}}')
    (tmp_path / "run" / "posterior.zarr").mkdir()
    (tmp_path / "run" / "report.json").write_text("{}")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="would delete"):
        go(known, finished, overwrite=True, init_from=finished / "denoiser")
    go(known, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert_same(results(tmp_path / "run"), results(finished))


# --- other ways through


def test_without_rois_and_frame_rate(known, tmp_path):
    denoise = DenoiseConfig(write_prior=True, chunk=16, innovations=False)  # an event would add its own doubt
    bare = replace(TINY, movie=MovieConfig(), denoise=denoise)
    folder = go(known, tmp_path / "run", bare, rois=False)
    assert {p.name for p in folder.iterdir()} >= FILES - {"traces.zarr", "traces.csv"}
    assert not (folder / "traces.zarr").exists() and not (folder / "traces.csv").exists()
    found = arrays(folder / "posterior.zarr")
    assert set(found) == {"mean/0", "sd/0", "prior_mean/0", "prior_sd/0"}
    assert (found["sd/0"] <= found["prior_sd/0"] * (1 + 1e-5)).all()  # hearing the frame never makes less sure
    ome = zarr.open_group(folder / "posterior.zarr", mode="r")["mean"].attrs["ome"]
    assert "unit" not in ome["multiscales"][0]["axes"][0]
    assert pipeline.train(known[0], folder, bare, quiet=True) == folder


def test_seconds_need_a_frame_rate_only_where_they_are_used(known, tmp_path):
    bare = replace(TINY, movie=MovieConfig())
    with pytest.raises(InputError, match="--frame-rate-hz"):
        go(known, tmp_path / "run", bare)
    assert not (tmp_path / "run").exists()


def test_existing_denoiser_without_neuropil(finished, known, tmp_path):
    trace = TraceConfig(draws=60, f0="median", neuropil_coefficient=0.0, save_draws=True)
    config = replace(TINY, movie=MovieConfig(), trace=trace, denoise=DenoiseConfig(uncertainty="dropout", passes=2))
    folder = pipeline.denoise(known[0], tmp_path / "run", finished / "denoiser", config, known[1], quiet=True)
    found = arrays(folder / "traces.zarr")
    assert not [name for name in found if name.startswith("neuropil")]
    assert zarr.open_group(folder / "traces.zarr")["draws"].metadata.dimension_names == ("draw", "roi", "time")
    assert found["draws"].shape == (60, N, T)
    assert np.isnan(found["nu"]).all()  # ν is per root of a second
    standard = (found["draws"] - found["mean"]) / found["sd"]
    assert abs(standard.mean()) < 0.05 and standard.std() == pytest.approx(1, abs=0.05)
    inside = (found["lower"][2] <= found["draws"]) & (found["draws"] <= found["upper"][2])
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    baseline = np.median(found["draws"], axis=2, keepdims=True) + found["dff/f0_shift"]
    dff = found["draws"] / baseline - 1
    again = load_draws(folder)
    assert len(again) == 60
    np.testing.assert_allclose(again[7], dff[7], atol=1e-4)  # the draws behind the corridors, made once more
    np.testing.assert_allclose(load_draws(folder, "counts")[3], found["draws"][3], rtol=1e-4)
    np.testing.assert_allclose(found["dff/mean"], dff.mean(0), atol=1e-4)
    np.testing.assert_allclose(found["dff/sd"], dff.std(0, ddof=1), rtol=1e-3)
    assert not np.array_equal(arrays(folder / "posterior.zarr")["sd/0"], arrays(finished / "posterior.zarr")["sd/0"])


def test_an_ensemble_is_trained_resumed_and_applied(known, tmp_path):
    """Two networks from two seeds, kept beside each other; the same command again finds both; traces use both."""
    both = replace(TINY, denoise=DenoiseConfig(uncertainty="ensemble", passes=2), train=replace(TINY.train, steps=3))
    movie = tmp_path / "movie.npy"
    np.save(movie, known[0])
    folder = udenoise.run(movie, tmp_path / "run", known[1], both, quiet=True)
    one, other = (load_denoiser(folder / name) for name in ("denoiser", "denoiser_2"))
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    )
    again = pipeline.traces(folder, known[1], tmp_path / "again", quiet=True)
    applied = pipeline.denoise(movie, tmp_path / "applied", folder / "denoiser", both, known[1], quiet=True)
    for other in (again, applied):
        np.testing.assert_allclose(
            arrays(other / "traces.zarr")["mean"], arrays(folder / "traces.zarr")["mean"], rtol=1e-5
        )
    go(known, folder, TINY, overwrite=True)
    assert not (folder / "denoiser_2").exists()


def test_fine_tuning_starts_from_the_other_denoiser(finished, known, tmp_path):
    config = replace(TINY, train=replace(TINY.train, steps=10))
    folder = pipeline.train(known[0], tmp_path / "run", config, init_from=finished / "denoiser", quiet=True)
    record = json.loads((folder / "denoiser" / "training.json").read_text())
    before = json.loads((finished / "denoiser" / "training.json").read_text())
    assert record["validation_loss"][0] == pytest.approx(min(before["validation_loss"]), rel=1e-4)
    with pytest.raises(InputError, match="--overwrite"):
        pipeline.train(known[0], folder, config, quiet=True)


def test_traces_of_other_rois(finished, known, tmp_path):
    movie, rois = known
    np.save(tmp_path / "movie.npy", movie)
    np.save(tmp_path / "all.npy", udenoise.io.rois_dense(rois))
    np.save(tmp_path / "one.npy", udenoise.io.rois_dense(rois)[1:2])
    config = replace(TINY, trace=replace(TINY.trace, neuropil_coefficient=0.0))
    folder = pipeline.denoise(tmp_path / "movie.npy", tmp_path / "run", finished / "denoiser", config, quiet=True)
    movie_files = stamps(folder / "posterior.zarr")
    apart = pipeline.traces(folder, tmp_path / "one.npy", tmp_path / "apart", quiet=True)
    assert not (folder / "traces.zarr").exists() and not (apart / "posterior.zarr").exists()
    assert arrays(apart / "traces.zarr")["mean"].shape == (1, T)
    pipeline.traces(folder, tmp_path / "all.npy", quiet=True)
    every = arrays(folder / "traces.zarr")
    assert every["mean"].shape == (N, T)
    np.testing.assert_allclose(every["raw"][1], arrays(apart / "traces.zarr")["raw"][0], rtol=1e-6)
    with Stop(pipeline, "load_moments"), pytest.raises(KeyboardInterrupt):
        pipeline.traces(folder, tmp_path / "one.npy", quiet=True)
    assert not (folder / "report.json").exists()
    pipeline.traces(folder, tmp_path / "one.npy", quiet=True)
    assert_same(arrays(folder / "traces.zarr"), arrays(apart / "traces.zarr"))
    assert stamps(folder / "posterior.zarr") == movie_files
    assert json.loads((folder / "report.json").read_text())["traces"]["rois"] == 1
    with pytest.raises(InputError, match="not a udenoise run"):
        pipeline.traces(tmp_path, tmp_path / "one.npy")
    pipeline.report(folder)


def test_events_of_the_frames_themselves_come_back_in_movie_traces_and_list(finished, known, tmp_path):
    """A spot of two frames across the border of two blocks, inside the first ROI."""
    movie, rois = known
    y, x = divmod(int(rois.index[0][rois.weight[0].argmax()]), X)
    spot = np.exp(-((np.arange(Y)[:, None] - y) ** 2 + (np.arange(X) - x) ** 2) / (2 * 1.8**2))
    frames = slice(2 * FRAMES_PER_SHARD - 1, 2 * FRAMES_PER_SHARD + 1)
    size = 30 * np.sqrt(movie.var(0).mean())
    bright = movie.astype(float)
    bright[frames] += size * spot
    np.save(tmp_path / "movie.npy", np.round(bright).astype(np.uint16))
    path = tmp_path / "movie.npy"
    plain, found = (
        pipeline.denoise(path, tmp_path / str(sought), finished / "denoiser",
                         replace(TINY, denoise=DenoiseConfig(innovations=sought)), rois, quiet=True)
        for sought in (False, True)
    )  # fmt: skip
    with (found / "innovations.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if abs(float(row["y"]) - y) < 3 and abs(float(row["x"]) - x) < 3]
    assert [row for row in rows if abs(int(row["frame"]) - frames.start) <= 1 and float(row["z"]) > 5]
    before, after = (arrays(folder / "posterior.zarr")["mean/0"][frames, y, x].min() for folder in (plain, found))
    assert after > before + 0.2 * size
    one, other = (arrays(folder / "traces.zarr") for folder in (plain, found))
    assert (other["mean"][0, frames] > one["mean"][0, frames]).all()
    np.testing.assert_allclose(other["raw"], one["raw"], rtol=1e-4)
    pipeline.traces(found, rois, quiet=True)
    assert_same(arrays(found / "traces.zarr"), other)
    assert not (plain / "innovations.csv").exists()


def test_another_anatomy_and_likelihood_through_run_traces_and_denoise(known, tmp_path):
    """The maps are made where they are needed: for training, for other ROIs, and where a denoiser is applied."""
    config = replace(
        TINY,
        network=replace(TINY.network, anatomy="correlation"),
        train=replace(TINY.train, likelihood="joint"),
    )
    np.save(tmp_path / "movie.npy", known[0])
    known = tmp_path / "movie.npy", known[1]
    run = go(known, tmp_path / "run", config)
    assert (run / "anatomy_halves.zarr").is_dir()
    again = pipeline.traces(run, known[1], tmp_path / "traces", quiet=True)
    assert_same(arrays(run / "traces.zarr"), arrays(again / "traces.zarr"))
    applied = go(known, tmp_path / "applied", denoiser=run / "denoiser")
    for name in ("mean/0", "sd/0"):
        np.testing.assert_array_equal(*(arrays(f / "posterior.zarr")[name] for f in (run, applied)))
