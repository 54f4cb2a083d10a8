"""What is written is what is read, by us and by others; and nothing half-written is left."""

import errno
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr

from udenoise.errors import InputError
from udenoise.io import open_movie, store
from udenoise.io.store import create_movie_store, open_movie_store, read_group, read_json, write_group, write_json


@pytest.fixture
def movie():
    return np.random.default_rng(0).normal(100, 9, (70, 37, 150)).astype(np.float32)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 4 * 16 * 37 * 150 * 2)


def _write_all(made, movie):
    for start, stop in made.shards():
        made.write(start, {"mean": movie[start:stop], "sd": movie[start:stop] / 10})


def test_a_streamed_store_is_read_back_by_zarr_and_by_open_movie(tmp_path, movie, small_shards):
    made = create_movie_store(tmp_path / "p.zarr", ["mean", "sd"], movie.shape, 7.0)
    assert made.frames_per_shard == 32 and list(made.shards()) == [(0, 32), (32, 64), (64, 70)]
    _write_all(made, movie)
    array = zarr.open(tmp_path / "p.zarr")["mean"]["0"]
    np.testing.assert_array_equal(array[:], movie)
    assert array.dtype == np.float32 and array.metadata.zarr_format == 3
    assert array.metadata.dimension_names == ("t", "y", "x")
    read = open_movie(f"{tmp_path}/p.zarr:sd")
    assert read.frame_rate_hz == pytest.approx(7) and read.shape == movie.shape
    np.testing.assert_array_equal(read.read(30, 70), movie[30:70] / 10)
    np.testing.assert_array_equal(made.read("mean", 5, 40), movie[5:40])


def test_the_metadata_are_those_of_ome_zarr_05(tmp_path, movie):
    create_movie_store(tmp_path / "p.zarr", ["mean"], movie.shape, 4.0, {"unit": "counts"})
    assert json.loads((tmp_path / "p.zarr/zarr.json").read_text())["attributes"]["unit"] == "counts"
    image = json.loads((tmp_path / "p.zarr/mean/zarr.json").read_text())
    assert image["zarr_format"] == 3 and image["node_type"] == "group"
    ome = image["attributes"]["ome"]
    assert ome["version"] == "0.5"
    scales = ome["multiscales"][0]
    assert scales["axes"] == [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "y", "type": "space"},
        {"name": "x", "type": "space"},
    ]
    assert scales["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.25, 1.0, 1.0]}]}
    ]


def test_without_a_frame_rate_time_has_no_unit(tmp_path, movie):
    create_movie_store(tmp_path / "p.zarr", ["mean"], movie.shape, None)
    scales = zarr.open(tmp_path / "p.zarr")["mean"].attrs["ome"]["multiscales"][0]
    assert "unit" not in scales["axes"][0]
    assert open_movie(f"{tmp_path}/p.zarr:mean").frame_rate_hz is None


@pytest.mark.parametrize("shape", [(10, 1, 1), (16, 128, 128), (17, 129, 300), (5000, 512, 512), (600, 2000, 2000)])
def test_shards_are_whole_frames_of_bounded_size(tmp_path, shape):
    made = create_movie_store(tmp_path / "p.zarr", ["mean"], shape, 1.0)
    array = zarr.open(tmp_path / "p.zarr")["mean"]["0"]
    assert array.shards[0] == made.frames_per_shard
    assert all(
        shard >= size and shard < size + chunk
        for shard, size, chunk in zip(array.shards[1:], shape[1:], array.chunks[1:], strict=True)
    )
    assert all(chunk <= most for chunk, most in zip(array.chunks, (16, 128, 128), strict=True))
    assert np.prod(array.shards) * 4 <= max(2**26, 16 * 4 * np.prod(array.shards[1:]))


def test_a_shard_is_one_file_and_is_written_once(tmp_path, movie, small_shards):
    made = create_movie_store(tmp_path / "p.zarr", ["mean", "sd"], movie.shape, None)
    made.write(32, {"mean": movie[32:64], "sd": movie[32:64]})
    files = [p for p in (tmp_path / "p.zarr/mean/0").rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert len(files) == 1
    before = files[0].stat().st_mtime_ns
    made.write(64, {"mean": movie[64:], "sd": movie[64:]})
    assert files[0].stat().st_mtime_ns == before


def test_writing_resumes_and_what_is_missing_is_seen(tmp_path, movie, small_shards):
    made = create_movie_store(tmp_path / "p.zarr", ["mean", "sd"], movie.shape, None)
    made.write(0, {"mean": movie[:32], "sd": movie[:32]})
    again = open_movie_store(tmp_path / "p.zarr")
    assert again == made
    with pytest.raises(InputError, match="frame 32 holds NaN"):
        open_movie(f"{tmp_path}/p.zarr:mean").read(30, 40)
    for start, stop in list(again.shards())[1:]:
        again.write(start, {"mean": movie[start:stop], "sd": movie[start:stop]})
    np.testing.assert_array_equal(open_movie(f"{tmp_path}/p.zarr:mean").read(0, 70), movie)


def test_only_whole_shards_and_all_images_are_written(tmp_path, movie, small_shards):
    made = create_movie_store(tmp_path / "p.zarr", ["mean", "sd"], movie.shape, None)
    for start, stop in [(0, 31), (1, 32), (16, 48), (64, 69)]:
        with pytest.raises(ValueError, match="no whole shards"):
            made.write(start, {"mean": movie[start:stop], "sd": movie[start:stop]})
    with pytest.raises(ValueError, match="needed"):
        made.write(0, {"mean": movie[:32]})


def test_a_store_is_not_overwritten(tmp_path, movie):
    create_movie_store(tmp_path / "p.zarr", ["mean"], movie.shape, None)
    with pytest.raises(InputError, match="exists already; pass --overwrite"):
        create_movie_store(tmp_path / "p.zarr", ["mean"], movie.shape, None)
    for wrong in (tmp_path / "none.zarr", tmp_path):
        with pytest.raises(InputError, match="no store"):
            open_movie_store(wrong)


# Groups


def test_a_group_comes_back_with_names_and_dimensions(tmp_path):
    arrays = {
        "raw": (np.arange(6.0).reshape(2, 3), ("roi", "time")),
        "nu": (np.float32([1, 2]), ("roi",)),
        "dff/mean": (np.ones((2, 3), np.float32), ("roi", "time")),
        "lower": (np.zeros((4, 2, 3)).transpose(0, 2, 1), ("level", "time", "roi")),
        "count": (np.array(3), ()),
    }
    write_group(tmp_path / "t.zarr", arrays, {"levels": (0.5, 0.9), "names": ["a", "b"], "gain": np.float32(np.nan)})
    read = read_group(tmp_path / "t.zarr")
    assert set(read.arrays) == set(arrays)
    for name, (array, dimensions) in arrays.items():
        np.testing.assert_array_equal(read.arrays[name], array)
        assert read.arrays[name].dtype == array.dtype
        assert (zarr.open(tmp_path / "t.zarr")[name].metadata.dimension_names or ()) == dimensions
    assert read.attributes == {"levels": [0.5, 0.9], "names": ["a", "b"], "gain": None}
    assert [p.name for p in tmp_path.iterdir()] == ["t.zarr"]


def test_a_group_replaces_a_group_and_nothing_else(tmp_path):
    write_group(tmp_path / "t.zarr", {"a": (np.zeros(2), ("x",))})
    write_group(tmp_path / "t.zarr", {"b": (np.ones(2), ("x",))})
    assert set(read_group(tmp_path / "t.zarr").arrays) == {"b"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.doc").touch()
    with pytest.raises(InputError, match="no zarr group"):
        write_group(tmp_path / "mine", {"a": (np.zeros(2), ("x",))})
    assert (tmp_path / "mine/thesis.doc").exists()


@pytest.mark.parametrize("existed", [False, True])
def test_a_failed_group_leaves_what_was_there(tmp_path, existed):
    if existed:
        write_group(tmp_path / "t.zarr", {"a": (np.arange(2), ("x",))})
    with pytest.raises(ValueError):
        write_group(tmp_path / "t.zarr", {"a": (np.zeros(2), ("x",)), "b": (np.zeros(2), ("x", "too many"))})
    assert [p.name for p in tmp_path.iterdir()] == ["t.zarr"] * existed
    if existed:
        np.testing.assert_array_equal(read_group(tmp_path / "t.zarr").arrays["a"], [0, 1])


def test_missing_and_damaged_groups(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_group(tmp_path / "none.zarr")
    write_group(tmp_path / "t.zarr", {"a": (np.zeros(2), ("x",))})
    (tmp_path / "t.zarr/a/zarr.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_group(tmp_path / "t.zarr")


# A full disk


@pytest.fixture
def full_disk(monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill():
        monkeypatch.setattr("zarr.storage._local._put", fail)
        monkeypatch.setattr("os.fsync", fail)

    return fill


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, movie, full_disk):
    made = create_movie_store(tmp_path / "p.zarr", ["mean"], movie.shape, None)
    write_json(tmp_path / "a.json", 1)
    full_disk()
    with pytest.raises(InputError, match="disk is full: .*p.zarr"):
        made.write(0, {"mean": movie})
    with pytest.raises(InputError, match="disk is full: .*q.zarr"):
        create_movie_store(tmp_path / "q.zarr", ["mean"], movie.shape, None)
    with pytest.raises(InputError, match="disk is full: .*t.zarr"):
        write_group(tmp_path / "t.zarr", {"a": (np.zeros(2), ("x",))})
    with pytest.raises(InputError, match="disk is full: .*a.json"):
        write_json(tmp_path / "a.json", 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "p.zarr"]
    assert read_json(tmp_path / "a.json") == 1


# JSON


@dataclass(frozen=True)
class _Settings:
    steps: int = 3
    rate: float = 0.1


def test_json_takes_numpy_settings_and_no_nan(tmp_path):
    data = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": float("nan"),
        "d": (1, np.inf),
        "e": _Settings(),
        "f": Path("x"),
        "g": None,
        "h": True,
        "i": np.bool_(False),
        "µ": "ΔF/F",
        3: [np.array([np.nan, 1.0])],
    }
    write_json(tmp_path / "a.json", data)
    assert read_json(tmp_path / "a.json") == {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": None,
        "d": [1, None],
        "e": {"steps": 3, "rate": 0.1},
        "f": "x",
        "g": None,
        "h": True,
        "i": False,
        "µ": "ΔF/F",
        "3": [[None, 1.0]],
    }
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_floats_survive_json_exactly(tmp_path):
    values = np.random.default_rng(0).normal(size=100)
    write_json(tmp_path / "a.json", values)
    np.testing.assert_array_equal(read_json(tmp_path / "a.json"), values)


def test_failed_json_leaves_what_was_there(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert read_json(tmp_path / "a.json") == [1] and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "b.json").write_text("{")
    for name in ("b.json", "none.json"):
        with pytest.raises(InputError, match="cannot be read as JSON"):
            read_json(tmp_path / name)
