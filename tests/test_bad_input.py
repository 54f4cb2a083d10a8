"""Every bad input: one line (what came, what is needed, what to type), exit status 2, no run a rerun would trust."""

import errno
import os
import pickle
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tifffile
import zarr

from udenoise import files, pipeline, results, training
from udenoise.cli import main
from udenoise.config import NetworkConfig
from udenoise.denoiser import Denoiser, save_denoiser
from udenoise.io import store
from udenoise.io.tiff_writer import write_tiff
from udenoise.network import init

T, Y, X = 40, 32, 48
TINY = ["--steps", "2", "--batch", "1", "--crop", "16", "--context", "2", "--projection", "2", "--factors", "1",
        "--widths", "4", "4", "4", "--draws", "50", "--f0", "median"]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a good movie (movie.tif, 10 Hz) and good ROIs (rois.npy)."""
    monkeypatch.chdir(tmp_path)
    write_tiff("movie.tif", frames(), 10.0)
    labels = np.zeros((Y, X), np.int32)
    labels[4:12, 4:12], labels[18:28, 20:30] = 1, 2
    np.save("rois.npy", labels)
    return tmp_path


def frames(dtype=np.uint16) -> np.ndarray:
    """Poisson counts over an uneven field."""
    light = np.linspace(2, 12, X) * np.ones((T, Y, 1))
    return (100 + 20 * np.random.default_rng(0).poisson(light)).astype(dtype)


def refused(capsys, *arguments: str) -> str:
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    assert stop.value.code == 2, said.err
    lines = said.err.splitlines()
    assert [line for line in lines if line.startswith("udenoise: ")] == lines[-1:], said.err
    assert "Traceback" not in said.err and "Error(" not in lines[-1]
    return lines[-1]


def refused_at_the_door(capsys, *arguments: str) -> str:
    """The only line of a command that leaves no folder `run`."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    assert stop.value.code == 2, said.err
    assert said.err.startswith("udenoise: ") and said.err.count("\n") == 1, said.err
    assert not Path("run").exists()
    return said.err


# --- movies

FOUR_D = np.zeros((12, 2, 20, 20), np.uint16)
MOVIES = {
    "absent.tif": (lambda path: None, [], "does not exist"),
    "nothing.tif": (lambda path: path.write_bytes(b""), [], "nothing.tif"),
    "nothing.h5": (lambda path: path.write_bytes(b""), [], "nothing.h5"),
    "nothing.npy": (lambda path: path.write_bytes(b""), [], "nothing.npy"),
    "text.tif": (lambda path: path.write_text("this is no movie"), [], "text.tif"),
    "movie.avi": (lambda path: path.write_bytes(b"RIFF"), [], "not a movie that udenoise can read"),
    "folder": (lambda path: path.mkdir(), [], "no movie files"),
    "empty.zarr": (lambda path: path.mkdir(), [], "empty.zarr"),
    "four.npy": (lambda path: np.save(path, FOUR_D), [], "--axes TCYX"),
    "channels.tif": (lambda path: tifffile.imwrite(path, FOUR_D, imagej=True, metadata={"axes": "TCYX"}), [],
                     "--channel 0"),
    "channel.npy": (lambda path: np.save(path, FOUR_D), ["--axes", "TCYX", "--channel", "2"], "--channel 2 does not"),
    "axes.npy": (lambda path: np.save(path, frames()), ["--axes", "TYQ"], "--axes TYQ is not understood"),
    "more-axes.npy": (lambda path: np.save(path, frames()), ["--axes", "TCZYX"], "names 5 axes"),
    "image.npy": (lambda path: np.save(path, frames()[0]), [], "a movie is needed"),
    "one.npy": (lambda path: np.save(path, frames()[:1]), [], "movie has 1 frame;"),
    "one.tif": (lambda path: tifffile.imwrite(path, frames()[0]), [], "movie has 1 frame;"),
    "small.npy": (lambda path: np.save(path, frames()[:, :12, :]), [], "at least 16"),
    "complex.npy": (lambda path: np.save(path, frames().astype(complex)), [], "integers or floats"),
    "objects.npy": (lambda path: np.save(path, np.array([{}, 1], object), allow_pickle=True), [], "objects.npy"),
    "rate.npy": (lambda path: np.save(path, frames()), ["--frame-rate-hz", "-3"], "not a frame rate"),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVIES)
def test_movie_is_refused_at_the_door(here, capsys, name):
    write, options, said = MOVIES[name]
    write(here / name)
    assert said in refused_at_the_door(capsys, "run", name, "-o", "run", *options)
    assert said in refused(capsys, "train", name, "-o", "run", *options)
    if name != "small.npy":  # whose noise can be measured
        assert said in refused(capsys, "noise", name, *options)
        assert not Path("noise.html").exists() and not Path("noise.json").exists()


def nan(path: Path) -> None:
    """A movie with one NaN in frame 17."""
    bad = frames(np.float32)
    bad[17, 3, 4] = np.nan
    np.save(path, bad)


def truncated(path: Path) -> None:
    """A multi-page TIFF of which the last pages' pixels are missing."""
    with tifffile.TiffWriter(path) as file:
        file.write(frames(), photometric="minisblack", contiguous=True)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])


READ = {
    "nan.npy": (nan, "frame 17 holds NaN"),
    "infinite.npy": (lambda path: np.save(path, np.where(frames() > 300, np.inf, 1.0)), "infinite"),
    "truncated.tif": (truncated, "truncated.tif"),
    "constant.npy": (lambda path: np.save(path, np.full((T, Y, X), 7, np.uint16)), ""),
    "saturated.npy": (lambda path: np.save(path, np.full((T, Y, X), 65535, np.uint16)), ""),
}


@pytest.mark.parametrize("name", READ)
def test_movie_is_refused_when_it_is_read_and_can_be_mended(here, capsys, name):
    write, said = READ[name]
    write(here / name)
    assert said in refused(capsys, "run", name, "-o", "run", *TINY)
    left = {p.name for p in Path("run").rglob("*")} if Path("run").exists() else set()
    assert left <= {"config.json", "timing.json"}
    np.save(name, frames()) if name.endswith(".npy") else write_tiff(name, frames(), 10.0)
    main(["train", name, "-o", "run", *TINY])  # the same place, once the movie is whole


# --- ROIs


class Malice:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def malicious(path: Path) -> None:
    """A Suite2p folder whose stat.npy runs a command where it is trusted."""
    path.mkdir()
    content = pickle.dumps(np.array([{"ypix": Malice()}], object))
    with (path / "stat.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"shape": (1,), "fortran_order": False, "descr": "|O"})
        file.write(content)


def masks(*corners: int) -> np.ndarray:
    """A mask for each corner; a negative corner leaves its mask empty."""
    made = np.zeros((len(corners), Y, X), bool)
    for mask, corner in zip(made, corners, strict=True):
        if corner >= 0:
            mask[corner : corner + 8, corner : corner + 8] = True
    return made


OUTSIDE = '[{"id": 5, "coordinates": [[1, 1], [40, 2]]}]'
ROIS = {
    "absent.zip": (lambda path: None, "does not exist"),
    "nothing.zip": (lambda path: path.write_bytes(b""), "nothing.zip"),
    "nothing.roi": (lambda path: path.write_bytes(b""), "nothing.roi"),
    "nothing.npy": (lambda path: path.write_bytes(b""), "nothing.npy"),
    "nothing.json": (lambda path: path.write_bytes(b""), "no Neurofinder file"),
    "none.json": (lambda path: path.write_text("[]"), "no regions"),
    "outside.json": (lambda path: path.write_text(OUTSIDE), "region 5 reaches"),
    "hollow.json": (lambda path: path.write_text('[{"id": 6, "coordinates": []}]'), "region 6 is empty"),
    "empty.npy": (lambda path: np.save(path, masks(2, -1)), "region 1 is empty"),
    "background.npy": (lambda path: np.save(path, np.zeros((Y, X), int)), "no regions"),
    "labels.npy": (lambda path: np.save(path, np.ones((Y + 1, X), int)), "but the movie 32 x 48"),
    "labels.tif": (lambda path: tifffile.imwrite(path, np.ones((Y, X + 2), np.uint16)), "but the movie 32 x 48"),
    "weights.npy": (lambda path: np.save(path, -1.0 * masks(3)), "weights must be zero or more"),
    "suite2p": (malicious, "stat.npy"),
    "plane0": (lambda path: path.mkdir(), "0 Suite2p planes"),
    "rois.csv": (lambda path: path.write_text("1,2"), "no file of regions"),
}


@pytest.mark.parametrize("name", ROIS)
def test_rois_are_refused_at_the_door(here, capsys, name):
    write, said = ROIS[name]
    write(here / name)
    assert said in refused_at_the_door(capsys, "run", "movie.tif", "-o", "run", "--rois", name)
    assert not Path("executed").exists()


# --- settings

SETTINGS = {
    "no levels between 0 and 1": (["--levels", "95"], "--levels 0.5 0.95"),
    "too few draws": (["--draws", "3"], "--draws 400"),
    "no steps": (["--steps", "0"], "steps must be at least 1"),
    "no frames at once": (["--chunk", "0"], "chunk"),
    "crops too small": (["--crop", "8"], "crop at least 16"),
    "another lattice": (["--lattice-spacing", "8"], "only 16"),
    "a folder that is no denoiser": (["--init-from", "."], "no denoiser.json"),
    "no such denoiser": (["--init-from", "nowhere/denoiser"], "no denoiser.json"),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_settings_are_refused_at_the_door(here, capsys, what):
    options, said = SETTINGS[what]
    assert said in refused_at_the_door(capsys, "run", "movie.tif", "-o", "run", "--rois", "rois.npy", *options)


def test_damaged_denoiser_is_refused_at_the_door(here, capsys):
    wrong = Path("wrong")
    wrong.mkdir()
    whole = '{"network": {"context": 3}, "frame_rate_hz": 1, "photons": 1}'
    for content in ("", "{}", '{"network": {"depth": 3}}', whole):
        (wrong / "denoiser.json").write_text(content)
        line = refused_at_the_door(capsys, "denoise", "movie.tif", "--denoiser", wrong, "-o", "run")
        assert "wrong" in line


def test_settings_that_a_trained_network_contradicts_are_refused(here, capsys):
    """Those of the network itself and the defaults say nothing against it."""
    config = NetworkConfig(context=4, projection=2, widths=(2, 2, 2), factors=2)
    denoiser = Denoiser(config, init(jax.random.key(0), config), 30.0, 1.0)
    save_denoiser(denoiser, Path("net"))
    apply = "denoise", "movie.tif", "--denoiser", "net", "-o", "run", "--context"
    assert "context is 5, and net was trained with 4" in refused_at_the_door(capsys, *apply, "5")
    line = refused_at_the_door(capsys, *apply, "4", "--factors", "3")
    assert "factors is 3" in line and "leave out --factors" in line


@pytest.mark.parametrize("baseline, needed", [("maximin", True), ("rolling-percentile", True), ("median", False)])
def test_frame_rate_is_needed_for_seconds_only(here, capsys, baseline, needed):
    np.save("movie.npy", frames())
    arguments = ["movie.npy", "-o", "run", "--f0", baseline]
    if needed:
        line = refused_at_the_door(capsys, "run", *arguments, "--rois", "rois.npy")
        assert "--frame-rate-hz 30" in line and "--f0 median" in line
    main(["train", *arguments, *TINY[:-2]])  # no ROIs, no seconds


@pytest.mark.parametrize("flags", [["--frame-rate", "30"], ["--stepz", "3"], ["--steps", "many"], ["--f0", "mean"]])
def test_misspelt_flags(here, capsys, flags):
    with pytest.raises(SystemExit) as stop:
        main(["run", "movie.tif", "-o", "run", *flags])
    said = capsys.readouterr()
    assert stop.value.code == 2 and "Traceback" not in said.err and said.err.strip()
    assert not Path("run").exists()


def test_misspelt_command_and_nothing_at_all(capsys):
    for arguments in (["runn", "movie.tif"], [], ["run"], ["run", "movie.tif"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2 and "Traceback" not in capsys.readouterr().err


# --- the output folder


def test_what_is_no_run_is_never_touched(here, capsys):
    Path("precious").mkdir()
    Path("precious/thesis.txt").write_text("years")
    Path("precious/config.json").write_text('{"versions": {"thesis": 3}}')
    Path("file").write_text("more")
    for place in ("precious", "file"):
        for extra in ([], ["--overwrite"]):
            assert "-o OTHER" in refused(capsys, "run", "movie.tif", "-o", place, *TINY, *extra)
    assert Path("precious/thesis.txt").read_text() == "years" and Path("file").read_text() == "more"
    assert {p.name for p in Path("precious").iterdir()} == {"thesis.txt", "config.json"}
    assert "cannot be made" in refused(capsys, "run", "movie.tif", "-o", "file/run")


def test_no_run_where_one_is_needed(here, capsys):
    for command in (["report", "precious"], ["traces", "precious", "--rois", "rois.npy"], ["report", "movie.tif"]):
        assert "is not a udenoise run" in refused(capsys, *command)


@pytest.mark.parametrize("place", [["-o", "absent/noise.html"], ["-o", "noise"], ["-o", "."]])
def test_noise_needs_a_place_for_its_page(here, capsys, place):
    refused_at_the_door(capsys, "noise", "movie.tif", *place)


def test_simulate_does_not_write_between_other_files(here, capsys):
    assert "not empty" in refused(capsys, "simulate", "-o", ".", "--frames", "10")


# --- the disk


def full(*_, **__):
    """Any write on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_for_orbax(*_, **__):
    """The same, as tensorstore says it."""
    raise ValueError(f"RESOURCE_EXHAUSTED: Error writing \"a/0.0\":\n{os.strerror(errno.ENOSPC)} [os_error_code='28']")


FULL = {
    "settings": (store.json, "dump"),
    "noise": (pipeline, "save_noise"),
    "anatomy": (zarr, "create_group"),
    "checkpoint": (ocp.StandardCheckpointer, "save"),
    "record of training": (training, "write_json"),
    "denoised movie": (zarr.Array, "__setitem__"),
    "moments": (np, "savez"),
    "ROIs": (results.np, "savez_compressed"),
    "spreadsheet": (files.csv, "writer"),
    "page": (Path, "write_text"),
}


def test_full_disk_at_every_stage_and_then_on(here, capsys, monkeypatch):
    command = ["run", "movie.tif", "-o", "run", "--rois", "rois.npy", *TINY]
    for stage, (owner, name) in FULL.items():
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full_for_orbax if stage == "checkpoint" else full)
            assert "disk is full" in refused(capsys, *command), stage
        assert not Path("run/report.json").exists()
    main(command)
    assert Path("run/report.html").is_file()
    assert zarr.open_group("run/traces.zarr", mode="r")["mean"].shape == (2, T)
    assert np.isfinite(zarr.open_group("run/posterior.zarr", mode="r")["mean/0"][...]).all()
    assert not [p for p in Path("run").rglob("*") if ".part" in p.name]
