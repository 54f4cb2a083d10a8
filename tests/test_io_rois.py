"""Regions of interest: every format gives the pixels that were drawn; wrong and malicious files give one line."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import roifile
import tifffile
import zarr

from udenoise.errors import InputError
from udenoise.io import Rois, load_rois, rois_dense, rois_from_masks

DATA = Path(__file__).parents[2] / "shared" / "data"
SHAPE = (20, 30)


@pytest.fixture
def masks():
    """Three regions that do not overlap; rows and columns differ, so that a transposition shows."""
    masks = np.zeros((3, *SHAPE), bool)
    masks[0, 2:5, 20:28] = True
    masks[1, 10:19, 1:4] = True
    masks[2, 0, 0] = masks[2, 19, 29] = True
    return masks


def _labels(masks):
    return (np.arange(1, len(masks) + 1)[:, None, None] * masks).sum(0)


def _save(function):
    def write(folder, masks):
        path = folder / "rois.npy"
        np.save(path, function(masks), allow_pickle=True)
        return path

    return write


def _tiff(function):
    def write(folder, masks):
        tifffile.imwrite(folder / "rois.tif", function(masks), photometric="minisblack")
        return folder / "rois.tif"

    return write


def _npz(folder, masks):
    np.savez(folder / "rois.npz", rois=masks, frame_rate_hz=30.0)
    return folder / "rois.npz"


def _zarr(folder, masks):
    zarr.create_group(folder / "rois.zarr").create_array("a", data=masks.astype(np.float32))
    return f"{folder}/rois.zarr:a"


def _hdf5(folder, masks):
    with h5py.File(folder / "rois.h5", "w") as file:
        file["a"] = masks.astype(np.float32)
    return f"{folder}/rois.h5:/a"


def _neurofinder(folder, masks):
    regions = [{"id": 7 + i, "coordinates": np.argwhere(mask).tolist() * 2} for i, mask in enumerate(masks)]  # twice
    (folder / "regions.json").write_text(json.dumps(regions))
    return folder / "regions.json"


def _stat(masks, **more):
    found = []
    for mask in masks:
        ypix, xpix = np.nonzero(mask)
        stat = {"ypix": ypix, "xpix": xpix, "lam": np.ones(len(ypix), np.float32), "med": [1, 2], "npix": len(ypix)}
        found.append(stat | {"overlap": np.zeros(len(ypix), bool), "footprint": np.float64(1)} | more)
    return np.array(found, object)


def _suite2p(folder, masks):
    np.save(folder / "stat.npy", _stat(masks), allow_pickle=True)
    return folder


def _seg(masks):
    seg = {"masks": _labels(masks).astype(np.uint16), "filename": "x.tif", "flows": [np.zeros(3)], "est_diam": None}
    return np.array(seg, object)


FORMATS = {
    "labels": _save(_labels),
    "labels-tiff": _tiff(lambda m: _labels(m).astype(np.uint16)),
    "cellpose": _save(_seg),
    "weights": _save(lambda m: m * 2.5),
    "weights-tiff": _tiff(lambda m: m.astype(np.float32)),
    "npz": _npz,
    "zarr": _zarr,
    "hdf5": _hdf5,
    "neurofinder": _neurofinder,
    "suite2p": _suite2p,
    "stat": lambda folder, masks: _suite2p(folder, masks) / "stat.npy",
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_regions(kind, tmp_path, masks):
    rois = load_rois(FORMATS[kind](tmp_path, masks), SHAPE)
    np.testing.assert_allclose(rois_dense(rois), masks / masks.sum((1, 2), keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(rois.weight.sum(1), 1, rtol=1e-6)
    assert rois.index.dtype == np.int32 and rois.weight.dtype == np.float32 and rois.shape == SHAPE
    assert len(set(rois.names)) == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_regions_of_another_frame_are_refused(kind, tmp_path, masks):
    with pytest.raises(InputError, match="19 x 30|20 x 30"):
        load_rois(FORMATS[kind](tmp_path, masks), (19, 30))


def test_weights_keep_their_proportions_and_names():
    masks = np.zeros((2, 3, 4))
    masks[0, 1, 2], masks[0, 2, 3], masks[1, 0, 0] = 3, 1, 9
    rois = rois_from_masks(masks, ["cell", "cell"])
    assert isinstance(rois, Rois) and rois.names == ("cell", "cell_2")
    np.testing.assert_allclose(rois_dense(rois)[0], masks[0] / 4)
    np.testing.assert_array_equal(rois.index, [[6, 11], [0, 0]])
    np.testing.assert_array_equal(rois.weight, np.float32([[0.75, 0.25], [1, 0]]))


@pytest.mark.parametrize(
    ("value", "message"),
    [(-1.0, "region 1 has negative or non-f"), (0.0, "region 1 is empty"), (np.nan, "region 1 has negative or non-f")],
)
def test_invalid_weights_are_refused(value, message):
    masks = np.ones((2, 3, 4))
    masks[1] = value
    with pytest.raises(InputError, match=message):
        rois_from_masks(masks)


def test_names_come_from_the_file(tmp_path, masks):
    assert load_rois(_neurofinder(tmp_path, masks), SHAPE).names == ("7", "8", "9")
    np.save(tmp_path / "l.npy", _labels(masks) * 5)
    assert load_rois(tmp_path / "l.npy", SHAPE).names == ("5", "10", "15")


# Suite2p


def test_suite2p_weights_are_lam_over_pixels_that_do_not_overlap(tmp_path):
    stat = {"ypix": np.array([3, 4, 5]), "xpix": np.array([6, 7, 8]), "lam": np.float32([1, 3, 4])}
    overlaps = [np.array([False, False, True]), np.ones(3, bool)]
    stats = np.array([stat | {"overlap": overlap} for overlap in overlaps] + [stat], object)
    np.save(tmp_path / "stat.npy", stats, allow_pickle=True)
    dense = rois_dense(load_rois(tmp_path, SHAPE))
    np.testing.assert_allclose(dense[0, [3, 4, 5], [6, 7, 8]], [0.25, 0.75, 0])
    for other in dense[1:]:  # all overlap; or no word of it
        np.testing.assert_allclose(other[[3, 4, 5], [6, 7, 8]], [0.125, 0.375, 0.5])


def test_suite2p_cells_are_kept_under_their_numbers(tmp_path, masks):
    _suite2p(tmp_path, masks)
    np.save(tmp_path / "iscell.npy", np.array([[1, 0.9], [0, 0.6], [1, 0.2]]))
    assert load_rois(tmp_path, SHAPE).names == ("0", "2")
    np.save(tmp_path / "iscell.npy", np.zeros((3, 2)))
    with pytest.raises(InputError, match="none of 3 regions is a cell"):
        load_rois(tmp_path, SHAPE)
    np.save(tmp_path / "iscell.npy", np.ones((4, 2)))
    with pytest.raises(InputError, match="4, 2.*stat.npy 3 regions"):
        load_rois(tmp_path, SHAPE)


def test_a_suite2p_folder_is_searched_for_its_only_plane(tmp_path, masks):
    for plane in ("plane0", "plane1"):
        (tmp_path / plane).mkdir()
    with pytest.raises(InputError, match="0 Suite2p planes"):
        load_rois(tmp_path, SHAPE)
    _suite2p(tmp_path / "plane1", masks)
    assert len(load_rois(tmp_path, SHAPE).names) == 3
    _suite2p(tmp_path / "plane0", masks)
    with pytest.raises(InputError, match="2 Suite2p planes; pass one of: .*plane0"):
        load_rois(tmp_path, SHAPE)


class _Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_malicious_pickle_runs_nothing(tmp_path):
    trap = tmp_path / "trap"
    for evil in (
        _Evil(os.system, f"touch {trap}"),
        _Evil(eval, f"open({str(trap)!r}, 'w')"),
        _Evil(np.fromfile, str(trap)),
        _Evil(getattr, "", "join"),
        _Evil(np.memmap, str(trap), "u1", "w+", 0, 9),
    ):
        for stat in (np.array([evil], object), np.array([{"ypix": evil, "lam": 1}], object), np.array(evil, object)):
            np.save(tmp_path / "stat.npy", stat, allow_pickle=True)
            with pytest.raises(InputError, match="trust.*asks for"):
                load_rois(tmp_path / "stat.npy", SHAPE)
    assert not trap.exists()


def test_a_pickle_that_forges_arrays_is_refused(tmp_path):
    """numpy's own __setstate__ would take these: objects out of raw bytes, fields outside of the item, and so on."""
    head = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    number = b"cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR"
    forged = {
        "objects": array + b"(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\nI0\nI1\ntRI00\nS'AAAAAAAA'\ntb.",
        "size": array + b"(I1\n(I1000\nt" + number + b"I00\nS'AAAAAAAA'\ntb.",
        "fields": array + b"(I1\n(I1\nt" + number + b"(I3\nS'<'\nN(S'a'\nt(dI64\nI1\nI0\ntbI00\nS'AAAAAAAA'\ntb.",
        "codec": b"c_codecs\nencode\n(S'text'\nS'bz2'\ntR.",
        "state": b"cnumpy.core.multiarray\n_reconstruct\n(dS'x'\nI1\nsb.",
        "name": b"cbuiltins\neval\n(S'1'\ntR.",
    }
    reasons = {
        "objects": "malformed array",
        "size": "cannot reshape",
        "fields": "structured types",
        "codec": "encoding",
        "state": "cannot be changed",
        "name": "builtins.eval",
    }
    for name, data in forged.items():
        (tmp_path / "stat.npy").write_bytes(head + data)
        with pytest.raises(InputError, match=f"trust.*{reasons[name]}"):
            load_rois(tmp_path / "stat.npy", SHAPE)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("module", [b"numpy._core", b"numpy.core"])
def test_pickles_of_all_ages_are_read(tmp_path, masks, protocol, module):
    head = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }".ljust(117) + b"\n"
    data = pickle.dumps(_stat(masks), protocol=protocol)
    if protocol < 4:  # names of later protocols carry their length
        data = data.replace(b"numpy._core", module)
    (tmp_path / "stat.npy").write_bytes(head + data)
    np.testing.assert_array_equal(rois_dense(load_rois(tmp_path, SHAPE)) > 0, masks)


# ImageJ


def _rect(left, top, right, bottom, kind=roifile.ROI_TYPE.RECT, name="box"):
    roi = roifile.ImagejRoi()
    roi.roitype, roi.left, roi.top, roi.right, roi.bottom, roi.name = kind, left, top, right, bottom, name
    return roi


def _pixels(path):
    return np.argwhere(rois_dense(load_rois(path, SHAPE))[0])


def test_a_polygon_holds_the_pixels_whose_centre_it_contains(tmp_path):
    roifile.ImagejRoi.frompoints([[20, 3], [26, 3], [26, 8], [20, 8]]).tofile(tmp_path / "a.roi")
    expected = np.argwhere(np.pad(np.ones((5, 6)), [(3, 12), (20, 4)]))
    np.testing.assert_array_equal(_pixels(tmp_path / "a.roi"), expected)
    corners = np.float32([[1.4, 2.6], [3.6, 2.6], [3.6, 4.4], [1.4, 4.4]])
    roifile.ImagejRoi.frompoints(corners).tofile(tmp_path / "b.roi")
    np.testing.assert_array_equal(_pixels(tmp_path / "b.roi"), [[3, 1], [3, 2], [3, 3]])


def test_a_triangle_is_filled_as_a_brute_force_test_of_every_centre_says(tmp_path):
    a, b, c = np.float32([[2.3, 1.2], [27.1, 8.7], [9.9, 18.4]])
    roifile.ImagejRoi.frompoints([a, b, c]).tofile(tmp_path / "a.roi")

    def side(p, q, x, y):
        return (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) > 0

    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    np.testing.assert_array_equal(
        _pixels(tmp_path / "a.roi"), np.argwhere(side(a, b, x, y) & side(b, c, x, y) & side(c, a, x, y))
    )


def test_rectangles_and_ovals(tmp_path):
    _rect(4, 2, 9, 5).tofile(tmp_path / "a.roi")
    np.testing.assert_array_equal(_pixels(tmp_path / "a.roi"), np.argwhere(np.pad(np.ones((3, 5)), [(2, 15), (4, 21)])))
    _rect(4, 2, 9, 5, roifile.ROI_TYPE.OVAL).tofile(tmp_path / "a.roi")
    expected = np.array([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]])
    np.testing.assert_array_equal(_pixels(tmp_path / "a.roi"), np.argwhere(expected) + (2, 4))


def test_a_hole_in_a_composite_stays_open(tmp_path):
    def loop(low, high):
        return [0, low, low, 1, high, low, 1, high, high, 1, low, high, 4]

    roi = _rect(2, 2, 9, 9)
    roi.multi_coordinates = np.float32(loop(2, 9) + loop(4, 7))
    roi.shape_roi_size = len(roi.multi_coordinates)
    roi.tofile(tmp_path / "a.roi")
    expected = np.pad(np.ones((7, 7)), [(2, 11), (2, 21)])
    expected[4:7, 4:7] = 0
    np.testing.assert_array_equal(_pixels(tmp_path / "a.roi"), np.argwhere(expected))


def test_a_set_of_regions_keeps_its_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "RoiSet.zip", "w") as archive:
        for i, name in enumerate(("soma", "soma", "")):
            archive.writestr(f"../../{i:04}.roi", _rect(i, i, i + 2, i + 3, name=name).tobytes())
        archive.writestr("__MACOSX/._0.roi", b"junk")
        archive.writestr("readme.txt", b"junk")
    before = set(tmp_path.rglob("*"))
    assert load_rois(tmp_path / "RoiSet.zip", SHAPE).names == ("soma", "soma_2", "0002")
    assert set(tmp_path.rglob("*")) == before


def test_regions_without_area_are_named(tmp_path):
    roi = roifile.ImagejRoi.frompoints([[5, 5], [6, 7]], name="electrode")
    for kind, word in [
        (roifile.ROI_TYPE.POINT, "point"),
        (roifile.ROI_TYPE.LINE, "line"),
        (roifile.ROI_TYPE.POLYLINE, "polyline"),
        (roifile.ROI_TYPE.ANGLE, "angle"),
    ]:
        roi.roitype = kind
        roi.tofile(tmp_path / "a.roi")
        with pytest.raises(InputError, match=f"region electrode is a {word} and has no area"):
            load_rois(tmp_path / "a.roi", SHAPE)


@pytest.mark.parametrize("box", [(25, 2, 31, 5), (-1, 2, 3, 5), (3, 18, 6, 21), (300, 2, 310, 9), (3, -1, 6, 4)])
def test_a_region_partly_outside_is_named(tmp_path, box):
    _rect(*box).tofile(tmp_path / "a.roi")
    with pytest.raises(InputError, match="region box reaches .*outside the frame of 20 x 30"):
        load_rois(tmp_path / "a.roi", SHAPE)


def test_a_region_between_pixel_centres_is_empty(tmp_path):
    corners = np.float32([[4.6, 4.6], [5.4, 4.6], [5.4, 5.4]])
    roifile.ImagejRoi.frompoints(corners, name="speck").tofile(tmp_path / "a.roi")
    with pytest.raises(InputError, match="region speck is empty"):
        load_rois(tmp_path / "a.roi", SHAPE)


def test_zip_bombs_and_junk_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.roi", bytes(2**25))
    with pytest.raises(InputError, match="larger than any region"):
        load_rois(tmp_path / "bomb.zip", SHAPE)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("a.txt", b"")
    (tmp_path / "junk.zip").write_bytes(b"PK nothing")
    (tmp_path / "junk.roi").write_bytes(b"Iout" + bytes(range(90)))
    (tmp_path / "short.roi").write_bytes(b"Iout")
    for name in ("none.zip", "junk.zip", "junk.roi", "short.roi"):
        with pytest.raises(InputError) as error:
            load_rois(tmp_path / name, SHAPE)
        assert "\n" not in str(error.value)


# Other bad input


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[{}]",
        "[1]",
        '{"a": 1}',
        '[{"coordinates": []}]',
        '[{"coordinates": 3}]',
        '[{"coordinates": [[1, 2, 3], [4, 5, 6]]}]',
        '[{"coordinates": [[1.5, 2]]}]',
        '[{"coordinates": [[1, NaN]]}]',
        '[{"coordinates": [[1, 30]]}]',
        '[{"coordinates": [[-1, 3]]}]',
        "[" * 100_000,
    ],
)
def test_wrong_neurofinder_files(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError) as error:
        load_rois(tmp_path / "r.json", SHAPE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(SHAPE, int), "holds no regions"),
        (np.full(SHAPE, 0.5), "holds no labels"),
        (-np.ones(SHAPE), "holds no labels"),
        (np.ones((2, 3, *SHAPE)), "4-D"),
        (np.ones(5), "1-D"),
        (np.zeros(SHAPE, complex), "complex"),
        (np.ones((0, *SHAPE)), "holds no regions"),
        (np.ones((30, 20), int), "frames of 30 x 20, but the movie 20 x 30"),
    ],
)
def test_arrays_that_are_no_regions(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message):
        load_rois(tmp_path / "a.npy", SHAPE)


def test_missing_and_unknown_files(tmp_path):
    (tmp_path / "a.docx").touch()
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY no")
    (tmp_path / "a.npz").write_bytes(b"PK no")
    np.savez(tmp_path / "many.npz", a=1, b=2)
    for name, message in [
        ("none.zip", "does not exist"),
        ("a.docx", "no file of regions"),
        ("a.npy", "trust"),
        ("a.npz", "npz"),
        ("many.npz", "holds arrays a, b"),
    ]:
        with pytest.raises(InputError, match=message):
            load_rois(tmp_path / name, SHAPE)


# Real files


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("neurofinder_crop/regions.json", (224, 224), 79),
        ("suite2p_plane0", (512, 512), 30),
        ("rois/di_505811062_roi.zip", (512, 512), 6),
        ("rois/di_Ground_truth_RoiSet.zip", (512, 512), 9),
        ("rois/fissa_20150429.zip", (512, 512), 4),
        ("rois/sima_imageJ_ROIs.zip", (128, 256), 2),
        ("naomi/truth.npz", (136, 136), 52),
    ],
)
def test_real_files(name, shape, count):
    if not (DATA / name).exists():
        pytest.skip("no real data here")
    rois = load_rois(DATA / name, shape)
    assert len(rois.names) == count == len(set(rois.names))
    np.testing.assert_allclose(rois.weight.sum(1), 1, rtol=1e-5)


def test_the_real_suite2p_folder_agrees_with_numpy():
    if not (DATA / "suite2p_plane0").exists():
        pytest.skip("no real data here")
    trusted = np.load(DATA / "suite2p_plane0" / "stat.npy", allow_pickle=True)
    rois = load_rois(DATA / "suite2p_plane0", (512, 512))
    dense = rois_dense(rois)
    for name, image in zip(rois.names, dense, strict=True):
        stat = trusted[int(name)]
        own = ~stat["overlap"] if (~stat["overlap"]).any() else np.ones_like(stat["overlap"])
        lam = stat["lam"][own] / stat["lam"][own].sum()
        np.testing.assert_allclose(image[stat["ypix"][own], stat["xpix"][own]], lam, rtol=1e-5)
        assert (image > 0).sum() == (lam > 0).sum()
