"""What the experiments stand on: movies that stay apart, scores that know the truth, tables that go where they belong."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from udenoise import metrics
from udenoise.config import RareConfig, SimulationConfig
from udenoise.errors import InputError
from udenoise.io.tiff_writer import write_tiff
from udenoise.simulate import plan_simulation

sys.path.append(str(Path(__file__).parents[1]))  # the experiments are no part of the installed package
from experiments import bench, foreign, movies, table, tables  # noqa: E402
from experiments.movies import CHOOSING, REPORTED, Choosing, check_apart, ladder, null, reported  # noqa: E402
from experiments.segmentation.run import judge  # noqa: E402

TINY = SimulationConfig(
    frames=300, height=48, width=48, cells=5, photons=4.0, seed=7,
    rare=RareConfig(flashes=4, dendritic_events=2, lone_cells=1, coupled_pairs=1, decoupled_events=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return bench.prepare(Choosing("tiny", TINY), tmp_path_factory.mktemp("experiments"))


def test_choosing_and_reporting_never_meet():
    every = [*REPORTED, *reported(full=True), *ladder((0.5, 2.0))]
    check_apart(CHOOSING, tuple(every))
    assert len({m.config.seed for m in REPORTED}) == len(REPORTED)


def test_a_movie_that_is_both_is_refused():
    one = CHOOSING[0]
    with pytest.raises(ValueError, match="seed"):
        check_apart((one,), (movies.Reported("same seed", replace(one.config, photons=3.0)),))
    with pytest.raises(ValueError, match="settings"):
        check_apart((one,), (movies.Reported("same settings", replace(one.config, seed=99)),))


def test_a_null_movie_has_the_same_field_and_no_event():
    config = null(movies.Reported("tiny", replace(TINY, rare=RareConfig()))).config
    truth = plan_simulation(config).truth
    assert len(truth.events.kind) == 0 and not truth.spikes.any()
    np.testing.assert_array_equal(truth.masks, plan_simulation(replace(TINY, rare=RareConfig())).truth.masks)


def test_the_truth_keeps_every_planted_event_and_the_movie_without_them_keeps_none(scene):
    rare, local = scene.rare, scene.rare.roi < 0
    assert local.sum() >= 5 and (~local).sum() == 2
    kept = metrics.recovered_amplitudes(rare.planted, rare.truth, rare.truth)
    np.testing.assert_allclose(kept, 1)
    lost = metrics.recovered_amplitudes(rare.planted, rare.without, rare.truth)
    np.testing.assert_allclose(lost[local], 0, atol=0.15)  # courses are cut at their 1/e
    everything = bench.score_rare(scene, scene.clean, scene.truth)
    np.testing.assert_allclose(everything["recovered"], 1, atol=1e-3)
    nothing = bench.score_rare(scene, np.broadcast_to(np.median(scene.clean, 0), scene.clean.shape), scene.truth)
    assert np.median(np.array(nothing["recovered"])[local]) < 0.2


def test_a_perfect_movie_has_perfect_numbers_and_the_raw_one_its_noise(scene):
    perfect, raw = (bench.score(scene, movie)["row"] for movie in (scene.clean, scene.movie))
    assert perfect["roi_error"] == pytest.approx(0, abs=1e-4) and perfect["wobble"] == pytest.approx(0, abs=1e-6)
    assert raw["relative_error"] == pytest.approx(1) and abs(raw["bias"]) < 0.01
    assert perfect["amplitude"] == pytest.approx(1, abs=1e-4)


def test_filters_are_tuned_and_rows_are_kept(scene, tmp_path):
    first = bench.measure_baseline(scene, "temporal-gaussian", tmp_path)
    assert 0.5 <= first["settings"]["sigma_frames"] <= 20 and first["row"]["relative_error"] < 0.6
    again = bench.measure_baseline(scene, "temporal-gaussian", tmp_path)
    assert json.dumps(again) == json.dumps(first)  # NaN included
    assert len(list((tmp_path / "rows").iterdir())) == 1
    bound = bench.measure_wiener(scene, tmp_path)["row"]
    assert bound["roi_error"] < first["row"]["roi_error"]


def test_tables_go_between_their_marks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- result -->\nold\n<!-- /result -->\nafter\n")
    rows = [{"method": "a", "error": 0.123}, {"method": "b", "error": float("nan")}, {"method": "c"}]
    tables.fill(readme, "result", tables.markdown(rows, {"method": "{}", "error": "{:.2f}"}))
    text = readme.read_text()
    assert "| a | 0.12 |\n| b | – |\n| c | – |" in text and "old" not in text
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    with pytest.raises(ValueError, match="other"):
        tables.fill(readme, "other", "")


def test_cells_that_are_found_are_judged_by_what_they_cover():
    somata = np.zeros((3, 10, 10), bool)
    for n, corner in enumerate((0, 3, 6)):
        somata[n, corner : corner + 3, :3] = True  # 9 pixels each
    flat = [np.flatnonzero(mask) for mask in somata]
    found = [
        {"pixels": flat[0].tolist(), "cell": True},  # a soma
        {"pixels": flat[0][:5].tolist(), "cell": True},  # most of the same soma once more
        {"pixels": [*flat[1][:3].tolist(), 95, 96, 97, 98], "cell": True},  # less than half, of either
        {"pixels": flat[2].tolist(), "cell": False},  # Suite2p does not call it a cell
    ]
    judged = judge(found, somata)
    assert (judged["ROIs"], judged["called cells"], judged["true"], judged["false"]) == (4, 3, 2, 1)
    assert judged["somata found"] == "1 of 3" and judged["precision"] == pytest.approx(2 / 3)
    assert judge([], somata)["recall"] == 0


def test_a_foreign_movie_is_recognised_and_judged_like_ours(scene, tmp_path):
    other = scene._replace(name="another", movie=scene.movie[:, ::-1, ::-1])
    write_tiff(tmp_path / "clean.tif", scene.clean, None)
    write_tiff(tmp_path / "cut.tif", scene.clean[30:-30], None)
    found = foreign.parse(f"perfect={tmp_path / 'clean.tif'}", [other, scene])
    assert found.movie == "tiny" and found.method == "perfect"
    assert foreign.measure(scene, found.path)["row"]["roi_error"] == pytest.approx(0, abs=1e-4)
    cut = foreign.measure(scene, str(tmp_path / "cut.tif"))
    assert cut["row"]["roi_error"] == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(cut["rare"]["recovered"], 1, atol=1e-3)
    assert 0 < len(cut["rare"]["kind"]) <= len(scene.rare.kind)


@pytest.mark.parametrize("entry", ["file.tif", "=file.tif", "name@nowhere=file.tif"])
def test_a_foreign_movie_needs_a_name_and_a_movie_that_exists(scene, entry):
    with pytest.raises(InputError, match="--add"):
        foreign.parse(entry, [scene])


def test_a_foreign_movie_like_none_is_refused(scene, tmp_path):
    noise = np.random.default_rng(0).normal(100, 10, scene.movie.shape).astype(np.float32)
    write_tiff(tmp_path / "noise.tif", noise, None)
    with pytest.raises(InputError, match="NAME@MOVIE"):
        foreign.parse(f"noise={tmp_path / 'noise.tif'}", [scene])


def test_what_the_table_says_are_its_own_numbers():
    def row(method, error, held):
        return {"method": method, "ROI error": error, "95 % holds": held, "in events": held, "rare kept": None}

    rows = [
        row(table.OURS, 0.5, 0.94),
        row(table.OURS, 0.25, 0.961),
        row(table.BOUND, 0.7, None),
        row("raw", 9.0, None),
    ]
    text = table.said(rows)
    assert "ROI error 0.25 to 0.50" in text and "0.70 to 0.70" in text and "94% to 96%" in text and "9.0" not in text
