"""What stands in the run folder: the names other tools rely on, spreadsheets, ROIs without pickles."""

import csv
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import zarr
from test_traces import LEVELS, PLAIN, RATE, gaussian

from udenoise.errors import InputError
from udenoise.io import rois_from_masks
from udenoise.results import load_rois_npz, save_rois_npz, save_traces, write_csv
from udenoise.traces import make_traces

N, T, NAMES = 2, 30, ("cell 1", "=1+cmd|' /C calc'!A0")
BANDS = {"raw": "NT", "mean": "NT", "sd": "NT", "lower": "LNT", "upper": "LNT"}
CONTRACT = {
    **BANDS, "nu": "N", "draws": "SNT", "dff/f0": "NT", "dff/f0_shift": "NT", "neuropil/correlation": "NT", "cov": "NM",
    **{f"neuropil/{name}": axes for name, axes in BANDS.items()},
    **{f"dff/{name}": axes for name, axes in BANDS.items()},
}  # fmt: skip
AXES = {"N": "roi", "M": "other_roi", "T": "time", "L": "level", "S": "draw"}
SIZES = {"N": N, "M": N, "T": T, "L": len(LEVELS), "S": PLAIN.draws}


@pytest.fixture(scope="module")
def traces():
    raw, fused = gaussian(N, T)
    raw[3, 0, 1] = np.nan
    return make_traces(raw, fused, replace(PLAIN, save_draws=True), RATE, 0)


@pytest.fixture(scope="module")
def group(traces, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "traces.zarr"
    save_traces(path, traces, gaussian(N, T)[1], NAMES, RATE, covariance=True)
    return zarr.open_group(str(path), mode="r")


@pytest.mark.parametrize("name", CONTRACT)
def test_traces_have_the_names_and_dimensions_of_the_contract(group, name):
    array = group[name]
    assert array.metadata.zarr_format == 3
    assert list(array.metadata.dimension_names) == [AXES[axis] for axis in CONTRACT[name]]
    assert array.shape == tuple(SIZES[axis] for axis in CONTRACT[name])


def test_traces_are_the_numbers(group, traces):
    for prefix, bands in (("", traces.roi), ("neuropil/", traces.neuropil), ("dff/", traces.dff)):
        for field in ("raw", "mean", "sd", "lower", "upper", "simultaneous"):
            np.testing.assert_array_equal(group[prefix + field][:], getattr(bands, field))
    np.testing.assert_allclose(group["dff/f0"][:], traces.f0, rtol=1e-6)
    np.testing.assert_array_equal(group["nu"][:], traces.nu)
    assert group.attrs["levels"] == list(LEVELS) and all(0 < level < 1 for level in group.attrs["levels"])
    assert group.attrs["roi_names"] == list(NAMES) and group.attrs["frame_rate_hz"] == RATE


def test_what_was_not_asked_for_is_not_there(tmp_path):
    raw, fused = gaussian(N, T, ring=False)
    save_traces(tmp_path / "traces.zarr", make_traces(raw, fused, PLAIN, None, 0), fused, NAMES, None)
    group = zarr.open_group(str(tmp_path / "traces.zarr"), mode="r")
    assert "draws" not in group and "cov" not in group and "neuropil" not in group and group.attrs["frame_rate_hz"] is None
    assert np.isnan(group["nu"][:]).all()
    assert [path.name for path in tmp_path.iterdir()] == ["traces.zarr"]


@pytest.fixture(scope="module")
def rows(traces, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "traces.csv"
    write_csv(path, traces, NAMES, RATE)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_spreadsheet_has_a_row_a_frame(rows, traces):
    titles, *values = rows
    assert titles[:4] == ["frame", "time_s", "cell 1_raw", "cell 1_mean"]
    assert len(titles) == len(set(titles)) == 2 + N * 8 and len(values) == T
    assert [row[0] for row in values] == [str(t) for t in range(T)]
    np.testing.assert_allclose([float(row[1]) for row in values], np.arange(T) / RATE, rtol=1e-5)
    column = {title: np.array([float(row[i]) for row in values]) for i, title in enumerate(titles)}
    level = LEVELS.index(0.95)
    np.testing.assert_allclose(column["cell 1_lower95"], traces.roi.lower[level, 0], rtol=1e-5)
    np.testing.assert_allclose(column["cell 1_dff_upper95"], traces.dff.upper[level, 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(column["cell 1_raw"], traces.roi.raw[0], rtol=1e-5)


def test_no_cell_of_the_spreadsheet_is_a_formula(rows):
    assert not [title for title in rows[0] if title[:1] in "=+-@\t\r"]
    assert any("cmd" in title for title in rows[0])


def test_spreadsheet_without_a_frame_rate_has_no_clock(tmp_path, traces):
    write_csv(tmp_path / "traces.csv", traces, NAMES, None)
    assert (tmp_path / "traces.csv").read_text().splitlines()[0].startswith("frame,cell 1_raw")
    assert [path.name for path in tmp_path.iterdir()] == ["traces.csv"]


@pytest.fixture
def rois():
    masks = np.random.default_rng(0).random((3, 9, 12)) * (np.random.default_rng(1).random((3, 9, 12)) < 0.2)
    return rois_from_masks(masks.astype(np.float32), ["a", "b µ", "c"])


def test_rois_come_back_as_they_were(rois, tmp_path):
    save_rois_npz(tmp_path / "rois.npz", rois)
    back = load_rois_npz(tmp_path / "rois.npz")
    assert back.names == rois.names and back.shape == rois.shape
    np.testing.assert_array_equal(back.index, rois.index)
    np.testing.assert_array_equal(back.weight, rois.weight)
    with np.load(tmp_path / "rois.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored.files)


def test_pickled_rois_are_not_opened(tmp_path):
    with (tmp_path / "rois.npz").open("wb") as file:
        np.savez(file, names=np.array([{"a": 1}], object), index=np.zeros((1, 1), np.int32))
    with pytest.raises(InputError, match="cannot be read"):
        load_rois_npz(tmp_path / "rois.npz")


@pytest.mark.parametrize("damage", ["missing", "short", "no zip", "empty", "lacking"])
def test_damaged_rois_are_one_clear_line(rois, tmp_path, damage):
    path = tmp_path / "rois.npz"
    save_rois_npz(path, rois)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "lacking":
        with zipfile.ZipFile(path, "w"):
            pass
    else:
        path.write_bytes({"short": whole[: len(whole) // 2], "no zip": b"hello", "empty": b""}[damage])
    with pytest.raises(InputError) as refused:
        load_rois_npz(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
