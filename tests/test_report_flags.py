"""Flags in the report: the files' own numbers, the events close up, and words where there is nothing to show."""

import base64
import json
import re
import shutil

import imagecodecs
import numpy as np
import pytest
import zarr
from test_report import EVIL, NAMES, T, X, Y, _data, a_flag, make_run, write_flags

from udenoise.io import Movie, open_movie
from udenoise.report import write_report
from udenoise.report.flagged import flag_sentence, named, strongest
from udenoise.report.gallery import MOST, MOST_FRAMES, gallery, read_view, smoother, standard_residual
from udenoise.report.sources import read_sources

WOBBLE = {"shown": 0.031, "real_share": 0.82, "real_share_se": 0.05, "stated": 0.02, "measured": 0.021}
WOBBLE |= {"measured_se": 0.004, "sentence": f"The traces wobble <b>a little</b> {EVIL}"}
EVERYWHERE = {"kind": "assumption broken", "y": "", "x": "", "sigma_px": "", "size": "", "dff": "", "label": 0}


def many(count, **changed):
    return [a_flag(score=float(i), **changed) for i in range(count)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("flags") / "run"
    movie = make_run(run)
    rows = [
        a_flag(label=1),
        a_flag(sign=-1, score=-12, frame_start=10, frame_stop=11, x=50, label=2, roi=NAMES[0]),
        a_flag(sign=0, score=-6, frame_start=50, frame_stop=51, roi="'"),
        a_flag(
            kind="unconstrained", frame_start=0, frame_stop=60, score=1.5, p="", q="", roi=f"{NAMES[3]}; {NAMES[4]}"
        ),
        a_flag(kind="unfamiliar", frame_start=30, frame_stop=35, y=0, x=0, sigma_px="", roi=EVIL),
        a_flag(**EVERYWHERE, frame_start=17, frame_stop=18, roi="'-3", reason="'tis bright"),
    ]
    null = {"events": 0, "sentence": f"The null movie has 0 events. {EVIL}"}
    write_flags(run, rows, movie.shape, wobble=WOBBLE, null=null)
    return run, movie, write_report(run, movie)


def test_numbers_are_the_files(finished):
    run, _, numbers = finished
    flags, about = numbers["flags"], json.loads((run / "flags.json").read_text())
    assert json.loads((run / "report.json").read_text("utf-8"))["flags"] == flags
    for name in ("fdr", "counts", "tested", "note", "rois", "wobble", "null"):
        assert flags[name] == about[name]
    assert [flags[name] for name in ("events", "swallowed", "invented", "displaced")] == [6, 1, 1, 1]
    kinds = [row["kind"] for row in flags["strongest"]]
    assert kinds == ["contradicted", "contradicted", "contradicted", "unconstrained", "unfamiliar", "assumption broken"]
    assert flags["strongest"][0]["score"] == -12 and flags["strongest"][3]["p"] is None
    assert flags["strongest"][-1]["y"] is None
    assert [row["roi"] for row in flags["strongest"]][2::2] == ["", EVIL]
    assert (flags["strongest"][-1]["roi"], flags["strongest"][-1]["reason"]) == ("-3", "'tis bright")
    assert numbers["missing"] == []


def test_nothing_from_outside_becomes_markup(finished):
    page = (finished[0] / "report.html").read_text("utf-8")
    assert EVIL not in page and "<b>a little</b>" not in page and "<img" not in page[: page.index("plotly.js")]
    assert not re.search(r"<(script|img|iframe|link)[^>]+(src|href)=[\"']?https?:", page[:20_000])
    assert page.count("alert(2)&gt;") >= 3 and "0.021 ± 0.004" in page and "82 ± 5 %" in page
    assert len(re.findall(r"<script>", page)) == 2 and len(page.encode()) < 15_000_000


def test_rois_are_found_by_name(finished):
    rows = _data(finished[0])["flagged"]
    assert [row["rois"] for row in rows] == [[0], [], [], [3, 4], [1], []]
    known = {"1": [0], "2": [1], "a; b": [2], "-3": [3]}
    assert (named("a; b", known), named("1;2", known), named("1, 2", known)) == ([2], [0, 1], [0, 1])
    assert (named("-3", known), named("", known), named("7; 8", known)) == ([3], [], [])


def test_close_up_shows_the_frames_of_the_event(finished):
    run, movie, _ = finished
    data = _data(run)
    assert [item["row"] for item in data["gallery"]] == [0, 1, 2, 3, 4, 5]
    item, frames = data["gallery"][1], slice(2, 4)
    y0, y1, x0, x1 = item["box"]
    assert (y1 - y0, x1 - x0, item["averaged"], item["pixels"]) == (24, 24, 2, 25)
    raw = item["images"]["raw"]
    png = imagecodecs.png_decode(base64.b64decode(raw["png"][0]))
    counts = raw["low"] + png / 255 * (raw["high"] - raw["low"])
    truth = movie.read(2, 4)[:, y0:y1, x0:x1].mean(0).clip(raw["low"], raw["high"])
    np.testing.assert_allclose(counts, truth, atol=(raw["high"] - raw["low"]) / 255)
    trace = item["trace"]
    mean = zarr.open_array(run / "posterior.zarr/mean/0", mode="r")[frames, 18:23, 28:33].mean((1, 2))
    np.testing.assert_allclose(trace["denoised"][2:4], mean, rtol=1e-3)
    assert trace["frames"] == list(range(T)) and len(trace["sd"]) == T


def test_without_a_place_the_whole_field_is_shown(finished):
    item = _data(finished[0])["gallery"][-1]
    assert item["box"] == [0, Y, 0, X] and item["outline"] is None and item["pixels"] == Y * X
    assert imagecodecs.png_decode(base64.b64decode(item["images"]["raw"]["png"][0])).shape == (Y, X)


def test_verdict_says_what_was_found(finished):
    page = (finished[0] / "report.html").read_text("utf-8")
    assert "3 places contradict the denoised movie (1 swallowed, 1 invented, 1 displaced)" in page
    assert "and 3 events are flagged for other reasons (1 unconstrained, 1 unfamiliar, 1 assumption broken)" in page
    assert "see Where not to believe it." in page


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "nothing in the recording contradicts the denoised movie, and nothing else was flagged"),
        ({"contradicted": 1}, "1 place contradicts the denoised movie (1 swallowed)"),
        (
            {"contradicted": 0, "unfamiliar": 1},
            "nothing in the recording contradicts the denoised movie, and 1 event is",
        ),
    ],
)
def test_sentences(counts, words):
    flags = {"fdr": 0.05, "counts": counts, "swallowed": counts.get("contradicted", 0), "invented": 0, "displaced": 0}
    assert flag_sentence(flags).startswith(f"At a false discovery rate of 5 %, {words}")
    assert flag_sentence(flags | {"fdr": None}).startswith(words)


def test_strongest_leaves_every_kind_a_share():
    events = [*many(100, kind="unfamiliar"), *many(40), *many(2, kind="new"), *many(5, kind="unconstrained")]
    order = [(events[i]["kind"], events[i]["score"]) for i in strongest(events, 24)]
    kinds = [kind for kind, _ in order]
    assert [kinds.count(k) for k in ("contradicted", "unconstrained", "unfamiliar", "new")] == [16, 3, 3, 2]
    assert kinds == sorted(kinds, key=["contradicted", "unconstrained", "unfamiliar", "new"].index)
    assert [score for kind, score in order if kind == "contradicted"] == [float(s) for s in range(39, 23, -1)]
    assert strongest(events, 1000) == [i for i in strongest(events, 147)] and strongest([], 5) == []


def test_no_flags_are_one_sentence(tmp_path):
    movie = make_run(tmp_path)
    write_flags(tmp_path, [], movie.shape)
    shutil.rmtree(tmp_path / "flags.zarr")  # without an event nothing is asked of it
    numbers, data = write_report(tmp_path, movie), _data(tmp_path)
    assert numbers["missing"] == [] and numbers["flags"]["strongest"] == []
    assert (data["flagged"], data["gallery"]) == ([], [])
    assert "nothing in the recording contradicts" in (tmp_path / "report.html").read_text("utf-8")


def test_an_older_run_says_that_it_has_none(tmp_path):
    movie = make_run(tmp_path, frames=12)
    (tmp_path / "flags.csv").unlink()
    numbers = write_report(tmp_path, movie)
    assert numbers["flags"] is None and numbers["missing"] == ["flags.csv is absent."]
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "This run left no flags.csv" in page and "contradicts" not in page[: page.index("plotly.js")]


def test_counts_are_those_of_the_rows_where_flags_json_is_missing(tmp_path):
    movie = make_run(tmp_path, frames=12)
    (tmp_path / "flags.json").unlink()
    numbers = write_report(tmp_path, movie)
    assert numbers["flags"]["counts"] == {"contradicted": 2} and numbers["flags"]["rois"] == []
    assert "<strong>2 places contradict" in (tmp_path / "report.html").read_text("utf-8")


def test_without_posterior_rois_rate_or_labels(tmp_path):
    movie = make_run(tmp_path)
    write_flags(tmp_path, [a_flag(start_s="", stop_s="", dff="", roi="gone", label=1)], movie.shape)
    for name in ("posterior.zarr", "traces.zarr", "flags.zarr"):
        shutil.rmtree(tmp_path / name)
    (tmp_path / "rois.npz").unlink()
    config = json.loads((tmp_path / "config.json").read_text()) | {"rois": None}
    config["movie"]["frame_rate_hz"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    numbers = write_report(tmp_path, movie)
    item = _data(tmp_path)["gallery"][0]
    assert numbers["movie"]["seconds"] is None and numbers["flags"]["strongest"][0]["start_s"] is None
    assert set(item["images"]) == {"raw"} and set(item["trace"]) == {"frames", "z", "raw"}
    assert item["outline"] and item["pixels"] == 21  # a disc of 2.4 pixels


def test_few_frames_are_read(tmp_path):
    """24 events of a long movie: bounded frames each, few at a time, however long they last."""
    make_run(tmp_path, frames=12)
    frames = 5000
    rows = [a_flag(frame_start=i * 100, frame_stop=i * 100 + 3) for i in range(1, 40)]
    rows += [a_flag(**EVERYWHERE, frame_start=0, frame_stop=frames)]
    write_flags(tmp_path, rows, (12, Y, X))
    read = []

    def reader(start, stop):
        read.append(stop - start)
        return np.zeros((stop - start, Y, X), np.uint16)

    movie = Movie((frames, Y, X), np.dtype(np.uint16), None, "m", reader)
    items = gallery(read_sources(tmp_path), movie)
    assert len(items) == MOST and items[-1]["averaged"] == MOST_FRAMES
    assert sum(read) <= 23 * (3 + 2 * 60) + MOST_FRAMES
    assert all(len(item["trace"]["frames"]) <= MOST_FRAMES for item in items)


@pytest.mark.parametrize(
    "changed",
    [
        {"frame_start": 59, "frame_stop": 99},
        {"y": 47, "x": 63},
        {"y": -5, "x": 400},
        {"area": 1e9, "sigma_px": 1e9},
        {"sigma_px": "", "area": ""},
        {"label": 77},
    ],
)
def test_events_at_the_edge(tmp_path, changed):
    movie = make_run(tmp_path)
    write_flags(tmp_path, [a_flag(**changed)], movie.shape)
    sources = read_sources(tmp_path)
    view = read_view(sources.flags.events[0], sources, movie)
    y0, y1, x0, x1 = view.box
    assert 0 <= y0 < y1 <= Y and 0 <= x0 < x1 <= X and view.region.any() and view.during.any()
    assert len(gallery(sources, movie)) == 1


def test_events_outside_the_movie_are_only_in_the_table(tmp_path):
    movie = make_run(tmp_path)
    write_flags(tmp_path, [a_flag(frame_start=T, frame_stop=T + 5)], movie.shape)
    assert write_report(tmp_path, movie)["flags"]["events"] == 1
    assert _data(tmp_path)["gallery"] == [] and len(_data(tmp_path)["flagged"]) == 1


def test_residual_is_in_its_own_standard_deviations():
    rng = np.random.default_rng(0)
    noise, during = rng.normal(0, 7, (400, 24, 24)), np.arange(400) < 4
    smooth = smoother((24, 24), 2.0)
    still = standard_residual(noise, during, smooth)
    assert np.sqrt(np.square(still).mean()) == pytest.approx(1, abs=0.3)
    noise[:4, 8:16, 8:16] += 7
    assert standard_residual(noise, during, smooth)[12, 12] > 10
    assert not standard_residual(np.zeros((5, 4, 4)), np.arange(5) < 2, smoother((4, 4), 1.0)).any()


def test_only_the_strongest_are_in_the_page(tmp_path):
    movie = make_run(tmp_path, frames=12)
    write_flags(tmp_path, many(700, frame_start=2, frame_stop=4), movie.shape)
    numbers, data = write_report(tmp_path, open_movie(movie.read(0, 12))), _data(tmp_path)
    assert numbers["flags"]["events"] == 700 and len(numbers["flags"]["strongest"]) == 20
    assert len(data["flagged"]) == 500 and data["flagged"][0]["score"] == 699
