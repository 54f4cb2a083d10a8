"""Where not to believe it: each kind of flag on what it is made for, silence elsewhere, and the files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers import noise_model, recording_of
from scipy import ndimage, sparse

import udenoise
from udenoise.config import Config, FlagConfig, MovieConfig, NetworkConfig, SimulationConfig, TraceConfig, TrainConfig
from udenoise.errors import InputError
from udenoise.flags import KINDS, Flag, Tail, find_flags, read_flags, scan_borders, scan_traces, summary, write_flags
from udenoise.flags.assumptions import broken_assumptions, runs
from udenoise.flags.contradicted import contradicted_places, contradicted_traces, merged
from udenoise.flags.field import Field
from udenoise.flags.unconstrained import unconstrained_traces
from udenoise.flags.unfamiliar import familiar, unfamiliar
from udenoise.io import rois_from_masks
from udenoise.scan import Chance, Peaks, no_peaks
from udenoise.simulate import simulate
from udenoise.watch import (
    MIX,
    SIDES,
    Borders,
    Sight,
    Sights,
    Whitened,
    border_sums,
    borders_of,
    ground_of,
    uncertain_sights,
)

T, Y, X, RATE = 300, 40, 48, 10.0


@pytest.fixture(scope="module")
def field() -> Field:
    mean = np.full((Y, X), 100.0, np.float32)
    weights = np.zeros((2, Y, X), np.float32)
    weights[0, 5:15, 5:15], weights[1, 22:34, 28:40] = 1, 1
    noise = noise_model(np.full((T, Y, X), 100.0))
    return Field(T, RATE, mean, mean - 20, np.full((Y, X), 4.0), noise, ("a", "b"), weights)


def peaks_at(*rows: tuple) -> Peaks:
    """(frame, y, x, spot, duration, z, height) each."""
    columns = zip(*rows, strict=True)
    return Peaks(*(np.array(column, kind) for column, kind in zip(columns, (int,) * 5 + (float,) * 2, strict=True)))


def no_sights() -> Sights:
    return Sights(
        no_peaks(), no_peaks(), np.zeros((T, 2)), np.zeros((T, 3, 3), np.float16), np.zeros((T, 3, 3), np.float16)
    )


def test_a_contradicted_place_says_where_when_and_how_much(field):
    peaks = peaks_at(
        (50, 9, 9, 2, 1, 9.0, 3.0),
        (49, 9, 10, 2, 1, 7.5, 4.0),
        (200, 30, 5, 1, 0, -8.0, -5.0),
        (7, 20, 3, 0, 0, 4.2, 4),
    )
    found = contradicted_places(peaks, Chance(1e-4), field, 0.05)
    assert [one.flag.sign for one in found] == [1, -1]
    first = found[0].flag
    assert (first.frame_start, first.frame_stop, first.y, first.x, first.roi) == (49, 53, 9.0, 9.0, "a")
    assert first.size == 12.0 and first.dff == pytest.approx(12 / 80) and first.start_s == 4.9
    assert first.q <= 0.05 and 0 < first.p < 1e-8 and "swallowed" in first.reason
    assert "invented" in found[1].flag.reason and found[1].flag.roi == ""
    assert 10 < first.area < 40  # pixels above half height


def test_a_displacement_is_told_in_pixels(field):
    flag = contradicted_places(peaks_at((10, 12, 12, 6, 2, 8.0, 0.7)), Chance(1e-4), field, 0.05)[0].flag
    assert flag.sign == 0 and np.isnan(flag.size) and "+0.7 px along X" in flag.reason


def test_chance_alone_is_flagged_in_one_of_twenty_movies(field):
    """Of movies in which nothing happens, those with any flag: the share is the false discovery rate."""
    rng, chance, places = np.random.default_rng(0), Chance(1e-4), T * Y * X
    flagged = 0
    for _ in range(400):
        n = rng.poisson(places * chance.rate)
        z = np.sqrt(16 + 2 * rng.exponential(size=n))
        rows = [(int(t), int(y), int(x), 0, 0, v, v) for t, y, x, v in
                zip(rng.integers(T, size=n), rng.integers(Y, size=n), rng.integers(X, size=n), z, strict=True)]  # fmt: skip
        flagged += bool(contradicted_places(peaks_at(*rows), chance, field, 0.05))
    assert flagged <= 0.05 * 400 + 3 * np.sqrt(0.05 * 0.95 * 400)


def test_traces_that_the_corridor_does_not_hold(field):
    rng, noise = np.random.default_rng(3), np.full((2, T), 4.0)
    left = 2.0 * rng.standard_normal((2, T))
    assert contradicted_traces(scan_traces(left, noise, np.zeros((2, T))), field, 0.05) == []
    left[1, 100:130] += 2.5
    left[0, 40] = np.nan
    found = contradicted_traces(scan_traces(left, noise, np.full((2, T), 0.05)), field, 0.05)
    assert len(found) == 1 and found[0].flag.roi == "b" and found[0].flag.sign == 1
    assert abs(found[0].flag.frame_start - 100) <= 9 and abs(found[0].flag.frame_stop - 130) <= 9
    assert 2.0 < found[0].flag.size < 2.5 + 2 * 2 / 3  # of its strongest window, which noise has chosen
    assert found[0].flag.dff == pytest.approx(found[0].flag.size / 80)
    assert contradicted_traces(scan_traces(left, noise, np.full((2, T), 3.0)), field, 0.05) == []  # an honest doubt


def test_borders_of_rois_to_any_side(field):
    """Of a smooth image, where a displacement up is one down the other way round."""
    both = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    rng, axes = np.random.default_rng(5), np.stack([np.eye(2) * 50.0, [[80.0, 20.0], [20.0, 40.0]]])
    power = both @ axes @ both.T
    borders = Borders(sparse.csr_array((8, Y * X)), power, power, np.zeros((2, 8)))
    sums = np.stack([np.linalg.cholesky(p) @ rng.standard_normal((2, T)) for p in axes])  # N 2 T
    nothing = np.zeros((T, 8))

    def heard(sums):
        return np.einsum("si,nit->tsn", both, sums).reshape(T, 8)

    assert contradicted_traces(scan_borders(heard(sums), nothing, borders), field, 0.05) == []
    sums[1, :, 60:70] += (axes[1] @ [0.5, -0.5])[:, None]
    heard = heard(sums)
    found = contradicted_traces(scan_borders(heard, nothing, borders), field, 0.05)
    assert len(found) == 1 and found[0].flag.roi == "b" and found[0].flag.sign == 0 and np.isnan(found[0].flag.size)
    assert "+0.5 px along Y and -0.5 px along X" in found[0].flag.reason and "border" in found[0].flag.reason
    assert abs(found[0].flag.frame_start - 60) <= 9
    dim = borders._replace(power=power / 1e4, unit=power / 1e4)  # the same z, of displacements of 50 pixels
    assert contradicted_traces(scan_borders(heard / 100, nothing, dim), field, 0.05) == []
    few = borders._replace(third=np.full((2, 8), 1e4))  # of less than a photon
    assert contradicted_traces(scan_borders(heard, nothing, few), field, 0.05) == []


@pytest.mark.parametrize(("angle", "pixels"), [(0.3, 1.0), (2.0, 1.0), (4.0, 0.5), (5.5, 1.5)])
def test_a_displaced_cell_is_measured(angle, pixels):
    """A picture in which the cell was moved by interpolation: the side that answers most is the nearest, and says how far."""
    ys, xs = np.ogrid[:48, :48]
    image = 100 + 200 / (1 + np.exp((np.hypot(ys - 24, xs - 22) - 6) / 0.6))
    recording = recording_of(np.random.default_rng(7).poisson(image, (400, 48, 48)).astype(np.float32))
    rois, ground = rois_from_masks((image > 200)[None]), ground_of(recording)
    borders, way = borders_of(rois, recording, ground), (np.sin(angle), np.cos(angle))
    moved = ndimage.shift(image, (pixels * way[0], pixels * way[1]), order=1, mode="nearest")
    sd = np.sqrt(recording.noise.pixel_variance(recording.anatomy.mean))
    residual = ((image - moved) / sd)[None].astype(np.float32)
    heard = MIX @ border_sums(Whitened(residual, residual), borders)[0].reshape(4)
    unit = np.einsum("si,ij,sj->s", MIX, borders.unit[0], MIX)
    best = int(np.argmax(heard / np.sqrt(unit)))
    assert SIDES[best] @ way > np.cos(np.pi / 8) - 0.03
    assert heard[best] / unit[best] == pytest.approx(pixels, rel=0.25)


def test_an_event_of_a_place_and_its_roi_is_told_once(field):
    place = contradicted_places(peaks_at((100, 9, 9, 3, 3, 9.0, 3.0)), Chance(1e-4), field, 0.05)
    left = np.zeros((2, T))
    left[0, 100:127] = 4.0
    trace = contradicted_traces(scan_traces(left, np.full((2, T), 4.0), np.zeros((2, T))), field, 0.05)
    assert len(place) == len(trace) == 1 and len(merged(place, trace)) == 1
    later = [one._replace(flag=one.flag._replace(frame_start=200, frame_stop=210)) for one in trace]
    assert len(merged(place, later)) == 2


def test_the_picture_shows_what_its_error_bar_does_not_bear():
    shown = 0.01 * np.random.default_rng(0).standard_normal((60, 10, 12)).astype(np.float32)
    shown[30, 5, 6], shown[40, 2, 2] = 2.0, 2.0
    stated = np.full_like(shown, 1.5)
    stated[40] = 0.5
    nothing = np.zeros((60, 1, 1), np.float32)
    sight = Sight(Whitened(nothing, nothing), np.zeros((60, 2)), shown, stated, nothing, nothing)
    peaks = uncertain_sights(sight, np.full((10, 12), 5.0), 100)
    assert peaks.frame.tolist() == [130] and (peaks.y[0], peaks.x[0]) == (10, 12)
    assert peaks.z[0] == pytest.approx(2.0 / 1.5, rel=0.05)
    assert len(uncertain_sights(sight, np.full((10, 12), 50.0), 0).z) == 0  # too faint to be seen


def test_traces_that_show_more_than_they_know(field):
    mean = 100 + 0.1 * np.random.default_rng(0).standard_normal((2, T))
    mean[0, 50:55] += 5
    found = unconstrained_traces(mean, np.full((2, T), 4.0), field)
    assert [one.flag.roi for one in found] == ["a"] and found[0].flag.p > 0.05
    assert (found[0].flag.frame_start, found[0].flag.frame_stop) == (50, 55)
    assert unconstrained_traces(mean, np.full((2, T), 1.0), field) == []


def test_what_the_training_movie_never_showed(field):
    rng = np.random.default_rng(1)
    usual = no_sights()._replace(given=rng.exponential(size=(T, 3, 3)).astype(np.float16))
    tails = familiar(usual)
    assert set(tails) == {"given"} and tails["given"].beyond(np.array([np.log(1e6)]))[0] == pytest.approx(1e-6, rel=1.5)
    assert unfamiliar(usual, tails, field, 0.05) == []
    strange = usual._replace(given=usual.given.copy())
    strange.given[200:204, 1, 2] = 40.0
    found = unfamiliar(strange, {name: Tail(*tail) for name, tail in tails.items()}, field, 0.05)
    assert len(found) == 1 and (found[0].flag.frame_start, found[0].flag.frame_stop) == (200, 204)
    assert (found[0].flag.y, found[0].flag.x) == (24, 40) and found[0].flag.q <= 0.05


def test_broken_assumptions_have_their_frames(field):
    noise = field.noise._replace(
        bad_rows=np.array([[5, 1], [6, 2]]), bad_frames=np.array([50]), breaks=np.array([100]), difference_lag1=-0.4,
        saturated_at=4095.0, saturated_fraction=1e-3,
    )  # fmt: skip
    shaky = np.random.default_rng(0).normal(0, 0.05, (T, 2))
    shaky[70:75, 1] += 1.5
    found = [one.flag for one in broken_assumptions(shaky, np.array([0.05, 0.05]), field._replace(noise=noise), 0.05)]
    spans = {(flag.frame_start, flag.frame_stop): flag.reason for flag in found}
    assert {(0, T), (5, 7), (50, 51), (100, 101), (70, 75)} == set(spans)
    assert "motion" in spans[70, 75] and "1.5" in spans[70, 75] or "1.6" in spans[70, 75]
    assert all(flag.kind == "assumption broken" for flag in found)
    still = broken_assumptions(shaky[:60], np.array([0.05, 0.05]), field, 0.05)
    assert still == [] and runs(np.array([1, 2, 5, 30])) == [(1, 6), (30, 31)] and runs(np.zeros(0, int)) == []


def test_table_there_and_back(tmp_path, field):
    first = Flag("contradicted", 3, 5, 1.5, 2.0, 9.0, -3.5, -6.1, 1e-9, 0.01, "=cmd();a", -1, reason='a, "b"')
    flags = [first, Flag("unfamiliar", 0, 1)]
    write_flags(tmp_path / "flags.csv", flags)
    back = read_flags(tmp_path / "flags.csv")
    for one, other in zip(flags, back, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a == b or (a != a and b != b)
    text = (tmp_path / "flags.csv").read_text()
    assert text.startswith("kind,frame_start,frame_stop,y,x,area,size,score,p,q,roi,") and ",=cmd" not in text
    with pytest.raises(InputError, match="no list of flags"):
        read_flags(tmp_path / "nothing.csv")
    about = summary(flags, field, 0.05, [])
    assert about["counts"] == dict.fromkeys(KINDS, 0) | {"contradicted": 1, "unfamiliar": 1}
    assert about["rois"][0]["invented"] == 1 and about["rois"][1]["verdict"] == "nothing found"


def test_nothing_at_all_gives_nothing(field):
    assert find_flags(no_sights(), Chance(1e-4), np.full(2, 0.1), None, {}, field, 0.05) == []


SMALL = NetworkConfig(context=4, projection=2, widths=(4, 4, 4), factors=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run whose network never learnt anything: it shows the mean image, and swallows every event."""
    made = simulate(SimulationConfig(frames=160, height=40, width=40, cells=3, frame_rate_hz=RATE, photons=6.0, seed=3))
    train, trace = TrainConfig(steps=2, batch=2, crop=16), TraceConfig(draws=50, f0="median")
    config, folder = (
        Config(MovieConfig(frame_rate_hz=RATE), SMALL, train, trace=trace),
        tmp_path_factory.mktemp("flags"),
    )
    np.save(folder / "movie.npy", made.movie)
    rois = udenoise.rois_from_masks(made.masks)
    return udenoise.run(folder / "movie.npy", folder / "run", rois, config, quiet=True)


def test_a_run_lists_paints_and_counts_its_flags(finished):
    rows = list(csv.DictReader((finished / "flags.csv").open()))
    about = json.loads((finished / "flags.json").read_text())
    assert sum(about["counts"].values()) == len(rows) and len(about["rois"]) == 3 and about["tested"]["rois"] == 3
    group = zarr.open_group(finished / "flags.zarr", mode="r")
    labels = np.asarray(group["labels/flags/0"])
    assert labels.shape == (160, 40, 40) and labels.dtype == np.uint32
    assert group["labels"].attrs["ome"]["labels"] == ["flags"] and "image-label" in group["labels/flags"].attrs["ome"]
    numbered = [int(row["label"]) for row in rows if int(row["label"])]
    assert numbered == list(range(1, len(numbered) + 1)) and set(np.unique(labels)) <= {0, *numbered}
    for row in rows:
        where = np.argwhere(labels == int(row["label"]))
        if len(where) and int(row["label"]):
            assert int(row["frame_start"]) <= where[:, 0].min() and where[:, 0].max() < int(row["frame_stop"])
    wobble = about["wobble"]
    assert wobble is None or (0 <= wobble["shown"] < 1 and "recording" in wobble["sentence"])


def test_another_rate_needs_no_pass_over_the_movie(finished, monkeypatch):
    monkeypatch.setattr("udenoise.pipeline.infer", lambda *_: pytest.fail("the movie was looked at again"))
    with pytest.raises(InputError, match="fdr is 1.5"):
        udenoise.flag(finished, fdr=1.5)
    before = (finished / "found.npz").read_bytes()
    assert len(udenoise.flag(finished, fdr=0.5)) >= len(udenoise.flag(finished, fdr=0.001))
    assert (finished / "found.npz").read_bytes() == before


def test_without_flags(tmp_path):
    made = simulate(SimulationConfig(frames=60, height=32, width=32, cells=1, frame_rate_hz=RATE, photons=6.0))
    config = Config(
        MovieConfig(frame_rate_hz=RATE), SMALL, TrainConfig(steps=2, batch=2, crop=16), flag=FlagConfig(flags=False)
    )
    folder = udenoise.run(made.movie, tmp_path / "run", config=config, quiet=True)
    assert not list(folder.glob("flags*")) and not (folder / "found.npz").exists()


def test_bright_noise_of_few_photons_is_not_taken_for_an_event(field):
    """Two photons a frame in a ROI: z of 6 is chance above, not below."""
    light = np.random.default_rng(11).poisson(2.0, (2, 200_000)).astype(float) - 2.0
    noise, sure = np.full(light.shape, 2.0), np.zeros(light.shape)
    long = field._replace(frames=light.shape[1])
    assert len(contradicted_traces(scan_traces(light, noise, sure), long, 0.05)) > 5
    assert contradicted_traces(scan_traces(light, noise, sure, np.full(2, 2**-0.5)), long, 0.05) == []
