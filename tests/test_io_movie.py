"""Contract: every reader through the same list. Then what is special to a format, and every bad input's one line."""

import json
import struct
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from udenoise.config import MovieConfig
from udenoise.errors import InputError
from udenoise.io import open_movie
from udenoise.io.movie import EXACT

DATA = Path(__file__).parents[2] / "shared" / "data"
T, Y, X = 24, 10, 7


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 60000, (T, Y, X)).astype(np.uint16)


def _tiff(**options):
    def write(folder, frames):
        tifffile.imwrite(folder / "movie.tif", frames, photometric="minisblack", **options)
        return folder / "movie.tif"

    return write


def _pages(folder, frames):
    """Plain pages, one call each, as acquisition programs write them."""
    with tifffile.TiffWriter(folder / "movie.tif") as tif:
        for frame in frames:
            tif.write(frame, contiguous=False, metadata=None)
    return folder / "movie.tif"


def _shaped_pages(folder, frames):
    """Frame by frame through tifffile: every page claims to be a series of its own."""
    with tifffile.TiffWriter(folder / "movie.tif") as tif:
        for frame in frames:
            tif.write(frame)
    return folder / "movie.tif"


def _imagej_large(folder, frames):
    """As ImageJ saves over 4 GB: one directory, then all frames in a row, big-endian."""
    _write_imagej_large(folder / "movie.tif", frames)
    return folder / "movie.tif"


def _write_imagej_large(path, frames, images=None):
    n, height, width = frames.shape
    text = f"ImageJ=1.53t\nimages={images or n}\nframes={images or n}\nfinterval=0.05\nloop=false\n\0".encode()
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 16 << 16),
        (259, 3, 1, 1 << 16),
        (262, 3, 1, 1 << 16),
        (270, 2, len(text), 200),
        (273, 4, 1, 200 + len(text)),
        (277, 3, 1, 1 << 16),
        (278, 4, 1, height),
        (279, 4, 1, 2 * height * width),
    ]
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", *tag) for tag in tags) + b"\0\0\0\0"
    head = b"MM" + struct.pack(">HI", 42, 8) + directory
    path.write_bytes(head.ljust(200, b"\0") + text + frames.astype(">u2").tobytes())


def _files(pages):
    """A folder of files whose names sort wrongly as text."""

    def write(folder, frames):
        (folder / "movie").mkdir()
        for i, start in enumerate(range(0, len(frames), pages)):
            tifffile.imwrite(
                folder / "movie" / f"f{i + 1}.tif",
                frames[start : start + pages],
                photometric="minisblack",
                metadata=None,
            )
        return folder / "movie"

    return write


def _glob(folder, frames):
    return str(_files(6)(folder, frames) / "f*.tif")


def _ome_files(folder, frames):
    """One OME-TIFF over two files."""
    paths = [folder / "a.ome.tif", folder / "b.ome.tif"]
    half = len(frames) // 2
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="{t % half}" PlaneCount="1"><UUID FileName="{paths[t // half].name}">'
        f"urn:uuid:{t // half}</UUID></TiffData>"
        for t in range(len(frames))
    )
    for i, path in enumerate(paths):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{i}"><Image>'
            f'<Pixels DimensionOrder="XYCZT" Type="uint16" SizeX="{X}" SizeY="{Y}" SizeC="1" SizeZ="1" '
            f'SizeT="{len(frames)}" TimeIncrement="50" TimeIncrementUnit="ms">'
            f"{data}</Pixels></Image></OME>"
        )
        tifffile.imwrite(path, frames[i * half : (i + 1) * half], description=xml, metadata=None)
    return paths[0]


def _hdf5(folder, frames):
    with h5py.File(folder / "movie.h5", "w") as file:
        file.create_dataset("imaging/data", data=frames, chunks=(5, 4, frames.shape[2]), compression="gzip")
    return f"{folder / 'movie.h5'}:/imaging/data"


def _matlab(folder, frames):
    with h5py.File(folder / "movie.mat", "w") as file:
        file["Y"] = frames.transpose(0, 2, 1)  # MATLAB's Y x X x T lies reversed in the file
        file["Y"].attrs["MATLAB_class"] = np.bytes_("uint16")
    return folder / "movie.mat"


def _zarr(version):
    def write(folder, frames):
        group = zarr.create_group(folder / "movie.zarr", zarr_format=version)
        group.create_array("raw/data", data=frames, chunks=(5, 4, frames.shape[2]))
        return f"{folder / 'movie.zarr'}:raw/data"

    return write


def _ome_zarr(version):
    def write(folder, frames):
        axes = [
            {"name": "t", "type": "time", "unit": "millisecond"},
            {"name": "c", "type": "channel"},
            {"name": "z", "type": "space"},
            {"name": "y", "type": "space"},
            {"name": "x", "type": "space"},
        ]
        levels = [
            {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [50, 1, 1, 1, 1]}]}
            for i in range(2)
        ]
        image = {"multiscales": [{"axes": axes, "datasets": levels, "version": version}]}
        group = zarr.create_group(
            folder / "movie.zarr",
            zarr_format=3 if version == "0.5" else 2,
            attributes={"ome": image} if version == "0.5" else image,
        )
        group.create_array("0", data=frames[:, None, None], chunks=(5, 1, 1, *frames.shape[1:]))
        group.create_array("1", data=frames[:, None, None, ::2, ::2])
        return folder / "movie.zarr"

    return write


def _npy(folder, frames):
    np.save(folder / "movie.npy", frames)
    return folder / "movie.npy"


def _list(folder, frames):
    np.save(folder / "one.npy", frames[:11])
    np.save(folder / "two.npy", frames[11:])
    return [folder / "one.npy", str(folder / "two.npy")]


READERS = {
    "tiff": _tiff(),
    "tiff-plain": _tiff(metadata=None),
    "bigtiff": _tiff(bigtiff=True, metadata=None),
    "tiff-big-endian": _tiff(byteorder=">"),
    "tiff-tiled": _tiff(tile=(16, 16), metadata=None),
    "tiff-lzw": _tiff(compression="lzw", predictor=True),
    "tiff-deflate": _tiff(compression="zlib"),
    "tiff-zstd": _tiff(compression="zstd", metadata=None),
    "tiff-jpegxl": _tiff(compression="jpegxl"),
    "tiff-one-directory": _tiff(truncate=True),
    "pages": _pages,
    "shaped-pages": _shaped_pages,
    "imagej": _tiff(imagej=True, metadata={"axes": "TYX"}),
    "imagej-large": _imagej_large,
    "ome": _tiff(ome=True, metadata={"axes": "TYX"}),
    "ome-files": _ome_files,
    "folder": _files(5),
    "folder-single-pages": _files(1),
    "glob": _glob,
    "list": _list,
    "hdf5": _hdf5,
    "matlab": _matlab,
    "zarr2": _zarr(2),
    "zarr3": _zarr(3),
    "ome-zarr-0.4": _ome_zarr("0.4"),
    "ome-zarr-0.5": _ome_zarr("0.5"),
    "npy": _npy,
    "array": lambda folder, frames: frames,
}


@pytest.mark.parametrize("reader", READERS)
class TestContract:
    def test_every_range_gives_the_frames_that_were_written(self, reader, tmp_path, frames):
        movie = open_movie(READERS[reader](tmp_path, frames))
        assert movie.shape == (T, Y, X) and len(movie) == T and movie.dtype == np.uint16
        for start, stop in [(0, T), (0, 1), (T - 1, T), (3, 17), (9, 12), (5, 5)]:
            read = movie.read(start, stop)
            assert read.dtype == np.uint16 and read.dtype.isnative
            np.testing.assert_array_equal(read, frames[start:stop])
        np.testing.assert_array_equal(movie[7:12], frames[7:12])

    def test_chunks_are_the_movie(self, reader, tmp_path, frames):
        movie = open_movie(READERS[reader](tmp_path, frames))
        starts, parts = zip(*movie.chunks(7), strict=True)
        assert starts == (0, 7, 14, 21)
        np.testing.assert_array_equal(np.concatenate(parts), frames)

    def test_a_range_outside_is_refused(self, reader, tmp_path, frames):
        movie = open_movie(READERS[reader](tmp_path, frames))
        for start, stop in [(-1, 3), (0, T + 1), (5, 4)]:
            with pytest.raises(IndexError):
                movie.read(start, stop)
        with pytest.raises(TypeError):
            movie[::2]

    def test_the_users_frame_rate_wins(self, reader, tmp_path, frames):
        assert open_movie(READERS[reader](tmp_path, frames), MovieConfig(frame_rate_hz=3.5)).frame_rate_hz == 3.5


@pytest.mark.parametrize("reader", [r for r in READERS if r not in ("array", "folder-single-pages", "ome-files")])
def test_a_reader_holds_only_the_frames_it_was_asked_for(reader, tmp_path):
    long = np.random.default_rng(0).integers(0, 4000, (240, 96, 128)).astype(np.uint16)  # 5.9 MB
    source = READERS[reader](tmp_path, long) if reader != "list" else _npy(tmp_path, long)
    open_movie(source).read(0, 2)  # imports are not counted
    tracemalloc.start()
    movie = open_movie(source)
    movie.read(200, 204)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < long.nbytes / 3


def test_only_the_pages_asked_for_are_decoded(tmp_path, frames, monkeypatch):
    movie = open_movie(_tiff(compression="zlib", metadata=None)(tmp_path, frames))
    decoded, decode = [], tifffile.TiffPage.asarray
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: decoded.append(page.index) or decode(page))
    movie.read(11, 14)
    assert decoded == [11, 12, 13]


def test_fifty_thousand_pages_open_fast(tmp_path):
    tifffile.imwrite(tmp_path / "long.tif", np.zeros((50_000, 2, 2), np.uint16), metadata=None)
    begin = time.perf_counter()
    movie = open_movie(tmp_path / "long.tif")
    assert len(movie) == 50_000 and movie.read(49_998, 50_000).shape == (2, 2, 2)
    assert time.perf_counter() - begin < 5


# Axes, channels, planes


def _hyperstack(folder, axes="TZCYX", **options):
    shape = {"T": 12, "Z": 3, "C": 2, "Y": 5, "X": 6}
    stack = np.random.default_rng(1).integers(0, 999, [shape[a] for a in axes]).astype(np.uint16)
    tifffile.imwrite(folder / "stack.tif", stack, metadata={"axes": axes}, **options)
    return folder / "stack.tif", stack


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {}])
def test_channel_and_plane_are_chosen_never_guessed(tmp_path, options):
    path, stack = _hyperstack(tmp_path, **options)
    with pytest.raises(InputError, match=r"movie is 5-D \(T 3 2 Y X\); pass one channel and one plane: --chan"):
        open_movie(path)
    with pytest.raises(InputError, match="pass one plane: --plane 0"):
        open_movie(path, MovieConfig(channel=0))
    movie = open_movie(path, MovieConfig(channel=1, plane=2))
    np.testing.assert_array_equal(movie.read(2, 9), stack[2:9, 2, 1])
    with pytest.raises(InputError, match="--channel 2 does not exist.*has 2 channels"):
        open_movie(path, MovieConfig(channel=2, plane=0))
    with pytest.raises(InputError, match="--plane -1 does not exist"):
        open_movie(path, MovieConfig(channel=0, plane=-1))


def test_the_message_of_the_readme(tmp_path):
    path, _ = _hyperstack(tmp_path, "TCYX", imagej=True)
    with pytest.raises(InputError, match=r"^movie is 4-D \(T 2 Y X\); pass one channel: --channel 0$"):
        open_movie(path)


@pytest.mark.parametrize("axes", ["QYX", "IYX", "ZYX"])
def test_the_one_axis_besides_rows_and_columns_is_time(tmp_path, frames, axes):
    tifffile.imwrite(tmp_path / "movie.tif", frames, metadata={"axes": axes})
    np.testing.assert_array_equal(open_movie(tmp_path / "movie.tif").read(0, T), frames)


def test_an_imagej_stack_of_slices_is_time_unless_a_plane_is_asked_for(tmp_path, frames):
    tifffile.imwrite(tmp_path / "movie.tif", frames, imagej=True, metadata={"axes": "ZYX"})
    assert len(open_movie(tmp_path / "movie.tif")) == T
    with pytest.raises(InputError, match="1 frame"):
        open_movie(tmp_path / "movie.tif", MovieConfig(plane=0))


def test_a_channel_axis_is_not_time(tmp_path, frames):
    tifffile.imwrite(tmp_path / "movie.tif", frames, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(InputError, match="no time axis.*--axes TYX"):
        open_movie(tmp_path / "movie.tif")
    assert len(open_movie(tmp_path / "movie.tif", MovieConfig(axes="TYX"))) == T


@pytest.mark.parametrize("axes", ["TCYX", "YXTC", "CXYT", "tcyx"])
def test_the_users_axes_are_obeyed(tmp_path, axes):
    stored = np.random.default_rng(2).random((11, 12, 13, 14)).astype(np.float32)
    np.save(tmp_path / "movie.npy", stored)
    with pytest.raises(InputError, match="4-D.*--axes"):
        open_movie(tmp_path / "movie.npy")
    movie = open_movie(tmp_path / "movie.npy", MovieConfig(axes=axes, channel=3))
    expected = np.einsum(f"{axes.lower()}->tcyx", stored)[:, 3]
    np.testing.assert_array_equal(movie.read(1, 9), expected[1:9])


def test_axes_of_pages_can_be_turned(tmp_path, frames):
    tifffile.imwrite(tmp_path / "movie.tif", frames, metadata=None)
    movie = open_movie(tmp_path / "movie.tif", MovieConfig(axes="TXY"))
    np.testing.assert_array_equal(movie.read(4, 9), frames[4:9].transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MovieConfig(axes="TCYX", channel=0), "--axes TCYX names 4 axes, but .* has 3"),
        (MovieConfig(axes="TY"), "--axes TY"),
        (MovieConfig(axes="TYXQ"), "not understood"),
        (MovieConfig(axes="TTYX"), "not understood"),
        (MovieConfig(channel=0), "no channel axis"),
        (MovieConfig(plane=1), "no plane axis"),
        (MovieConfig(frame_rate_hz=0.0), "--frame-rate-hz 0.0"),
        (MovieConfig(frame_rate_hz=-3.0), "is not a frame rate"),
        (MovieConfig(frame_rate_hz=float("nan")), "is not a frame rate"),
    ],
)
def test_wrong_options_are_refused(tmp_path, frames, config, message):
    with pytest.raises(InputError, match=message):
        open_movie(_npy(tmp_path, frames), config)


# Frame rates


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({"imagej": True, "metadata": {"axes": "TYX", "finterval": 0.1}}, 10),
        ({"imagej": True, "metadata": {"axes": "TYX", "finterval": 50, "tunit": "msec"}}, 20),
        ({"imagej": True, "metadata": {"axes": "TYX", "fps": 7.5}}, 7.5),
        ({"imagej": True, "metadata": {"axes": "TYX", "fps": float("nan")}}, None),
        ({"ome": True, "metadata": {"axes": "TYX", "TimeIncrement": 0.25}}, 4),
        ({"ome": True, "metadata": {"axes": "TYX", "TimeIncrement": 2.0, "TimeIncrementUnit": "ms"}}, 500),
        ({"ome": True, "metadata": {"axes": "TYX", "Plane": {"DeltaT": [0.5 * t for t in range(T)]}}}, 2),
        ({"metadata": None}, None),
    ],
)
def test_frame_rates_that_tiffs_state(tmp_path, frames, options, rate):
    assert open_movie(_tiff(**options)(tmp_path, frames)).frame_rate_hz == (rate and pytest.approx(rate))


def test_frame_rates_of_other_files(tmp_path, frames):
    assert open_movie(_imagej_large(tmp_path, frames)).frame_rate_hz == pytest.approx(20)
    assert open_movie(_ome_files(tmp_path, frames)).frame_rate_hz == pytest.approx(20)
    assert open_movie(_ome_zarr("0.5")(tmp_path, frames)).frame_rate_hz == pytest.approx(20)
    with h5py.File(tmp_path / "movie.nwb", "w") as file:
        file["acquisition/TwoPhotonSeries/data"] = frames
        file["acquisition/TwoPhotonSeries/starting_time"] = 0.0
        file["acquisition/TwoPhotonSeries/starting_time"].attrs["rate"] = 30.0
    assert open_movie(tmp_path / "movie.nwb").frame_rate_hz == 30


# ScanImage


def _scanimage(path, pages, **settings):
    text = "\n".join(f"SI.{name} = {value}" for name, value in settings.items())
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for page in pages:
            tif.write(page, contiguous=False, metadata=None, software=text)


def test_scanimage_channels_are_taken_apart(tmp_path):
    stored = np.random.default_rng(3).integers(-50, 999, (12, 2, Y, X)).astype(np.int16)
    _scanimage(
        tmp_path / "m.tif",
        stored.reshape(-1, Y, X),
        **{
            "hChannels.channelSave": "[1;3]",
            "hRoiManager.scanFrameRate": 30.03,
            "hStackManager.numSlices": 1,
            "hStackManager.framesPerSlice": 12,
            "hFastZ.enable": "false",
        },
    )
    with pytest.raises(InputError, match=r"\(T 2 Y X\); pass one channel"):
        open_movie(tmp_path / "m.tif")
    movie = open_movie(tmp_path / "m.tif", MovieConfig(channel=1))
    assert movie.frame_rate_hz == pytest.approx(30.03)
    np.testing.assert_array_equal(movie.read(0, 12), stored[:, 1])


def test_scanimage_volumes_are_taken_apart_and_an_unfinished_one_left_out(tmp_path):
    stored = np.random.default_rng(4).integers(0, 999, (11, 4, 1, Y, X)).astype(np.int16)  # 3 planes, 1 flyback
    _scanimage(
        tmp_path / "m.tif",
        stored.reshape(-1, Y, X)[:-2],
        **{
            "hChannels.channelSave": "1",
            "hRoiManager.scanFrameRate": 40,
            "hRoiManager.scanVolumeRate": 10,
            "hStackManager.numSlices": 3,
            "hFastZ.numFramesPerVolume": 4,
            "hFastZ.enable": "true",
        },
    )
    movie = open_movie(tmp_path / "m.tif", MovieConfig(plane=2))
    assert movie.frame_rate_hz == 10
    np.testing.assert_array_equal(movie.read(0, 10), stored[:10, 2, 0])


def test_scanimage_of_one_channel_and_plane_needs_no_options(tmp_path, frames):
    _scanimage(tmp_path / "m.tif", frames, **{"hChannels.channelSave": "1", "hRoiManager.scanFrameRate": 15.5})
    movie = open_movie(tmp_path / "m.tif")
    assert movie.shape == frames.shape and movie.frame_rate_hz == 15.5


# Damaged, empty and unsuitable files


@pytest.mark.parametrize("writer", ["tiff-plain", "pages", "imagej", "tiff-deflate", "ome", "bigtiff", "imagej-large"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_a_truncated_tiff_says_so_in_one_line(tmp_path, frames, writer, share):
    path = READERS[writer](tmp_path, frames)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match="truncated|no TIFF file") as error:
        open_movie(path).read(0, T)
    assert "\n" not in str(error.value)


def test_one_directory_with_fewer_frames_than_announced(tmp_path, frames):
    _write_imagej_large(tmp_path / "m.tif", frames, images=T + 5)
    with pytest.raises(InputError, match=f"truncated: it says {T + 5} frames and holds {T}"):
        open_movie(tmp_path / "m.tif")


def test_a_hyperstack_whose_pages_do_not_fit_is_not_guessed(tmp_path, frames):
    tifffile.imwrite(
        tmp_path / "m.tif", frames, metadata=None, description=json.dumps({"shape": [13, 2, Y, X], "axes": "TCYX"})
    )
    with pytest.raises(InputError, match="announces T 13 C 2 but holds 24 pages"):
        open_movie(tmp_path / "m.tif")


@pytest.mark.parametrize("writer", ["hdf5", "zarr3", "npy"])
def test_other_damaged_files_say_so(tmp_path, frames, writer):
    READERS[writer](tmp_path, frames)
    damaged = max((p for p in tmp_path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(InputError, match="truncated|damaged") as error:
        open_movie(next(tmp_path.iterdir()), MovieConfig()).read(0, T)
    assert "\n" not in str(error.value)


def test_missing_empty_and_unknown(tmp_path, frames):
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.avi").write_bytes(b"RIFF" * 9)
    (tmp_path / "text.tif").write_bytes(b"this is no TIFF at all")
    (tmp_path / "zero.tif").touch()
    for source, message in [
        ("none.tif", "does not exist"),
        ("none.h5:/data", "none.h5 does not exist"),
        ("empty", "no movie files"),
        ("*.btf", "no movie files"),
        ("m.avi", "not a movie that"),
        ("text.tif", "no TIFF file"),
        ("zero.tif", "no TIFF file"),
    ]:
        with pytest.raises(InputError, match=message):
            open_movie(str(tmp_path / source))
    with pytest.raises(InputError, match="no movie files"):
        open_movie([])


@pytest.mark.parametrize("n", [1, 2, 9])
def test_too_few_frames(tmp_path, frames, n):
    with pytest.raises(InputError, match=f"movie has {n} frames?; udenoise needs at least 10"):
        open_movie(_npy(tmp_path, frames[:n]))


def test_one_page_is_one_frame(tmp_path, frames):
    tifffile.imwrite(tmp_path / "m.tif", frames[0], metadata=None)
    with pytest.raises(InputError, match="movie has 1 frame"):
        open_movie(tmp_path / "m.tif")


def test_colour_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((T, Y, X, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="colour frames"):
        open_movie(tmp_path / "m.tif")


def test_files_of_one_movie_must_be_alike(tmp_path, frames):
    folder = _files(5)(tmp_path, frames)
    tifffile.imwrite(folder / "f3.tif", frames[:5, :8], photometric="minisblack", metadata=None)
    with pytest.raises(InputError, match=r"f3.tif holds frames of 8 x 7 uint16, but .*f1.tif holds frames of 10 x 7"):
        open_movie(folder)


def test_pages_of_one_file_must_be_alike(tmp_path, frames):
    with tifffile.TiffWriter(tmp_path / "m.tif") as tif:
        for i, frame in enumerate(frames):
            tif.write(frame[:5] if i == 6 else frame, contiguous=False, metadata=None)
    with pytest.raises(InputError, match="frame 6 is"):
        open_movie(tmp_path / "m.tif").read(0, T)


def test_a_lost_file_of_an_ome_tiff_is_named(tmp_path, frames):
    first = _ome_files(tmp_path, frames)
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(InputError, match=f"lacks {T // 2} of its {T} frames"):
        open_movie(first)


def test_a_folder_with_all_files_of_an_ome_tiff_holds_each_frame_once(tmp_path, frames):
    _ome_files(tmp_path, frames)
    np.testing.assert_array_equal(open_movie(tmp_path).read(0, T), frames)


def test_several_datasets_are_listed(tmp_path, frames):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["red"], file["green"], file["trace"] = frames, frames, frames[:, 0, 0]
    with pytest.raises(InputError, match=r"2 datasets.*m.h5:/green \(24 x 10 x 7\), .*m.h5:/red"):
        open_movie(tmp_path / "m.h5")
    for wrong in ("blue", "/trace/x"):
        with pytest.raises(InputError, match="holds no dataset"):
            open_movie(f"{tmp_path}/m.h5:{wrong}")
    assert len(open_movie(f"{tmp_path}/m.h5:red")) == T


def test_several_zarr_arrays_are_listed(tmp_path, frames):
    group = zarr.create_group(tmp_path / "m.zarr")
    group.create_array("red", data=frames)
    group.create_array("green", data=frames)
    with pytest.raises(InputError, match="holds 2 movies; pass one of: .*m.zarr:green"):
        open_movie(tmp_path / "m.zarr")
    with pytest.raises(InputError, match="holds no blue"):
        open_movie(f"{tmp_path}/m.zarr:blue")


def test_files_are_not_trusted(tmp_path, frames):
    np.save(tmp_path / "m.npy", np.array([{"a": 1}] * 12, object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        open_movie(tmp_path / "m.npy")
    group = zarr.create_group(
        tmp_path / "a.zarr",
        zarr_format=2,
        attributes={"multiscales": [{"axes": ["t", "y", "x"], "datasets": [{"path": "../secret.zarr"}]}]},
    )
    zarr.create_array(tmp_path / "secret.zarr", data=frames)
    assert group.attrs
    for source in ("a.zarr", "a.zarr:../secret.zarr"):
        with pytest.raises(InputError, match="outside itself|out of the store"):
            open_movie(f"{tmp_path}/{source}")


# Values


def test_what_float32_cannot_use_is_refused_naming_the_frame(tmp_path, frames):
    for value, message in [
        (np.nan, "frame 17 holds NaN"),
        (np.inf, "frame 17 holds inf"),
        (-np.inf, "frame 17 holds inf"),
        (1e300, "frame 17 holds inf"),
    ]:
        bad = frames.astype(np.float64)
        bad[17, 3, 2] = value
        movie = open_movie(bad)
        movie.read(0, 17)
        with pytest.raises(InputError, match=message):
            movie.read(12, 20)
    large = frames.astype(np.int64)
    large[5, 0, 0] = EXACT + 1
    with pytest.raises(InputError, match="frame 5 holds counts beyond"):
        open_movie(large).read(2, 8)
    large[5, 0, 0] = -EXACT
    assert open_movie(large).read(5, 6)[0, 0, 0] == -EXACT


@pytest.mark.parametrize("kind", [bool, np.complex64, "U3", "M8[s]"])
def test_numbers_that_are_no_counts_are_refused(kind):
    with pytest.raises(InputError, match="integers or floats is needed"):
        open_movie(np.zeros((T, Y, X), kind))


# Real movies


@pytest.mark.parametrize(
    "name",
    [
        "neurofinder_crop/movie",
        "raacampbell_fly_2p/movie",
        "calscipy_bruker_512/movie",
        "calscipy_bruker_256/movie",
        "thunder_mouse/movie",
        "naomi/movie_low",
    ],
)
def test_real_movies_are_read_as_tifffile_reads_them(name):
    path = DATA / f"{name}.tif"
    if not path.exists():
        pytest.skip("no real data here")
    movie = open_movie(path)
    with tifffile.TiffFile(path) as tif:
        assert movie.shape == (len(tif.pages), *tif.pages[0].shape)
        np.testing.assert_array_equal(movie.read(40, 44), tif.asarray(key=slice(40, 44)))
