"""Stacks written whole or piece by piece: the same file, complete or absent."""

import numpy as np
import pytest
import tifffile

from udenoise.io import open_movie
from udenoise.io.tiff_writer import map_tiff, tiff_file, write_tiff


def frames(dtype=np.uint16):
    return np.random.default_rng(0).integers(0, 60000, (25, 12, 17)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_pieces_make_the_whole(tmp_path, dtype):
    movie = frames(dtype)
    write_tiff(tmp_path / "whole.tif", movie, 15.0)
    with tiff_file(tmp_path / "pieces.tif", movie.shape, dtype, 15.0) as write:
        for start in (20, 0, 13):  # in any order
            write(start, movie[start : {0: 13, 13: 20, 20: 25}[start]])
    for name in ("whole.tif", "pieces.tif"):
        opened = open_movie(tmp_path / name)
        assert opened.frame_rate_hz == pytest.approx(15)
        np.testing.assert_array_equal(opened[:], movie)
        np.testing.assert_array_equal(map_tiff(tmp_path / name), movie)
    assert not list(tmp_path.glob("*.part"))


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
    with pytest.raises(RuntimeError), tiff_file(tmp_path / "movie.tif", (25, 12, 17), np.uint16, None) as write:
        write(0, frames()[:3])
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_large_stacks_are_bigtiff(tmp_path):
    with tiff_file(tmp_path / "large.tif", (70_000, 128, 256), np.uint16, 30.0) as write:  # 4.6 GB, sparse on disk
        write(69_999, np.full((1, 128, 256), 7, np.uint16))
    with tifffile.TiffFile(tmp_path / "large.tif") as file:
        assert file.is_bigtiff
    assert map_tiff(tmp_path / "large.tif")[[0, 69_999], 5, 5].tolist() == [0, 7]
    (tmp_path / "large.tif").unlink()
