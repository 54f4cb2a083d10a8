"""The command line: every subcommand once, as a user types them; flags are the settings' names."""

import dataclasses
import json
import re
import typing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from udenoise import audit, cli, config, demonstration, flags
from udenoise.cli import main

COMMANDS = ("run", "demo", "noise", "train", "denoise", "traces", "flags", "report", "audit", "simulate")
TINY = ["--steps", "4", "--batch", "2", "--crop", "16", "--context", "2", "--projection", "2", "--factors", "1",
        "--widths", "4", "4", "4", "--draws", "50", "--f0-window-s", "3"]  # fmt: skip
SCENE = ["--frames", "60", "--height", "32", "--width", "48", "--cells", "2", "--frame-rate-hz", "10", "--photons", "8"]


def plain(text: str) -> str:
    """Without colours and boxes, on one line."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def helped(capsys, *command: str) -> str:
    """What --help prints."""
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    return plain(capsys.readouterr().out)


def test_help_lists_every_command(capsys):
    said = helped(capsys)
    assert all(f"• {name} " in said for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys, command):
    said = helped(capsys, command)
    assert f"usage: udenoise {command}" in said and "MISSING" not in said


def test_run_offers_every_setting(capsys):
    said = helped(capsys, "run")
    groups = [f.default_factory for f in dataclasses.fields(config.Config) if f.name != "seed"]
    for setting in (f for group in groups for f in dataclasses.fields(group)):
        assert re.search(rf"--{setting.name.replace('_', '-')}\b", said), setting.name
    assert all(flag in said for flag in ("--rois", "-o PATH", "--seed", "--overwrite", "--init-from"))


def test_version_of_defaults_is_that_of_the_settings(capsys):
    parsed = {}

    def keep(self) -> None:
        parsed["config"] = self.config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.Run, "__call__", keep)
        main(["run", "movie.tif", "-o", "run"])
        assert parsed["config"] == config.Config()
        main(["run", "movie.tif", "-o", "run", "--frame-rate-hz", "7", "--f0", "median", "--levels", "0.5", "0.9",
              "--context", "5", "--seed", "2", "--write-prior"])  # fmt: skip
        assert parsed["config"].movie.frame_rate_hz == 7 and parsed["config"].trace.levels == (0.5, 0.9)
        assert parsed["config"].seed == 2 and parsed["config"].denoise.write_prior


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a simulation, `sim/`."""
    place = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        main(["simulate", "-o", "sim", *SCENE])
        yield place


def test_simulate_then_noise(workplace, capsys):
    assert {p.name for p in Path("sim").iterdir()} >= {"movie.tif", "rois.npy", "truth.npz", "simulation.json"}
    main(["noise", "sim/movie.tif", "-o", "noise.html"])
    said = plain(capsys.readouterr().out)
    assert "photons per pixel and frame" in said and "10 Hz" in said
    assert json.loads(Path("noise.json").read_text())["gain"] == pytest.approx(125, rel=0.2)
    assert "plotly" in Path("noise.html").read_text(encoding="utf-8")


def test_run_again_traces_report_denoise(workplace, capsys):
    run = ["run", "sim/movie.tif", "-o", "run", "--rois", "sim/rois.npy", *TINY]
    main(run)
    assert f"Report: {Path('run/report.html')}" in capsys.readouterr().out
    stamp = Path("run/report.html").stat().st_mtime_ns
    main(run)
    assert Path("run/report.html").stat().st_mtime_ns == stamp
    assert "finished" in capsys.readouterr().out
    np.save("one.npy", np.load("sim/rois.npy")[:1])
    main(["traces", "run", "--rois", "one.npy", "-o", "apart", "--draws", "50", "--f0", "median"])
    assert Path("apart/traces.csv").is_file() and not Path("apart/posterior.zarr").exists()
    main(["report", "run"])
    assert Path("run/report.html").stat().st_mtime_ns > stamp
    capsys.readouterr()
    main(["flags", "run", "--fdr", "0.2"])
    assert f"{len(flags.read_flags(Path('run/flags.csv')))} flags" in capsys.readouterr().out
    assert json.loads(Path("run/flags.json").read_text())["fdr"] == 0.2
    main(["denoise", "sim/movie.tif", "--denoiser", "run/denoiser", "-o", "applied"])
    assert Path("applied/posterior.zarr").is_dir() and not Path("applied/traces.zarr").exists()


def test_train_then_run_goes_on(workplace, capsys):
    main(["train", "sim/movie.tif", "-o", "trained", *TINY])
    assert "denoiser" in capsys.readouterr().out
    stamp = Path("trained/denoiser/denoiser.json").stat().st_mtime_ns
    main(["run", "sim/movie.tif", "-o", "trained", "--rois", "sim/rois.npy", *TINY])
    assert Path("trained/denoiser/denoiser.json").stat().st_mtime_ns == stamp
    assert Path("trained/traces.csv").is_file() and Path("trained/report.html").is_file()


def test_demo_prints_its_tables(workplace, capsys, monkeypatch):
    scene = partial(config.SimulationConfig, frames=60, height=32, width=48, cells=2, frame_rate_hz=10.0, photons=8.0)
    monkeypatch.setattr(demonstration, "SimulationConfig", scene)
    monkeypatch.setattr(demonstration, "DEMO_STEPS", 4)
    monkeypatch.setenv("COLUMNS", "200")
    main(["demo", "-o", "demo"])
    said = plain(capsys.readouterr().out)
    assert all(word in said for word in ("ROI error", "Gaussian", "Wiener", "fastest", "ΔF/F", "whole trace", "95 %"))
    assert Path("demo/run/report.html").is_file()
    outcome = json.loads(Path("demo/outcome.json").read_text())
    assert outcome["error"] > 0 and len(outcome["dff_coverage"]) == 5


def test_audit_of_a_foreign_denoiser(workplace, capsys):
    main(["audit", "split", "sim/movie.tif", "-o", "half"])
    assert "audit score half" in plain(capsys.readouterr().out)
    main(["audit", "score", "half", "half/input.tif", "--rois", "sim/rois.npy", "--fdr", "0"])
    assert Path("half/score/audit.html").is_file() and Path("half/score/score.json").is_file()
    main(["audit", "quick", "sim/movie.tif", "sim/movie.tif", "-o", "quick", "--fdr", "0"])
    assert "audit.html" in capsys.readouterr().out


def test_interruption_is_one_line(workplace, capsys, monkeypatch):
    def interrupted(self) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Report, "__call__", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["report", "run"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "udenoise: interrupted; the same command goes on from here\n"


def test_every_subcommand_is_a_function_of_the_same_name():
    from udenoise import cli, stages

    parts = [kind.__metadata__[-1].name for kind in cli.Command.__args__]
    assert sorted(parts) == sorted([*stages.__all__, "audit"])  # which has functions of its own
    assert all(callable(getattr(stages, name)) for name in stages.__all__)
    kinds = [kind.__metadata__[-1].name for kind in typing.get_type_hints(cli.Audit, include_extras=True)["what"].__args__]
    assert sorted(kinds) == sorted(audit.__all__) and all(callable(getattr(audit, name)) for name in kinds)
