"""The null control: the law of its movie, what it counts, and that it goes on, tells the run and refuses in one line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import correlated, movie_counts, noise_model, random_denoiser, white

import udenoise
from udenoise import pipeline
from udenoise.anatomy import load_anatomy
from udenoise.cli import main
from udenoise.config import Config, DenoiseConfig, FlagConfig, NetworkConfig, SimulationConfig, TraceConfig
from udenoise.denoiser import save_denoiser
from udenoise.errors import InputError
from udenoise.flags import Flag, write_flags
from udenoise.io import load_rois, open_movie
from udenoise.io.store import read_group, read_json, write_labels
from udenoise.noise import load_noise
from udenoise.null import cells, control, findings
from udenoise.null.movie import Scene, counts_type, null_frames, write_null_movie
from udenoise.results import load_rois_npz, save_rois_npz
from udenoise.scan import chance
from udenoise.simulate import write_simulation
from udenoise.stages import null

T, Y, X = 300, 32, 48
COUNTS = movie_counts(40, Y, X)
MEAN = COUNTS.mean(0).astype(np.float32)
LAW = noise_model(COUNTS, kernel=correlated(0.3))
TINY = Config(
    network=NetworkConfig(context=3, projection=2, widths=(8, 8, 8), factors=2),
    denoise=DenoiseConfig(innovations=False),
    trace=TraceConfig(draws=60, f0_window_s=5.0),
)
SCENE = SimulationConfig(frames=64, height=Y, width=X, cells=3, frame_rate_hz=10.0, photons=8.0, seed=1)


# --- the movie


@pytest.mark.parametrize("kernel", [white(), correlated(0.3)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_mean_variance_and_correlation_are_the_models(kernel, dtype):
    law, mean = noise_model(COUNTS, kernel=kernel), MEAN + 1000
    frames = null_frames(Scene(mean, law, T, np.dtype(dtype), 10.0, 0), 0, T)
    assert frames.dtype == dtype
    variance = law.pixel_variance(mean) + (1 / 12 if dtype == np.uint16 else 0)
    unit = (frames - mean) / np.sqrt(variance)
    for measured, expected in ((unit, 0.0), (unit**2, 1.0), (unit[:, :, 1:] * unit[:, :, :-1], kernel[3, 4]),
                               (unit[1:] * unit[:-1], 0.0)):  # fmt: skip
        each = measured.mean((1, 2))
        assert abs(each.mean() - expected) < 5 * each.std() / np.sqrt(len(each)) + 1e-3


def test_frames_are_reproducible_and_do_not_depend_on_the_chunk(tmp_path, monkeypatch):
    scene = Scene(MEAN, LAW, 30, np.dtype(np.float32), None, 4)
    whole = null_frames(scene, 0, 30)
    np.testing.assert_array_equal(np.concatenate([null_frames(scene, a, a + 10) for a in (0, 10, 20)]), whole)
    monkeypatch.setattr("udenoise.null.movie.PIXELS_AT_ONCE", 7 * MEAN.size)
    write_null_movie(scene, tmp_path / "movie.tif", quiet=True)
    np.testing.assert_array_equal(open_movie(tmp_path / "movie.tif")[:], whole)
    assert not np.array_equal(null_frames(scene._replace(seed=5), 0, 30), whole)


@pytest.mark.parametrize(("recorded", "above", "size", "kept"), [
    (np.uint16, 5000.0, 1.0, np.uint16), (np.uint16, -10.0, 1.0, np.float32), (np.uint16, 65500.0, 1.0, np.float32),
    (np.uint16, 5000.0, 0.01, np.float32), (np.int16, 5000.0, 1.0, np.int16), (np.int32, 5000.0, 1.0, np.float32),
    (np.float64, 5000.0, 1.0, np.float32),
])  # fmt: skip
def test_the_recordings_type_is_kept_where_it_changes_nothing(recorded, above, size, kept):
    """Clipped counts move the mean, and whole counts add 1/12 to the variance."""
    mean = np.full((Y, X), above, np.float32)
    law = LAW._replace(gain=20.0, intercept=20.0 * (20.0 - above), kernel=white(), field=np.ones((2, 3)))
    law = law._replace(gain=20 * size, intercept=law.intercept * size, bin_variance=np.full(3, 400 * size))
    assert counts_type(mean, law, np.dtype(recorded)) == kept


# --- what is counted


def test_events_of_traces_stand_out_of_their_own_spread():
    traces = np.random.default_rng(0).normal(size=(3, 500))
    traces[1, 100:104] = 7.0, 9.0, 8.0, 6.0
    traces[2] *= 1e-3
    traces[2, 40] = 0.02
    peaks = findings.seen_events(traces)
    assert list(zip(peaks.roi.tolist(), peaks.frame.tolist(), strict=True)) == [(1, 101), (2, 40)]
    assert findings.seen_events(np.zeros((2, 50))).roi.size == 0


def test_flags_are_counted_by_kind_family_and_area(tmp_path):
    flags = [
        Flag("contradicted", 2, 4, 5.0, 6.0, 4.0, score=6.0, sign=1, sigma_px=1.3, label=1),
        Flag("contradicted", 2, 4, 5.0, 6.0, 40.0, score=5.0, sign=-1, sigma_px=(40 / 4 / np.pi) ** 0.5, label=2),
        Flag("unconstrained", 10, 11, 5.0, 6.0, 4.0, score=1.0, sign=1, sigma_px=2.4, label=3),
        Flag("assumption broken", 0, 20, score=9.0),
    ]
    write_flags(tmp_path / "flags.csv", flags)
    (tmp_path / "flags.json").write_text(json.dumps({"fdr": 0.05, "tested": {"places": 9, "rois": 2}}))
    labels = np.zeros((20, 16, 16), np.uint32)
    labels[2:4, 5, 5:9], labels[2:4, 8, 5:9], labels[10, 0, :6] = 1, 2, 3
    write_labels(tmp_path / "flags.zarr", "flags", labels.shape, 10.0, lambda a, b: labels[a:b])
    found = findings.flag_findings(tmp_path)
    assert found["counts"] == {"contradicted": 2, "unconstrained": 1, "unfamiliar": 0, "assumption broken": 1}
    assert (found["swallowed"], found["invented"], found["displaced"], found["events"]) == (1, 1, 0, 4)
    assert found["families"] == {"places": 1, "traces of ROIs": 1, "borders of ROIs": 0}
    assert found["any_by_chance"] == pytest.approx(1 - 0.95**3)
    assert found["p"] == pytest.approx(3 * 0.05**2 * 0.95 + 0.05**3)  # two or more of three
    assert "more than chance allows" in findings.chance_sentence(found)
    area = found["false_area"]
    assert (area["contradicted"], area["unconstrained"]) == pytest.approx((16 / labels.size, 6 / labels.size))
    write_flags(tmp_path / "flags.csv", [])
    nothing = findings.flag_findings(tmp_path)
    assert nothing["p"] == 1 and nothing["false_area"]["all"] == 0
    assert "here none does" in findings.chance_sentence(nothing)


def test_cells_are_the_same_by_half_of_either():
    rois = [{"pixels": [1, 2, 3, 4], "cell": True}, {"pixels": [7, 8], "cell": False}]
    assert cells.only_in(rois, [{"pixels": [3, 4, 5, 6, 9], "cell": True}]) == 1
    assert cells.only_in(rois, []) == 2 and cells.only_in([], rois) == 0


# --- the whole control


@pytest.fixture(scope="module", autouse=True)
def few_samples():
    """Of chance, which these tests do not measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chance, "SAMPLE_PLACES", 400_000)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What the control needs of a run: its movie was looked at, and a network is there that was never trained."""
    place = tmp_path_factory.mktemp("null")
    scene, run = write_simulation(SCENE, place / "scene"), place / "run"
    save_denoiser(random_denoiser(TINY.network, size=0.1), place / "denoiser")
    bare = replace(TINY, flag=FlagConfig(flags=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "infer", lambda *_, **__: None)
        udenoise.run(scene / "movie.tif", run, scene / "rois.npy", bare, denoiser=place / "denoiser", quiet=True)
    save_rois_npz(run / "rois.npz", load_rois(scene / "rois.npy", (Y, X)))
    write_flags(run / "flags.csv", [])
    (run / "flags.json").write_text(json.dumps({"fdr": 0.05, "counts": {}, "null": None}))
    return run


@pytest.fixture(scope="module")
def controlled(finished):
    """Its null control: interrupted in the middle, and gone on with; Suite2p's part is played."""
    asked = []

    def stop(*_, **__):
        raise KeyboardInterrupt

    def detect(place, threshold, task):
        asked.append((open_movie(place / "movie.tif")[:].dtype, threshold, task))
        own = [[50], [60]] if place.name == "denoised" and threshold < 4 else []
        return [{"pixels": pixels, "cell": True} for pixels in own + [[1, 2]] * (threshold == 1)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "denoise", stop)
        with pytest.raises(KeyboardInterrupt):
            null(finished, quiet=True)
        folder = finished.with_name("run-null")
        stamp = (folder / "movie.tif").stat().st_mtime_ns
        assert not (folder / "null.json").exists()
        patch.undo()
        patch.setattr(cells, "_suite2p", detect)
        patch.setattr(control, "python_with_suite2p", lambda given: "python")
        assert null(finished, quiet=True) == folder
        assert (folder / "movie.tif").stat().st_mtime_ns == stamp
        assert null(finished, quiet=True) == folder
    assert [one[:2] for one in asked] == [
        (np.int16, t) for t in (1.0, 1.0, 2.0, 2.0, 4.0, 4.0)
    ]  # found once, then read back
    return folder


def test_the_control_denoises_as_the_run_does(finished, controlled):
    there, here = (read_json(folder / "config.json") for folder in (finished, controlled / "run"))
    for part in ("network", "denoise", "trace", "seed"):
        assert here["config"][part] == there["config"][part]
    assert here["config"]["flag"]["flags"] and not there["config"]["flag"]["flags"]
    assert here["movie"]["shape"] == there["movie"]["shape"] and here["movie"]["frame_rate_hz"] == 10.0
    assert (controlled / "run" / "report.html").is_file()


def test_no_roi_trace_has_activity(finished, controlled):
    """Raw traces scatter about the mean image by w²·variance, and no frame knows the one before."""
    mean, rois = load_anatomy(finished / "anatomy.zarr").mean, load_rois_npz(finished / "rois.npz")
    truth = findings.still_traces(rois, mean)[:, None]
    variance = load_noise(finished / "noise.json").pixel_variance(mean).ravel()[rois.index]
    sd = np.sqrt((rois.weight**2 * variance).sum(1))[:, None]
    unit = (read_group(controlled / "run" / "traces.zarr").arrays["raw"] - truth) / sd
    within = 5 / np.sqrt(unit.size)
    assert abs(unit.mean()) < within
    assert abs(np.mean(unit**2) - 1) < 2 * within + 0.1  # the kernel is measured, not white
    assert abs(np.mean(unit[:, 1:] * unit[:, :-1])) < within


def test_numbers_and_what_the_run_is_told(finished, controlled):
    found = read_json(controlled / "null.json")
    assert found["frames"] == SCENE.frames and found["shape"] == [SCENE.frames, Y, X]
    assert set(found["flags"]["counts"]) == {"contradicted", "unconstrained", "unfamiliar", "assumption broken"}
    assert 0 <= found["flags"]["false_area"]["all"] <= 1 and 0 <= found["pixels"]["coverage"] <= 1
    traces = found["traces"]
    assert traces["rois"] == SCENE.cells and traces["level"] == 0.95 and traces["held"] == traces["coverage"][3]
    assert traces["certain_events"] <= traces["events"] and traces["dff"]["change"] == sorted(traces["dff"]["change"])
    counts = [tuple(row[name] for name in ("raw", "denoised", "only_denoised")) for row in found["cells"]["rows"]]
    assert counts == [(1, 3, 2), (0, 2, 2), (0, 0, 0)]
    assert found["cells"]["clean_from"] == 4 and "threshold_scaling 4 or more" in found["sentence"]
    assert [path.name for path in (controlled / "suite2p").iterdir() if path.is_dir()] == []
    entry = read_json(finished / "flags.json")["null"]
    assert entry == {"events": found["flags"]["events"], "sentence": found["sentence"]}
    assert "no activity" in entry["sentence"] and entry["sentence"] in (finished / "report.html").read_text("utf-8")
    assert read_json(finished / "report.json")["flags"]["null"] == entry


def test_the_same_command_goes_on_and_prints(finished, controlled, capsys):
    main(["null", str(finished)])
    said = capsys.readouterr().out
    assert "64 frames in which nothing happens" in said and "every contradiction is false" in said
    assert "threshold 1" in said or "Suite2p is not here" in said
    assert "null.json" in said and "report.html" in said


def test_overwriting_deletes_only_what_was_written(finished, controlled, tmp_path, monkeypatch):
    folder = tmp_path / "control"
    monkeypatch.setattr(control, "denoise", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    for overwrite, frames in ((False, 20), (True, 12)):
        with pytest.raises(KeyboardInterrupt):
            null(finished, folder, frames=frames, overwrite=overwrite, quiet=True)
        assert open_movie(folder / "movie.tif").shape == (frames, Y, X)
        (folder / "notes.txt").write_text("mine")
    assert (folder / "notes.txt").read_text() == "mine"


def test_what_cannot_be_used_is_said_in_one_line(finished, controlled, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    copied = tmp_path / "bare"
    copied.mkdir()
    (copied / "config.json").write_text((finished / "config.json").read_text())
    wrong = [
        ([str(tmp_path)], "is not a udenoise run"),
        ([str(copied)], "is not finished"),
        ([str(finished), "--frames", "5"], "at least 10 are needed: --frames"),
        ([str(finished), "--seed", "-1"], "--seed 0"),
        ([str(finished), "--seed", "1"], "another seed (0, now 1); pass --overwrite"),
        ([str(finished), "-o", str(tmp_path / "full")], "is no null control"),
        ([str(finished), "-o", str(finished)], "is no null control"),
        ([str(finished), "--suite2p", "no-such-python"], "no Python with Suite2p"),
    ]
    for arguments, words in wrong:
        with pytest.raises(SystemExit) as stop:
            main(["null", *arguments])
        said = capsys.readouterr().err
        assert stop.value.code == 2 and words in said and said.count("\n") == 1, said
    (copied / "report.json").write_text("{}")
    with pytest.raises(InputError, match="denoiser is missing"):
        null(copied, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_another_state_of_the_run_is_another_control(finished, controlled):
    source = control._source(finished, None, 0)
    assert control._state(source) == read_json(controlled / "control.json")["state of the run"]
    changed = source._replace(config=replace(source.config, seed=9))
    assert control._state(changed) != control._state(source)


def test_a_failure_of_suite2p_is_told_and_ends_the_search(tmp_path, monkeypatch):
    def fail(place, threshold, task):
        if place.name == "denoised":
            raise RuntimeError("no luck")
        return []

    monkeypatch.setattr(cells, "_suite2p", fail)
    monkeypatch.setattr(cells, "_write_counts", lambda folder, name, task, path: path.touch())
    found = cells.count_cells(tmp_path, cells.Task("python", None, 1.0, 1000.0), quiet=True)
    assert len(found["rows"]) == 1 and found["rows"][0]["raw"] == 0 and found["rows"][0]["denoised"] is None
    assert found["clean_from"] is None and "no luck" in found["note"] and control._advice(found) == ""
